//! Messages and what belongs to them: who wrote them and where, which of them are the same, their ids and numbers.

/// Replies whose first message is not in the export, which some exports cut off, stand alone.
const LOOSE: &str = "
CREATE INDEX ON s_messages (id);
WITH loose AS (
    UPDATE s_messages m SET parent = NULL
     WHERE m.parent >= 1::bigint << 62 AND NOT EXISTS (SELECT FROM s_messages p WHERE p.id = m.parent)
    RETURNING m.src, m.line, m.label
)
INSERT INTO mended SELECT 'messages', src, line, label,
    'the message that it replies to is not in the export; it stands alone'
  FROM loose;";

/// Authors and places.
const RESOLVE: &str = "
CREATE UNLOGGED TABLE p_resolved AS
WITH given AS (
    SELECT m.*, CASE WHEN src = 4 THEN 1 ELSE src END AS tab, lower(btrim(author)) AS akey,
           lower(btrim(recipient)) AS rkey, nullif(btrim(room), '') AS place, lower(status) = 'deleted' AS is_deleted
      FROM s_messages m
), known AS (
    SELECT g.no, g.src, g.tab, g.line, g.id, g.slot, g.parent, g.created_at, g.updated_at, g.edited_at, g.is_pinned,
        g.is_edited,
           coalesce(g.is_deleted, false) AS is_deleted, lower(g.status) AS status, g.content_type, g.kind,
           md5(coalesce(g.content, '')) AS hash, k.grp, k.is_ambiguous, g.place, g.rkey,
           coalesce(ax.user_id, ai.user_id, an.user_id) AS sender,
           coalesce(rx.user_id, ri.user_id, rn.user_id) AS recipient,
           coalesce(lower(g.kind) IN ('direct_message', 'room_message'), false) AS is_explicit,
           g.src <> 4 AND (coalesce(lower(g.kind) = 'direct_message', false)
               OR g.place IS NULL AND lower(g.kind) IS DISTINCT FROM 'room_message') AS is_direct,
           CASE WHEN g.is_deleted THEN NULL
                WHEN coalesce(btrim(g.content, E' \\t\\r\\n'), '') = '' AND g.has_files IS NOT TRUE
                THEN 'its text is empty'
                WHEN char_length(g.content) > 4000 THEN 'its text is longer than 4000 characters' END AS content_fault
      FROM given g
      LEFT JOIN p_user_names ax ON ax.key = g.akey AND ax.lname = lower(g.author_name)
      LEFT JOIN p_user_keys ai ON ai.src = g.tab AND ai.key = g.akey
      LEFT JOIN p_user_keys an ON an.src = g.tab AND an.key = lower(g.author_name) AND ai.key IS NULL
      LEFT JOIN p_user_names rx ON rx.key = g.rkey AND rx.lname = lower(g.recipient_name)
      LEFT JOIN p_user_keys ri ON ri.src = g.tab AND ri.key = g.rkey
      LEFT JOIN p_user_keys rn ON rn.src = g.tab AND rn.key = lower(g.recipient_name) AND ri.key IS NULL
      LEFT JOIN p_room_keys k ON k.src = g.src AND k.key = lower(g.place)
)
SELECT *, CASE
    WHEN id IS NULL THEN 'it has no id'
    WHEN created_at IS NULL THEN 'it has no time'
    WHEN created_at < '1970-01-01 00:00:00+00' OR created_at > now() + interval '1 day' THEN 'its time is out of range'
    WHEN sender IS NULL THEN 'its author is unknown or was rejected'
    WHEN is_direct AND rkey IS NULL OR NOT is_direct AND place IS NULL THEN 'it has neither a room nor a recipient'
    WHEN NOT is_direct AND src <> 4 AND rkey IS NOT NULL AND NOT is_explicit THEN 'it has both a room and a recipient'
    WHEN is_direct AND recipient IS NULL THEN 'its recipient is unknown or was rejected'
    WHEN is_direct AND recipient = sender THEN 'it is a direct message to its author'
    WHEN NOT is_direct AND is_ambiguous THEN 'the name of its room is not unique'
    ELSE content_fault END AS reason
  FROM known;
