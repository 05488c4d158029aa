-- Two things more that a mutation may say, so that nothing between it and the client needs to know its kind: with whom the
-- actor has parted (neither hears of the other's presence any more), and when it is worth trying again.

ALTER TYPE mutation_outcome ADD ATTRIBUTE parted bigint;

DROP FUNCTION apply_mutations(text[], bigint[], bigint[], bigint[], jsonb[]);
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
        BEGIN -- a sub-transaction: one row's refusal or fault leaves the others alone
            SELECT (jsonb_populate_record(NULL::mutation_outcome, r.outcome)).* INTO o
              FROM mutation_outcomes r WHERE r.mutation_id = p_mutation_id[i] AND r.actor_id = p_actor[i];
            IF NOT FOUND THEN
                EXECUTE format('SELECT * FROM %I($1, $2, $3, $4)', 'mutate_' || p_kind[i])
                   INTO o USING p_conversation[i], p_actor[i], p_mutation_id[i], p_arguments[i];
                -- What appended nothing to a log does the same again, or nothing.
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
                GET STACKED DIAGNOSTICS verdict = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
            WHEN deadlock_detected OR serialization_failure OR query_canceled OR admin_shutdown THEN
                RAISE; -- the whole statement is submitted again
            WHEN OTHERS THEN
                verdict := 'internal'; detail := SQLERRM;
        END;
        conversation_id := o.conversation_id; events := o.events; result := o.result;
        gained := o.gained; lost := o.lost; signal := o.signal; notices := o.notices; parted := o.parted;
        retry_after_ms := nullif(v_hint, '')::bigint;
        RETURN NEXT;
    END LOOP;
END $$;

-- A refusal that ends by itself.
CREATE FUNCTION refuse_until(code text, words text, p_until timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'VZ001', MESSAGE = code, DETAIL = words,
        HINT = (extract(epoch FROM least(p_until - now(), interval '1 year')) * 1000)::bigint;
END $$;

CREATE OR REPLACE FUNCTION speaking_member(c conversations, p_actor bigint) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    ELSIF m.role = 'read_only' THEN
        PERFORM refuse('read_only', 'your role in this conversation is read-only');
    ELSIF m.muted_until > now() THEN
        PERFORM refuse_until('muted', 'you are muted in this conversation for a while', m.muted_until);
    ELSIF c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high) THEN
        PERFORM refuse('blocked', 'one of you has blocked the other; nothing passes between you');
    END IF;
    RETURN m;
END $$;

-- Blocks are between two users and in no conversation's log.
CREATE OR REPLACE FUNCTION mutate_block_user(p_conversation bigint, p_actor bigint, p_mutation_id bigint, p_arguments jsonb)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    v_user bigint := (p_arguments -> 'user_id')::bigint;
BEGIN
    IF v_user = p_actor THEN
        PERFORM refuse('bad_request', 'data.user_id: nobody can block themselves');
    ELSIF NOT EXISTS (SELECT FROM users u WHERE u.id = v_user) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    ELSIF (SELECT count(*) FROM user_blocks b WHERE b.user_id = p_actor) >= 1000 THEN
        PERFORM refuse('conflict', 'at most 1000 users can be blocked; unblock one first');
    END IF;
    INSERT INTO user_blocks (user_id, blocked_id) VALUES (p_actor, v_user) ON CONFLICT DO NOTHING;
    o.parted := v_user;
    o.result := jsonb_build_object('user_id', v_user, 'blocked', true);
    RETURN o;
END $$;
