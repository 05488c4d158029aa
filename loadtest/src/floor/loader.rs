//! One connection that commits the server's rows with the server's statement.
//!
//! It knows where the logs of its rooms end, as a committer of the server does, and submits the next statement when
//! PostgreSQL has answered the last one. A row that is not committed is an error.

use chat_server::storage::connect::{Role, Target, connect};
use chat_server::storage::sql;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Statement};

/// A verdict of the statement.
const COMMITTED: &str = "committed";

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

/// A room that a loader commits to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomOfLoader {
    /// Its conversation.
    pub id: i64,
    /// Its members' users.
    pub members: Vec<i64>,
    /// Where its log ends. Each message has a seq and an ordinal, and nothing else is in it.
    pub last_seq: i64,
}

/// Who sends a row, counted from 0: a member of one of the loader's rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderOfRow {
    /// The room.
    pub room: usize,
    /// The member of the room.
    pub member: usize,
}

/// A row before its commit.
struct LoaderRow {
    room: usize,
    sender: i64,
    key: String,
}

/// One connection, its rooms, and how many messages it has committed.
pub struct Loader {
    client: Client,
    statement: Statement,
    rooms: Vec<RoomOfLoader>,
    /// Of the messages' keys; a number follows.
    key_prefix: String,
    form: StatementForm,
    content: String,
    made: usize,
}

impl Loader {
    /// Connects as the server's writer and prepares the statement. `name` distinguishes the keys of this loader's
    /// messages from those of others.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn connect(
        target: &Target,
        form: StatementForm,
        content_bytes: usize,
        name: &str,
        rooms: Vec<RoomOfLoader>,
    ) -> Result<Self, String> {
        let client = open(target, Role::Writer).await?;
        let statement = client
            .prepare(match form {
                StatementForm::Known => sql::COMMIT_KNOWN,
                StatementForm::General => sql::COMMIT_MESSAGES,
            })
            .await
            .map_err(|error| refused("preparing the server's statement", &error))?;
        // Keys are as long as a client's.
        let key_prefix = format!("lt-0123456789abcdef-{name}.");
        Ok(Self { client, statement, rooms, key_prefix, form, content: "x".repeat(content_bytes), made: 0 })
    }

    /// Its rooms with the present ends of their logs, if the statement reports them.
    pub fn into_rooms(self) -> Option<Vec<RoomOfLoader>> {
        (self.form == StatementForm::Known).then_some(self.rooms)
    }

    /// The next rows when the members of all rooms send in turn.
    pub fn senders_in_turn(&self, count: usize) -> Vec<SenderOfRow> {
        let rooms = self.rooms.len();
        let of = |made: usize| {
            let room = made % rooms;
            SenderOfRow { room, member: made / rooms % self.rooms[room].members.len() }
        };
        (self.made..self.made + count).map(of).collect()
    }

    /// One statement; every row of it must be committed.
    ///
    /// # Errors
    /// PostgreSQL's, or which row it refused.
    pub async fn commit(&mut self, senders: &[SenderOfRow]) -> Result<(), String> {
        let mut rows = Vec::with_capacity(senders.len());
        for SenderOfRow { room, member } in senders {
            let members = self.rooms.get(*room).map(|room| &room.members);
            let Some(sender) = members.and_then(|members| members.get(*member)) else {
                return Err(format!("room {room} has no member {member}: the floor is faulty"));
            };
            rows.push(LoaderRow { room: *room, sender: *sender, key: format!("{}{}", self.key_prefix, self.made) });
            self.made += 1;
        }
        match self.form {
            StatementForm::Known => self.commit_known(rows).await,
            StatementForm::General => self.commit_general(rows).await,
        }
    }

    /// Rows are by conversation, as the committer sends them.
    async fn commit_known(&mut self, mut rows: Vec<LoaderRow>) -> Result<(), String> {
        rows.sort_by_key(|row| row.room);
        let (mut ids, mut heads, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut conversations, mut seqs, mut senders, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for LoaderRow { room, sender, key } in rows {
            let room = &mut self.rooms[room];
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

    async fn commit_general(&self, rows: Vec<LoaderRow>) -> Result<(), String> {
        let count = rows.len();
        let conversations: Vec<i64> = rows.iter().map(|row| self.rooms[row.room].id).collect();
        let senders: Vec<i64> = rows.iter().map(|row| row.sender).collect();
        let keys: Vec<String> = rows.into_iter().map(|row| row.key).collect();
        let contents = vec![self.content.as_str(); count];
        let parents = vec![None::<i64>; count];
        let types = vec!["text"; count];
        let files = vec![None::<&str>; count];
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
        if rows.len() != count {
            return Err(format!("{} rows were answered for {count}: the floor is faulty", rows.len()));
        }
        Ok(())
    }
}

/// A connection as one of the server's roles.
pub(super) async fn open(target: &Target, role: Role) -> Result<Client, String> {
    connect(&target.config(role)).await.map_err(|error| refused("connecting to the floor's PostgreSQL", &error))
}

/// PostgreSQL's error, for people.
pub(super) fn refused(what: &str, error: &tokio_postgres::Error) -> String {
    let reason = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    format!("the floor's PostgreSQL, {what}: {reason}")
}
