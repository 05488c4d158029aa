//! Rooms, groups and direct conversations, and which of them a reference means.

/// Names that rooms of several teams have, what each row becomes, and which rows of rooms are the same room: the same
/// name and the same visibility, without case. A name that two rooms of a generation have unites nothing, unless the id
/// is the same too.
const ROOMS: &str = "
WITH alike AS (
    SELECT no, name, count(*) OVER (PARTITION BY lower(btrim(name))) AS n FROM s_rooms WHERE team IS NOT NULL
), renamed AS (
    UPDATE s_rooms r SET name = format('%s (%s)', left(btrim(r.name), 60), left(r.team, 37))
      FROM alike a WHERE a.no = r.no AND a.n > 1
    RETURNING r.src, r.line, r.id, a.name AS old, r.name AS new
)
INSERT INTO mended SELECT 'rooms', src, line, id,
       format('another room is called %s too; it became %s', quote_literal(left(old, 60)), quote_literal(new))
  FROM renamed;
UPDATE s_rooms SET target = CASE
    WHEN src = 5 THEN 'direct'
    WHEN src = 4 THEN CASE lower(kind) WHEN 'direct_message' THEN 'direct' WHEN 'direct' THEN 'direct'
        WHEN 'group_chat' THEN 'group' WHEN 'group' THEN 'group' WHEN 'public_room' THEN 'public_room'
        WHEN 'private_room' THEN 'private_room' END
    WHEN src = 1 THEN CASE WHEN coalesce(is_private, NOT is_public, false) THEN 'private_room' ELSE 'public_room' END
    ELSE CASE WHEN coalesce(is_public, NOT is_private, false) THEN 'public_room' ELSE 'private_room' END END;
UPDATE s_rooms SET reason = CASE WHEN coalesce(id, '') = '' THEN 'it has no id'
        ELSE format('its type %s is unknown', coalesce(quote_literal(left(kind, 40)), 'NULL')) END
 WHERE coalesce(id, '') = '' OR target IS NULL;
UPDATE s_rooms u SET reason = 'its id occurs twice in this table'
  FROM (SELECT no, row_number() OVER (PARTITION BY src, id ORDER BY no) AS n FROM s_rooms WHERE reason IS NULL) d
 WHERE d.no = u.no AND d.n > 1;
CREATE UNLOGGED TABLE p_room_pool AS
SELECT no AS grp, no, src, id, lower(btrim(name)) AS lname, target,
       count(*) OVER (PARTITION BY src, target, lower(btrim(name))) AS alike
  FROM s_rooms WHERE src = 1 AND reason IS NULL;";

fn unite(src: u8) -> String {
    format!(
        "
INSERT INTO p_room_pool
WITH mine AS (
    SELECT no, src, id, lower(btrim(name)) AS lname, target,
           count(*) OVER (PARTITION BY target, lower(btrim(name))) AS alike
      FROM s_rooms WHERE src = {src} AND reason IS NULL
), best AS (
    SELECT DISTINCT ON (r.no) r.no, p.grp, (p.id = r.id)::int AS score
      FROM mine r JOIN p_room_pool p ON p.lname = r.lname AND p.target = r.target
     WHERE r.lname <> '' AND r.target IN ('public_room', 'private_room')
       AND (p.id = r.id OR p.alike = 1 AND r.alike = 1)
     ORDER BY r.no, score DESC, p.grp
), united AS (
    SELECT DISTINCT ON (grp) grp, no FROM best ORDER BY grp, score DESC, no
)
SELECT coalesce(b.grp, r.no), r.no, r.src, r.id, r.lname, r.target, r.alike
  FROM mine r LEFT JOIN united b ON b.no = r.no;"
    )
}

