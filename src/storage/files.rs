//! Files in PostgreSQL: which there are, who may read them, and what is to be done about them.
//!
//! Invariants:
//! - bytes of an upload count as received only when they are durable. So a client never receives an offset that a crash
//!   takes back;
//! - content is named in `blobs` before it is stored, and its row is gone before it is removed. The number in its name
//!   is never used again, so content that a file needs is never removed, however the two coincide.

use super::accounts::Accounts;
use super::rows::Statement;
use super::sql::files as sql;
use crate::error::{ErrorCode, Refusal};
use crate::files::content::{ContentHash, ContentName};
use crate::files::state::FileState;
use crate::ids::{ConversationId, FileId, UserId};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::{Error, Row};

/// How many files a user may have, and how much they and all files may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileQuotas {
    /// Unfinished uploads of a user.
    pub unfinished_max: i64,
    /// Files that a user uploads within an hour.
    pub hour_max: i64,
    /// Bytes of all files of a user.
    pub user_bytes_max: i64,
    /// Bytes of all files.
    pub total_bytes_max: i64,
    /// Seconds in which an upload must be complete.
    pub lifetime_s: i64,
    /// Seconds that a file is kept without a message.
    pub kept_s: i64,
}

/// A new upload.
#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    /// Its uploader.
    pub user: UserId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its name, cleaned.
    pub name: &'a str,
    /// Its bytes; the most that it can have, if that is not known.
    pub size: i64,
    /// The type that its uploader gives.
    pub declared_type: Option<&'a str>,
    /// The SHA-256 that its uploader gives.
    pub expected: Option<ContentHash>,
}

/// Whether an upload began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// It did.
    File(FileId),
    /// The files of the user would take too much.
    OverQuotaOfUser,
    /// All files would.
    OverQuotaOfServer,
    /// The user has too many unfinished uploads.
    TooManyUnfinished,
    /// The user has begun too many uploads within an hour.
    TooManyInHour,
}

/// An upload, for its uploader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadState {
    /// Its bytes.
    pub size: u64,
    /// Those that are durable.
    pub received: u64,
    /// Its state.
    pub state: FileState,
    /// When it ends unless it is complete; `None` if a message has it.
    pub expires_at: Option<OffsetDateTime>,
}

/// Content that a user may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredContent {
    /// Its name in the store.
    pub name: ContentName,
    /// Its bytes.
    pub size: u64,
}

/// A file that a user may read.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadableFile {
    /// As the protocol shows it.
    pub shown: Value,
    /// Its state.
    pub state: FileState,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The same for programs.
    pub failure: Option<Value>,
    /// Its content; none before it was checked.
    pub content: Option<StoredContent>,
}

/// A file whose content is to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UncheckedFile {
    /// Its number.
    pub file: FileId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its uploader.
    pub uploader: UserId,
    /// Its name.
    pub name: String,
    /// Its bytes, as its upload counted them.
    pub size: u64,
    /// The type that its uploader gave.
    pub declared_type: Option<String>,
    /// The hash that its uploader gave.
    pub expected: Option<ContentHash>,
    /// Its content, if an earlier check came so far.
    pub content: Option<ContentName>,
}

/// A variant of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewVariant<'a> {
    /// `thumb_small` and others; `original`, which nobody is shown.
    pub kind: &'a str,
    /// Its type.
    pub media_type: &'a str,
    /// Width and height of a picture.
    pub dimensions: Option<(u32, u32)>,
}

/// Handle to the tables of files; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct FileStore(Accounts);

