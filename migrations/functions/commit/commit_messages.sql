-- Commits a batch of messages in one statement: authorises, numbers and inserts each of them. A repeated
-- client_message_id returns the first result, so a batch can be submitted again after a lost connection.
-- For a committed row it also returns what commit_known needs for the next one of its sender: the message's ordinal,
-- the access epoch of the conversation, and whether no slow mode holds for the sender.
-- Every row is looked up by key; `LATERAL … LIMIT 1` keeps the planner from joining whole tables.
-- Locks: the conversations' rows in the order of their ids, FOR NO KEY UPDATE, until the transaction ends. The foreign
-- keys of other transactions take KEY SHARE, which does not conflict.

CREATE FUNCTION commit_messages(
    p_conversation bigint[], p_sender bigint[], p_content text[], p_client_message_id text[], p_parent bigint[],
    p_message_type text[], p_files text[])
RETURNS TABLE (ord bigint, verdict text, message_id bigint, seq bigint, created_at timestamptz,
    parent_message_id bigint, username text, display_name text, is_bot boolean, retry_after_ms bigint,
    ordinal bigint, access_epoch bigint, is_free boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- With these bounds, PostgreSQL opens the partitions within them and no others.
    v_recent       bigint := recent_messages();
    v_first_parent bigint := (SELECT min(x) FROM unnest(p_parent) x);
    v_last_parent  bigint := (SELECT max(x) FROM unnest(p_parent) x);
BEGIN
    -- The next statement takes its snapshot under these locks, so last_seq stays as it reads it. NO KEY is all that the
    -- UPDATE below needs, and it does not conflict with the check of a foreign key.
    PERFORM FROM conversations c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR NO KEY UPDATE;

    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT i.*, c.kind AS conversation_kind, c.last_seq, c.last_ordinal, c.access_epoch, c.archived_at,
               m.user_id AS member, m.role, m.muted_until,
               CASE WHEN c.slow_mode_s > 0 AND m.role < 'moderator' THEN c.slow_mode_s END AS slow_s,
               CASE WHEN c.direct_low IS NOT NULL
                    THEN is_blocked(c.direct_low, c.direct_high) ELSE false END AS blocked,
               u.username, u.display_name, u.is_bot, u.muted_until AS user_muted_until,
               first.id AS first_id, first.seq AS first_seq, first.created_at AS first_at,
               CASE WHEN i.parent_id IS NOT NULL THEN (
                   SELECT coalesce(p.parent_message_id, p.id) FROM messages p
                    WHERE p.id = i.parent_id AND p.id >= v_first_parent AND p.id <= v_last_parent
                      AND p.conversation_id = i.conversation_id AND p.deleted_at IS NULL)
               END AS root_id,
               -- Its files: those of its sender, in this conversation, that are there and stay until the commit. One
               -- that is being checked may be in ten messages, each of which the verdict announces.
               CASE WHEN i.files IS NOT NULL THEN (
                   SELECT count(*) = cardinality(i.files::bigint[]) FROM (
                       SELECT FROM files x
                        WHERE x.id = ANY (i.files::bigint[]) AND x.uploader_id = i.sender_id
                          AND x.conversation_id = i.conversation_id
                          AND (x.state = 'ready' OR x.state = 'scanning' AND (
                              SELECT count(*) FROM message_files y WHERE y.file_id = x.id) < 10)
                        FOR NO KEY UPDATE OF x) kept)
               END AS files_fit
          FROM unnest(p_conversation, p_sender, p_content, p_client_message_id, p_parent, p_message_type,
                      p_files) WITH ORDINALITY
               AS i (conversation_id, sender_id, content, client_message_id, parent_id, message_type, files, ord)
          LEFT JOIN LATERAL (SELECT x.* FROM conversations x WHERE x.id = i.conversation_id LIMIT 1) c ON true
          LEFT JOIN LATERAL (SELECT x.* FROM conversation_members x
                              WHERE x.conversation_id = i.conversation_id AND x.user_id = i.sender_id LIMIT 1) m ON true
          LEFT JOIN LATERAL (SELECT x.* FROM users x WHERE x.id = i.sender_id LIMIT 1) u ON true
          LEFT JOIN LATERAL (SELECT x.id, x.seq, x.created_at FROM messages x
                              WHERE x.conversation_id = i.conversation_id AND x.sender_id = i.sender_id
                                AND x.client_message_id = i.client_message_id AND x.id >= v_recent
                              LIMIT 1) first ON true
    ), judged AS MATERIALIZED (
        SELECT f.*,
               -- Slow mode reads the last few thousand messages at most, which bounds its cost.
               CASE WHEN f.slow_s IS NOT NULL THEN (
                   SELECT max(x.created_at) + make_interval(secs => f.slow_s)
                     FROM (SELECT y.sender_id, y.created_at, y.message_type FROM messages y
                            WHERE y.conversation_id = f.conversation_id AND y.id >= v_recent
                            ORDER BY y.seq DESC LIMIT 5000) x
                    WHERE x.sender_id = f.sender_id AND x.message_type <> 'system') END AS slow_until,
               CASE
                   WHEN f.first_id IS NOT NULL THEN 'duplicate'
                   WHEN f.member IS NULL AND EXISTS (
                        SELECT FROM conversation_bans b
                         WHERE b.conversation_id = f.conversation_id AND b.user_id = f.sender_id) THEN 'banned'
                   WHEN f.member IS NULL AND f.conversation_kind = 'public_room' THEN 'not_member'
                   -- An outsider cannot learn whether a private conversation exists (refuse_outsider).
                   WHEN f.member IS NULL THEN 'not_found'
                   WHEN f.archived_at IS NOT NULL OR f.role = 'read_only' THEN 'read_only'
                   WHEN f.muted_until > now() THEN 'muted'
                   WHEN f.user_muted_until > now() THEN 'muted_everywhere'
                   WHEN f.blocked THEN 'blocked'
                   WHEN f.parent_id IS NOT NULL AND f.root_id IS NULL THEN 'parent_not_found'
                   WHEN NOT f.files_fit THEN 'file_not_found'
                   ELSE 'committed'
               END AS verdict
          FROM found f
    ), accepted AS (
        -- Within a batch, a repeat is one of an accepted message: a refused one stored nothing to repeat. In slow mode
        -- only a member's first message of the batch is accepted.
        SELECT j.*, j.verdict = 'committed' AND coalesce(j.slow_until <= now(), true) AND row_number() OVER (
                   PARTITION BY j.conversation_id, j.sender_id, j.verdict,
                       CASE WHEN j.slow_s IS NULL THEN j.client_message_id END ORDER BY j.ord) = 1 AS is_new
          FROM judged j
    ), numbered AS MATERIALIZED (
        SELECT a.*,
               a.last_seq + count(*) FILTER (WHERE a.is_new)
                   OVER (PARTITION BY a.conversation_id ORDER BY a.ord) AS new_seq,
               CASE WHEN a.is_new THEN nextval('message_ids') END AS new_id
          FROM accepted a
    ), counted AS (
        UPDATE conversations c SET last_seq = n.last_seq, last_ordinal = c.last_ordinal + n.last_seq - c.last_seq
          FROM (SELECT conversation_id, max(new_seq) AS last_seq FROM numbered WHERE is_new GROUP BY conversation_id) n
         WHERE c.id = n.conversation_id
    ), inserted AS (
        INSERT INTO messages (id, conversation_id, seq, ordinal, sender_id, parent_message_id, message_type, content,
                              client_message_id)
        SELECT n.new_id, n.conversation_id, n.new_seq, n.last_ordinal + n.new_seq - n.last_seq, n.sender_id, n.root_id,
               n.message_type::message_type, n.content, n.client_message_id
          FROM numbered n WHERE n.is_new ORDER BY n.conversation_id, n.new_seq
    ), attached AS (
        INSERT INTO message_files (message_id, position, conversation_id, file_id)
        SELECT n.new_id, x.position, n.conversation_id, x.id
          FROM numbered n CROSS JOIN LATERAL unnest(n.files::bigint[]) WITH ORDINALITY x (id, position)
         WHERE n.is_new AND n.files IS NOT NULL
        RETURNING file_id
    ), stays AS (
        UPDATE files x SET expires_at = 'infinity' FROM attached a WHERE x.id = a.file_id
    )
    SELECT n.ord,
           CASE WHEN n.verdict <> 'committed' OR n.is_new THEN n.verdict
                WHEN original.new_id IS NULL THEN 'slow_mode' ELSE 'duplicate' END,
           coalesce(n.new_id, n.first_id, original.new_id),
           coalesce(CASE WHEN n.is_new THEN n.new_seq END, n.first_seq, original.new_seq),
           coalesce(n.first_at, now()), n.root_id, n.username, n.display_name, n.is_bot,
           (extract(epoch FROM CASE
               WHEN n.muted_until > now() THEN least(n.muted_until - now(), interval '1 year')
               WHEN n.user_muted_until > now() THEN n.user_muted_until - now()
               WHEN n.slow_s IS NOT NULL THEN greatest(n.slow_until - now(), interval '1 s') END) * 1000)::bigint,
           n.last_ordinal + n.new_seq - n.last_seq, n.access_epoch, n.is_new AND n.slow_s IS NULL
      FROM numbered n
      LEFT JOIN LATERAL (
          SELECT o.new_id, o.new_seq FROM numbered o
           WHERE n.verdict = 'committed' AND NOT n.is_new AND o.is_new AND o.conversation_id = n.conversation_id
             AND o.sender_id = n.sender_id AND o.client_message_id = n.client_message_id LIMIT 1) original ON true
     ORDER BY n.ord;
END $$;
