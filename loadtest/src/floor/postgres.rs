//! The PostgreSQL floor: commits the server's rows with the server's statement, and does nothing else.
//!
//! It is the upper limit of durably acknowledged messages: what a server would reach if it cost nothing itself.
//!
//! 1. It starts a private PostgreSQL as the server does, with the server's migrations ([`Store::open`]).
//! 2. It inserts users, rooms, members and, if asked to, a [`history`]. Each connection has its own rooms.
//! 3. Each connection commits one batch after the other, prepared, as the committer does: in the short form
//!    ([`sql::COMMIT_KNOWN`]), because it knows the heads of its rooms, or in the general one
//!    ([`sql::COMMIT_MESSAGES`]). It sends the next statement when PostgreSQL has answered the last one.
//! 4. At the end it compares the number of rows in the table with the number of acknowledged rows.
//!
//! Deliberately absent: a PostgreSQL of the user. The floor empties its tables between batch sizes, so that each starts
//! from the same state; cases with the same history share it. It must not do that in a database that others use.
//!
//! [`history`]: super::history

use super::history::Filling;
use super::summary::Percentiles;
use crate::engine::recorder::histogram;
use crate::measure::process::{ProcessMeter, Sample};
use crate::measure::thread;
use crate::progress;
use crate::run::Interrupts;
use chat_server::storage::connect::{Role, Target, connect};
use chat_server::storage::embedded::Embedded;
use chat_server::storage::{StorageError, migrate, safety, sql};
use hdrhistogram::Histogram;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::{Client, Statement};

/// Names are unique, and an earlier measurement may have left rows, so names continue from the last id.
const INSERT_USERS: &str = "INSERT INTO users (username, display_name) \
    SELECT 'floor-' || last.id + i, 'Floor ' || last.id + i \
    FROM (SELECT coalesce(max(id), 0) AS id FROM users) AS last, generate_series(1, $1::bigint) AS i RETURNING id";
const INSERT_ROOMS: &str = "INSERT INTO conversations (id, kind, name) \
    SELECT nextval('conversation_numbers') * 4 + 2, 'public_room', 'floor-' || i \
    FROM generate_series(1, $1::bigint) AS i RETURNING id";
const INSERT_MEMBERS: &str = "INSERT INTO conversation_members (conversation_id, user_id) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[])";
const COUNT_ROWS: &str = "SELECT count(*) FROM messages";
const EMPTY_TABLES: &str = "TRUNCATE messages, message_mentions, thread_statistics";
const CHECKPOINT: &str = "CHECKPOINT";

/// How often PostgreSQL's processes are listed.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// A verdict of the statement.
const COMMITTED: &str = "committed";
/// Refused above this: the server's own largest batch.
const BATCH_MAX: usize = chat_server::limits::BATCH_ROWS_MAX;

/// Refused above this: it would take hours, and hundreds of GB.
const HISTORY_MAX: usize = 1_000_000_000;

/// Which of the server's statements commits the rows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatementForm {
    /// The short one, for messages whose verdicts are known.
    #[default]
    Known,
    /// The one that looks up everything.
    General,
}

/// The shape of the work.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PostgresShape {
    /// The statement.
    #[serde(default)]
    pub form: StatementForm,
    /// Connections that commit; the server has [`chat_server::latency::CONVERSATION_COMMITTERS`] for messages.
    pub connections: usize,
    /// Rows of a statement.
    pub batch: usize,
    /// Rooms, over all connections.
    pub rooms: usize,
    /// Members of a room; all of them send in turn.
    pub room_size: usize,
    /// Characters of a message's content.
    pub content_bytes: usize,
    /// Messages in the tables before, over all rooms.
    #[serde(default)]
    pub history: usize,
    /// Committed but not measured, seconds.
    pub warm_up_s: f64,
    /// Measured, seconds.
    pub seconds: f64,
    /// No progress bar.
    #[serde(skip)]
    pub quiet: bool,
}

