//! The tables of the legacy database: what they are called in its three generations, and what each column becomes.

/// How the text of a value becomes the value of a staged column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ValueKind {
    /// A whole number. Another text rejects the row.
    Number,
    /// A whole number. Another text counts as none, and the report says so.
    OptionalNumber,
    /// A time. Another text rejects the row.
    Time,
    /// A time. Another text counts as none, and the report says so.
    OptionalTime,
    /// Yes or no. Another text counts as none, and the report says so.
    Flag,
    /// Text as it is. A NUL rejects the row: PostgreSQL cannot store it.
    Text,
    /// Text that rows are found by. A longer one than such texts have rejects the row.
    Key,
    /// A username that is allowed, from the one that was given.
    CleanName,
    /// Whether that is the one that was given.
    IsClean,
    /// What people see instead of the username.
    CleanDisplay,
    /// Whether the table has this column.
    IsPresent,
}

/// A column of a staged table, and the columns of the dump that it comes from: the first that has a value.
pub(super) struct StagedColumn {
    pub(super) name: &'static str,
    pub(super) kind: ValueKind,
    pub(super) from: &'static [&'static str],
}

/// A staged table.
pub(super) struct StagedTable {
    /// Its name in the report.
    pub(super) name: &'static str,
    /// Its name in the schema of the import.
    pub(super) staging: &'static str,
    pub(super) columns: &'static [StagedColumn],
}