/// Which room a reference means. Messages of the first generation name a room; others have its id.
const KEYS: &str = "
INSERT INTO p_room_pool SELECT no, no, src, id, NULL, target, 1 FROM s_rooms WHERE src = 5 AND reason IS NULL;
CREATE INDEX ON p_room_pool (grp);
CREATE UNLOGGED TABLE p_room_keys AS
WITH keys AS (
    SELECT r.src AS ref, lower(p.id) AS key, p.grp, r.rank
      FROM p_room_pool p
      JOIN (VALUES (1, 1, 2), (1, 2, 5), (2, 2, 1), (2, 3, 2), (2, 1, 3), (3, 3, 1), (3, 2, 2), (3, 1, 3), (4, 4, 1),
                   (4, 5, 9)) AS r (src, room_src, rank)
        ON r.room_src = p.src
     -- A number is an id of another generation, and says nothing here.
     WHERE r.src = p.src OR r.src + p.src IN (5, 9) OR p.id !~ '^[0-9]+$' OR r.rank = 3
    UNION ALL
    SELECT r.src, p.lname, p.grp, r.rank
      FROM p_room_pool p
      JOIN (VALUES (1, 1, 1), (1, 2, 3), (1, 3, 4), (1, 4, 6), (2, 2, 4), (2, 1, 5), (3, 3, 4), (3, 1, 5))
           AS r (src, room_src, rank) ON r.room_src = p.src
     WHERE p.lname <> '' AND p.target IN ('public_room', 'private_room')
    UNION ALL
    SELECT src, lower(id), NULL, 0 FROM s_rooms s WHERE reason IS NOT NULL AND id <> ''
       AND NOT EXISTS (SELECT FROM p_room_pool p WHERE p.src = s.src AND p.id = s.id)
    UNION ALL
    SELECT src, lower(btrim(name)), NULL, 1 FROM s_rooms s WHERE src = 1 AND reason IS NOT NULL AND name <> ''
), best AS (
    SELECT ref, key, grp, rank, min(rank) OVER (PARTITION BY ref, key) AS first FROM keys
)
SELECT ref AS src, key, CASE WHEN count(DISTINCT coalesce(grp, 0)) = 1 THEN min(grp) END AS grp,
       count(DISTINCT coalesce(grp, 0)) > 1 AS is_ambiguous
  FROM best WHERE rank = first GROUP BY ref, key;
CREATE UNIQUE INDEX ON p_room_keys (src, key);
ANALYZE p_room_keys, p_room_pool;";

/// The conversations. Called after the messages know their authors: direct ones are made of them too.
const CONVERSATIONS: &str = "
-- The two users of a direct conversation: its members; if there are not two, its members and authors.
CREATE UNLOGGED TABLE p_direct AS
WITH direct AS (
    SELECT r.no, r.src, r.id, r.user1, r.user2 FROM s_rooms r WHERE r.target = 'direct' AND r.reason IS NULL
), people AS (
    SELECT d.no, u.user_id, 1 AS rank FROM direct d JOIN s_members m ON m.src = 4 AND m.room = d.id
      JOIN p_user_keys u ON u.src = 1 AND u.key = lower(m.user_id) WHERE d.src = 4 AND u.user_id IS NOT NULL
    UNION SELECT d.no, x.sender, 2 FROM direct d JOIN p_resolved x ON x.grp = d.no WHERE x.sender IS NOT NULL
    UNION SELECT d.no, u.user_id, 1 FROM direct d CROSS JOIN LATERAL unnest(ARRAY[d.user1, d.user2]) AS g (id)
      JOIN p_user_keys u ON u.src = 1 AND u.key = g.id::text WHERE d.src = 5 AND u.user_id IS NOT NULL
), counted AS (
    SELECT no, array_agg(DISTINCT user_id) FILTER (WHERE rank = 1) AS members, array_agg(DISTINCT user_id) AS everyone
      FROM people GROUP BY no
), chosen AS (
    SELECT no, CASE WHEN cardinality(members) = 2 THEN members WHEN cardinality(everyone) = 2 THEN everyone END AS pair
      FROM counted
)
SELECT d.no, c.pair[1] AS low, c.pair[2] AS high FROM direct d LEFT JOIN chosen c ON c.no = d.no;
UPDATE s_rooms r SET reason = 'a direct conversation needs two users that are known'
  FROM p_direct d WHERE d.no = r.no AND d.low IS NULL;