CREATE INDEX ON p_resolved (grp) WHERE src = 4;
ANALYZE p_resolved;";

/// Conversations, and which messages are the same: id, author, time, text and conversation, in different generations.
const UNITE: &str = "
CREATE UNLOGGED TABLE p_united AS
WITH placed AS (
    SELECT r.no, r.src, r.tab, r.line, r.id, r.slot, r.parent, r.created_at, r.updated_at, r.edited_at, r.is_pinned,
           r.is_edited, r.is_deleted, r.status, r.content_type, r.hash, r.sender, r.recipient,
           CASE r.src WHEN 4 THEN 0 WHEN 2 THEN 1 WHEN 3 THEN 2 ELSE 3 END AS age,
           coalesce(p.conversation_id, g.conversation_id) AS conversation_id,
           coalesce(r.reason, CASE
               WHEN coalesce(p.conversation_id, g.conversation_id) IS NULL THEN 'its room is unknown or was rejected'
               WHEN r.sender NOT IN (d.low, d.high) THEN 'its author is no member of the direct conversation' END)
           AS reason
      FROM p_resolved r
      LEFT JOIN p_pairs p ON r.is_direct AND p.low = least(r.sender, r.recipient)
            AND p.high = greatest(r.sender, r.recipient)
      LEFT JOIN p_groups g ON NOT r.is_direct AND g.grp = r.grp
      LEFT JOIN p_direct d ON NOT r.is_direct AND d.no = r.grp
)
SELECT no, src, tab, line, id, slot, parent, created_at, conversation_id, sender, recipient, content_type, status,
       first_value(no) OVER w AS winner, max(updated_at) OVER w AS updated_at, max(edited_at) OVER w AS edited_at,
       coalesce(bool_or(is_pinned) OVER w, false) AS is_pinned,
       coalesce(bool_or(is_edited) OVER w, false) OR coalesce(bool_or(status = 'edited') OVER w, false) AS is_edited,
       bool_or(is_deleted) OVER w AS is_deleted, reason
  FROM placed
WINDOW w AS (PARTITION BY slot, CASE WHEN slot IS NULL THEN id END, sender, created_at, conversation_id, hash, reason,
                          CASE WHEN reason IS NOT NULL THEN no END
             ORDER BY age, no ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING);
CREATE UNIQUE INDEX ON p_united (no);
UPDATE p_united u SET reason = 'its id occurs twice in this table, with another text', winner = u.no
  FROM (SELECT no, winner, first_value(winner) OVER (PARTITION BY tab, id ORDER BY no) AS first
          FROM p_united WHERE reason IS NULL) d
 WHERE d.no = u.no AND d.winner <> d.first;
-- What a message was rejected for in one generation does not take it from another.
UPDATE p_united u SET winner = u.no FROM p_united w WHERE w.no = u.winner AND w.reason IS NOT NULL AND u.reason IS NULL;
ANALYZE p_united;";

/// Which message a reference means: in the table of its own generation, if the dump has one.
const KEYS: &str = "
CREATE UNLOGGED TABLE p_keys AS
SELECT DISTINCT ON (tab, id) tab, id, CASE WHEN reason IS NULL THEN winner END AS no
  FROM p_united WHERE id IS NOT NULL ORDER BY tab, id, reason IS NOT NULL, no;
CREATE UNIQUE INDEX ON p_keys (tab, id);
CREATE UNLOGGED TABLE p_tabs AS
SELECT r.ref, (SELECT t FROM unnest(r.preferred) WITH ORDINALITY AS p (t, n)
                WHERE EXISTS (SELECT FROM s_messages m WHERE CASE WHEN m.src = 4 THEN 1 ELSE m.src END = t)
                   OR EXISTS (SELECT FROM quarantine q WHERE q.staged = 'messages'
                                 AND CASE WHEN q.src = 4 THEN 1 ELSE q.src END = t)
                ORDER BY n LIMIT 1) AS tab
  FROM (VALUES (1, ARRAY[1, 2, 3]), (2, ARRAY[2, 3, 1]), (3, ARRAY[3, 2, 1])) AS r (ref, preferred);
