-- Begins the erasure of a person, and of the names of the person's bots: nobody can sign in any longer. Jobs do the
-- rest. p_row is the audit row. p_account_created_at is given for an erasure that a ledger asks for again: it only
-- counts for an account of that time. Returns the erasure, an earlier one if there is one, and the sessions that it
-- revoked; no row without such an account.
-- Locks: the user's row, those of the bots, then the end of the audit trail.

CREATE FUNCTION request_erasure(
    p_id text, p_user bigint, p_account_created_at timestamptz, p_actor bigint, p_requested_at timestamptz, p_row jsonb)
RETURNS TABLE (id text, account_created_at timestamptz, requested_at timestamptz, is_new boolean, sessions bigint[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    u users;
    e erasures;
    v_people bigint[];
    v_sessions bigint[];
BEGIN
    SELECT * INTO u FROM users x WHERE x.id = p_user FOR UPDATE;
    IF NOT FOUND OR u.created_at IS DISTINCT FROM coalesce(p_account_created_at, u.created_at) THEN
        RETURN;
    END IF;
    SELECT * INTO e FROM erasures x WHERE x.user_id = p_user;
    IF FOUND THEN
        RETURN QUERY SELECT e.id, e.account_created_at, e.requested_at, false, '{}'::bigint[];
        RETURN;
    END IF;
    INSERT INTO erasures (id, user_id, account_created_at, requested_by, requested_at, username)
    VALUES (p_id, p_user, u.created_at, p_actor, coalesce(p_requested_at, now()), u.username) RETURNING * INTO e;
    v_people := p_user || array(SELECT b.user_id FROM bots b WHERE b.owner_id = p_user);
    UPDATE users x SET is_active = false WHERE x.id = ANY (v_people);
    WITH revoked AS (
        UPDATE sessions s SET revoked_at = now() WHERE s.user_id = ANY (v_people) AND s.revoked_at IS NULL
        RETURNING s.id)
    SELECT coalesce(array_agg(r.id), '{}') INTO v_sessions FROM revoked r;
    INSERT INTO erasures (id, user_id, account_created_at, requested_by, requested_at, username, part_of)
    SELECT md5(e.id || x.id), x.id, x.created_at, e.requested_by, e.requested_at, x.username, e.id
      FROM users x WHERE x.id = ANY (v_people) AND x.id <> p_user ON CONFLICT DO NOTHING;
    INSERT INTO jobs (kind, subject)
    SELECT 'erase_person', x.id FROM erasures x WHERE x.id = e.id OR x.part_of = e.id ON CONFLICT DO NOTHING;
    PERFORM append_audit(jsonb_build_array(p_row));
    RETURN QUERY SELECT e.id, e.account_created_at, e.requested_at, true, v_sessions;
END $$;
