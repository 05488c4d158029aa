//! Fills a server's database with the history of a [`Town`], without the server.
//!
//! 1. Batches are inserted as PostgreSQL's superuser, each with its conversations' new heads in one transaction. The
//!    triggers of the schema derive statistics, mentions and followers from them.
//! 2. The server's own function writes the search index, as the server's own role, until no text is missing. Here it
//!    runs without the pauses that the server makes for messages.
//! 3. `VACUUM (ANALYZE)`, as autovacuum would have done in the two years of the history.
//! 4. It counts what the server relies on ([`CHECKS`]). A history that breaks it is not measured.
//!
//! It must not run next to a server that sends messages, because it reserves one range of identifiers.

use super::town::{AWAY, Batch, Place, Town};
use crate::progress;
use crate::run::Interrupts;
use crate::setup::account::Account;
use chat_server::storage::connect::{Role, Target, connect};
use chat_server::storage::sql;
use serde::{Deserialize, Serialize};
use std::sync::mpsc;
use std::time::{Instant, SystemTime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

/// Messages in one transaction.
const BATCH: u64 = 4_000;
/// Batches that are made while one is inserted.
const AHEAD: usize = 2;
/// Messages in one call of the server's index function, as in the server's indexer.
const STRETCH: i64 = 256;

const TAKE_IDS: &str = "SELECT setval('message_ids', nextval('message_ids') + $1) - $1";
const MEMBERS: &str = "SELECT u.id, u.username FROM conversation_members m JOIN users u ON u.id = m.user_id \
    WHERE m.conversation_id = $1 ORDER BY m.user_id = $2 DESC, u.id";
const LAST_SEQ: &str = "SELECT last_seq FROM conversations WHERE id = $1";
const INSERT_MESSAGES: &str = "INSERT INTO messages \
    (conversation_id, seq, ordinal, id, sender_id, parent_message_id, created_at, content, client_message_id) \
    SELECT c, s, (SELECT k.last_ordinal FROM conversations k WHERE k.id = c) \
        + row_number() OVER (PARTITION BY c ORDER BY s), \
        i, u, p, to_timestamp(0) + t * interval '1 microsecond', x, 'filled-' || i \
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[]) \
        AS f (c, s, i, u, p, t, x)";
const INSERT_EVENTS: &str = "INSERT INTO conversation_events \
    (conversation_id, seq, kind, actor_id, payload, mutation_id, created_at) \
    SELECT c, s, k, a, p, m, to_timestamp(0) + t * interval '1 microsecond' \
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::jsonb[], $6::bigint[], $7::bigint[]) \
        AS f (c, s, k, a, p, m, t)";
const INSERT_REACTIONS: &str = "INSERT INTO message_reactions \
    (message_id, emoji, user_id, conversation_id, created_at) \
    SELECT m, e, u, c, to_timestamp(0) + t * interval '1 microsecond' \
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS f (m, e, u, c, t)";
const INSERT_PINS: &str = "INSERT INTO message_pins (conversation_id, message_id, pinned_by, pinned_at, seq) \
    SELECT c, m, u, to_timestamp(0) + t * interval '1 microsecond', s \
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS f (c, m, u, t, s)";
const MOVE_HEADS: &str = "UPDATE conversations c SET last_seq = f.s, last_ordinal = c.last_ordinal + \
        (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id AND m.seq > c.last_seq) \
    FROM unnest($1::bigint[], $2::bigint[]) AS f (c, s) WHERE c.id = f.c";
/// Most readers have a few unread messages; the absent one keeps the marker of the day of joining.
const MOVE_MARKERS: &str = "UPDATE conversation_members m \
    SET read_seq = greatest(m.read_seq, c.last_seq - m.user_id % 20) \
    FROM conversations c WHERE c.id = m.conversation_id AND m.user_id <> $1";
const TIDY_UP: &str = "VACUUM (ANALYZE); CHECKPOINT";
const SIZE: &str = "SELECT pg_database_size(current_database())";
const INDEX_SIZE: &str = "SELECT pg_total_relation_size('message_search')";

/// Counts that must be zero, and what they mean if they are not.
const CHECKS: [(&str, &str); 7] = [
    (
        "conversations whose log has a gap",
        "SELECT count(*) FROM conversations c WHERE c.last_seq <> \
            (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id) + \
            (SELECT count(*) FROM conversation_events e WHERE e.conversation_id = c.id) OR c.last_seq <> greatest( \
            (SELECT max(m.seq) FROM messages m WHERE m.conversation_id = c.id), \
            (SELECT max(e.seq) FROM conversation_events e WHERE e.conversation_id = c.id))",
    ),
    (
        "numbers that a message and an event share",
        "SELECT count(*) FROM conversation_events e JOIN messages m USING (conversation_id, seq)",
    ),
    (
        "conversations whose messages are counted wrongly",
        "SELECT count(*) FROM conversations c WHERE c.message_count <> \
            (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id AND m.message_type <> 'system')",
    ),
    (
        "messages whose ordinal is not their number, and conversations with another last one",
        "SELECT (SELECT count(*) FROM (SELECT m.ordinal, count(*) FILTER (WHERE m.message_type <> 'system') \
                OVER (PARTITION BY m.conversation_id ORDER BY m.seq) AS n FROM messages m) f WHERE f.ordinal <> f.n) \
            + (SELECT count(*) FROM conversations c WHERE c.last_ordinal <> (SELECT count(*) FROM messages m \
                WHERE m.conversation_id = c.id AND m.message_type <> 'system'))",
    ),
    (
        "threads whose replies are counted wrongly",
        "SELECT count(*) FROM (SELECT parent_message_id AS id, count(*) AS n FROM messages \
            WHERE parent_message_id IS NOT NULL GROUP BY 1) r \
            FULL JOIN thread_statistics t ON t.root_message_id = r.id WHERE t.reply_count IS DISTINCT FROM r.n",
    ),
    (
        "messages that the search index lacks",
        "SELECT count(*) FROM messages m WHERE m.message_type <> 'system' \
            AND NOT EXISTS (SELECT FROM message_search s WHERE s.message_id = m.id)",
    ),
    (
        "messages of a sender who is no member",
        "SELECT count(*) FROM messages m WHERE m.message_type <> 'system' \
           AND NOT EXISTS (SELECT FROM conversation_members x \
            WHERE x.conversation_id = m.conversation_id AND x.user_id = m.sender_id)",
    ),
];

/// How the database was filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    /// Messages.
    pub messages: u64,
    /// Users.
    pub users: u32,
    /// Decides what they wrote.
    pub seed: u64,
    /// Inserting them, seconds.
    pub inserting_s: f64,
    /// Writing the search index without a rest, seconds.
    pub indexing_s: f64,
    /// PostgreSQL's share of it for each message, microseconds: the duration of the calls.
    pub indexing_us_per_message: f64,
    /// The database, bytes.
    pub database_bytes: i64,
    /// Of it the search's table and indexes, bytes.
    pub search_bytes: i64,
}

