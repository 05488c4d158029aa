-- Creates an invitation. The same mutation finds its first invitation by mutation_id. Expired and used ones are
-- deleted; a conversation has 100 at most.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION mutate_create_invite(c conversations, m conversation_members, p mutation)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
DECLARE
    o mutation_outcome;
    i conversation_invites;
BEGIN
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'The conversation is archived. Nobody can join it.');
    END IF;
    DELETE FROM conversation_invites x
     WHERE x.conversation_id = c.id AND (x.expires_at <= now() OR x.uses >= x.max_uses);
    IF (SELECT count(*) FROM conversation_invites x WHERE x.conversation_id = c.id) >= 100 THEN
        PERFORM refuse('conflict', 'A conversation can have 100 invitations. Revoke one first.');
    END IF;
    INSERT INTO conversation_invites (mutation_id, conversation_id, created_by, max_uses, expires_at)
    VALUES (p.id, c.id, p.actor_id, (p.arguments ->> 'max_uses')::integer,
            date_trunc('milliseconds', now() + make_interval(secs => (p.arguments ->> 'expires_in_s')::bigint)))
    ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT i FROM conversation_invites x WHERE x.mutation_id = p.id;
    o.result := jsonb_build_object('invite', invite_json(i));
    RETURN o;
END $$;