impl FileStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// What the uploader may not do in the conversation; failures of PostgreSQL, as for all functions here.
    pub async fn create(&self, new: &NewFile<'_>, quotas: &FileQuotas) -> Result<Created, Refusal> {
        let given = json!({
            "user_id": new.user, "conversation_id": new.conversation.number(), "name": new.name, "size": new.size,
            "media_type": new.declared_type, "sha256": new.expected.map(|hash| hash.to_string()),
            "lifetime_s": quotas.lifetime_s, "unfinished_max": quotas.unfinished_max, "hour_max": quotas.hour_max,
            "user_bytes_max": quotas.user_bytes_max, "total_bytes_max": quotas.total_bytes_max,
        });
        let rows = self.0.rows("create_file", true, (sql::CREATE, &[&given]), |row| row.try_get(0)).await?;
        match rows.first() {
            Some(-1) => Ok(Created::OverQuotaOfUser),
            Some(-2) => Ok(Created::OverQuotaOfServer),
            Some(-3) => Ok(Created::TooManyUnfinished),
            Some(-4) => Ok(Created::TooManyInHour),
            Some(file) => Ok(Created::File(FileId(*file))),
            None => Err(Refusal::storage_unavailable()),
        }
    }

    /// An upload of a user who is still a member of its conversation.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn upload(&self, user: UserId, file: FileId) -> Result<Option<UploadState>, Refusal> {
        let read = |row: &Row| {
            Ok(UploadState {
                size: bytes(row, "size")?,
                received: bytes(row, "received")?,
                state: state(row, "state")?,
                expires_at: row.try_get("expires_at")?,
            })
        };
        Ok(self.0.read_rows("upload", (sql::UPLOAD, &[&user.0, &file.0]), read).await?.pop())
    }

    /// So many bytes of an upload are durable.
    ///
    /// # Errors
    /// `not_found` if the upload has ended; failures of PostgreSQL.
    pub async fn progress(&self, file: FileId, received: u64) -> Result<(), Refusal> {
        let received = received as i64;
        let rows = self.0.rows("upload_progress", false, (sql::PROGRESS, &[&file.0, &received]), |_| Ok(())).await?;
        rows.first().copied().ok_or_else(ended)
    }

    /// All bytes of an upload are durable, `size` of them. A job to check them begins to exist. It can be
    /// called again.
    ///
    /// # Errors
    /// `not_found` if the upload has ended; failures of PostgreSQL.
    pub async fn finish(&self, file: FileId, size: u64, quotas: &FileQuotas) -> Result<(), Refusal> {
        let size = size as i64;
        let statement: Statement<'_> = (sql::FINISH, &[&file.0, &size, &quotas.kept_s]);
        if self.0.is_true("finish_upload", false, statement).await? { Ok(()) } else { Err(ended()) }
    }

    /// Removes a file that no message has. Returns whether there was one.
    ///
    /// # Errors
    /// `conflict` if a message has it; failures of PostgreSQL.
    pub async fn remove(&self, user: UserId, file: FileId) -> Result<bool, Refusal> {
        self.0.is_true("remove_file", true, (sql::REMOVE, &[&user.0, &file.0])).await
    }

    /// A file, if the user may read it now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn readable(&self, user: UserId, file: FileId) -> Result<Option<ReadableFile>, Refusal> {
        Ok(self.0.read_rows("readable_file", (sql::READABLE, &[&user.0, &file.0]), readable_row).await?.pop())
    }

    /// The type and the content of a variant, if the user may read the file now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn variant(
        &self,
        user: UserId,
        file: FileId,
        kind: &str,
    ) -> Result<Option<(String, StoredContent)>, Refusal> {
        let read = |row: &Row| match stored(row, 1)? {
            None => Ok(None),
            Some(content) => row.try_get(0).map(|media_type| Some((media_type, content))),
        };
        let statement: Statement<'_> = (sql::VARIANT, &[&user.0, &file.0, &kind]);
        Ok(self.0.read_rows("file_variant", statement, read).await?.pop().flatten())
    }

    /// Whether the user may read a file now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn may_read(&self, user: UserId, file: FileId) -> Result<bool, Refusal> {
        let statement: Statement<'_> = (sql::MAY_READ, &[&user.0, &file.0]);
        let rows = self.0.read_rows("may_read_file", statement, |row| row.try_get(0)).await?;
        Ok(rows.first().copied().unwrap_or(false))
    }

    /// The conversation of a file.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn conversation(&self, file: FileId) -> Result<Option<ConversationId>, Refusal> {
        let statement: Statement<'_> = (sql::CONVERSATION, &[&file.0]);
        let rows = self.0.read_rows("conversation_of_file", statement, |row| row.try_get(0)).await?;
        Ok(rows.first().copied().and_then(ConversationId::from_number))
    }

    /// A file, if it is to be checked.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn to_check(&self, file: FileId) -> Result<Option<UncheckedFile>, Refusal> {
        let read = |row: &Row| {
            let Some(conversation) = ConversationId::from_number(row.try_get(0)?) else { return Ok(None) };
            Ok(Some((
                conversation,
                UserId(row.try_get(1)?),
                row.try_get(2)?,
                bytes(row, 3)?,
                row.try_get(4)?,
                hash(row, 5)?,
                name(row, 6)?,
            )))
        };
        let found = self.0.rows("file_to_check", false, (sql::TO_CHECK, &[&file.0]), read).await?.pop().flatten();
        Ok(found.map(|(conversation, uploader, name, size, declared_type, expected, content)| UncheckedFile {
            file,
            conversation,
            uploader,
            name,
            size,
            declared_type,
            expected,
            content,
        }))
    }

    /// Names content that is about to be stored, for a file that is being checked; see `commit/name_content.sql`.
    /// `None` if the file is gone.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn name_content(
        &self,
        file: FileId,
        (hash, size): (ContentHash, u64),
        variant: Option<NewVariant<'_>>,
    ) -> Result<Option<ContentName>, Refusal> {
        let (width, height) = variant.and_then(|variant| variant.dimensions).unzip();
        let given = json!({
            "file_id": file, "sha256": hash.to_string(), "size": size, "kind": variant.map(|variant| variant.kind),
            "media_type": variant.map(|variant| variant.media_type), "width": width, "height": height,
        });
        let statement: Statement<'_> = (sql::NAME_CONTENT, &[&given]);
        let rows = self.0.rows("name_content", false, statement, |row| row.try_get::<_, Option<i64>>(0)).await?;
        Ok(rows.first().copied().flatten().map(|number| ContentName { hash, number }))
    }

    /// Whether content still has this name.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn is_named(&self, name: &ContentName) -> Result<bool, Refusal> {
        let statement: Statement<'_> = (sql::IS_NAMED, &[&name.hash.0.as_slice(), &name.number]);
        self.0.is_true("is_named", false, statement).await
    }

    /// Forgets content that no file needs; a job to remove it begins to exist.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn release_content(&self, hash: &ContentHash) -> Result<(), Refusal> {
        let statement: Statement<'_> = (sql::RELEASE_CONTENT, &[&hash.0.as_slice()]);
        self.0.rows("release_content", false, statement, |_| Ok(())).await.map(drop)
    }

    /// Those of these files that have a row.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn known(&self, files: &[FileId]) -> Result<Vec<FileId>, Refusal> {
        let numbers: Vec<i64> = files.iter().map(|file| file.0).collect();
        self.0.rows("known_files", false, (sql::KNOWN, &[&numbers]), |row| row.try_get(0).map(FileId)).await
    }

    /// Ends and removes files that nobody needs. Returns how many.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn expire(&self, most: i64) -> Result<i64, Refusal> {
        let rows = self.0.rows("expire_files", false, (sql::EXPIRE, &[&most]), |row| row.try_get(0)).await?;
        Ok(rows.first().copied().unwrap_or(0))
    }
}

