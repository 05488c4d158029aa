//! What the report says.

/// Table, generation, rows that were imported now, those that were there already, and those that became part of
/// another one.
pub const COUNTS: &str = "
SELECT 'users', p.src, count(*) FILTER (WHERE p.person = p.no AND NOT x.existing),
       count(*) FILTER (WHERE p.person = p.no AND x.existing), count(*) FILTER (WHERE p.person <> p.no)
  FROM p_pool p JOIN p_people x USING (person) GROUP BY p.src
UNION ALL
SELECT 'rooms', r.src, count(*) FILTER (WHERE NOT c.existing AND (p.grp = r.no AND c.grp IS NOT NULL
    OR d.no IS NOT NULL)),
       count(*) FILTER (WHERE c.existing AND (p.grp = r.no AND c.grp IS NOT NULL OR d.no IS NOT NULL)),
       count(*) FILTER (WHERE p.grp <> r.no AND d.no IS NULL)
  FROM s_rooms r JOIN p_room_pool p ON p.no = r.no JOIN p_groups g ON g.grp = p.grp
  JOIN p_conversations c ON c.conversation_id = g.conversation_id
  LEFT JOIN p_direct d ON d.no = r.no
 WHERE r.reason IS NULL GROUP BY r.src
UNION ALL
SELECT 'members', m.src, count(*) FILTER (WHERE NOT c.existing AND m.n = 1), count(*) FILTER (WHERE c.existing),
       count(*) FILTER (WHERE NOT c.existing AND m.n > 1)
  FROM (SELECT *, row_number() OVER (PARTITION BY conversation_id, user_id ORDER BY no) AS n
          FROM p_member_rows WHERE reason IS NULL) m
  JOIN p_conversations c USING (conversation_id) GROUP BY m.src
UNION ALL
SELECT 'messages', u.src, count(*) FILTER (WHERE u.winner = u.no AND NOT p.existing),
       count(*) FILTER (WHERE u.winner = u.no AND p.existing), count(*) FILTER (WHERE u.winner <> u.no)
  FROM p_united u LEFT JOIN p_messages p ON p.no = u.no WHERE u.reason IS NULL GROUP BY u.src
UNION ALL
SELECT 'reactions', s.src, count(*) FILTER (WHERE NOT p.existing AND r.n = 1), count(*) FILTER (WHERE p.existing),
       count(*) FILTER (WHERE NOT p.existing AND r.n > 1)
  FROM (SELECT *, row_number() OVER (PARTITION BY message, emoji, user_id ORDER BY created_at, no) AS n
          FROM p_reaction_rows WHERE reason IS NULL) r
  JOIN s_reactions s ON s.no = r.no JOIN p_messages p ON p.no = r.message GROUP BY s.src
UNION ALL
SELECT 'mentions', s.src, count(*) FILTER (WHERE NOT p.existing AND r.n = 1), count(*) FILTER (WHERE p.existing),
       count(*) FILTER (WHERE NOT p.existing AND r.n > 1)
  FROM (SELECT *, row_number() OVER (PARTITION BY message, user_id ORDER BY no) AS n
          FROM p_mention_rows WHERE reason IS NULL) r
  JOIN s_mentions s ON s.no = r.no JOIN p_messages p ON p.no = r.message GROUP BY s.src
UNION ALL
SELECT 'history', s.src, count(*) FILTER (WHERE NOT p.existing), count(*) FILTER (WHERE p.existing), 0
  FROM p_history h JOIN s_history s ON s.no = h.no JOIN p_messages p ON p.no = h.message
 WHERE h.reason IS NULL GROUP BY s.src
UNION ALL
SELECT 'blocks', s.src, count(*) FILTER (WHERE NOT (x.existing AND y.existing)),
       count(*) FILTER (WHERE x.existing AND y.existing), 0
  FROM s_blocks s JOIN p_user_keys a ON a.src = s.src AND a.key = lower(s.blocker)
  JOIN p_user_keys b ON b.src = s.src AND b.key = lower(s.blocked)
  JOIN p_people x ON x.user_id = a.user_id JOIN p_people y ON y.user_id = b.user_id
 WHERE s.reason IS NULL GROUP BY s.src
UNION ALL
SELECT 'actions', s.src, count(*) FILTER (WHERE NOT x.existing), count(*) FILTER (WHERE x.existing), 0
  FROM s_actions s JOIN p_user_keys a ON a.src = 1 AND a.key = lower(s.target)
  JOIN p_people x ON x.user_id = a.user_id
 WHERE s.reason IS NULL GROUP BY s.src";