ANALYZE p_keys;";

/// Threads have one level: a reply to a reply is one to the first message. A reply needs its first message, in the same
/// conversation; what replies to a rejected message is rejected too.
const THREADS: &str = "
CREATE UNLOGGED TABLE p_parents AS
SELECT u.no, k.no AS parent, k.no AS root, false AS is_done
  FROM p_united u LEFT JOIN p_keys k ON k.tab = u.tab AND k.id = u.parent
 WHERE u.parent IS NOT NULL AND u.reason IS NULL AND u.winner = u.no;
CREATE UNIQUE INDEX ON p_parents (no);
CREATE INDEX ON p_parents (parent);
UPDATE p_united u SET reason = 'the message that it replies to is unknown or was rejected'
  FROM p_parents p WHERE p.no = u.no AND p.parent IS NULL;
UPDATE p_united u SET reason = 'the message that it replies to is in another conversation'
  FROM p_parents p JOIN p_united x ON x.no = p.parent
 WHERE p.no = u.no AND x.conversation_id <> u.conversation_id AND u.reason IS NULL;
DO $$
DECLARE v_changed bigint;
BEGIN
    FOR i IN 1 .. 30 LOOP
        UPDATE p_parents p SET root = x.root FROM p_parents x WHERE x.no = p.root AND x.root <> p.root;
        GET DIAGNOSTICS v_changed = ROW_COUNT;
        EXIT WHEN v_changed = 0;
    END LOOP;
    -- The root of a chain is no reply. Where it is one, the chain is a circle.
    UPDATE p_united u SET reason = 'its replies form a circle'
      FROM p_parents p JOIN p_parents x ON x.no = p.root
     WHERE p.no = u.no AND u.reason IS NULL AND x.parent IS NOT NULL;
    LOOP
        UPDATE p_united u SET reason = 'the message that it replies to is unknown or was rejected'
          FROM p_parents p JOIN p_united x ON x.no = p.parent
         WHERE p.no = u.no AND u.reason IS NULL AND x.reason IS NOT NULL;
        GET DIAGNOSTICS v_changed = ROW_COUNT;
        EXIT WHEN v_changed = 0;
    END LOOP;
END $$;
UPDATE p_united u SET reason = w.reason FROM p_united w
 WHERE w.no = u.winner AND u.no <> u.winner AND u.reason IS NULL AND w.reason IS NOT NULL;
UPDATE p_keys k SET no = NULL FROM p_united u WHERE u.no = k.no AND u.reason IS NOT NULL;
UPDATE s_messages m SET reason = u.reason FROM p_united u WHERE u.no = m.no AND u.reason IS NOT NULL;";

/// Earlier texts of messages: `message_history`, and `original_content` where a message has no history.
const EDITS: &str = "
CREATE UNLOGGED TABLE p_history AS
SELECT h.no, h.id, h.content, h.edited_at, k.no AS message,
       CASE WHEN k.no IS NULL THEN 'its message is unknown or was rejected'
            WHEN u.is_deleted THEN 'its message is deleted, and so are its earlier texts'
            WHEN h.edited_at IS NULL THEN 'it has no time'
            WHEN h.content IS NULL THEN 'it has no text'
            WHEN char_length(h.content) > 4000 THEN 'its text is longer than 4000 characters' END AS reason
  FROM s_history h JOIN p_tabs t ON t.ref = h.src LEFT JOIN p_keys k ON k.tab = t.tab AND k.id = h.message_id
  LEFT JOIN p_united u ON u.no = k.no;
UPDATE s_history h SET reason = p.reason FROM p_history p WHERE p.no = h.no AND p.reason IS NOT NULL;
CREATE UNLOGGED TABLE p_edits AS
SELECT h.message, (row_number() OVER w - 1)::int AS number, h.content,
       coalesce(lag(h.edited_at) OVER w, u.created_at) AS written_at, h.edited_at
  FROM p_history h JOIN p_united u ON u.no = h.message WHERE h.reason IS NULL
