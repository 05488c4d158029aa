//! Databases of the legacy Veza server, in any mix of its three generations, as SQL for PostgreSQL.
//!
//! Each has the same few rows that tests look at, and many that are made of a seed. Names begin with a prefix, so that
//! several databases fit into one server.

use std::fmt::Write as _;

/// What a database has.
pub struct LegacyDatabase {
    /// The beginning of all usernames.
    pub prefix: String,
    /// The generations, of 1, 2 and 3.
    pub generations: Vec<u8>,
    /// Made messages of each generation.
    pub messages: u32,
    /// For the made messages.
    pub seed: u64,
    /// The hash of every password.
    pub password_hash: String,
    /// Columns that some versions of the legacy server named differently: as below, and as here.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// Other names of the first generation's columns.
pub const OTHER_NAMES: &[(&str, &str)] =
    &[("\"timestamp\"", "created_at"), ("creator_id", "owner_id"), ("room_members (room_id", "room_members (room")];

/// The content of the file of [`LegacyDatabase`], at `2024/report.txt`.
pub const FILE: &[u8] = b"the quarterly figures";

impl LegacyDatabase {
    fn has(&self, generation: u8) -> bool {
        self.generations.contains(&generation)
    }

    /// Everything, for an empty database.
    pub fn sql(&self, file_hash: &str) -> String {
        let mut sql = String::from("BEGIN;\n");
        self.shared_tables(&mut sql);
        if self.has(1) {
            sql.push_str(FIRST_TABLES);
            sql.push_str(&self.filled(FIRST_ROWS));
            self.make(&mut sql, "messages", "from_user, room", "1 + n % 2, 'general'", 1_000, "\"timestamp\"");
        }
        if self.has(2) {
            sql.push_str(SECOND_TABLES);
            sql.push_str(&self.filled(SECOND_ROWS));
            let columns = "message_type, author_id, author_username, room_id";
            let values = self.filled("'room_message', 1, 'PREFIX_ann', 'general'");
            self.make(&mut sql, "messages_enhanced", columns, &values, 1_000, "created_at");
        }
        if self.has(3) {
            sql.push_str(THIRD_TABLES);
            sql.push_str(&self.filled(THIRD_ROWS).replace("FILE_HASH", file_hash));
            let made = "conversation_id, author_id, parent_message_id";
            self.make(
                &mut sql,
                "messages",
                made,
                "5, 1 + n % 2, CASE WHEN n % 7 = 0 THEN 101 END",
                500_000,
                "created_at",
            );
        }
        sql.push_str("COMMIT;\n");
        self.renamed.iter().fold(sql, |sql, (name, other)| sql.replace(name, other))
    }

    fn filled(&self, rows: &str) -> String {
        rows.replace("PREFIX", &self.prefix).replace("HASH_OF_PASSWORD", &self.password_hash)
    }

    /// The tables `users` and `messages` belong to the first and to the third generation, with columns of both.
    fn shared_tables(&self, sql: &mut String) {
        if !self.has(1) && !self.has(3) {
            return;
        }
        sql.push_str(
            "CREATE TABLE users (id serial PRIMARY KEY, username varchar(80), email varchar(255), password_hash text, \
             created_at timestamptz DEFAULT now());\nCREATE TABLE messages (id bigint PRIMARY KEY, content text);\n",
        );
        if self.has(1) {
            sql.push_str(
                "ALTER TABLE messages ADD from_user int, ADD to_user int, ADD room text,
                 ADD \"timestamp\" timestamp;\n",
            );
        }
        if self.has(3) {
            sql.push_str(
                "ALTER TABLE users ADD uuid uuid DEFAULT gen_random_uuid(), ADD role text DEFAULT 'user', \
                 ADD display_name text, ADD bio text, ADD is_active boolean DEFAULT true;\n\
                 ALTER TABLE messages ADD uuid uuid DEFAULT gen_random_uuid(), ADD conversation_id bigint, \
                 ADD author_id bigint, ADD content_type text, ADD parent_message_id bigint, ADD status text, \
                 ADD is_pinned boolean DEFAULT false, ADD is_edited boolean DEFAULT false, ADD metadata jsonb, \
                 ADD created_at timestamptz, ADD updated_at timestamptz, ADD edited_at timestamptz;\n",
            );
        }
        sql.push_str(&self.filled(
            "INSERT INTO users (id, username, email, password_hash, created_at) VALUES \
             (1, 'PREFIX_ann', 'PREFIX_ann@example.org', 'HASH_OF_PASSWORD', '2019-01-01 10:00:00+00'), \
             (2, 'PREFIX_bob', 'PREFIX_bob@example.org', 'HASH_OF_PASSWORD', '2019-01-02 10:00:00+00'), \
             (3, 'Zoë.PREFIX', NULL, 'plain text', '2019-01-03 10:00:00+00'), \
             (4, 'PREFIX_fay', 'PREFIX_fay@example.org', 'HASH_OF_PASSWORD', '2019-01-04 10:00:00+00');\n",
        ));
    }