const fn column(name: &'static str, kind: ValueKind, from: &'static [&'static str]) -> StagedColumn {
    StagedColumn { name, kind, from }
}

const ID: StagedColumn = column("id", ValueKind::Number, &["id"]);
const CREATED: StagedColumn = column("created_at", ValueKind::OptionalTime, &["created_at"]);
const UPDATED: StagedColumn = column("updated_at", ValueKind::OptionalTime, &["updated_at"]);

pub(super) const USERS: StagedTable = StagedTable {
    name: "users",
    staging: "s_users",
    columns: &[
        ID,
        column("username", ValueKind::Key, &["username", "name"]),
        column("clean_name", ValueKind::CleanName, &["username", "name"]),
        column("clean_display", ValueKind::CleanDisplay, &["display_name", "username", "name"]),
        column("email", ValueKind::Key, &["email"]),
        column("password_hash", ValueKind::Text, &["password_hash", "password"]),
        column("role", ValueKind::Text, &["role"]),
        column("avatar_url", ValueKind::Text, &["avatar_url", "avatar"]),
        column("bio", ValueKind::Text, &["bio"]),
        column("is_active", ValueKind::Flag, &["is_active"]),
        column("is_banned", ValueKind::Flag, &["is_banned"]),
        column("two_factor", ValueKind::Flag, &["two_factor_enabled"]),
        column("is_clean", ValueKind::IsClean, &["username", "name"]),
        CREATED,
        UPDATED,
    ],
};

pub(super) const ROOMS: StagedTable = StagedTable {
    name: "rooms",
    staging: "s_rooms",
    columns: &[
        column("id", ValueKind::Key, &["id"]),
        column("kind", ValueKind::Text, &["type", "conversation_type"]),
        column("name", ValueKind::Key, &["name"]),
        column("description", ValueKind::Text, &["description"]),
        column("owner", ValueKind::Text, &["owner_id", "creator_id", "created_by"]),
        column("user1", ValueKind::OptionalNumber, &["user1_id"]),
        column("user2", ValueKind::OptionalNumber, &["user2_id"]),
        column("is_public", ValueKind::Flag, &["is_public"]),
        column("is_private", ValueKind::Flag, &["is_private"]),
        column("is_archived", ValueKind::Flag, &["is_archived"]),
        column("is_blocked", ValueKind::Flag, &["is_blocked"]),
        column("blocked_by", ValueKind::OptionalNumber, &["blocked_by"]),
        column("max_members", ValueKind::OptionalNumber, &["max_members"]),
        CREATED,
        UPDATED,
    ],
};

pub(super) const MEMBERS: StagedTable = StagedTable {
    name: "members",
    staging: "s_members",
    columns: &[
        column("room", ValueKind::Text, &["conversation_id", "room_id", "room"]),
        column("user_id", ValueKind::Text, &["user_id"]),
        column("role", ValueKind::Text, &["role"]),
        column("joined_at", ValueKind::OptionalTime, &["joined_at", "created_at"]),
        column("last_read", ValueKind::OptionalNumber, &["last_read_message_id"]),
        column("has_marker", ValueKind::IsPresent, &["last_read_message_id"]),
    ],
};

pub(super) const MESSAGES: StagedTable = StagedTable {
    name: "messages",
    staging: "s_messages",
    columns: &[
        ID,
        column("kind", ValueKind::Text, &["message_type"]),
        column("author", ValueKind::Text, &["author_id", "from_user", "user_id", "sender_id"]),
        column("author_name", ValueKind::Text, &["author_username"]),
        column("recipient", ValueKind::Text, &["recipient_id", "to_user"]),
        column("recipient_name", ValueKind::Text, &["recipient_username"]),
        column("room", ValueKind::Text, &["conversation_id", "room_id", "room"]),
        column("content", ValueKind::Text, &["content"]),
        column("content_type", ValueKind::Text, &["content_type"]),
        column("parent", ValueKind::Number, &["parent_message_id"]),
        column("status", ValueKind::Text, &["status"]),
        column("is_pinned", ValueKind::Flag, &["is_pinned"]),
        column("is_edited", ValueKind::Flag, &["is_edited"]),
        column("original", ValueKind::Text, &["original_content"]),
        column("created_at", ValueKind::Time, &["created_at", "timestamp"]),
        UPDATED,
        column("edited_at", ValueKind::OptionalTime, &["edited_at"]),
    ],
};

pub(super) const REACTIONS: StagedTable = StagedTable {
    name: "reactions",
    staging: "s_reactions",
    columns: &[
        column("message_id", ValueKind::Number, &["message_id"]),
        column("user_id", ValueKind::Text, &["user_id"]),
        column("emoji", ValueKind::Text, &["emoji", "reaction"]),
        CREATED,
    ],
};

pub(super) const MENTIONS: StagedTable = StagedTable {
    name: "mentions",
    staging: "s_mentions",
    columns: &[
        column("message_id", ValueKind::Number, &["message_id"]),
        column("user_id", ValueKind::Text, &["mentioned_user_id", "user_id"]),
    ],
};

pub(super) const HISTORY: StagedTable = StagedTable {
    name: "history",
    staging: "s_history",
    columns: &[
        column("id", ValueKind::OptionalNumber, &["id"]),
        column("message_id", ValueKind::Number, &["message_id"]),
        column("content", ValueKind::Text, &["previous_content", "old_content"]),
        column("edited_at", ValueKind::Time, &["edited_at", "created_at"]),
    ],
};

pub(super) const BLOCKS: StagedTable = StagedTable {
    name: "blocks",
    staging: "s_blocks",
    columns: &[
        column("blocker", ValueKind::Text, &["blocker_id"]),
        column("blocked", ValueKind::Text, &["blocked_id", "blocked_user_id"]),
        CREATED,
    ],
};

pub(super) const ACTIONS: StagedTable = StagedTable {
    name: "actions",
    staging: "s_actions",
    columns: &[
        column("id", ValueKind::OptionalNumber, &["id"]),
        column("target", ValueKind::Text, &["target_user_id", "user_id"]),
        column("moderator", ValueKind::Text, &["moderator_id", "issued_by", "created_by"]),
        column("action", ValueKind::Text, &["action_type", "sanction_type", "type"]),
        column("note", ValueKind::Text, &["reason"]),
        column("room", ValueKind::Text, &["conversation_id", "room_id", "room"]),
        column("expires_at", ValueKind::Time, &["expires_at", "ends_at"]),
        column("is_active", ValueKind::Flag, &["is_active", "active"]),
        CREATED,
    ],
};

pub(super) const FILES: StagedTable = StagedTable {
    name: "files",
    staging: "s_files",
    columns: &[
        ID,
        column("uuid", ValueKind::Text, &["uuid"]),
        column("uploader", ValueKind::Text, &["uploaded_by", "uploader_id", "user_id", "owner_id"]),
        column("name", ValueKind::Text, &["filename", "name"]),
        column("original_name", ValueKind::Text, &["original_filename", "original_name"]),
        column("path", ValueKind::Text, &["file_path", "path"]),
        column("size", ValueKind::OptionalNumber, &["file_size", "size"]),
        column("media_type", ValueKind::Text, &["mime_type", "content_type"]),
        column("checksum", ValueKind::Text, &["checksum", "sha256"]),
        column("message_id", ValueKind::OptionalNumber, &["message_id"]),
        CREATED,
    ],
};

/// All of them. The place of each is its number.
pub(super) const STAGED: &[StagedTable] =
    &[USERS, ROOMS, MEMBERS, MESSAGES, REACTIONS, MENTIONS, HISTORY, BLOCKS, ACTIONS, FILES];
pub(super) const MESSAGES_AT: usize = 3;

/// The generation of a table's rows.
pub(super) const BASE: u8 = 1;
pub(super) const CONVERSATIONS: u8 = 4;
const DIRECT: u8 = 5;

/// The staged table of a table of the dump, and its generation.
pub(super) fn staged_of(table: &str) -> Option<(usize, u8)> {
    let (base, generation) = match table.strip_suffix("_enhanced").map(|base| (base, 2)) {
        Some(found) => found,
        None => table.strip_suffix("_secure").map_or((table, BASE), |base| (base, 3)),
    };
    let at = match base {
        "users" => 0,
        "rooms" => 1,
        "conversations" if generation == BASE => return Some((1, CONVERSATIONS)),
        "dm_conversations" if generation == BASE => return Some((1, DIRECT)),
        "room_members" => 2,
        "conversation_members" if generation == BASE => return Some((2, CONVERSATIONS)),
        "messages" => MESSAGES_AT,
        "message_reactions" | "reactions" => 4,
        "message_mentions" | "mentions" | "user_mentions" => 5,
        "message_history" => 6,
        "user_blocks" | "blocks" | "blocked_users" => 7,
        "moderation_actions" => 8,
        "sanctions" | "user_sanctions" if generation == BASE => return Some((8, 2)),
        "files" => 9,
        _ => return None,
    };
    Some((at, generation))
}

/// What a generation of a staged table was called in the dump.
pub fn table_name(staged: &str, generation: u8) -> String {
    let base = match (staged, generation) {
        ("rooms", 4) => return "conversations".to_owned(),
        ("rooms", 5) => return "dm_conversations".to_owned(),
        ("members", 4) => return "conversation_members".to_owned(),
        ("messages", 4) => return "messages".to_owned(),
        ("actions", 2) => return "sanctions".to_owned(),
        ("actions", _) => "moderation_actions",
        ("members", _) => "room_members",
        ("reactions", _) => "message_reactions",
        ("mentions", _) => "message_mentions",
        ("history", _) => "message_history",
        ("blocks", _) => "user_blocks",
        (staged, _) => staged,
    };
    let suffix = match generation {
        2 => "_enhanced",
        3 => "_secure",
        _ => "",
    };
    format!("{base}{suffix}")
}