/// What to fill, and with what.
pub struct Fill<'a> {
    /// The server's PostgreSQL.
    pub target: &'a Target,
    /// Users by index.
    pub accounts: &'a [Account],
    /// Conversations' numbers, in the order of [`rooms`](super::town::rooms).
    pub rooms: &'a [i64],
    /// Owners' indexes, in the same order.
    pub owners: &'a [u32],
    /// The number of messages.
    pub messages: u64,
    /// Same seed, same history.
    pub seed: u64,
    /// No progress bars.
    pub quiet: bool,
}

fn describe(what: &str, error: &Error) -> String {
    format!("{what}: {}", crate::compare::postgres::describe(error))
}

impl Fill<'_> {
    /// Fills, indexes, checks.
    ///
    /// # Errors
    /// What PostgreSQL refused, or what does not add up.
    pub async fn run(&self, interrupts: &Interrupts) -> Result<Filled, String> {
        let superuser = self.target.connect_as_login().await.map_err(|error| error.to_string())?;
        let settings = "SET synchronous_commit = off; SET statement_timeout = 0";
        superuser.batch_execute(settings).await.map_err(|error| describe("settings", &error))?;
        let inserting_s = self.insert(&superuser, interrupts).await?;
        let indexing_s = self.index(interrupts).await?;
        let away = self.accounts[AWAY as usize].id as i64;
        superuser.execute(MOVE_MARKERS, &[&away]).await.map_err(|error| describe("moving markers", &error))?;
        for statement in TIDY_UP.split("; ") {
            superuser.batch_execute(statement).await.map_err(|error| describe(statement, &error))?;
        }
        for (what, statement) in CHECKS {
            interrupts.check()?;
            let found: i64 = self.number(&superuser, statement).await?;
            if found != 0 {
                return Err(format!("the database was filled wrongly, so it is not measured: {found} {what}"));
            }
        }
        Ok(Filled {
            messages: self.messages,
            users: self.accounts.len() as u32,
            seed: self.seed,
            inserting_s,
            indexing_s,
            indexing_us_per_message: indexing_s * 1e6 / self.messages as f64,
            database_bytes: self.number(&superuser, SIZE).await?,
            search_bytes: self.number(&superuser, INDEX_SIZE).await?,
        })
    }

    async fn number(&self, client: &Client, statement: &str) -> Result<i64, String> {
        let row = client.query_one(statement, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| describe(statement, &error))
    }

    async fn places(&self, client: &Client) -> Result<Vec<Place>, String> {
        let mut places = Vec::new();
        for (id, owner) in self.rooms.iter().zip(self.owners) {
            let owner = self.accounts[*owner as usize].id as i64;
            let read = async {
                let members = client.query(MEMBERS, &[id, &owner]).await?;
                let members = members.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                let members = members.collect::<Result<_, Error>>()?;
                let last_seq = client.query_one(LAST_SEQ, &[id]).await?.try_get(0)?;
                Ok(Place { id: *id, members, last_seq })
            };
            places.push(read.await.map_err(|error: Error| describe("reading the rooms", &error))?);
        }
        Ok(places)
    }

    /// Inserts everything; how long it took, seconds.
    async fn insert(&self, client: &Client, interrupts: &Interrupts) -> Result<f64, String> {
        let places = self.places(client).await?;
        let taken = client.query_one(TAKE_IDS, &[&(self.messages as i64 + 1)]).await;
        let first: i64 =
            taken.and_then(|row| row.try_get(0)).map_err(|error| describe("taking identifiers", &error))?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as i64;
        let mut town = Town::new(places, self.messages, first + 1, now, self.seed);
        let (sender, batches) = mpsc::sync_channel::<Batch>(AHEAD);
        // Ends with its history, or when the receiver has gone.
        let maker = std::thread::spawn(move || while town.next_batch(BATCH).is_some_and(|b| sender.send(b).is_ok()) {});
        let bar = progress::bar(self.quiet, self.messages, "inserting messages");
        let began = Instant::now();
        for batch in &batches {
            interrupts.check()?;
            insert_batch(client, &batch).await.map_err(|error| describe("inserting", &error))?;
            bar.inc(batch.messages.id.len() as u64);
        }
        bar.finish_and_clear();
        maker.join().map_err(|_| "making the messages failed".to_owned())?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Indexes everything; how long it took, seconds.
    async fn index(&self, interrupts: &Interrupts) -> Result<f64, String> {
        let writer =
            connect(&self.target.config(Role::Writer)).await.map_err(|error| describe("connecting", &error))?;
        let statement = writer.prepare(sql::INDEX_MESSAGES).await.map_err(|error| describe("indexing", &error))?;
        let bar = progress::bar(self.quiet, self.messages, "indexing for the search");
        let began = Instant::now();
        // In turn, as the server's indexer does it.
        let mut behind = self.rooms.to_vec();
        while !behind.is_empty() {
            let mut still = Vec::new();
            for room in behind {
                interrupts.check()?;
                let row = writer.query_one(&statement, &[&room, &STRETCH, &i64::MAX]).await;
                let more: bool = row.and_then(|row| row.try_get(0)).map_err(|error| describe("indexing", &error))?;
                if more {
                    bar.inc(STRETCH as u64);
                    still.push(room);
                }
            }
            behind = still;
        }
        bar.finish_and_clear();
        Ok(began.elapsed().as_secs_f64())
    }
}

async fn insert_batch(client: &Client, batch: &Batch) -> Result<(), Error> {
    client.batch_execute("BEGIN").await?;
    let m = &batch.messages;
    let columns: [&(dyn ToSql + Sync); 7] =
        [&m.conversation, &m.seq, &m.id, &m.sender, &m.parent, &m.at_us, &m.content];
    client.execute(INSERT_MESSAGES, &columns).await?;
    let e = &batch.events;
    let columns: [&(dyn ToSql + Sync); 7] =
        [&e.conversation, &e.seq, &e.kind, &e.actor, &e.payload, &e.mutation, &e.at_us];
    client.execute(INSERT_EVENTS, &columns).await?;
    let r = &batch.reactions;
    client.execute(INSERT_REACTIONS, &[&r.message, &r.emoji, &r.user, &r.conversation, &r.at_us]).await?;
    let p = &batch.pins;
    client.execute(INSERT_PINS, &[&p.conversation, &p.message, &p.user, &p.at_us, &p.seq]).await?;
    let (c, s) = &batch.heads;
    client.execute(MOVE_HEADS, &[c, s]).await?;
    client.batch_execute("COMMIT").await
}
