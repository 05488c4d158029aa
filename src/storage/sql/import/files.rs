//! Files: which messages have them. Their content is outside of the dump.

/// A file belongs to the conversation of the first message that has it: by its own column, or because the metadata of
/// the message names its id, its UUID or its name.
const PLAN: &str = "
UPDATE s_files u SET reason = 'its id occurs twice in this table'
  FROM (SELECT no, row_number() OVER (PARTITION BY src, id ORDER BY no) AS n FROM s_files WHERE id IS NOT NULL) d
 WHERE d.no = u.no AND d.n > 1;
CREATE UNLOGGED TABLE p_file_messages AS
WITH found AS (
    SELECT f.no AS file, k.no AS message
      FROM s_files f JOIN p_tabs t ON t.ref = f.src JOIN p_keys k ON k.tab = t.tab AND k.id = f.message_id
     WHERE f.reason IS NULL
    UNION
    SELECT f.no, k.no
      FROM s_file_refs r
      JOIN s_files f ON r.key IN (f.id::text, f.uuid, f.name, f.path)
      JOIN p_keys k ON k.tab = CASE WHEN r.src = 4 THEN 1 ELSE r.src END AND k.id = r.message_id
), placed AS (
    SELECT DISTINCT f.file, f.message, m.target_id, m.conversation_id, m.seq,
           first_value(m.conversation_id) OVER (PARTITION BY f.file ORDER BY m.created_at, m.no) AS home
      FROM found f JOIN p_messages m ON m.no = f.message
     WHERE NOT m.is_deleted
)
SELECT file, message, target_id, conversation_id,
       row_number() OVER (PARTITION BY message ORDER BY file)::smallint AS position
  FROM placed WHERE conversation_id = home;
CREATE INDEX ON p_file_messages (file);
CREATE UNLOGGED TABLE p_files AS
SELECT f.no, f.src, f.line, f.id, u.user_id AS uploader, f.name, f.original_name, f.path, f.size, f.media_type,
       f.place, f.label, lower(btrim(f.checksum)) AS checksum, coalesce(f.created_at, now()) AS created_at,
       (SELECT min(m.conversation_id) FROM p_file_messages m WHERE m.file = f.no) AS conversation_id,
       (SELECT i.id FROM import_ids i WHERE i.source = (SELECT source FROM run) AND i.kind = 'file:' || f.src
           AND i.legacy_id = f.id::text) AS known
  FROM s_files f LEFT JOIN p_user_keys u ON u.src = f.src AND u.key = lower(f.uploader);
UPDATE s_files s SET reason = CASE
        WHEN f.id IS NULL THEN 'it has no id'
        WHEN f.uploader IS NULL THEN 'its uploader is unknown or was rejected'
        ELSE 'no message that was imported has it' END
  FROM p_files f WHERE f.no = s.no AND s.reason IS NULL
   AND (f.id IS NULL OR f.uploader IS NULL OR f.conversation_id IS NULL);";

/// The files whose content is to be found.
pub const AWAITED: &str = "SELECT f.no, f.src, f.line, f.id, f.name, f.original_name, f.path, f.size, f.media_type, \
        f.checksum, f.known, f.place \
    FROM p_files f JOIN s_files s ON s.no = f.no WHERE s.reason IS NULL ORDER BY f.no";
/// $1 the file, $2 why it is rejected.
pub const REJECT: &str = "INSERT INTO quarantine \
    SELECT 'files', src, line, coalesce(label, id::text), $2::text FROM p_files WHERE no = $1";
/// The next number of a file.
pub const NEXT_ID: &str = "SELECT nextval('file_ids')";
/// $1 the file, $2 its number here, $3 its name, $4 its size, $5 its SHA-256, $6 the type that was given.
pub const INSERT: &str = "INSERT INTO files (id, conversation_id, uploader_id, name, size, received, declared_type, \
        expected_sha256, state, created_at, expires_at) \
    SELECT $2::bigint, conversation_id, uploader, $3::text, $4::bigint, $4::bigint, $6::text, $5::bytea, 'scanning', \
        created_at, 'infinity' FROM p_files WHERE no = $1";
/// $1 the file, $2 its number here: its messages, the memory of it, and the check that a server does.
pub const INSERT_REST: &[&str] = &[
    "INSERT INTO message_files (message_id, position, conversation_id, file_id) \
     SELECT target_id, position, conversation_id, $2::bigint FROM p_file_messages
         WHERE file = $1 ON CONFLICT DO NOTHING",
    "INSERT INTO import_ids (source, kind, legacy_id, id) \
     SELECT (SELECT source FROM run), 'file:' || src, id::text, $2::bigint FROM p_files WHERE no = $1",
    "INSERT INTO jobs (kind, subject, owner_id) \
     SELECT 'check_file', $2::bigint::text, uploader FROM p_files WHERE no = $1 ON CONFLICT DO NOTHING",
];

/// The steps.
#[must_use]
pub fn plan() -> Vec<(&'static str, String)> {
    vec![("files", PLAN.to_owned())]
}