/// What the dump brings and what the database has of it: rows and checksums of both, for each table. The checksum is
/// the sum of 60 bits of each row's MD5, so it does not depend on the order.
pub const CHECKSUMS: &str = "
WITH planned AS (
    SELECT 'users' AS name, md5(concat_ws('|', user_id, name, display_name, kept_email, created_at)) AS h
      FROM p_people WHERE NOT existing
    UNION ALL
    SELECT 'conversations', md5(concat_ws('|', conversation_id, kind, CASE WHEN kind <> 'direct' THEN left(name,
        100) END,
                                          CASE WHEN kind <> 'direct' THEN owner_id END, low, high))
      FROM p_conversations WHERE NOT existing
    UNION ALL
    SELECT 'conversation_members', md5(concat_ws('|', p.conversation_id, p.user_id, p.role, p.read_seq))
      FROM p_members p JOIN conversations c ON c.id = p.conversation_id
     WHERE NOT EXISTS (SELECT FROM conversation_bans b
                        WHERE b.conversation_id = p.conversation_id AND b.user_id = p.user_id)
    UNION ALL
    SELECT 'messages', md5(concat_ws('|', p.target_id, p.conversation_id, p.seq, p.sender, r.target_id, p.created_at,
                                     p.edited_at, p.is_deleted, CASE WHEN p.is_deleted THEN '' ELSE s.content END))
      FROM p_messages p JOIN s_messages s ON s.no = p.no LEFT JOIN p_messages r ON r.no = p.root WHERE NOT p.existing
    UNION ALL
    SELECT 'message_edits', md5(concat_ws('|', p.target_id, e.number, e.content, e.written_at))
      FROM p_messages p JOIN p_edits e ON e.message = p.no WHERE NOT p.existing
    UNION ALL
    SELECT 'message_reactions', md5(concat_ws('|', p.target_id, r.emoji, r.user_id))
      FROM p_messages p JOIN p_reactions r ON r.message = p.no WHERE NOT p.existing
    UNION ALL
    SELECT 'message_pins', md5(concat_ws('|', p.target_id, x.pinned_by))
      FROM p_messages p JOIN p_pins x ON x.message = p.no WHERE NOT p.existing
), written AS (
    SELECT 'users' AS name, md5(concat_ws('|', u.id, u.username, u.display_name, c.email, u.created_at)) AS h
      FROM p_people p JOIN users u ON u.id = p.user_id JOIN credentials c ON c.user_id = u.id WHERE NOT p.existing
    UNION ALL
    SELECT 'conversations', md5(concat_ws('|', c.id, c.kind, c.name, c.owner_id, c.direct_low, c.direct_high))
      FROM p_conversations p JOIN conversations c ON c.id = p.conversation_id WHERE NOT p.existing
    UNION ALL
    SELECT 'conversation_members', md5(concat_ws('|', m.conversation_id, m.user_id, m.role, m.read_seq))
      FROM p_members p JOIN conversation_members m USING (conversation_id, user_id)
    UNION ALL
    SELECT 'messages', md5(concat_ws('|', m.id, m.conversation_id, m.seq, m.sender_id, m.parent_message_id,
        m.created_at,
                                     m.edited_at, m.deleted_at IS NOT NULL, m.content))
      FROM p_messages p JOIN messages m ON m.id = p.target_id WHERE NOT p.existing
    UNION ALL
    SELECT 'message_edits', md5(concat_ws('|', e.message_id, e.number, e.content, e.written_at))
      FROM p_messages p JOIN message_edits e ON e.message_id = p.target_id WHERE NOT p.existing
    UNION ALL
    SELECT 'message_reactions', md5(concat_ws('|', r.message_id, r.emoji, r.user_id))
      FROM p_messages p JOIN message_reactions r ON r.message_id = p.target_id WHERE NOT p.existing
    UNION ALL
    SELECT 'message_pins', md5(concat_ws('|', x.message_id, x.pinned_by))
      FROM p_messages p JOIN message_pins x ON x.conversation_id = p.conversation_id AND x.message_id = p.target_id
     WHERE NOT p.existing
), sums AS (
    SELECT name, true AS is_planned, count(*) AS n, sum(('x' || left(h, 15))::bit(60)::bigint) AS s FROM planned
        GROUP BY name
    UNION ALL
    SELECT name, false, count(*), sum(('x' || left(h, 15))::bit(60)::bigint) FROM written GROUP BY name
)
SELECT t.name, coalesce(max(n) FILTER (WHERE is_planned), 0), coalesce(max(s) FILTER (WHERE is_planned), 0)::text,
       coalesce(max(n) FILTER (WHERE NOT is_planned), 0), coalesce(max(s) FILTER (WHERE NOT is_planned), 0)::text
  FROM unnest(ARRAY['users', 'conversations', 'conversation_members', 'messages', 'message_edits', 'message_reactions',
                    'message_pins']) WITH ORDINALITY AS t (name, n_order)
  LEFT JOIN sums ON sums.name = t.name GROUP BY t.name, t.n_order ORDER BY t.n_order";

/// Rejected rows: table, generation, line, id, reason; by line.
pub const QUARANTINE: &str = "SELECT staged, src, line, id, reason FROM quarantine ORDER BY line, staged, src, id";
/// The same for rows that were changed.
pub const MENDED: &str = "SELECT staged, src, line, id, what FROM mended ORDER BY line, staged, src, id, what";
/// Conversations whose numbers have a gap, or whose last number is wrong: none, unless the import is broken.
pub const GAPS: &str = "
SELECT c.id FROM p_conversations p JOIN conversations c ON c.id = p.conversation_id
  LEFT JOIN (SELECT conversation_id, count(*) AS n, max(seq) AS last FROM (
                 SELECT conversation_id, seq FROM messages UNION ALL SELECT conversation_id, seq
                     FROM conversation_events) x
              GROUP BY conversation_id) l ON l.conversation_id = c.id
 WHERE coalesce(l.n, 0) <> c.last_seq OR coalesce(l.last, 0) <> c.last_seq LIMIT 10";