impl PostgresShape {
    /// Whether it can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("connections", self.connections, 64),
            ("rows of a batch", self.batch, BATCH_MAX),
            ("rooms", self.rooms, 100_000),
            ("members of a room", self.room_size, 10_000),
            ("characters of a content", self.content_bytes, 16_384),
        ];
        if self.history > 0 && !(self.rooms..=HISTORY_MAX).contains(&self.history) {
            let rooms = self.rooms;
            return Err(format!(
                "a history of {rooms} rooms must have {rooms} to {HISTORY_MAX} messages, not {}",
                self.history
            ));
        }
        for (what, value, max) in bounds {
            if !(1..=max).contains(&value) {
                return Err(format!("the number of {what} must be between 1 and {max}, not {value}"));
            }
        }
        if self.rooms < self.connections {
            return Err(
                "each connection commits to its own rooms: give at least as many rooms as connections".to_owned()
            );
        }
        let in_range = |seconds: f64| (0.0..=3600.0).contains(&seconds);
        if !in_range(self.warm_up_s) || !in_range(self.seconds) || self.seconds == 0.0 {
            return Err("the measurement must last more than 0 and at most 3600 seconds".to_owned());
        }
        Ok(())
    }
}

/// A measurement of the PostgreSQL floor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PostgresFloor {
    /// The shape of the work.
    pub shape: PostgresShape,
    /// Measured, seconds.
    pub seconds: f64,
    /// Rows committed in that time.
    pub rows: u64,
    /// The same per second.
    pub rows_per_s: f64,
    /// Commits per second, all connections together.
    pub commits_per_s: f64,
    /// A statement's time, from its submission to its answer.
    pub commit: Percentiles,
    /// CPU of all of PostgreSQL's processes per row.
    pub postgres_cpu_us_per_row: f64,
    /// The same in cores.
    pub postgres_cores: f64,
    /// CPU of the loader's thread, in cores.
    pub loader_cores: f64,
}

/// A private PostgreSQL with the server's schema, removed when dropped.
pub struct Store {
    // Fields are dropped in this order: PostgreSQL stops before its directory is deleted.
    runtime: tokio::runtime::Runtime,
    embedded: Embedded,
    directory: TempDir,
    /// The rooms of the last case, if it had a history.
    filled: RefCell<Option<FilledRooms>>,
}

/// Rooms with a history, for further cases.
struct FilledRooms {
    shape: PostgresShape,
    rooms: Vec<RoomOfLoader>,
}

impl FilledRooms {
    fn fits(&self, shape: &PostgresShape) -> bool {
        let of = |shape: &PostgresShape| (shape.rooms, shape.room_size, shape.content_bytes, shape.history);
        of(&self.shape) == of(shape)
    }
}