WINDOW w AS (PARTITION BY h.message ORDER BY h.edited_at, h.id, h.no)
UNION ALL
SELECT x.message, 0, x.original, x.created_at, NULL FROM (
    SELECT DISTINCT ON (u.winner) u.winner AS message, m.original, w.created_at
      FROM s_messages m JOIN p_united u ON u.no = m.no JOIN p_united w ON w.no = u.winner
          JOIN s_messages o ON o.no = u.winner
     WHERE m.original <> '' AND m.original <> o.content AND w.is_edited AND NOT w.is_deleted AND u.reason IS NULL
       AND char_length(m.original) <= 4000
       AND NOT EXISTS (SELECT FROM p_history h WHERE h.message = u.winner AND h.reason IS NULL)
     ORDER BY u.winner, u.no) x;
CREATE INDEX ON p_edits (message);
ANALYZE p_edits;";

/// Ids, numbers and batches. A message that an earlier import wrote is known by its key, and keeps both.
const NUMBERS: &str = "
CREATE UNLOGGED TABLE p_messages AS
WITH winners AS (
    SELECT u.no, u.src, u.tab, u.line, u.id, u.created_at, u.conversation_id, u.sender, u.content_type, u.is_pinned,
           u.is_deleted, coalesce(u.updated_at, u.created_at) AS updated_at, p.root,
           CASE WHEN u.is_deleted THEN NULL
                ELSE coalesce(e.edited_at, u.edited_at,
                              CASE WHEN u.is_edited OR e.message IS NOT NULL THEN coalesce(u.updated_at,
                                  u.created_at) END)
                END AS edited_at,
           E'\\x01' || (SELECT source FROM run) || ':'
           || CASE WHEN u.slot IS NULL THEN CASE u.tab WHEN 1 THEN 'm' WHEN 2 THEN 'e' ELSE 's' END || u.id
                   ELSE u.slot || coalesce('.' || nullif(row_number() OVER (PARTITION BY u.slot ORDER BY u.no), 1), '')
                   END AS key
      FROM p_united u
      LEFT JOIN p_parents p ON p.no = u.no
      LEFT JOIN (SELECT message, max(edited_at) AS edited_at FROM p_edits GROUP BY message) e ON e.message = u.no
     WHERE u.reason IS NULL AND u.winner = u.no
), matched AS (
    SELECT w.*, x.id AS known_id, x.seq AS known_seq,
           w.id BETWEEN 1 AND 4503599627370496 AND x.id IS NULL
           AND row_number() OVER (PARTITION BY w.id ORDER BY x.id NULLS LAST, w.tab, w.no) = 1
           AND NOT EXISTS (SELECT FROM messages y WHERE y.id = w.id)
           -- In a later range of ids, the ids of a conversation rise with seq.
           AND (SELECT count(*) = 1 FROM message_partitions) AS keeps_id
      FROM winners w
      LEFT JOIN messages x ON x.conversation_id = w.conversation_id AND x.sender_id = w.sender
                          AND x.client_message_id = w.key
), based AS (
    SELECT greatest((SELECT last_value FROM message_ids), (SELECT coalesce(max(id), 0) FROM messages),
                    (SELECT coalesce(max(id), 0) FROM matched WHERE keeps_id)) AS id
), named AS (
    SELECT m.*, coalesce(known_id, CASE WHEN keeps_id THEN m.id END,
                         based.id + row_number() OVER (PARTITION BY known_id IS NULL AND NOT keeps_id
                                                       ORDER BY m.created_at, m.src, m.id)) AS target_id
      FROM matched m, based
), numbered AS (
    SELECT n.*, known_id IS NOT NULL AS existing,
           row_number() OVER (PARTITION BY conversation_id, known_id IS NULL ORDER BY created_at, target_id) AS n
      FROM named n
), placed AS (
    SELECT n.*, coalesce(n.known_seq, c.last_seq + n.n) AS seq, c.last_ordinal + n.n AS ordinal
      FROM numbered n JOIN p_conversations c USING (conversation_id)
)
SELECT no, src, tab, line, id, target_id, conversation_id, sender, root, created_at, updated_at, edited_at, is_deleted,
       is_pinned, content_type, key, existing, seq, ordinal,
       CASE WHEN NOT existing THEN (row_number() OVER (PARTITION BY existing ORDER BY conversation_id, seq) - 1) / 50000
       END AS batch
  FROM placed;