CREATE UNLOGGED TABLE p_pairs AS
WITH pairs AS (
    SELECT d.low, d.high, r.created_at FROM p_direct d JOIN s_rooms r ON r.no = d.no WHERE d.low IS NOT NULL
    UNION ALL
    SELECT least(sender, recipient), greatest(sender, recipient), min(created_at)
      FROM p_resolved WHERE is_direct AND reason IS NULL GROUP BY 1, 2
)
SELECT p.low, p.high, min(p.created_at) AS created_at,
       (SELECT c.id FROM conversations c WHERE c.kind = 'direct' AND c.direct_low = p.low AND c.direct_high = p.high)
       AS conversation_id
  FROM pairs p GROUP BY p.low, p.high;
CREATE UNLOGGED TABLE p_conversations AS
WITH rooms AS (
    SELECT p.grp, p.target AS kind, r.*, i.id AS known
      FROM p_room_pool p JOIN s_rooms r ON r.no = p.no
      LEFT JOIN import_ids i ON i.source = (SELECT source FROM run) AND i.kind = 'room:' || r.src
            AND i.legacy_id = r.id
     WHERE p.target <> 'direct' AND r.reason IS NULL
), merged AS (
    SELECT grp, min(r.target) AS kind, max(known) AS conversation_id, min(r.src) AS src, min(line) AS line,
           (array_agg(r.id ORDER BY r.src DESC))[1] AS legacy_id,
           (array_agg(btrim(r.name) ORDER BY r.src DESC) FILTER (WHERE btrim(r.name) <> ''))[1] AS name,
           (array_agg(r.description ORDER BY r.src DESC) FILTER (WHERE r.description <> ''))[1] AS description,
           (array_agg(u.user_id ORDER BY r.src DESC) FILTER (WHERE u.user_id IS NOT NULL))[1] AS owner_id,
           bool_and(coalesce(r.is_archived, false)) AS is_archived,
           max(r.updated_at) AS updated_at, min(r.created_at) AS created_at, max(r.max_members) AS max_members,
           count(*) - 1 AS united
      FROM rooms r
      LEFT JOIN p_user_keys u ON u.src = CASE WHEN r.src = 4 THEN 1 ELSE r.src END AND u.key = lower(r.owner)
     GROUP BY grp
)
SELECT grp, kind, conversation_id, conversation_id IS NOT NULL AS existing, src, line, legacy_id, name, description,
       owner_id, is_archived, updated_at, created_at, max_members, NULL::bigint AS low, NULL::bigint AS high, united,
       0::bigint AS last_seq, 0::bigint AS last_ordinal
  FROM merged
UNION ALL
SELECT NULL, 'direct', conversation_id, conversation_id IS NOT NULL, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL,
       created_at, NULL, low, high, 0, 0, 0
  FROM p_pairs;
-- A conversation without a time of its own is as old as its first message.
CREATE UNLOGGED TABLE p_beginnings AS
SELECT grp, min(created_at) AS first FROM p_resolved WHERE reason IS NULL AND grp IS NOT NULL GROUP BY grp;
UPDATE p_conversations c SET created_at = b.first
  FROM p_beginnings b WHERE b.grp = c.grp AND c.created_at IS NULL;
UPDATE p_conversations c SET created_at = x.first
  FROM (SELECT d.low, d.high, min(b.first) AS first FROM p_beginnings b JOIN p_direct d ON d.no = b.grp
         GROUP BY d.low, d.high) x
 WHERE c.low = x.low AND c.high = x.high AND c.created_at IS NULL;
