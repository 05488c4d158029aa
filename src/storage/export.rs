//! What an export reads: one snapshot of everything, row after row.
//!
//! Invariants:
//! - everything is of one snapshot, while the server goes on;
//! - the login reads every row ([`BackupSession`] refuses another one), and content stays in the store until the end;
//! - rows come from cursors, so the memory does not depend on how many there are.

use super::StorageError;
use super::backup::BackupSession;
use super::connect::Target;
use super::sql::export as sql;
use crate::files::content::{ContentHash, ContentName};
use crate::ids::FileId;
use tokio_postgres::{Error, Row};

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedUser {
    /// The id.
    pub id: i64,
    /// The username.
    pub username: String,
    /// What people see.
    pub display_name: String,
    /// The address.
    pub email: Option<String>,
    /// The text about the user.
    pub bio: Option<String>,
    /// Whether the user may sign in.
    pub is_active: bool,
}

/// A conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedConversation {
    /// The id.
    pub id: i64,
    /// `direct`, `group`, `public_room`, `private_room`.
    pub kind: String,
    /// The name; direct conversations have none.
    pub name: Option<String>,
    /// The text about it.
    pub description: Option<String>,
    /// When it was archived, in milliseconds.
    pub archived_at: Option<i64>,
    /// Of a direct conversation or a group: users, and when they read last, as JSON.
    pub members: Option<String>,
}

/// A membership of a room or group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedMembership {
    /// The conversation.
    pub conversation: i64,
    /// The role.
    pub role: String,
    /// When the user read last, in milliseconds.
    pub read_at: i64,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedMessage {
    /// The id.
    pub id: i64,
    /// The first message of its thread.
    pub parent: Option<i64>,
    /// The author.
    pub sender: i64,
    /// The text.
    pub content: String,
    /// `text`, `image`, `file`, `system`.
    pub kind: String,
    /// Who joined or left, as JSON.
    pub system: Option<String>,
    /// Its time in milliseconds.
    pub created_at: i64,
    /// The same, or a later one, so that no other message of the conversation has it.
    pub at: i64,
    /// When it was edited, in milliseconds.
    pub edited_at: Option<i64>,
    /// Whether it is deleted.
    pub is_deleted: bool,
    /// Whether it is pinned.
    pub is_pinned: bool,
    /// Emoji, user and time of each reaction, as JSON.
    pub reactions: Option<String>,
    /// Id, name and whether the content is there of each file, as JSON.
    pub files: Option<String>,
}

/// A file of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportedFile {
    /// The id.
    pub id: FileId,
    /// The name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The content.
    pub content: ContentName,
}

/// A session with a snapshot.
pub struct ExportSession(BackupSession);

fn failed(error: Error) -> StorageError {
    StorageError::Setup { what: "reading what is exported", source: error }
}

impl ExportSession {
    /// Connects, holds the content of files, and takes the snapshot.
    ///
    /// # Errors
    /// Those of [`BackupSession`].
    pub async fn open(target: &Target) -> Result<Self, StorageError> {
        let session = BackupSession::open(target).await?;
        session.begin().await?;
        Ok(Self(session))
    }

    /// Gives each row of a cursor to `take`, whose error ends the reading.
    async fn each<T, E: From<StorageError>>(
        &self,
        [declare, fetch, close]: [&str; 3],
        read: impl Fn(&Row) -> Result<T, Error>,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let client = self.0.client();
        client.batch_execute(declare).await.map_err(failed)?;
        let fetch = client.prepare(fetch).await.map_err(failed)?;
        loop {
            let rows = client.query(&fetch, &[]).await.map_err(failed)?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                take(read(row).map_err(failed)?)?;
            }
        }
        client.batch_execute(close).await.map_err(|error| failed(error).into())
    }

    /// The ids and names of all users.
    ///
    /// # Errors
    /// PostgreSQL's and those of `take`, as for all functions here.
    pub async fn usernames<E: From<StorageError>>(
        &self,
        take: impl FnMut((i64, String)) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        self.each([sql::USERS, sql::FETCH_USERS, sql::CLOSE_USERS], read, take).await
    }

    /// All conversations, by their ids.
    ///
    /// # Errors
    /// See [`Self::usernames`].
    pub async fn conversations<E: From<StorageError>>(
        &self,
        take: impl FnMut(ExportedConversation) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = |row: &Row| {
            Ok(ExportedConversation {
                id: row.try_get(0)?,
                kind: row.try_get(1)?,
                name: row.try_get(2)?,
                description: row.try_get(3)?,
                archived_at: row.try_get(4)?,
                members: row.try_get(5)?,
            })
        };
        let cursor = [sql::CONVERSATIONS, sql::FETCH_CONVERSATIONS, sql::CLOSE_CONVERSATIONS];
        self.each(cursor, read, take).await
    }

    /// All users, by their ids, each as often as it has memberships, or once without one.
    ///
    /// # Errors
    /// See [`Self::usernames`].
    pub async fn users<E: From<StorageError>>(
        &self,
        take: impl FnMut((ExportedUser, Option<ExportedMembership>)) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = |row: &Row| {
            let user = ExportedUser {
                id: row.try_get(0)?,
                username: row.try_get(1)?,
                display_name: row.try_get(2)?,
                email: row.try_get(3)?,
                bio: row.try_get(4)?,
                is_active: row.try_get(5)?,
            };
            let Some(conversation) = row.try_get(6)? else { return Ok((user, None)) };
            let membership = ExportedMembership { conversation, role: row.try_get(7)?, read_at: row.try_get(8)? };
            Ok((user, Some(membership)))
        };
        self.each([sql::MEMBERSHIPS, sql::FETCH_MEMBERSHIPS, sql::CLOSE_MEMBERSHIPS], read, take).await
    }

    /// The messages of a conversation: each thread after its first message.
    ///
    /// # Errors
    /// See [`Self::usernames`].
    pub async fn messages<E: From<StorageError>>(
        &self,
        conversation: i64,
        take: impl FnMut(ExportedMessage) -> Result<(), E>,
    ) -> Result<(), E> {
        let read = |row: &Row| {
            Ok(ExportedMessage {
                id: row.try_get(0)?,
                parent: row.try_get(1)?,
                sender: row.try_get(2)?,
                content: row.try_get(3)?,
                kind: row.try_get(4)?,
                system: row.try_get(5)?,
                created_at: row.try_get(6)?,
                at: row.try_get(7)?,
                edited_at: row.try_get(8)?,
                is_deleted: row.try_get(9)?,
                is_pinned: row.try_get(10)?,
                reactions: row.try_get(11)?,
                files: row.try_get(12)?,
            })
        };
        let declare = sql::messages(conversation);
        self.each([&declare, sql::FETCH_MESSAGES, sql::CLOSE_MESSAGES], read, take).await
    }

    /// The files of messages whose content is there, by their ids.
    ///
    /// # Errors
    /// See [`Self::usernames`].
    pub async fn files<E: From<StorageError>>(&self, take: impl FnMut(ExportedFile) -> Result<(), E>) -> Result<(), E> {
        let read = |row: &Row| {
            let hash: &[u8] = row.try_get(3)?;
            Ok(ExportedFile {
                id: FileId(row.try_get(0)?),
                name: row.try_get(1)?,
                size: row.try_get::<_, i64>(2)? as u64,
                content: ContentName {
                    hash: ContentHash(hash.try_into().unwrap_or_default()),
                    number: row.try_get(4)?,
                },
            })
        };
        self.each([sql::FILES, sql::FETCH_FILES, sql::CLOSE_FILES], read, take).await
    }
}
