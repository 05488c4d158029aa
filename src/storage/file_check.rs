//! What the tables say about the content of files, for `chat-server files check`.
//!
//! The content is read in 256 parts, by the first byte of its hash, so that memory stays bounded. The server may run
//! meanwhile: whatever looks wrong is looked at again before it counts.

use super::accounts::Accounts;
use super::rows::Statement;
use super::sql::file_check as sql;
use crate::error::Refusal;
use crate::files::content::{ContentHash, ContentName};
use crate::ids::{FileId, UserId};
use std::collections::HashSet;
use tokio_postgres::{Error, Row};

/// Rows that one list has at most.
const LISTED_MAX: i64 = 100;

/// Content that a row of `blobs` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamedContent {
    /// Its name in the store.
    pub name: ContentName,
    /// Its bytes.
    pub size: u64,
    /// Whether a file that is ready, or a user, needs it. Content of a file that is being checked may not be stored
    /// yet.
    pub is_needed: bool,
}

/// The counted size of a user's files, and their real size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongUsage {
    /// The user; 0 is the whole server.
    pub user: i64,
    /// Bytes and files, as counted.
    pub counted: (i64, i64),
    /// Bytes and files, as they are.
    pub actual: (i64, i64),
}

/// An upload whose bytes must be on the disk of the server that receives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AwaitedUpload {
    /// Its number.
    pub file: FileId,
    /// Its durable bytes.
    pub received: u64,
}

/// The tables of files, for a check.
pub struct FileTables(Accounts);

impl FileTables {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// The content whose hash begins with this byte.
    ///
    /// # Errors
    /// Failures of PostgreSQL, as for all functions here.
    pub async fn contents(&self, first: u8) -> Result<Vec<NamedContent>, Refusal> {
        let (from, to) = bounds(first);
        let statement: Statement<'_> = (sql::CONTENTS, &[&from, &to]);
        let rows = self.0.rows("check_contents", false, statement, named_content).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// The content that a job is about to remove.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn removals(&self, first: u8) -> Result<Vec<ContentName>, Refusal> {
        let prefix = format!("{first:02x}%");
        let read = |row: &Row| row.try_get::<_, String>(0);
        let subjects = self.0.rows("check_removals", false, (sql::REMOVALS, &[&prefix]), read).await?;
        Ok(subjects.iter().filter_map(|subject| ContentName::parse(subject)).collect())
    }

    /// Whether a file that is ready, or a user, needs content of this name now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn is_needed(&self, name: &ContentName) -> Result<bool, Refusal> {
        let statement: Statement<'_> = (sql::IS_NEEDED, &[&name.hash.0.as_slice(), &name.number]);
        self.0.is_true("check_needed", false, statement).await
    }

    /// Whether a row or a job has content of this name.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn is_known(&self, name: &ContentName) -> Result<bool, Refusal> {
        let subject = name.to_string();
        let statement: Statement<'_> = (sql::IS_KNOWN, &[&name.hash.0.as_slice(), &name.number, &subject]);
        self.0.is_true("check_known", false, statement).await
    }

    /// Some of the files that have this content.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn files_with(&self, hash: &ContentHash) -> Result<Vec<FileId>, Refusal> {
        let statement: Statement<'_> = (sql::FILES_WITH, &[&hash.0.as_slice(), &LISTED_MAX]);
        self.0.rows("check_files", false, statement, |row| row.try_get(0).map(FileId)).await
    }

    /// Some of the users whose picture this content is.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn users_with(&self, hash: &ContentHash) -> Result<Vec<UserId>, Refusal> {
        let statement: Statement<'_> = (sql::USERS_WITH, &[&hash.0.as_slice(), &LISTED_MAX]);
        self.0.rows("check_users", false, statement, |row| row.try_get(0).map(UserId)).await
    }

    /// Some of the files that are ready and have no content by their rows.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn without_content(&self) -> Result<Vec<FileId>, Refusal> {
        let statement: Statement<'_> = (sql::WITHOUT_CONTENT, &[&LISTED_MAX]);
        self.0.rows("check_without_content", false, statement, |row| row.try_get(0).map(FileId)).await
    }

    /// Those of these uploads that a row needs, or that a job is about to remove.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn known_uploads(&self, files: &[FileId]) -> Result<HashSet<FileId>, Refusal> {
        let numbers: Vec<i64> = files.iter().map(|file| file.0).collect();
        let subjects: Vec<String> = numbers.iter().map(i64::to_string).collect();
        let statement: Statement<'_> = (sql::KNOWN_UPLOADS, &[&numbers, &subjects]);
        let rows = self.0.rows("check_known_uploads", false, statement, |row| row.try_get(0).map(FileId)).await?;
        Ok(rows.into_iter().collect())
    }

    /// The next uploads whose bytes must be on a disk: at most `most` of those after a file.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn uploads(&self, after: FileId, most: i64) -> Result<Vec<AwaitedUpload>, Refusal> {
        let read = |row: &Row| {
            let received = row.try_get::<_, i64>(1)?.try_into().unwrap_or(0);
            Ok(AwaitedUpload { file: FileId(row.try_get(0)?), received })
        };
        self.0.rows("check_uploads", false, (sql::UPLOADS, &[&after.0, &most]), read).await
    }

    /// The bytes of an upload that must be on a disk now; 0 if none must.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn received(&self, file: FileId) -> Result<u64, Refusal> {
        let read = |row: &Row| row.try_get::<_, i64>(0);
        let rows = self.0.rows("check_received", false, (sql::RECEIVED, &[&file.0]), read).await?;
        Ok(rows.first().map_or(0, |bytes| (*bytes).try_into().unwrap_or(0)))
    }

    /// Some of the users whose files are counted wrongly. With `repair`, they are counted again.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn wrong_usage(&self, repair: bool) -> Result<Vec<WrongUsage>, Refusal> {
        let read = |row: &Row| {
            Ok(WrongUsage {
                user: row.try_get(0)?,
                counted: (row.try_get(1)?, row.try_get(2)?),
                actual: (row.try_get(3)?, row.try_get(4)?),
            })
        };
        self.0.rows("check_usage", false, (sql::COUNTED_FILES, &[&repair, &LISTED_MAX]), read).await
    }
}

/// From the first hash that begins with a byte, to the first that does not; `None` after the last.
pub(super) fn bounds(first: u8) -> (Vec<u8>, Option<Vec<u8>>) {
    let padded = |byte: u8| [vec![byte], vec![0; 31]].concat();
    (padded(first), first.checked_add(1).map(padded))
}

/// A row of `sql::CONTENTS`; `None` if its hash is none.
pub(super) fn named_content(row: &Row) -> Result<Option<NamedContent>, Error> {
    let (hash, number): (&[u8], i64) = (row.try_get(0)?, row.try_get(1)?);
    let Ok(hash) = hash.try_into() else { return Ok(None) };
    let size = row.try_get::<_, i64>(2)?.try_into().unwrap_or(0);
    Ok(Some(NamedContent { name: ContentName { hash: ContentHash(hash), number }, size, is_needed: row.try_get(3)? }))
}