WITH base AS (
    SELECT greatest((SELECT last_value FROM conversation_numbers), (SELECT coalesce(max(id) >> 2, 0)
        FROM conversations))
           AS n
), numbered AS (
    SELECT ctid, row_number() OVER (ORDER BY grp, low, high) AS n FROM p_conversations WHERE NOT existing
)
UPDATE p_conversations c
   SET conversation_id = (base.n + x.n) * 4 + CASE c.kind WHEN 'direct' THEN 0 WHEN 'group' THEN 1 ELSE 2 END
  FROM base, numbered x WHERE x.ctid = c.ctid;
UPDATE p_conversations p SET last_seq = c.last_seq, last_ordinal = c.last_ordinal
  FROM conversations c WHERE p.existing AND c.id = p.conversation_id;
UPDATE p_pairs p SET conversation_id = c.conversation_id
  FROM p_conversations c WHERE c.kind = 'direct' AND c.low = p.low AND c.high = p.high;
CREATE UNLOGGED TABLE p_groups AS
SELECT grp, conversation_id FROM p_conversations WHERE grp IS NOT NULL
UNION ALL SELECT d.no, p.conversation_id FROM p_direct d JOIN p_pairs p ON p.low = d.low AND p.high = d.high;
CREATE UNIQUE INDEX ON p_groups (grp);
CREATE UNIQUE INDEX ON p_pairs (low, high);
CREATE UNIQUE INDEX ON p_conversations (conversation_id);
INSERT INTO mended SELECT 'rooms', src, line, legacy_id, 'it has no name, which a room needs'
       || format('; it became room-%s', conversation_id)
  FROM p_conversations WHERE NOT existing AND kind IN ('public_room', 'private_room') AND name IS NULL;
UPDATE p_conversations SET name = format('room-%s', conversation_id)
 WHERE kind IN ('public_room', 'private_room') AND name IS NULL;
INSERT INTO mended SELECT 'rooms', src, line, legacy_id, 'the name was cut to 100 characters'
  FROM p_conversations WHERE NOT existing AND char_length(name) > 100;
INSERT INTO mended SELECT 'rooms', src, line, legacy_id, 'the description was cut to 1000 characters'
  FROM p_conversations WHERE NOT existing AND char_length(description) > 1000;
ANALYZE p_groups, p_pairs, p_conversations;";

/// The members of the conversations that this import makes, without their read markers. The owner and both users of a
/// direct conversation are members, whatever the tables say. A conversation has one owner.
const MEMBERS: &str = "
CREATE UNLOGGED TABLE p_member_rows AS
SELECT m.no, m.src, m.line, g.conversation_id, u.user_id, m.role, m.joined_at, m.last_read, m.has_marker, m.read_at,
       CASE WHEN k.is_ambiguous THEN 'the name of its room is not unique'
            WHEN g.conversation_id IS NULL THEN 'its room is unknown or was rejected'
            WHEN u.user_id IS NULL THEN 'its user is unknown or was rejected' END AS reason
  FROM s_members m
  LEFT JOIN p_room_keys k ON k.src = m.src AND k.key = lower(btrim(m.room))
  LEFT JOIN p_groups g ON g.grp = k.grp
  LEFT JOIN p_user_keys u ON u.src = CASE WHEN m.src = 4 THEN 1 ELSE m.src END AND u.key = lower(btrim(m.user_id));
UPDATE s_members m SET reason = p.reason FROM p_member_rows p WHERE p.no = m.no AND p.reason IS NOT NULL;
UPDATE p_member_rows p SET reason = 'a direct conversation has two members'
  FROM p_conversations c WHERE c.conversation_id = p.conversation_id AND c.kind = 'direct'
   AND p.user_id NOT IN (c.low, c.high) AND p.reason IS NULL;
UPDATE s_members m SET reason = p.reason FROM p_member_rows p
 WHERE p.no = m.no AND p.reason IS NOT NULL AND m.reason IS NULL;
