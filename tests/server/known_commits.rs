//! The two forms of a commit agree: whatever `commit_known` accepts, `commit_messages` would have accepted, under the
//! same seq and ordinal.
//!
//! How: random histories on a database without a server. Members come, go, are muted, banned and blocked, rooms are
//! archived and slowed down, with and without an event in the log. Before each run of messages is committed in the
//! short form, the general one judges it in a transaction that is rolled back. The comparison also has to find a
//! planted fault: a change that raises no epoch. What it does not find then is refused by row level security, the
//! second lock.

use crate::rule_sets::{column, migrated_database};
use crate::support::{Random, server};
use chat_server::ids::{ConversationId, ShardId, UserId};
use chat_server::mesh::frame::{Change, Mutation, Token};
use chat_server::mesh::record::Sender;
use chat_server::storage::connect::{Role, connect};
use chat_server::storage::known::{Accepted, DividedRun, KnownRoom, KnownRun, KnownSenders, MessageNumbers};
use chat_server::wire::command::changes::CHANGES;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client as Database, Row};

/// Users 1 to this one.
const USERS: u64 = 6;
/// Two rooms, a group, and the direct conversation of users 1 and 2.
const ROOMS: [i64; 4] = [6, 10, 13, 16];

/// Mutations after which nobody is refused who could send before: they raise no epoch.
const HARMLESS: &[&str] = &[
    "accept_invitation",
    "add_reaction",
    "announce_profile",
    "announce_rejection",
    // commit_known looks at blocks itself.
    "block_user",
    "cancel_join_request",
    "clear_history",
    "create_conversation",
    "create_invite",
    "decide_join_request",
    "decline_invitation",
    "delete_message",
    "edit_message",
    "erase_mention",
    "erase_messages",
    "erase_reaction",
    "follow_thread",
    "invite_member",
    "join_by_invite",
    "join_conversation",
    "mark_read",
    "mark_thread_read",
    "pin_message",
    "remove_reaction",
    "request_to_join",
    "revoke_invite",
    "settle_file",
    "unban_member",
    "unblock_user",
];

/// Users, and conversations with all of them.
const SET_UP: &str = "
    INSERT INTO users (id, username, display_name) SELECT n, 'user' || n, 'User ' || n FROM generate_series(1, 6) n;
    INSERT INTO conversations (id, kind, name, owner_id) VALUES
        (6, 'public_room', 'a', 1), (10, 'private_room', 'b', 1), (13, 'group', 'c', 1);
    INSERT INTO conversations (id, kind, direct_low, direct_high) VALUES (16, 'direct', 1, 2);
    INSERT INTO conversation_members (conversation_id, user_id, role)
    SELECT c.id, u.id, CASE WHEN c.kind = 'direct' OR u.id > 2 THEN 'member' WHEN u.id = 1 THEN 'owner'
                            ELSE 'moderator' END::member_role
      FROM conversations c, users u WHERE c.kind <> 'direct' OR u.id <= 2";

struct History {
    owner: Database,
    writer: Database,
    random: Random,
    known: KnownSenders,
    mutations: i64,
    keys: i64,
    /// Messages of which the two forms had different verdicts.
    disagreements: Vec<String>,
    /// Runs of the short form that row level security has refused.
    refused_by_policy: usize,
}

impl History {
    async fn new() -> Self {
        let target = migrated_database(server().await).await;
        let owner = target.connect_as_login().await.unwrap();
        owner.batch_execute(SET_UP).await.unwrap();
        let writer = connect(&target.config(Role::Writer)).await.unwrap();
        let (random, known) = (Random::new(), KnownSenders::default());
        Self { owner, writer, random, known, mutations: 0, keys: 0, disagreements: Vec::new(), refused_by_policy: 0 }
    }

    fn user(&mut self) -> i64 {
        1 + self.random.below(USERS) as i64
    }

    fn room(&mut self) -> i64 {
        ROOMS[self.random.below(ROOMS.len() as u64) as usize]
    }

    /// A random mutation, as a user sends it. PostgreSQL may refuse it. Returns whether it was committed.
    async fn mutate(&mut self, kind: &str, room: Option<i64>, actor: i64, arguments: Value) -> bool {
        self.mutations += 1;
        let apply = "SELECT verdict FROM apply_mutations(ARRAY[$1::text], ARRAY[$2::bigint], ARRAY[$3::bigint], \
            ARRAY[$4::bigint], ARRAY[$5::jsonb])";
        let row = self.writer.query_one(apply, &[&kind, &room, &actor, &self.mutations, &arguments]).await.unwrap();
        row.get::<_, &str>(0) == "committed"
    }