impl Store {
    /// Starts one under `parent`, or under the system's temporary directory.
    ///
    /// # Errors
    /// What failed. A directory in memory is refused, because a commit costs nothing there.
    pub fn open(parent: Option<&Path>) -> Result<Self, String> {
        let temporary = std::env::temp_dir();
        let parent = parent.unwrap_or(&temporary);
        let directory = tempfile::Builder::new()
            .prefix("loadtest-floor-")
            .tempdir_in(parent)
            .map_err(|error| format!("cannot make a directory in {}: {error}", parent.display()))?;
        let file_system = statfs(directory.path()).map_err(|error| format!("{}: {error}", parent.display()))?;
        if file_system.filesystem_type() == TMPFS_MAGIC {
            return Err(format!(
                "{} is in memory (tmpfs), where a commit costs nothing: name a directory on the server's disk with \
                 --data-dir",
                parent.display()
            ));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the runtime: {error}"))?;
        let embedded = Embedded::start(directory.path()).map_err(|error| describe(&error))?;
        runtime
            .block_on(async {
                migrate::migrate(&embedded.target()).await?;
                safety::check(&embedded.target()).await
            })
            .map_err(|error| describe(&error))?;
        Ok(Self { runtime, embedded, directory, filled: RefCell::default() })
    }

    /// Measures one shape of work, from empty tables or with the history of the shape.
    ///
    /// # Errors
    /// What failed, or which rows are missing.
    pub fn measure(&self, shape: &PostgresShape, interrupts: &Interrupts) -> Result<PostgresFloor, String> {
        shape.validate()?;
        self.runtime.block_on(self.run(shape, interrupts))
    }

    async fn run(&self, shape: &PostgresShape, interrupts: &Interrupts) -> Result<PostgresFloor, String> {
        let target = self.embedded.target();
        let superuser = self.embedded.superuser_target().connect_as_login().await.map_err(|error| describe(&error))?;
        let set_up = open(&target, Role::Writer).await?;
        let filled = self.filled.take().filter(|filled| filled.fits(shape));
        let rooms = match filled {
            Some(filled) => filled.rooms,
            None => prepare(&target, &set_up, shape, interrupts).await?,
        };
        let before = rooms.iter().map(|room| room.last_seq as u64).sum::<u64>();
        superuser.batch_execute(CHECKPOINT).await.map_err(|error| refused("writing a checkpoint", &error))?;

        let mut loaders = Vec::new();
        for index in 0..shape.connections {
            let own: Vec<RoomOfLoader> = rooms.iter().skip(index).step_by(shape.connections).cloned().collect();
            // As long as a client's. An earlier case with the same history began with fewer messages.
            let key_prefix = format!("lt-0123456789abcdef-{before}.{index}.");
            loaders.push(Loader::connect(&target, shape, key_prefix, own).await?);
        }
        // The measurement starts here: it does not include connecting.
        let from = Instant::now() + Duration::from_secs_f64(shape.warm_up_s);
        let until = from + Duration::from_secs_f64(shape.seconds);
        let progress = Progress { from, until, interrupts, committed: Cell::new(0) };
        let total_ms = ((shape.warm_up_s + shape.seconds) * 1000.0) as u64;
        let bar = progress::run_bar(shape.quiet, total_ms);
        let (usage, results) = futures_util::future::join(
            self.watch(&progress, &bar),
            futures_util::future::join_all(loaders.iter_mut().map(|loader| loader.run(&progress))),
        )
        .await;
        bar.finish_and_clear();
        let (usage, results) = (usage?, results.into_iter().collect::<Result<Vec<_>, _>>()?);

        let stored: i64 = set_up
            .query_one(COUNT_ROWS, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| refused("counting the rows", &error))?;
        let acknowledged = before + progress.committed.get();
        if stored as u64 != acknowledged {
            return Err(format!(
                "{acknowledged} rows were acknowledged and {stored} are in the table: the floor is faulty"
            ));
        }
        // The general form does not tell the loader where the logs end.
        if shape.history > 0 && shape.form == StatementForm::Known {
            let rooms = loaders.into_iter().flat_map(|loader| loader.rooms).collect();
            self.filled.replace(Some(FilledRooms { shape: shape.clone(), rooms }));
        }
        let mut commits = histogram()?;
        let (mut rows, mut rows_per_s, mut commits_per_s, mut longest) = (0, 0.0, 0.0, 0.0_f64);
        for result in &results {
            commits.add(&result.commits).map_err(|error| format!("cannot merge histograms: {error}"))?;
            rows += result.rows;
            rows_per_s += result.rows as f64 / result.seconds;
            commits_per_s += result.commits.len() as f64 / result.seconds;
            longest = longest.max(result.seconds);
        }
        Ok(PostgresFloor {
            shape: shape.clone(),
            seconds: longest,
            rows,
            rows_per_s,
            commits_per_s,
            commit: Percentiles::of(&commits),
            postgres_cpu_us_per_row: usage.postgres_us / usage.rows.max(1) as f64,
            postgres_cores: usage.postgres_cores,
            loader_cores: usage.loader_ns as f64 / 1e9 / usage.seconds,
        })
    }

    /// Reads the CPU at both ends of the measured time, and in between so that no process's end is missed.
    async fn watch(&self, progress: &Progress<'_>, bar: &indicatif::ProgressBar) -> Result<PostgresUsage, String> {
        let mut meter = ProcessMeter::new(vec![self.postmaster()?]);
        let started = Instant::now();
        let mut until = async |end: Instant| {
            while Instant::now() < end {
                progress.interrupts.check()?;
                tokio::time::sleep((end - Instant::now()).min(SAMPLE_INTERVAL)).await;
                meter.sample();
                bar.set_position(started.elapsed().as_millis() as u64);
            }
            PostgresReading::take(&mut meter, progress)
        };
        let before = until(progress.from).await?;
        let after = until(progress.until).await?;
        let spent = after.postgres.since(&before.postgres);
        Ok(PostgresUsage {
            seconds: (after.at - before.at).as_secs_f64(),
            postgres_us: spent.cpu.as_secs_f64() * 1e6,
            postgres_cores: spent.cores(),
            loader_ns: after.loader_ns - before.loader_ns,
            rows: after.rows - before.rows,
        })
    }

    fn postmaster(&self) -> Result<i32, String> {
        let path = self.directory.path().join("postgres/postmaster.pid");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        pid.ok_or_else(|| format!("{} does not start with a process number", path.display()))
    }
}

struct PostgresReading {
    at: Instant,
    postgres: Sample,
    loader_ns: u64,
    rows: u64,
}

impl PostgresReading {
    fn take(meter: &mut ProcessMeter, progress: &Progress<'_>) -> Result<Self, String> {
        let postgres = meter.sample();
        if postgres.processes() == 0 {
            return Err("the CPU of the floor's PostgreSQL cannot be read from /proc".to_owned());
        }
        Ok(Self { at: Instant::now(), postgres, loader_ns: thread::cpu_ns(), rows: progress.committed.get() })
    }
}

struct PostgresUsage {
    seconds: f64,
    postgres_us: f64,
    postgres_cores: f64,
    loader_ns: u64,
    rows: u64,
}

/// What all loaders share.
struct Progress<'a> {
    from: Instant,
    until: Instant,
    interrupts: &'a Interrupts,
    committed: Cell<u64>,
}