-- An owner that is not known: the member with the highest role who joined first.
CREATE UNLOGGED TABLE p_first AS
SELECT DISTINCT ON (p.conversation_id) p.conversation_id, p.user_id, lower(p.role) AS role
  FROM p_member_rows p JOIN p_conversations c USING (conversation_id)
 WHERE p.reason IS NULL AND c.owner_id IS NULL AND c.kind <> 'direct' AND NOT c.existing
 ORDER BY p.conversation_id,
          array_position(ARRAY['owner', 'admin', 'moderator', 'team_admin', 'system_admin'], lower(p.role)) NULLS LAST,
          p.joined_at, p.no;
UPDATE p_conversations c SET owner_id = f.user_id FROM p_first f WHERE f.conversation_id = c.conversation_id;
INSERT INTO mended SELECT 'rooms', c.src, c.line, c.legacy_id,
       format('none of its members manages it; %s became its owner', x.name)
  FROM p_first f JOIN p_conversations c USING (conversation_id) JOIN p_people x ON x.user_id = f.user_id
 WHERE c.src = 4 AND f.role NOT IN ('owner', 'admin');
INSERT INTO mended SELECT 'rooms', src, line, legacy_id,
    'it has neither a known owner nor members; only an operator can give it one'
  FROM p_conversations WHERE NOT existing AND kind <> 'direct' AND owner_id IS NULL;
CREATE UNLOGGED TABLE p_members AS
WITH everyone AS (
    SELECT p.conversation_id, p.user_id, lower(p.role) AS role, p.joined_at, p.last_read, p.has_marker, p.src,
           p.read_at
      FROM p_member_rows p WHERE p.reason IS NULL
    UNION ALL SELECT conversation_id, owner_id, 'owner', NULL, NULL, NULL, NULL, NULL FROM p_conversations
     WHERE owner_id IS NOT NULL
    UNION ALL SELECT conversation_id, unnest(ARRAY[low, high]), 'member', NULL, NULL, NULL, NULL, NULL
      FROM p_conversations
     WHERE kind = 'direct'
), roles AS (
    SELECT e.*, c.owner_id, c.kind, coalesce(e.joined_at, c.created_at, now()) AS joined
      FROM everyone e JOIN p_conversations c USING (conversation_id) WHERE NOT c.existing
)
SELECT conversation_id, user_id,
       CASE WHEN max(kind) = 'direct' THEN 'member' WHEN user_id = max(owner_id) THEN 'owner'
            WHEN bool_or(role IN ('owner', 'admin')) THEN 'admin' WHEN bool_or(role = 'moderator') THEN 'moderator'
            WHEN bool_and(role = 'read_only') THEN 'read_only' ELSE 'member' END AS role,
       coalesce(min(joined_at), min(joined)) AS joined_at, max(last_read) AS last_read,
       (array_agg(src ORDER BY last_read DESC NULLS LAST) FILTER (WHERE src IS NOT NULL))[1] AS src,
       coalesce(bool_or(has_marker), false) AS has_marker, max(read_at) AS read_at, 0::bigint AS read_seq,
       NULL::timestamptz AS muted_until
  FROM roles GROUP BY conversation_id, user_id;
CREATE UNIQUE INDEX ON p_members (conversation_id, user_id);
ANALYZE p_members;";

/// The steps before the messages.
#[must_use]
pub fn plan() -> Vec<(&'static str, String)> {
    vec![
        ("rooms", ROOMS.to_owned()),
        ("rooms", unite(2)),
        ("rooms", unite(3)),
        ("rooms", unite(4)),
        ("rooms", KEYS.to_owned()),
    ]
}

/// The steps when the messages have authors.
#[must_use]
pub fn plan_conversations() -> Vec<(&'static str, String)> {
    vec![("conversations", CONVERSATIONS.to_owned()), ("members", MEMBERS.to_owned())]
}
