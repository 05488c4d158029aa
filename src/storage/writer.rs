//! A writing connection: its prepared statements, and runs of mutations as their parameters.

use super::connect::{self, Role, Target};
use super::known::KnownRun;
use super::sql;
use super::verdicts::{BatchRows, KnownRows, Recorded};
use crate::faults::error_limited;
use crate::ids::{ConversationId, FileId};
use crate::mesh::frame::{Change, Mutation};
use serde_json::Value;
use std::collections::HashMap;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

/// A connection with its prepared statements.
pub(super) struct Writer {
    client: Client,
    messages: Statement,
    known: Statement,
    recorded: Statement,
    others: Statement,
}

impl Writer {
    pub(super) async fn connect(target: &Target) -> Result<Self, Error> {
        let client = connect::connect(&target.config(Role::Writer)).await?;
        let messages = client.prepare(sql::COMMIT_MESSAGES).await?;
        let known = client.prepare(sql::COMMIT_KNOWN).await?;
        let recorded = client.prepare(sql::MENTIONS_AND_THREADS).await?;
        let others = client.prepare(sql::APPLY_MUTATIONS).await?;
        Ok(Self { client, messages, known, recorded, others })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Commits a run in the general form.
    pub(super) async fn commit(&self, columns: &Columns, audit_wait_ms: i64) -> Result<BatchRows, Error> {
        match columns {
            Columns::Messages { conversations, senders, contents, keys, parents, types, files } => {
                let rows = self
                    .client
                    .query(&self.messages, &[conversations, senders, contents, keys, parents, types, files])
                    .await?;
                let mut recorded = HashMap::new();
                if contents.iter().any(|content| content.contains('@'))
                    || parents.iter().any(Option::is_some)
                    || files.iter().any(Option::is_some)
                {
                    let mut ids = Vec::with_capacity(rows.len());
                    for row in &rows {
                        ids.extend(row.try_get::<_, Option<i64>>("message_id")?);
                    }
                    recorded = self.recorded(&ids).await?;
                }
                Ok(BatchRows { rows, recorded })
            }
            Columns::Others { kinds, conversations, actors, mutation_ids, arguments, sessions, addresses, agents } => {
                let columns: [&(dyn ToSql + Sync); 9] = [
                    kinds,
                    conversations,
                    actors,
                    mutation_ids,
                    arguments,
                    sessions,
                    addresses,
                    agents,
                    &audit_wait_ms,
                ];
                let rows = self.client.query(&self.others, &columns).await?;
                Ok(BatchRows { rows, recorded: HashMap::new() })
            }
        }
    }

    /// Commits messages whose verdicts are known.
    pub(super) async fn commit_known(&self, columns: &KnownColumns) -> Result<KnownRows, Error> {
        let KnownColumns { rooms, last_seqs, epochs, counts, conversations, seqs, ordinals, senders, contents, keys } =
            columns;
        let columns: [&(dyn ToSql + Sync); 10] =
            [rooms, last_seqs, epochs, counts, conversations, seqs, ordinals, senders, contents, keys];
        let row = self.client.query_one(&self.known, &columns).await?;
        let numbers = |column| row.try_get::<_, Option<Vec<i64>>>(column).map(Option::unwrap_or_default);
        let (rooms, seqs, ids) = (numbers("rooms")?, numbers("seqs")?, numbers("message_ids")?);
        let recorded = if !ids.is_empty() && contents.iter().any(|content| content.contains('@')) {
            self.recorded(&ids).await?
        } else {
            HashMap::new()
        };
        Ok(KnownRows { rooms, seqs, ids, created_at: row.try_get("created_at")?, recorded })
    }

    /// What the triggers have recorded for committed messages.
    async fn recorded(&self, ids: &Vec<i64>) -> Result<HashMap<i64, Recorded>, Error> {
        let mut recorded = HashMap::new();
        match self.client.query(&self.recorded, &[ids]).await {
            Ok(found) => {
                for row in found {
                    recorded.insert(row.try_get("message_id")?, Recorded::read(&row)?);
                }
            }
            // The messages are committed: they are published without it, and found complete in the history.
            Err(error) if error.as_db_error().is_some() => {
                error_limited!("mentions, threads and files of committed messages could not be read: {error}");
            }
            Err(error) => return Err(error),
        }
        Ok(recorded)
    }
}

/// Messages whose verdicts are known, as the columns of their statement.
pub(super) struct KnownColumns {
    rooms: Vec<i64>,
    last_seqs: Vec<i64>,
    epochs: Vec<i64>,
    counts: Vec<i64>,
    conversations: Vec<i64>,
    seqs: Vec<i64>,
    ordinals: Vec<i64>,
    senders: Vec<i64>,
    contents: Vec<String>,
    keys: Vec<String>,
}

impl KnownColumns {
    /// Of a run and the messages of it that were chosen.
    pub(super) fn new(plan: &KnownRun, run: &[Box<Mutation>]) -> Self {
        let messages = plan.rows.iter().filter_map(|row| match &run[row.at].change {
            Change::Message { content, key, .. } => Some((content.clone(), key.clone())),
            Change::Other { .. } => None,
        });
        let (contents, keys) = messages.unzip();
        Self {
            rooms: plan.rooms.iter().map(|room| room.id).collect(),
            last_seqs: plan.rooms.iter().map(|room| room.last_seq).collect(),
            epochs: plan.rooms.iter().map(|room| room.epoch).collect(),
            counts: plan.rooms.iter().map(|room| room.count).collect(),
            conversations: plan.rows.iter().map(|row| row.room).collect(),
            seqs: plan.rows.iter().map(|row| row.seq).collect(),
            ordinals: plan.rows.iter().map(|row| row.ordinal).collect(),
            senders: plan.rows.iter().map(|row| run[row.at].actor.0).collect(),
            contents,
            keys,
        }
    }
}

/// A run as the columns of its statement.
pub(super) enum Columns {
    Messages {
        conversations: Vec<i64>,
        senders: Vec<i64>,
        contents: Vec<String>,
        keys: Vec<String>,
        parents: Vec<Option<i64>>,
        types: Vec<&'static str>,
        /// The ids of each message's files as an array in PostgreSQL's notation.
        files: Vec<Option<String>>,
    },
    Others {
        kinds: Vec<&'static str>,
        conversations: Vec<Option<i64>>,
        actors: Vec<i64>,
        mutation_ids: Vec<i64>,
        arguments: Vec<Value>,
        sessions: Vec<Option<i64>>,
        /// Where they came from, as `append_audit` reads it.
        addresses: Vec<Option<String>>,
        agents: Vec<Option<String>>,
    },
}

impl Columns {
    pub(super) fn of_messages(run: &[Box<Mutation>]) -> Self {
        let (mut conversations, mut senders, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keys, mut parents, mut types, mut files_column) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mutation in run {
            if let Change::Message { content, message_type, parent, key, files, .. } = &mutation.change {
                conversations.push(mutation.conversation.map_or(0, ConversationId::number));
                senders.push(mutation.actor.0);
                contents.push(content.clone());
                keys.push(key.clone());
                parents.push(parent.map(|p| p.0));
                types.push(*message_type);
                files_column.push(array_of(files));
            }
        }
        Self::Messages { conversations, senders, contents, keys, parents, types, files: files_column }
    }