    async fn change_something(&mut self) {
        let (room, actor, user) = (self.room(), if self.random.below(3) > 0 { 1 } else { self.user() }, self.user());
        let duration_s = 3_600 * self.random.below(2);
        match self.random.below(15) {
            0 => drop(
                self.mutate("mute_member", Some(room), actor, json!({"user_id": user, "duration_s": duration_s})).await,
            ),
            1 => {
                let role = ["read_only", "member", "moderator"][self.random.below(3) as usize];
                self.mutate("set_role", Some(room), actor, json!({"user_id": user, "role": role})).await;
            }
            2 => drop(self.mutate("remove_member", Some(room), actor, json!({"user_id": user})).await),
            3 => drop(self.mutate("ban_member", Some(room), actor, json!({"user_id": user})).await),
            4 => drop(self.mutate("unban_member", Some(room), actor, json!({"user_id": user})).await),
            5 => drop(self.mutate("join_conversation", Some(6), user, json!({})).await),
            6 => drop(self.mutate("leave_conversation", Some(room), user, json!({})).await),
            7 => {
                let archived = self.random.below(3) == 0;
                self.mutate("archive_conversation", Some(room), 1, json!({"archived": archived})).await;
            }
            8 => {
                let slow_mode_s = [0, 0, 3_600][self.random.below(3) as usize];
                self.mutate("update_conversation", Some(room), 1, json!({"slow_mode_s": slow_mode_s})).await;
            }
            9 => {
                let kind = ["block_user", "unblock_user"][self.random.below(2) as usize];
                self.mutate(kind, None, 1, json!({"user_id": 2})).await;
            }
            10 => {
                let minutes = self.random.below(3) as f64;
                let mute =
                    "UPDATE users SET muted_until = now() + make_interval(mins => $2::float8::int) WHERE id = $1";
                self.owner.execute(mute, &[&user, &minutes]).await.unwrap();
            }
            // The next three without an event, so the head does not show them: only the epoch does.
            11 => {
                let archive = "UPDATE conversations SET archived_at = now() WHERE id = $1 AND id <> 16";
                self.owner.execute(archive, &[&room]).await.unwrap();
            }
            12 => {
                let mute = "UPDATE conversation_members SET muted_until = now() + interval '1 hour' \
                    WHERE conversation_id = $1 AND user_id = $2";
                self.owner.execute(mute, &[&room, &user]).await.unwrap();
            }
            13 => {
                let remove =
                    "DELETE FROM conversation_members WHERE conversation_id = $1 AND user_id = $2 AND user_id > 2";
                self.owner.execute(remove, &[&room, &user]).await.unwrap();
            }
            _ => {
                // Somebody returns to a room.
                let back = "INSERT INTO conversation_members (conversation_id, user_id) SELECT $1::bigint, $2::bigint \
                    WHERE $1 <> 16 AND NOT EXISTS (SELECT FROM conversation_bans \
                        WHERE conversation_id = $1 AND user_id = $2) ON CONFLICT DO NOTHING";
                self.owner.execute(back, &[&room, &user]).await.unwrap();
            }
        }
    }

    /// Ends what a history may keep up for too long: rooms that are archived or slow, and mutes.
    async fn open_rooms(&self) {
        let open = "UPDATE conversations SET archived_at = NULL, slow_mode_s = 0
             WHERE archived_at IS NOT NULL OR slow_mode_s > 0;
            UPDATE conversation_members SET muted_until = NULL WHERE muted_until IS NOT NULL;
            UPDATE users SET muted_until = NULL WHERE muted_until IS NOT NULL";
        self.owner.batch_execute(open).await.unwrap();
    }

    fn message(&mut self, room: i64) -> Box<Mutation> {
        // Now and then a key that was used.
        self.keys += i64::from(self.random.below(20) > 0);
        let actor = self.user();
        Box::new(Mutation {
            conversation: ConversationId::from_number(room),
            actor: UserId(actor),
            session: None,
            source: None,
            origin: None,
            token: Token { shard: ShardId(0), index: 0 },
            owner: ShardId(0),
            received_at: Instant::now(),
            handed_over_at: Instant::now(),
            deadline: Instant::now(),
            answered: false,
            change: Change::Message {
                content: "text".to_owned(),
                message_type: "text",
                parent: None,
                key: format!("key {}", self.keys),
                key_is_clients: true,
                files: Vec::new(),
            },
        })
    }