    /// Messages whose times are out of the order of their ids, and often equal.
    fn make(&self, sql: &mut String, table: &str, columns: &str, values: &str, first: u64, time: &str) {
        let (seed, many) = (self.seed % 1_000_000, self.messages);
        let _ = writeln!(
            sql,
            "INSERT INTO {table} (id, content, {time}, {columns}) SELECT {first} + n, \
             'made ' || n || E' \\\\ \\t \\n é 👍 ' || repeat(md5((n + {seed})::text), n % 5), \
             timestamp '2021-01-01' + ((n * 7919 + {seed}) % 1000) * interval '1 minute', {values} \
             FROM generate_series(1, {many}) n;"
        );
    }
}

const FIRST_TABLES: &str = "
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id; RETURN NEW; END $$;
CREATE TABLE rooms (id serial PRIMARY KEY, name text, description text, is_private boolean, creator_id int,
    created_at timestamp);
CREATE TABLE room_members (room_id int, user_id int, joined_at timestamp);
CREATE TABLE sanctions (id int, user_id int, sanction_type text, reason text, expires_at timestamp);
CREATE TABLE refresh_tokens (id int, token text);
CREATE TRIGGER touches BEFORE UPDATE ON rooms FOR EACH ROW EXECUTE FUNCTION touch();
";

const FIRST_ROWS: &str = "
INSERT INTO rooms VALUES (1, 'general', 'For all', false, 1, '2019-02-01'), (2, 'PREFIX secret', NULL, true, 2,
    '2019-02-02');
INSERT INTO room_members VALUES (1, 1, '2019-02-01'), (1, 2, '2019-02-03'), (2, 2, '2019-02-02');
INSERT INTO messages (id, from_user, to_user, room, content, \"timestamp\") VALUES
    (1, 1, NULL, 'general', 'hello @PREFIX_bob', '2020-01-01 10:00:00'),
    (2, 2, 1, NULL, 'a direct line', '2020-01-02 10:00:00'),
    (3, 99, NULL, 'general', 'nobody wrote this', '2020-01-03 10:00:00'),
    (4, 1, NULL, 'nowhere', 'no room', '2020-01-03 10:00:00'),
    (5, 1, 1, NULL, 'to myself', '2020-01-03 10:00:00'),
    (6, 1, NULL, 'general', '  ', '2020-01-03 10:00:00'),
    (7, 1, NULL, 'general', 'no time', NULL);
INSERT INTO sanctions VALUES (1, 3, 'mute', 'noise', NULL);
INSERT INTO refresh_tokens VALUES (1, 'x');
";

const SECOND_TABLES: &str = "
CREATE TABLE users_enhanced (id bigint, username text, email text, password_hash text, role text, is_active boolean,
    is_banned boolean, status text, created_at timestamptz, updated_at timestamptz);
CREATE TABLE rooms_enhanced (id varchar(100), name text, description text, owner_id bigint, is_public boolean,
    is_archived boolean, max_members int, created_at timestamptz, updated_at timestamptz);
CREATE TABLE room_members_enhanced (room_id varchar(100), user_id bigint, role text, joined_at timestamptz,
    last_read_message_id bigint);
CREATE TABLE messages_enhanced (id bigint, message_type text, content text, author_id bigint, author_username text,
    room_id varchar(100), recipient_id bigint, recipient_username text, parent_message_id bigint, status text,
    is_pinned boolean, is_edited boolean, original_content text, is_flagged boolean, created_at timestamptz,
    updated_at timestamptz);
CREATE TABLE message_reactions_enhanced (id bigint, message_id bigint, user_id bigint, emoji text,
    created_at timestamptz);
CREATE TABLE message_mentions_enhanced (id bigint, message_id bigint, user_id bigint, created_at timestamptz,
    is_read boolean);
CREATE TABLE message_mentions_secure (id bigint, message_id bigint, user_id bigint, is_read boolean);
CREATE TABLE user_blocks_enhanced (id bigint, blocker_id bigint, blocked_id bigint, created_at timestamptz);
CREATE TABLE user_blocks_secure (LIKE user_blocks_enhanced);
";

const SECOND_ROWS: &str = "
INSERT INTO users_enhanced VALUES
    (1, 'PREFIX_ANN', 'PREFIX_ann@example.org', 'HASH_OF_PASSWORD', 'user', true, false, 'online', '2019-01-01', NULL),
    (2, 'PREFIX_carol', 'PREFIX_carol@example.org', 'HASH_OF_PASSWORD', 'user', true, false, NULL, '2020-01-01', NULL),
    (9, 'PREFIX_dan', 'PREFIX_dan@example.org', 'HASH_OF_PASSWORD', 'guest', true, true, NULL, '2020-01-01', NULL);
INSERT INTO rooms_enhanced VALUES ('general', 'General', 'For all', 1, true, false, 100, '2019-02-01', NULL),
    ('attic', 'PREFIX attic', NULL, 2, false, true, 5, '2020-02-01', '2020-03-01');
INSERT INTO room_members_enhanced VALUES ('general', 1, 'owner', '2019-02-01', NULL),
    ('general', 2, 'moderator', '2020-02-01', 1), ('general', 77, 'member', '2020-02-01', NULL);
INSERT INTO messages_enhanced (id, message_type, content, author_id, author_username, room_id, recipient_id,
    parent_message_id, status, is_pinned, is_edited, original_content, created_at, updated_at) VALUES
    (1, 'room_message', 'hello @PREFIX_bob', 1, 'PREFIX_ann', 'general', NULL, NULL, 'sent', true, false, NULL,
     '2020-01-01 10:00:00+00', '2020-02-01'),
    (2, 'room_message', 'second thoughts', 2, 'PREFIX_carol', 'general', NULL, 1, 'edited', false, true,
     'first thoughts', '2020-01-05 10:00:00+00', '2020-01-06 10:00:00+00'),
    (3, 'room_message', 'gone', 2, 'PREFIX_carol', 'general', NULL, 1, 'deleted', false, false, NULL,
     '2020-01-06 10:00:00+00', '2020-01-07'),
    (4, 'direct_message', 'for your eyes', 2, 'PREFIX_carol', NULL, 1, NULL, 'read', false, false, NULL,
     '2020-01-07 10:00:00+00', NULL),
    (5, 'room_message', repeat('x', 4001), 2, 'PREFIX_carol', 'general', NULL, NULL, 'sent', false, false, NULL,
     '2020-01-07 10:00:00+00', NULL),
    (6, 'room_message', 'elsewhere', 2, 'PREFIX_carol', 'attic', NULL, 1, 'sent', false, false, NULL,
     '2020-01-07 10:00:00+00', NULL);
INSERT INTO message_reactions_enhanced VALUES (1, 1, 2, '👍', '2020-01-08'), (2, 1, 2, '👍', '2020-01-09'),
    (3, 3, 2, '👍', '2020-01-09'), (4, 1, 77, '👍', '2020-01-09');
INSERT INTO message_mentions_enhanced VALUES (1, 1, 2, '2020-01-01', true), (2, 1, 1, '2020-01-05', false),
    (3, 1, 77, '2020-01-01', false);
INSERT INTO message_mentions_secure VALUES (1, 1, 2, false);
INSERT INTO user_blocks_enhanced VALUES (1, 2, 9, '2020-01-01'), (2, 2, 2, '2020-01-01');
INSERT INTO user_blocks_secure SELECT * FROM user_blocks_enhanced;
";

const THIRD_TABLES: &str = "
CREATE TABLE conversations (id bigserial PRIMARY KEY, uuid uuid DEFAULT gen_random_uuid(), type text, name text,
    description text, owner_id bigint, is_public boolean, is_archived boolean DEFAULT false, max_members int,
    created_at timestamptz, updated_at timestamptz);
CREATE TABLE conversation_members (conversation_id bigint, user_id bigint, role text, joined_at timestamptz,
    last_read_message_id bigint, notifications_enabled boolean);
CREATE TABLE message_reactions (id bigserial, message_id bigint, user_id bigint, emoji text, created_at timestamptz);
CREATE TABLE message_mentions (id bigserial, message_id bigint, mentioned_user_id bigint, is_read boolean);
CREATE TABLE message_history (id bigserial, message_id bigint, previous_content text, edit_reason text,
    edited_by bigint, edited_at timestamptz);
CREATE TABLE files (id bigserial, uuid uuid, uploaded_by bigint, filename text, original_filename text, file_path text,
    file_size bigint, mime_type text, checksum text, created_at timestamptz);
CREATE TABLE user_blocks (id bigserial, blocker_id bigint, blocked_id bigint, created_at timestamptz);
CREATE TABLE moderation_actions (id bigserial, target_user_id bigint, moderator_id bigint, action_type text,
    reason text, duration interval, expires_at timestamptz, is_active boolean, created_at timestamptz);
CREATE TABLE dm_conversations (id bigserial, uuid uuid, user1_id bigint, user2_id bigint, is_blocked boolean,
    blocked_by bigint, created_at timestamptz, updated_at timestamptz);
CREATE TABLE audit_logs (id bigserial, details jsonb);
";

const THIRD_ROWS: &str = "
INSERT INTO conversations (id, type, name, owner_id, is_public, created_at) VALUES
    (5, 'group_chat', 'PREFIX team', 1, false, '2022-01-01'), (6, 'direct_message', NULL, NULL, false, '2022-01-01'),
    (7, 'private_room', NULL, 2, false, '2022-01-01'), (8, 'telepathy', 'x', 2, false, '2022-01-01');
INSERT INTO conversation_members VALUES (5, 1, 'owner', '2022-01-01', 101, true), (5, 2, 'admin', '2022-01-01',
    NULL, true),
    (6, 1, 'member', '2022-01-01', 100, true), (6, 2, 'member', '2022-01-01', NULL, true),
    (7, 2, 'owner', '2022-01-01', NULL, true), (8, 2, 'owner', '2022-01-01', NULL, true);
INSERT INTO messages (id, conversation_id, author_id, content, content_type, parent_message_id, status, is_pinned,
    is_edited, metadata, created_at, updated_at, edited_at) VALUES
    (100, 6, 1, 'a third line', 'text', NULL, 'sent', false, false, NULL, '2022-02-01 10:00:00+00', NULL, NULL),
    (101, 5, 1, 'version three', 'text', NULL, 'sent', true, true, NULL, '2020-02-01 10:00:00+00',
     '2022-02-03 10:00:00+00', '2022-02-03 10:00:00+00'),
    (102, 5, 2, 'an answer', 'text', 101, 'sent', false, false, '{\"attachments\": [{\"id\": 2}]}',
     '2022-02-02 10:00:00+00', NULL, NULL),
    (103, 5, 2, 'an answer to the answer', 'text', 102, 'sent', false, false, NULL, '2022-02-02 11:00:00+00', NULL,
        NULL),
    (104, 5, 2, 'the report', 'file', NULL, 'sent', false, false,
     '{\"file_uuid\": \"7c9e6679-7425-40de-944b-e07fc1f90ae7\"}', '2022-02-04 10:00:00+00', NULL, NULL),
    (105, 5, 2, 'an answer to nothing', 'text', 999, 'sent', false, false, NULL, '2022-02-02 11:00:00+00', NULL, NULL),
    (106, 8, 2, 'in a rejected conversation', 'text', NULL, 'sent', false, false, NULL, '2022-02-02', NULL, NULL);
INSERT INTO message_history (message_id, previous_content, edited_by, edited_at) VALUES
    (101, 'version one', 1, '2022-02-02 10:00:00+00'), (101, 'version two', 1, '2022-02-03 10:00:00+00'),
    (999, 'of nothing', 1, '2022-02-03 10:00:00+00');
INSERT INTO message_reactions (message_id, user_id, emoji, created_at) VALUES (101, 2, '🎉', '2022-02-05');
INSERT INTO message_mentions (message_id, mentioned_user_id, is_read) VALUES (102, 1, false);
INSERT INTO files (id, uuid, uploaded_by, filename, original_filename, file_path, file_size, mime_type, checksum,
    created_at) VALUES
    (1, '7c9e6679-7425-40de-944b-e07fc1f90ae7', 2, 'a1.txt', 'report.txt', '2024/report.txt', 21, 'text/plain',
     'FILE_HASH', '2022-02-04'),
    (2, '7c9e6679-7425-40de-944b-e07fc1f90ae8', 2, 'a2.txt', 'lost.txt', '2024/lost.txt', 21, 'text/plain',
     'FILE_HASH', '2022-02-04');
INSERT INTO user_blocks (blocker_id, blocked_id, created_at) VALUES (2, 3, '2022-01-01');
INSERT INTO moderation_actions (target_user_id, moderator_id, action_type, is_active, created_at) VALUES
    (3, 1, 'ban', true, '2022-01-01'), (2, 1, 'warn', true, '2022-01-01'), (2, 1, 'kick', true, '2022-01-01'),
    (4, 1, 'ban', true, '2022-01-01'), (4, 1, 'unban', true, '2022-01-02'), (2, 1, 'ban', false, '2022-01-01'),
    (77, 1, 'ban', true, '2022-01-01');
INSERT INTO moderation_actions (target_user_id, moderator_id, action_type, is_active, created_at, expires_at) VALUES
    (4, 1, 'mute', true, '2022-01-01', '2099-01-01'), (2, 1, 'mute', true, '2022-01-01', '2022-01-02');
INSERT INTO dm_conversations (user1_id, user2_id, is_blocked, created_at) VALUES (1, 2, false, '2022-01-01'),
    (2, 2, false, '2022-01-01');
INSERT INTO audit_logs (details) VALUES ('{\"a\": [1, 2]}');
";