CREATE UNIQUE INDEX ON p_messages (no);
CREATE INDEX ON p_messages (batch);
CREATE INDEX ON p_messages (conversation_id, id);
CREATE INDEX ON p_messages (conversation_id, created_at, seq);
ANALYZE p_messages;
INSERT INTO mended SELECT 'messages', src, line, id::text, format('the id %s is not free; it became %s', id, target_id)
  FROM p_messages WHERE target_id <> id AND id < 1::bigint << 62 AND NOT existing;";

/// Reactions, mentions and pins.
const MARKS: &str = "
CREATE UNLOGGED TABLE p_reaction_rows AS
SELECT r.no, k.no AS message, u.user_id, r.emoji, r.created_at,
       CASE WHEN k.no IS NULL THEN 'its message is unknown or was rejected'
            WHEN u.user_id IS NULL THEN 'its user is unknown or was rejected'
            WHEN m.is_deleted THEN 'its message is deleted'
            WHEN coalesce(r.emoji, '') = '' OR octet_length(r.emoji) > 64 THEN 'its emoji is missing or too long'
            END AS reason
  FROM s_reactions r JOIN p_tabs t ON t.ref = r.src LEFT JOIN p_keys k ON k.tab = t.tab AND k.id = r.message_id
  LEFT JOIN p_user_keys u ON u.src = r.src AND u.key = lower(r.user_id) LEFT JOIN p_united m ON m.no = k.no;
UPDATE s_reactions r SET reason = p.reason FROM p_reaction_rows p WHERE p.no = r.no AND p.reason IS NOT NULL;
CREATE UNLOGGED TABLE p_reactions AS
SELECT DISTINCT ON (message, emoji, user_id) message, emoji, user_id, created_at FROM p_reaction_rows
 WHERE reason IS NULL ORDER BY message, emoji, user_id, created_at;
CREATE INDEX ON p_reactions (message);
CREATE UNLOGGED TABLE p_mention_rows AS
SELECT r.no, k.no AS message, u.user_id,
       CASE WHEN k.no IS NULL THEN 'its message is unknown or was rejected'
            WHEN u.user_id IS NULL THEN 'its user is unknown or was rejected'
            WHEN m.is_deleted THEN 'its message is deleted' END AS reason
  FROM s_mentions r JOIN p_tabs t ON t.ref = r.src LEFT JOIN p_keys k ON k.tab = t.tab AND k.id = r.message_id
  LEFT JOIN p_user_keys u ON u.src = r.src AND u.key = lower(r.user_id) LEFT JOIN p_united m ON m.no = k.no;
UPDATE p_mention_rows p SET reason = 'its user is no member of the conversation'
  FROM p_messages m WHERE m.no = p.message AND p.reason IS NULL
   AND NOT EXISTS (SELECT FROM p_members x WHERE x.conversation_id = m.conversation_id AND x.user_id = p.user_id)
   AND NOT EXISTS (SELECT FROM conversation_members x
                    WHERE x.conversation_id = m.conversation_id AND x.user_id = p.user_id);
UPDATE s_mentions r SET reason = p.reason FROM p_mention_rows p WHERE p.no = r.no AND p.reason IS NOT NULL;
CREATE UNLOGGED TABLE p_mentions AS SELECT DISTINCT message, user_id FROM p_mention_rows WHERE reason IS NULL;
CREATE INDEX ON p_mentions (message);
CREATE UNLOGGED TABLE p_pins AS
SELECT m.no AS message, m.src, m.line,
       (SELECT coalesce(s.label, s.id::text) FROM s_messages s WHERE s.no = m.no) AS id,
       coalesce(c.owner_id, m.sender) AS pinned_by, m.updated_at AS pinned_at,
       row_number() OVER (PARTITION BY m.conversation_id ORDER BY m.updated_at DESC, m.seq DESC) AS n
  FROM p_messages m JOIN p_conversations c USING (conversation_id)
 WHERE m.is_pinned AND NOT m.is_deleted;