    /// The rows of `commit_messages`.
    async fn general(&self, run: &[Box<Mutation>]) -> Vec<Row> {
        let rooms: Vec<i64> = run.iter().map(|m| m.conversation.unwrap().number()).collect();
        let senders: Vec<i64> = run.iter().map(|mutation| mutation.actor.0).collect();
        let keys: Vec<&str> = run.iter().map(|mutation| key(mutation)).collect();
        let (texts, none) = (vec!["text"; run.len()], vec![None::<i64>; run.len()]);
        let commit = "SELECT * FROM commit_messages($1, $2, $3, $4, $5, $3, $6)";
        let files = vec![None::<String>; run.len()];
        self.writer.query(commit, &[&rooms, &senders, &texts, &keys, &none, &files]).await.unwrap()
    }

    /// Commits what is known of a run, and compares it with what the general form would have done. Returns the rest.
    async fn short(&mut self, plan: &KnownRun, run: Vec<Box<Mutation>>) -> (usize, Vec<Box<Mutation>>) {
        self.writer.batch_execute("BEGIN").await.unwrap();
        let judged = self.general(&run).await;
        self.writer.batch_execute("ROLLBACK").await.unwrap();
        let of_rooms = |part: fn(&KnownRoom) -> i64| -> Vec<i64> { plan.rooms.iter().map(part).collect() };
        let (ids, heads) = (of_rooms(|room| room.id), of_rooms(|room| room.last_seq));
        let (epochs, counts) = (of_rooms(|room| room.epoch), of_rooms(|room| room.count));
        let rooms: Vec<i64> = plan.rows.iter().map(|row| row.room).collect();
        let seqs: Vec<i64> = plan.rows.iter().map(|row| row.seq).collect();
        let ordinals: Vec<i64> = plan.rows.iter().map(|row| row.ordinal).collect();
        let senders: Vec<i64> = plan.rows.iter().map(|row| run[row.at].actor.0).collect();
        let keys: Vec<&str> = plan.rows.iter().map(|row| key(&run[row.at])).collect();
        let texts = vec!["text"; plan.rows.len()];
        let commit = "SELECT rooms, seqs FROM commit_known($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let answer = self
            .writer
            .query_one(commit, &[&ids, &heads, &epochs, &counts, &rooms, &seqs, &ordinals, &senders, &texts, &keys])
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // Otherwise a repeated key.
                self.refused_by_policy += usize::from(error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE));
                return (0, run);
            }
        };
        let mut committed: Vec<i64> = answer.get::<_, Option<Vec<i64>>>(0).unwrap_or_default();
        committed.sort_unstable();
        self.known.settled(plan, &committed);
        let DividedRun { rows, left, .. } = plan.divide(run, &committed);
        for (row, _) in &rows {
            let general = &judged[row.at];
            let verdict = (general.get("verdict"), general.get("seq"), general.get("ordinal"));
            if verdict != ("committed", Some(row.seq), Some(row.ordinal)) {
                self.disagreements.push(format!("{row:?}: {verdict:?}"));
            }
        }
        let seqs: Vec<i64> = rows.iter().map(|(row, _)| row.seq).collect();
        assert_eq!(answer.get::<_, Option<Vec<i64>>>(1).unwrap_or_default(), seqs);
        (rows.len(), left)
    }

    /// Commits a run as a committer does. Returns how many messages took the short form.
    async fn commit(&mut self, run: Vec<Box<Mutation>>) -> usize {
        let (short, run) = match self.known.plan(&run) {
            Some(plan) => self.short(&plan, run).await,
            None => (0, run),
        };
        for (mutation, row) in run.iter().zip(self.general(&run).await) {
            let (room, id) = (mutation.conversation.unwrap().number(), mutation.actor);
            if row.get::<_, &str>("verdict") == "committed" {
                let name: String = row.get("username");
                let sender = Sender { id, username: name, display_name: String::new(), role: None };
                let (ordinal, epoch, is_free) = (row.get("ordinal"), row.get("access_epoch"), row.get("is_free"));
                let numbers = MessageNumbers { ordinal, epoch, is_free };
                self.known.accepted(&Accepted { room, sender: &sender, seq: row.get("seq"), numbers });
            } else {
                self.known.refused(room, id);
            }
        }
        short
    }

    /// A run of messages, and before it perhaps a change. Returns how many messages took the short form, and how many
    /// there were.
    async fn step(&mut self, step: usize) -> (usize, usize) {
        if step.is_multiple_of(50) {
            self.open_rooms().await;
        }
        if self.random.below(8) == 0 {
            self.change_something().await;
        }
        // Mostly of one conversation: in a small run, one unknown sender sends all messages to the general form.
        let (room, many) = (self.room(), 1 + self.random.below(3));
        let mut run = Vec::new();
        for _ in 0..many {
            let room = if self.random.below(10) == 0 { self.room() } else { room };
            run.push(self.message(room));
        }
        let all = run.len();
        (self.commit(run).await, all)
    }
}

