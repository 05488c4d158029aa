-- Applies a batch of mutations other than messages. For each it locks the conversation, checks what the actor may do
-- (permitted_member), calls mutate_<kind>, and completes the outcome.
-- One mutation's refusal or fault leaves the others alone, unless the store itself is at fault.
-- mutation_outcomes remembers what each mutation did. After a lost connection the same batch is submitted again, and a
-- second execution could undo later changes. Texts are not remembered; the caller sends them again.
-- The audit rows of the batch are appended at its end, in the same transaction. append_audit fails if another
-- transaction holds the end of the trail for longer than p_audit_wait_ms. The committer then submits the batch again
-- without such a wait (0): mutations with an audit row are refused, and the others are applied.
-- p_session, p_address and p_device say who sent each mutation and from where, for the trail.
-- Locks: the conversations' rows in the order of their ids, FOR UPDATE, then that of audit_head if a mutation is
-- audited; until the transaction ends.

CREATE FUNCTION apply_mutations(
    p_kind text[], p_conversation bigint[], p_actor bigint[], p_mutation_id bigint[], p_arguments jsonb[],
    p_session bigint[] DEFAULT NULL, p_address text[] DEFAULT NULL, p_device text[] DEFAULT NULL,
    p_audit_wait_ms bigint DEFAULT 2000)
RETURNS TABLE (ord bigint, verdict text, detail text, retry_after_ms bigint, outcome mutation_outcome, details jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    p mutation;
    c conversations;
    m conversation_members;
    o mutation_outcome;
    v_hint text;
    v_limiter text;
    v_before jsonb;
    v_audited jsonb;
    v_audit jsonb := '[]';
BEGIN
    PERFORM FROM conversations x WHERE x.id = ANY (p_conversation) ORDER BY x.id FOR UPDATE;
    FOR i IN 1 .. cardinality(p_kind) LOOP
        ord := i; verdict := 'committed'; detail := NULL; o := NULL; v_hint := NULL; v_audited := NULL;
        v_limiter := NULL;
        p := ROW(p_kind[i], p_conversation[i], p_actor[i], p_mutation_id[i], p_arguments[i]);
        BEGIN -- a subtransaction: the refusal or fault of one mutation leaves the others alone
            SELECT (jsonb_populate_record(NULL::mutation_outcome, r.outcome)).* INTO o
              FROM mutation_outcomes r WHERE r.mutation_id = p.id AND r.actor_id = p.actor_id;
            IF NOT FOUND THEN
                -- Read under the lock, and after the mutations before it: nothing changes between check and commit.
                SELECT * INTO c FROM conversations x WHERE x.id = p.conversation_id;
                -- These two answer for a room that does not exist as for one that does.
                IF NOT FOUND AND p.conversation_id IS NOT NULL
                   AND p.kind NOT IN ('request_to_join', 'cancel_join_request') THEN
                    PERFORM refuse_outsider(c);
                END IF;
                m := permitted_member(c, p);
                v_before := audit_state(p, c.id);
                EXECUTE format('SELECT * FROM %I($1, $2, $3)', 'mutate_' || p.kind) INTO o USING c, m, p;
                o.conversation_id := coalesce(o.conversation_id, c.id);
                IF o.seq IS NOT NULL THEN
                    o.result := o.result || jsonb_build_object('seq', o.seq);
                END IF;
                -- create_conversation without an event found the direct conversation that exists.
                IF v_before IS NOT NULL AND (p.kind <> 'create_conversation' OR o.events IS NOT NULL) THEN
                    v_audited := audited_mutation(p, o.conversation_id, v_before) || CASE p.kind
                        -- The content filter mutes the author: the server acts by itself, for the reason of its rule.
                        WHEN 'filter_text' THEN jsonb_build_object('user_id', NULL, 'reason', o.result ->> 'rule')
                        ELSE jsonb_build_object(
                            'session_id', p_session[i], 'ip_address', p_address[i], 'device', p_device[i]) END;
                    IF p_audit_wait_ms = 0 AND v_audited IS NOT NULL THEN
                        PERFORM refuse_until('storage_unavailable',
                            'The audit trail is locked, and this change must be recorded in it. Nothing was changed. '
                            'Try again in a moment.', now() + interval '2 seconds');
                    END IF;
                END IF;
                -- A mutation without events can safely run a second time.
                IF o.events IS NOT NULL THEN
                    INSERT INTO mutation_outcomes (mutation_id, actor_id, outcome)
                    VALUES (p.id, p.actor_id, CASE WHEN p.arguments ? 'content' OR p.kind = 'erase_mention'
                        THEN to_jsonb(o) #- '{events,0,payload,content}' ELSE to_jsonb(o) END);
                END IF;
            ELSIF p.arguments ? 'content' THEN
                o.events := jsonb_set(o.events, '{0,payload,content}', p.arguments -> 'content');
            ELSIF p.kind = 'erase_mention' THEN
                o.events := jsonb_set(o.events, '{0,payload,content}', coalesce(to_jsonb(
                    erased_text((p.arguments -> 'message_id')::bigint, p.actor_id)), '""'));
            END IF;
        EXCEPTION
            WHEN SQLSTATE 'VZ001' THEN
                GET STACKED DIAGNOSTICS
                    verdict = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT,
                    v_limiter = CONSTRAINT_NAME;
                o := NULL;
            WHEN unique_violation THEN
                RAISE; -- a lost race: the whole statement is submitted again
            WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
                verdict := 'unstorable'; detail := SQLERRM; o := NULL;
            -- Anything else is the store's fault and not the mutation's (storage/sqlstate.rs). The statement fails, and
            -- each of its mutations can be tried again.
        END;
        IF verdict = 'committed' AND v_audited IS NOT NULL THEN
            v_audit := v_audit || v_audited;
        END IF;
        outcome := o;
        retry_after_ms := nullif(v_hint, '')::bigint;
        details := nullif(v_limiter, '')::jsonb;
        RETURN NEXT;
    END LOOP;
    IF v_audit <> '[]' THEN
        PERFORM set_config('app.audit_wait_ms', p_audit_wait_ms::text, true);
        PERFORM append_audit(v_audit);
    END IF;
END $$;