/// A file with its content.
pub(super) fn readable_row(row: &Row) -> Result<ReadableFile, Error> {
    Ok(ReadableFile {
        shown: row.try_get(0)?,
        state: state(row, 1)?,
        reason: row.try_get(2)?,
        failure: row.try_get(3)?,
        content: stored(row, 4)?,
    })
}

fn ended() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "This upload has ended. Begin a new one.")
}

fn state(row: &Row, column: impl tokio_postgres::row::RowIndex + std::fmt::Display) -> Result<FileState, Error> {
    let name: &str = row.try_get(column)?;
    Ok(FileState::parse(name).unwrap_or(FileState::Failed))
}

fn bytes(row: &Row, column: impl tokio_postgres::row::RowIndex + std::fmt::Display) -> Result<u64, Error> {
    row.try_get::<_, i64>(column).map(|bytes| bytes.try_into().unwrap_or(0))
}

fn hash(row: &Row, column: usize) -> Result<Option<ContentHash>, Error> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(ContentHash))
}

/// A hash, and the number in the next column.
fn name(row: &Row, column: usize) -> Result<Option<ContentName>, Error> {
    let number: Option<i64> = row.try_get(column + 1)?;
    Ok(hash(row, column)?.zip(number).map(|(hash, number)| ContentName { hash, number }))
}

/// A name, and the size in the third column.
fn stored(row: &Row, column: usize) -> Result<Option<StoredContent>, Error> {
    match name(row, column)? {
        None => Ok(None),
        Some(name) => Ok(Some(StoredContent { name, size: bytes(row, column + 2)? })),
    }
}