INSERT INTO mended SELECT 'messages', src, line, id,
    'it is not pinned: a conversation has 50 pins, the newest ones'
  FROM p_pins WHERE n > 50;
DELETE FROM p_pins WHERE n > 50;
CREATE INDEX ON p_pins (message);";

/// How far members have read: up to the message of their marker. Where the dump has no markers, everything is read.
/// In direct conversations of `messages_enhanced` the state of each message says it.
const MARKERS: &str = "
CREATE UNLOGGED TABLE p_states AS
SELECT m.conversation_id, x.user_id, max(m.seq) AS seq
  FROM p_messages m JOIN p_united u ON u.no = m.no JOIN p_conversations c ON c.conversation_id = m.conversation_id
 CROSS JOIN LATERAL (VALUES (m.sender), (CASE WHEN u.status = 'read' THEN u.recipient END)) AS x (user_id)
 WHERE m.src IN (2, 3) AND c.kind = 'direct' AND x.user_id IS NOT NULL
 GROUP BY m.conversation_id, x.user_id;
CREATE UNIQUE INDEX ON p_states (conversation_id, user_id);
CREATE UNLOGGED TABLE p_ends AS
SELECT c.conversation_id, c.kind, greatest(c.last_seq, coalesce(max(m.seq), 0)) AS seq,
       EXISTS (SELECT FROM p_states s WHERE s.conversation_id = c.conversation_id) AS has_states
  FROM p_conversations c LEFT JOIN p_messages m USING (conversation_id)
 GROUP BY c.conversation_id, c.kind, c.last_seq;
CREATE UNIQUE INDEX ON p_ends (conversation_id);
ANALYZE p_states, p_ends;
UPDATE p_members p SET read_seq = CASE
        WHEN p.read_at IS NOT NULL THEN coalesce((
            SELECT m.seq FROM p_messages m WHERE m.conversation_id = p.conversation_id AND m.created_at <= p.read_at
             ORDER BY m.created_at DESC, m.seq DESC LIMIT 1), 0)
        WHEN p.has_marker AND p.last_read IS NULL THEN 0
        WHEN p.has_marker THEN coalesce((
            SELECT m.seq FROM p_keys k JOIN p_messages m ON m.no = k.no
             WHERE k.tab = (SELECT t.tab FROM p_tabs t WHERE t.ref = CASE WHEN p.src = 4 THEN 1 ELSE p.src END)
               AND k.id = p.last_read AND m.conversation_id = p.conversation_id), (
            SELECT max(m.seq) FROM p_messages m WHERE m.conversation_id = p.conversation_id AND m.id <= p.last_read), 0)
        WHEN e.has_states THEN coalesce((
            SELECT s.seq FROM p_states s WHERE s.conversation_id = p.conversation_id AND s.user_id = p.user_id), 0)
        ELSE e.seq END
  FROM p_ends e WHERE e.conversation_id = p.conversation_id;";

/// The steps before the conversations.
#[must_use]
pub fn plan_authors() -> Vec<(&'static str, String)> {
    vec![("messages: replies", LOOSE.to_owned()), ("messages: authors", RESOLVE.to_owned())]
}

/// The steps behind them.
#[must_use]
pub fn plan() -> Vec<(&'static str, String)> {
    vec![
        ("messages: duplicates", UNITE.to_owned()),
        ("messages: references", KEYS.to_owned()),
        ("messages: threads", THREADS.to_owned()),
        ("messages: edits", EDITS.to_owned()),
        ("messages: numbers", NUMBERS.to_owned()),
        ("messages: reactions and pins", MARKS.to_owned()),
        ("read markers", MARKERS.to_owned()),
    ]
}