#[derive(Clone)]
struct RoomOfLoader {
    id: i64,
    members: Vec<i64>,
    /// Where its log ends. Each message has a seq and an ordinal, and nothing else is in it.
    last_seq: i64,
}

/// One connection, its rooms, and how many messages it has made.
struct Loader {
    client: Client,
    statement: Statement,
    rooms: Vec<RoomOfLoader>,
    /// Of the messages' keys; a number follows.
    key_prefix: String,
    form: StatementForm,
    batch: usize,
    content: String,
    made: usize,
}

/// What one connection did in the measured time.
struct LoaderResult {
    rows: u64,
    seconds: f64,
    commits: Histogram<u64>,
}

impl Loader {
    async fn connect(
        target: &Target,
        shape: &PostgresShape,
        key_prefix: String,
        rooms: Vec<RoomOfLoader>,
    ) -> Result<Self, String> {
        let client = open(target, Role::Writer).await?;
        let statement = client
            .prepare(match shape.form {
                StatementForm::Known => sql::COMMIT_KNOWN,
                StatementForm::General => sql::COMMIT_MESSAGES,
            })
            .await
            .map_err(|error| refused("preparing the server's statement", &error))?;
        let content = "x".repeat(shape.content_bytes);
        let (form, batch) = (shape.form, shape.batch);
        Ok(Self { client, statement, rooms, key_prefix, form, batch, content, made: 0 })
    }

    async fn run(&mut self, progress: &Progress<'_>) -> Result<LoaderResult, String> {
        while Instant::now() < progress.from {
            self.commit(progress).await?;
        }
        let started = Instant::now();
        let mut result = LoaderResult { rows: 0, seconds: 0.0, commits: histogram()? };
        // At least one, even on a slow disk: its time is the measurement.
        loop {
            let submitted = Instant::now();
            self.commit(progress).await?;
            result.rows += self.batch as u64;
            result.commits.saturating_record(submitted.elapsed().as_micros() as u64);
            if Instant::now() >= progress.until {
                break;
            }
        }
        result.seconds = started.elapsed().as_secs_f64();
        Ok(result)
    }

    /// One statement; every row of it must be committed.
    async fn commit(&mut self, progress: &Progress<'_>) -> Result<(), String> {
        progress.interrupts.check()?;
        let mut rows = Vec::with_capacity(self.batch);
        for _ in 0..self.batch {
            let at = self.made % self.rooms.len();
            let members = &self.rooms[at].members;
            let sender = members[self.made / self.rooms.len() % members.len()];
            rows.push((at, sender, format!("{}{}", self.key_prefix, self.made)));
            self.made += 1;
        }
        match self.form {
            StatementForm::Known => self.commit_known(rows).await?,
            StatementForm::General => self.commit_general(rows).await?,
        }
        progress.committed.set(progress.committed.get() + self.batch as u64);
        Ok(())
    }

