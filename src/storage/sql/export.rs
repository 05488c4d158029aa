//! The statements of exports. They run in the snapshot of a login that reads every row, like those of backups. Cursors
//! bound the memory, however many rows there are.

/// Milliseconds since 1970.
macro_rules! millis {
    ($time:literal) => {
        concat!("floor(extract(epoch FROM ", $time, ") * 1000)::bigint")
    };
}

/// All users.
pub const USERS: &str =
    "DECLARE export_users NO SCROLL CURSOR FOR SELECT u.id, u.username FROM public.users u ORDER BY u.id";
/// The rows of a cursor that follow.
pub const FETCH_USERS: &str = "FETCH 5000 FROM export_users";
/// The end of a cursor.
pub const CLOSE_USERS: &str = "CLOSE export_users";

/// All conversations. Members of direct ones and groups are a list of [user, time of the last message that was read].
pub const CONVERSATIONS: &str = concat!(
    "DECLARE export_conversations NO SCROLL CURSOR FOR \
    SELECT c.id, c.kind::text, c.name, c.description, ",
    millis!("c.archived_at"),
    ", CASE WHEN c.kind IN ('direct', 'group') THEN ( \
           SELECT jsonb_agg(jsonb_build_array(m.user_id, CASE WHEN m.read_seq >= c.last_seq THEN ",
    millis!("now()"),
    " ELSE coalesce((SELECT ",
    millis!("x.created_at"),
    " FROM public.messages x WHERE x.conversation_id = c.id AND x.seq <= m.read_seq ORDER BY x.seq DESC LIMIT 1), 0) \
           END) ORDER BY m.user_id) \
             FROM (SELECT p.user_id, p.read_seq FROM public.conversation_members p WHERE p.conversation_id = c.id \
                   UNION ALL SELECT d.id, 0 FROM unnest(ARRAY[c.direct_low, c.direct_high]) AS d (id) \
                    WHERE d.id IS NOT NULL AND NOT EXISTS (SELECT FROM public.conversation_members p \
                          WHERE p.conversation_id = c.id AND p.user_id = d.id)) m)::text END \
      FROM public.conversations c ORDER BY c.id"
);
/// The rows that follow.
pub const FETCH_CONVERSATIONS: &str = "FETCH 1000 FROM export_conversations";
/// The end of the cursor.
pub const CLOSE_CONVERSATIONS: &str = "CLOSE export_conversations";

/// All users with their memberships of rooms and groups: a row for each, or one without a conversation.
pub const MEMBERSHIPS: &str = concat!(
    "DECLARE export_memberships NO SCROLL CURSOR FOR \
    SELECT u.id, u.username, u.display_name, k.email, u.bio, u.is_active, c.id, m.role::text, \
           CASE WHEN m.read_seq >= c.last_seq THEN ",
    millis!("now()"),
    " ELSE coalesce((SELECT ",
    millis!("x.created_at"),
    " FROM public.messages x WHERE x.conversation_id = c.id AND x.seq <= m.read_seq ORDER BY x.seq DESC LIMIT 1), 0) \
           END \
      FROM public.users u LEFT JOIN public.credentials k ON k.user_id = u.id \
      LEFT JOIN (public.conversation_members m \
                 JOIN public.conversations c ON c.id = m.conversation_id AND c.kind <> 'direct') ON m.user_id = u.id \
     ORDER BY u.id, c.id"
);
/// The rows that follow.
pub const FETCH_MEMBERSHIPS: &str = "FETCH 5000 FROM export_memberships";
/// The end of the cursor.
pub const CLOSE_MEMBERSHIPS: &str = "CLOSE export_memberships";

/// The messages of a conversation: each thread after its first message, in the order of the log. The second time is a
/// millisecond that no other message of the conversation has, in the same order.
#[must_use]
pub fn messages(conversation: i64) -> String {
    format!(
        "DECLARE export_messages NO SCROLL CURSOR FOR \
         WITH numbered AS ( \
             SELECT m.id, m.seq, m.parent_message_id, m.sender_id, m.created_at, m.edited_at, m.deleted_at, \
                    m.message_type, m.content, m.system, {created} AS ms, row_number() OVER (ORDER BY m.seq) AS n \
               FROM public.messages m WHERE m.conversation_id = {conversation} \
         ), timed AS ( \
             SELECT *, max(ms - n) OVER (ORDER BY seq) + n AS at FROM numbered \
         ) \
         SELECT t.id, t.parent_message_id, t.sender_id, t.content, t.message_type::text, t.system::text, t.ms, t.at, \
                {edited}, t.deleted_at IS NOT NULL, \
                EXISTS (SELECT FROM public.message_pins p \
                         WHERE p.conversation_id = {conversation} AND p.message_id = t.id), \
                (SELECT jsonb_agg(jsonb_build_array(r.emoji, r.user_id, {reacted}) \
                                  ORDER BY r.created_at, r.emoji, r.user_id)::text \
                   FROM public.message_reactions r WHERE r.message_id = t.id), \
                (SELECT jsonb_agg(jsonb_build_array(f.id, f.name, f.state = 'ready') ORDER BY x.position)::text \
                   FROM public.message_files x JOIN public.files f ON f.id = x.file_id WHERE x.message_id = t.id) \
           FROM timed t LEFT JOIN public.messages root ON root.id = t.parent_message_id \
          ORDER BY coalesce(root.seq, t.seq), t.parent_message_id IS NOT NULL, t.seq",
        created = millis!("m.created_at"),
        edited = millis!("t.edited_at"),
        reacted = millis!("r.created_at"),
    )
}
/// The rows that follow.
pub const FETCH_MESSAGES: &str = "FETCH 500 FROM export_messages";
/// The end of the cursor.
pub const CLOSE_MESSAGES: &str = "CLOSE export_messages";

/// Files of messages whose content is in the store.
pub const FILES: &str = "DECLARE export_files NO SCROLL CURSOR FOR \
    SELECT f.id, f.name, f.size, f.sha256, b.number \
      FROM public.files f JOIN public.blobs b ON b.sha256 = f.sha256 \
     WHERE f.state = 'ready' AND EXISTS (SELECT FROM public.message_files x WHERE x.file_id = f.id) ORDER BY f.id";
/// The rows that follow.
pub const FETCH_FILES: &str = "FETCH 1000 FROM export_files";
/// The end of the cursor.
pub const CLOSE_FILES: &str = "CLOSE export_files";
