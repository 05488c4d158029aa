-- Replaces the slash commands of a bot that the user manages: an array of {name, description, usage, url}. If one has a
-- URL and the bot has no secret yet, p_key_id and p_sealed are its secret from now on. p_row begins the audit row.
-- Returns whether that happened; null if there is no such bot.
-- Locks: the bot's row, then the end of the audit trail.

CREATE FUNCTION replace_bot_commands(
    p_user bigint, p_bot bigint, p_commands jsonb, p_key_id text, p_sealed bytea, p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    b bots;
    v_before text[];
    v_after  text[];
    v_is_new boolean;
BEGIN
    SELECT * INTO b FROM managed_bot(p_user, p_bot);
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT array_agg(x.name ORDER BY x.position) INTO v_before FROM bot_commands x WHERE x.bot_id = p_bot;
    DELETE FROM bot_commands x WHERE x.bot_id = p_bot;
    INSERT INTO bot_commands (bot_id, name, position, description, usage, url)
    SELECT p_bot, c.value ->> 'name', c.ordinality, c.value ->> 'description', c.value ->> 'usage', c.value ->> 'url'
      FROM jsonb_array_elements(p_commands) WITH ORDINALITY c;
    SELECT array_agg(x.name ORDER BY x.position) INTO v_after FROM bot_commands x WHERE x.bot_id = p_bot;
    v_is_new := b.sealed IS NULL AND EXISTS (SELECT FROM bot_commands x WHERE x.bot_id = p_bot AND x.url IS NOT NULL);
    IF v_is_new THEN
        UPDATE bots x SET key_id = p_key_id, sealed = p_sealed WHERE x.user_id = p_bot;
    END IF;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'target_type', 'user', 'target_id', p_bot, 'details', jsonb_build_object(
            'before', jsonb_build_object('commands', coalesce(v_before, '{}')),
            'after', jsonb_build_object('commands', coalesce(v_after, '{}'))))));
    RETURN v_is_new;
END $$;