    /// Rows are by conversation, as the committer sends them.
    async fn commit_known(&mut self, mut rows: Vec<(usize, i64, String)>) -> Result<(), String> {
        rows.sort_by_key(|(at, ..)| *at);
        let (mut ids, mut heads, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut conversations, mut seqs, mut senders, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (at, sender, key) in rows {
            let room = &mut self.rooms[at];
            if ids.last() != Some(&room.id) {
                ids.push(room.id);
                heads.push(room.last_seq);
                counts.push(0_i64);
            }
            if let Some(count) = counts.last_mut() {
                *count += 1;
            }
            room.last_seq += 1;
            conversations.push(room.id);
            seqs.push(room.last_seq);
            senders.push(sender);
            keys.push(key);
        }
        let (epochs, contents) = (vec![0_i64; ids.len()], vec![self.content.as_str(); seqs.len()]);
        let row = self
            .client
            .query_one(
                &self.statement,
                &[&ids, &heads, &epochs, &counts, &conversations, &seqs, &seqs, &senders, &contents, &keys],
            )
            .await
            .map_err(|error| refused("committing", &error))?;
        let committed: Option<Vec<i64>> = row.try_get(1).map_err(|error| refused("reading the seqs", &error))?;
        if committed.as_ref() != Some(&seqs) {
            return Err(format!("PostgreSQL committed {committed:?} instead of {seqs:?}: the floor is faulty"));
        }
        Ok(())
    }

    async fn commit_general(&mut self, rows: Vec<(usize, i64, String)>) -> Result<(), String> {
        let conversations: Vec<i64> = rows.iter().map(|(at, ..)| self.rooms[*at].id).collect();
        let senders: Vec<i64> = rows.iter().map(|(_, sender, _)| *sender).collect();
        let keys: Vec<String> = rows.into_iter().map(|(.., key)| key).collect();
        let contents = vec![self.content.as_str(); self.batch];
        let parents = vec![None::<i64>; self.batch];
        let types = vec!["text"; self.batch];
        let files = vec![None::<&str>; self.batch];
        let rows = self
            .client
            .query(&self.statement, &[&conversations, &senders, &contents, &keys, &parents, &types, &files])
            .await
            .map_err(|error| refused("committing", &error))?;
        for row in &rows {
            let verdict: &str = row.try_get(1).map_err(|error| refused("reading a verdict", &error))?;
            if verdict != COMMITTED {
                return Err(format!("PostgreSQL's verdict on a row was {verdict:?}: the floor is faulty"));
            }
        }
        if rows.len() != self.batch {
            return Err(format!("{} rows were answered for {}: the floor is faulty", rows.len(), self.batch));
        }
        Ok(())
    }
}

/// The tables with the rooms and the history of this shape, and nothing else.
async fn prepare(
    target: &Target,
    writer: &Client,
    shape: &PostgresShape,
    interrupts: &Interrupts,
) -> Result<Vec<RoomOfLoader>, String> {
    let owner = open(target, Role::Owner).await?;
    owner.batch_execute(EMPTY_TABLES).await.map_err(|error| refused("emptying the tables", &error))?;
    let mut rooms = insert_rooms(writer, shape).await?;
    let messages = (shape.history / shape.rooms) as i64;
    if messages > 0 {
        let ids: Vec<i64> = rooms.iter().map(|room| room.id).collect();
        let members: Vec<i64> = rooms.iter().flat_map(|room| room.members.clone()).collect();
        let content = "x".repeat(shape.content_bytes);
        Filling { rooms: &ids, members: &members, messages, content: &content, quiet: shape.quiet }
            .run(writer, interrupts, |error| refused("filling the history", &error))
            .await?;
        for room in &mut rooms {
            room.last_seq = messages;
        }
    }
    Ok(rooms)
}

async fn insert_rooms(client: &Client, shape: &PostgresShape) -> Result<Vec<RoomOfLoader>, String> {
    let ids = async |statement: &str, count: usize, what: &str| {
        let rows = client.query(statement, &[&(count as i64)]).await.map_err(|error| refused(what, &error))?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>().map_err(|error| refused(what, &error))
    };
    let users = ids(INSERT_USERS, shape.rooms * shape.room_size, "inserting the users").await?;
    let rooms = ids(INSERT_ROOMS, shape.rooms, "inserting the rooms").await?;
    let repeated: Vec<i64> = rooms.iter().flat_map(|room| std::iter::repeat_n(*room, shape.room_size)).collect();
    client
        .execute(INSERT_MEMBERS, &[&repeated, &users])
        .await
        .map_err(|error| refused("inserting the members", &error))?;
    let members = users.chunks(shape.room_size).map(<[i64]>::to_vec);
    Ok(rooms.iter().zip(members).map(|(id, members)| RoomOfLoader { id: *id, members, last_seq: 0 }).collect())
}

async fn open(target: &Target, role: Role) -> Result<Client, String> {
    connect(&target.config(role)).await.map_err(|error| refused("connecting to the floor's PostgreSQL", &error))
}

fn describe(error: &StorageError) -> String {
    format!("the floor's PostgreSQL: {error}")
}

fn refused(what: &str, error: &tokio_postgres::Error) -> String {
    let reason = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    format!("the floor's PostgreSQL, {what}: {reason}")
}

#[cfg(all(test, feature = "test-db"))]
#[path = "postgres_tests.rs"]
mod tests;
