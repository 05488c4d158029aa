//! The private PostgreSQL of the floors: the server's schema and settings, with rooms of a shape.
//!
//! Deliberately absent: a PostgreSQL of the user. The floors empty their tables between cases, so that each starts from
//! the same state; cases with the same history share it. They must not do that in a database that others use.

use super::history::Filling;
use super::loader::{RoomOfLoader, open, refused};
use super::shape::PostgresShape;
use crate::run::Interrupts;
use chat_server::storage::connect::{Role, Target};
use chat_server::storage::embedded::Embedded;
use chat_server::storage::{StorageError, migrate, safety};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use std::cell::RefCell;
use std::path::Path;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;

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

/// A private PostgreSQL with the server's schema, removed when dropped.
pub struct Store {
    // Fields are dropped in this order: PostgreSQL stops before its directory is deleted.
    pub(super) runtime: Runtime,
    pub(super) embedded: Embedded,
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
        let runtime = runtime()?;
        let embedded = Embedded::start(directory.path()).map_err(|error| describe(&error))?;
        runtime
            .block_on(async {
                migrate::migrate(&embedded.target()).await?;
                safety::check(&embedded.target()).await
            })
            .map_err(|error| describe(&error))?;
        Ok(Self { runtime, embedded, directory, filled: RefCell::default() })
    }

    /// The directory that a process of this program finds PostgreSQL by.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The rooms of a shape, in tables that have its history and nothing else, after a checkpoint.
    pub(super) async fn rooms(
        &self,
        shape: &PostgresShape,
        interrupts: &Interrupts,
    ) -> Result<Vec<RoomOfLoader>, String> {
        let filled = self.filled.take().filter(|filled| filled.fits(shape));
        let rooms = match filled {
            Some(filled) => filled.rooms,
            None => prepare(&self.embedded.target(), shape, interrupts).await?,
        };
        let superuser = self.embedded.superuser_target().connect_as_login().await.map_err(|error| describe(&error))?;
        superuser.batch_execute(CHECKPOINT).await.map_err(|error| refused("writing a checkpoint", &error))?;
        Ok(rooms)
    }

    /// Keeps rooms with a history for the next case.
    pub(super) fn keep(&self, shape: &PostgresShape, rooms: Vec<RoomOfLoader>) {
        self.filled.replace(Some(FilledRooms { shape: shape.clone(), rooms }));
    }

    /// Compares the number of rows in the table with the number of acknowledged ones.
    pub(super) async fn check_rows(&self, acknowledged: u64) -> Result<(), String> {
        let client = open(&self.embedded.target(), Role::Writer).await?;
        let stored: i64 = client
            .query_one(COUNT_ROWS, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|error| refused("counting the rows", &error))?;
        if stored as u64 == acknowledged {
            return Ok(());
        }
        Err(format!("{acknowledged} rows were acknowledged and {stored} are in the table: the floor is faulty"))
    }

    /// The process that all others of PostgreSQL descend from.
    pub(super) fn postmaster(&self) -> Result<i32, String> {
        let path = self.directory.path().join("postgres/postmaster.pid");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        pid.ok_or_else(|| format!("{} does not start with a process number", path.display()))
    }
}

/// The tables with the rooms and the history of this shape, and nothing else.
async fn prepare(target: &Target, shape: &PostgresShape, interrupts: &Interrupts) -> Result<Vec<RoomOfLoader>, String> {
    let owner = open(target, Role::Owner).await?;
    owner.batch_execute(EMPTY_TABLES).await.map_err(|error| refused("emptying the tables", &error))?;
    let writer = open(target, Role::Writer).await?;
    let mut rooms = insert_rooms(&writer, shape).await?;
    let messages = (shape.history / shape.rooms) as i64;
    if messages > 0 {
        let ids: Vec<i64> = rooms.iter().map(|room| room.id).collect();
        let members: Vec<i64> = rooms.iter().flat_map(|room| room.members.clone()).collect();
        let content = "x".repeat(shape.content_bytes);
        Filling { rooms: &ids, members: &members, messages, content: &content, quiet: shape.quiet }
            .run(&writer, interrupts, |error| refused("filling the history", &error))
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

/// A runtime whose work is that of the thread that blocks on it.
pub(super) fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start the runtime: {error}"))
}

fn describe(error: &StorageError) -> String {
    format!("the floor's PostgreSQL: {error}")
}
