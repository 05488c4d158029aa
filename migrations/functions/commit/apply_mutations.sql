-- Applies a batch of mutations other than messages; each calls mutate_<kind>. One mutation's refusal or fault leaves
-- the others alone, unless the store itself is at fault. mutation_outcomes remembers what each one did: after a lost connection the same batch is submitted
-- again, and a second execution could undo what came later. Texts are not remembered; the caller sends them again.
-- Locks: the conversations' rows in the order of their ids, FOR UPDATE, until the transaction ends.

CREATE FUNCTION apply_mutations(
    p_kind text[], p_conversation bigint[], p_actor bigint[], p_mutation_id bigint[], p_arguments jsonb[])
RETURNS TABLE (ord bigint, verdict text, detail text, conversation_id bigint, events jsonb, result jsonb,
    gained bigint[], lost bigint[], signal jsonb, notices jsonb, parted bigint, retry_after_ms bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    o mutation_outcome;
    v_hint text;
BEGIN
    PERFORM FROM conversations c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR UPDATE;
    FOR i IN 1 .. cardinality(p_kind) LOOP
        ord := i; verdict := 'committed'; detail := NULL; o := NULL; v_hint := NULL;
        BEGIN -- a subtransaction: the refusal or fault of one mutation leaves the others alone
            SELECT (jsonb_populate_record(NULL::mutation_outcome, r.outcome)).* INTO o
              FROM mutation_outcomes r WHERE r.mutation_id = p_mutation_id[i] AND r.actor_id = p_actor[i];
            IF NOT FOUND THEN
                EXECUTE format('SELECT * FROM %I($1, $2, $3, $4)', 'mutate_' || p_kind[i])
                   INTO o USING p_conversation[i], p_actor[i], p_mutation_id[i], p_arguments[i];
                -- A mutation without events can safely run a second time.
                IF o.events IS NOT NULL THEN
                    INSERT INTO mutation_outcomes (mutation_id, actor_id, outcome)
                    VALUES (p_mutation_id[i], p_actor[i], CASE WHEN p_arguments[i] ? 'content'
                        THEN to_jsonb(o) #- '{events,0,payload,content}' ELSE to_jsonb(o) END);
                END IF;
            ELSIF p_arguments[i] ? 'content' THEN
                o.events := jsonb_set(o.events, '{0,payload,content}', p_arguments[i] -> 'content');
            END IF;
        EXCEPTION
            WHEN SQLSTATE 'VZ001' THEN
                GET STACKED DIAGNOSTICS
                    verdict = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
            WHEN unique_violation THEN
                RAISE; -- a lost race: the whole statement is submitted again
            WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
                verdict := 'unstorable'; detail := SQLERRM;
            -- Anything else is the store's fault and not the mutation's (storage/sqlstate.rs). The statement fails, and
            -- each of its mutations can be tried again.
        END;
        conversation_id := o.conversation_id; events := o.events; result := o.result;
        gained := o.gained; lost := o.lost; signal := o.signal; notices := o.notices; parted := o.parted;
        retry_after_ms := nullif(v_hint, '')::bigint;
        RETURN NEXT;
    END LOOP;
END $$;