fn key(mutation: &Mutation) -> &str {
    match &mutation.change {
        Change::Message { key, .. } => key,
        Change::Other { .. } => panic!("no message"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_short_form_accepts_the_general_one_accepts_too() {
    let mut history = History::new().await;
    let (mut short, mut all) = (0, 0);
    for step in 0..1_000 {
        let (took_it, sent) = history.step(step).await;
        (short, all) = (short + took_it, all + sent);
    }
    assert_eq!((history.disagreements, history.refused_by_policy), (Vec::<String>::new(), 0));
    // Every log is whole.
    let gaps = "SELECT count(*) FROM conversations c WHERE c.last_seq <> (SELECT count(*) FROM messages m \
        WHERE m.conversation_id = c.id) + (SELECT count(*) FROM conversation_events e WHERE e.conversation_id = c.id)";
    assert_eq!(history.owner.query_one(gaps, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(short > 100 && short < all, "{short} of {all} messages took the short form");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_comparison_finds_a_change_that_raises_no_epoch() {
    let mut history = History::new().await;
    history.owner.batch_execute("ALTER TABLE conversations DISABLE TRIGGER raise_epoch").await.unwrap();
    for step in 0..5_000 {
        history.step(step).await;
        if !history.disagreements.is_empty() {
            return;
        }
    }
    panic!("the short form accepts messages in archived rooms, and nobody notices");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_refuses_what_a_wrong_guess_would_accept() {
    let mut history = History::new().await;
    let raises = "ALTER TABLE conversation_members DISABLE TRIGGER raise_epochs_of_former;
        ALTER TABLE conversation_members DISABLE TRIGGER raise_epoch_of_changed";
    history.owner.batch_execute(raises).await.unwrap();
    for step in 0..5_000 {
        history.step(step).await;
        if history.refused_by_policy > 0 {
            break;
        }
    }
    assert!(history.refused_by_policy > 0, "the short form commits messages of users who have left or are muted");
    history.open_rooms().await;
    // As anybody who has the writer's login could try it.
    let insert = "INSERT INTO messages (conversation_id, seq, ordinal, sender_id, content, client_message_id)
        VALUES (16, 1000000, 1000000, $1, 'text', 'key')";
    let error = history.writer.execute(insert, &[&3_i64]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "user 3 is no member: {error}");
    assert_eq!(history.writer.execute(insert, &[&1_i64]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_that_can_shut_a_sender_out_raises_the_epoch() {
    let mut history = History::new().await;
    let mut raised = BTreeSet::new();
    for (kind, room, actor, arguments) in [
        ("mute_member", 6, 1, json!({"user_id": 3, "duration_s": 60})),
        ("set_role", 6, 1, json!({"user_id": 4, "role": "read_only"})),
        ("remove_member", 6, 1, json!({"user_id": 5})),
        ("ban_member", 6, 1, json!({"user_id": 6})),
        ("leave_conversation", 10, 5, json!({})),
        ("update_conversation", 6, 1, json!({"slow_mode_s": 30})),
        (
            "filter_text",
            10,
            3,
            json!({"hits": [{"rule": "r", "is_server_rule": false, "action": "mute", "mute_s": 60}]}),
        ),
        ("archive_conversation", 10, 1, json!({"archived": true})),
        ("transfer_ownership", 13, 1, json!({"user_id": 2})),
    ] {
        let epoch = "SELECT access_epoch FROM conversations WHERE id = $1";
        let before: i64 = history.owner.query_one(epoch, &[&i64::from(room)]).await.unwrap().get(0);
        assert!(history.mutate(kind, Some(room.into()), actor, arguments).await, "{kind}");
        let after: i64 = history.owner.query_one(epoch, &[&i64::from(room)]).await.unwrap().get(0);
        assert!(after > before, "{kind} raises no epoch");
        raised.insert(kind.to_owned());
    }
    let functions = "SELECT substr(proname, 8)::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
        WHERE nspname LIKE 'rules\\_%' AND proname LIKE 'mutate\\_%'";
    let all: BTreeSet<String> = column(&history.owner, functions).await.into_iter().collect();
    let sorted: BTreeSet<String> = raised.into_iter().chain(HARMLESS.iter().map(|kind| (*kind).to_owned())).collect();
    assert_eq!(all, sorted, "a new mutation raises the epoch in this test, or is harmless");
    assert!(CHANGES.iter().all(|change| all.contains(change.name)));
}