    pub(super) fn of_others(run: &[Box<Mutation>]) -> Self {
        let (mut kinds, mut conversations, mut actors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut mutation_ids, mut arguments_column, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut addresses, mut agents) = (Vec::new(), Vec::new());
        for mutation in run {
            if let Change::Other { kind, mutation_id, arguments } = &mutation.change {
                kinds.push(*kind);
                conversations.push(mutation.conversation.map(ConversationId::number));
                actors.push(mutation.actor.0);
                mutation_ids.push(*mutation_id);
                arguments_column.push(arguments.clone());
                sessions.push(mutation.session.map(|session| session.0));
                let source = mutation.source.as_deref();
                addresses.push(source.and_then(|source| source.address).map(|address| address.to_string()));
                agents.push(source.and_then(|source| source.agent.as_deref()).map(str::to_owned));
            }
        }
        let arguments = arguments_column;
        Self::Others { kinds, conversations, actors, mutation_ids, arguments, sessions, addresses, agents }
    }
}

/// `{1,2,3}`; none without any.
fn array_of(files: &[FileId]) -> Option<String> {
    let numbers: Vec<String> = files.iter().map(|file| file.0.to_string()).collect();
    (!numbers.is_empty()).then(|| format!("{{{}}}", numbers.join(",")))
}
