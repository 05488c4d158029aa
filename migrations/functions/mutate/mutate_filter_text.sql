-- Decides about a text that rules of the content filter match, and records it. The shard submits it before the text is
-- sent; the result tells it how to go on: `pass`, `flag`, or a refusal by `hold`, `refuse`, `slow` or `mute`.
-- p.arguments: hits [{rule, is_server_rule, action, exempt_from, mute_s}], the most severe first. For a message also
-- key, text, message_type, parent_message_id, edited_message_id, files, and for an edit that removes files kept_files.
-- (Not `content`: apply_mutations adds it to events.) Only the membership, read under the conversation's lock, shows
-- whether a role is exempt.
-- A conversation has at most 1,000 held texts and 1,000 flagged ones; beyond, texts are refused, or not listed.
-- Locks: the conversation's row, which apply_mutations holds, and those of a held text's files; none without a
-- conversation.

CREATE FUNCTION mutate_filter_text(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    h held_messages;
    v_hit jsonb;
    v_action text;
    v_until timestamptz;
    v_is_message boolean := p.arguments ? 'text';
    v_is_full boolean;
    v_files bigint[];
BEGIN
    IF c.id IS NOT NULL THEN
        m := sending_member(c, p.actor_id);
    END IF;
    SELECT * INTO h FROM held_messages x
     WHERE x.conversation_id = c.id AND x.sender_id = p.actor_id AND x.client_message_id = p.arguments ->> 'key';
    IF FOUND THEN -- sent again
        o.result := jsonb_build_object('rule', h.rule, 'is_repeat', true, 'action',
            CASE h.state WHEN 'held' THEN 'hold' WHEN 'rejected' THEN 'refuse' ELSE 'pass' END);
        RETURN o;
    END IF;
    SELECT x INTO v_hit FROM jsonb_array_elements(p.arguments -> 'hits') WITH ORDINALITY t(x, n)
     WHERE x ->> 'exempt_from' IS NULL OR m.role IS NULL OR m.role < (x ->> 'exempt_from')::member_role
     ORDER BY n LIMIT 1;
    IF NOT FOUND THEN
        o.result := '{"action": "pass"}';
        RETURN o;
    END IF;
    v_action := v_hit ->> 'action';
    v_is_full := (SELECT count(*) FROM held_messages x
                   WHERE x.conversation_id = c.id AND x.state IN ('held', 'flagged')
                     AND x.state = CASE v_action WHEN 'hold' THEN 'held' ELSE 'flagged' END) >= 1000;
    IF (v_action = 'hold' AND (v_is_full OR NOT v_is_message)) OR (v_action IN ('slow', 'mute') AND c.id IS NULL) THEN
        v_action := 'refuse';
    END IF;
    INSERT INTO filter_hits (user_id, conversation_id, rule, action)
    VALUES (p.actor_id, c.id, v_hit ->> 'rule', v_action);
    IF v_is_message AND NOT v_is_full AND v_action IN ('hold', 'flag') THEN
        -- Nobody has checked yet whose they are, and moderators will be shown them.
        SELECT coalesce(array_agg(x.id ORDER BY y.n), '{}') INTO v_files
          FROM jsonb_array_elements_text(coalesce(p.arguments -> 'files', '[]')) WITH ORDINALITY y(id, n)
          JOIN files x ON x.id = y.id::bigint AND x.uploader_id = p.actor_id AND x.conversation_id = c.id
           AND x.state IN ('scanning', 'ready');
        INSERT INTO held_messages (conversation_id, sender_id, client_message_id, content, message_type,
                                   parent_message_id, edited_message_id, rule, is_server_rule, state, files,
                                   kept_files)
        VALUES (c.id, p.actor_id, p.arguments ->> 'key', p.arguments ->> 'text',
                (p.arguments ->> 'message_type')::message_type, (p.arguments ->> 'parent_message_id')::bigint,
                (p.arguments ->> 'edited_message_id')::bigint, v_hit ->> 'rule', (v_hit -> 'is_server_rule')::boolean,
                CASE v_action WHEN 'hold' THEN 'held' ELSE 'flagged' END, v_files,
                CASE WHEN p.arguments ->> 'kept_files' IS NOT NULL
                     THEN array(SELECT x::bigint FROM jsonb_array_elements_text(p.arguments -> 'kept_files') x) END);
        -- As long as a moderator may take.
        UPDATE files x SET expires_at = greatest(x.expires_at, now() + interval '30 days') WHERE x.id = ANY (v_files);
    ELSIF v_action IN ('slow', 'mute') THEN
        v_until := date_trunc('milliseconds', now() + make_interval(secs => (v_hit -> 'mute_s')::bigint));
        UPDATE conversation_members x SET muted_until = v_until
         WHERE x.conversation_id = c.id AND x.user_id = p.actor_id;
        o := append_event(o, c, p, 'member_updated', jsonb_build_object(
            'user', actor_json(p.actor_id), 'muted_until', rfc3339(v_until), 'actor', actor_json(p.actor_id)));
    END IF;
    o.result := jsonb_build_object('rule', v_hit ->> 'rule', 'action', v_action, 'muted_until', rfc3339(v_until));
    RETURN o;
END $$;
