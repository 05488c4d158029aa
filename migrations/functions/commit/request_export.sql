-- Asks for a copy of a person's data. One that is being made counts for a further request too. p_row is the audit row.
-- Locks: the user's row, then the end of the audit trail.

CREATE FUNCTION request_export(p_id text, p_user bigint, p_row jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_id     text;
    v_oldest timestamptz;
    v_count  bigint;
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    SELECT x.id INTO v_id FROM data_exports x WHERE x.user_id = p_user AND x.completed_at IS NULL;
    IF FOUND THEN
        RETURN v_id;
    END IF;
    SELECT count(*), min(x.requested_at) INTO v_count, v_oldest
      FROM data_exports x WHERE x.user_id = p_user AND x.requested_at > now() - interval '1 day';
    IF v_count >= 3 THEN
        PERFORM refuse_until('rate_limited', 'You can ask for 3 copies of your data a day. Use one that you have.',
                             v_oldest + interval '1 day');
    END IF;
    INSERT INTO data_exports (id, user_id) VALUES (p_id, p_user);
    INSERT INTO jobs (kind, subject, owner_id) VALUES ('export_person', p_id, p_user);
    PERFORM append_audit(jsonb_build_array(p_row));
    RETURN p_id;
END $$;
