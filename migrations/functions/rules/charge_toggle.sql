-- Charges a change that can be undone and made again: a block, a request to join. Each is a row of the audit trail,
-- which nobody deletes, so a user has 200 of them an hour. A request to join is charged whether or not the room exists.
-- Locks: the user's row of toggle_budgets, until the transaction ends.

CREATE FUNCTION charge_toggle(p_user bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c_per_hour CONSTANT bigint := 200;
    b toggle_budgets;
BEGIN
    INSERT INTO toggle_budgets AS x (user_id) VALUES (p_user)
    ON CONFLICT (user_id) DO UPDATE
       SET used = CASE WHEN x.began_at <= now() - interval '1 hour' THEN 1 ELSE x.used + 1 END,
           began_at = CASE WHEN x.began_at <= now() - interval '1 hour' THEN now() ELSE x.began_at END
    RETURNING * INTO b;
    IF b.used > c_per_hour THEN
        PERFORM refuse_limited(
            jsonb_build_object('limiter', 'toggles', 'scope', 'user', 'limit', c_per_hour, 'window_ms', 3600000),
            'You have blocked, unblocked or asked to join too often. Wait before you do it again.',
            b.began_at + interval '1 hour');
    END IF;
END $$;
