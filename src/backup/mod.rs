//! Backups: a folder or a part of a bucket from which a whole server can be made again.
//!
//! ```text
//!   name.rs        what a part holds, and its name: database.dump, keys/…, files/…, uploads/…
//!   manifest.rs    manifest.json, and the list of the parts with their sizes and checksums
//!   place.rs       where a backup is: a folder, or objects below a prefix
//!   seal.rs        encryption for age recipients
//!   create.rs      writes the parts of a new backup; the manifest is last
//!   open.rs        reads a backup, and trusts nothing in it
//!   dump.rs        pg_dump and pg_restore
//!   restore.rs     database, keys and files of a backup into an empty place
//! ```
//!
//! Invariants:
//! - a backup without a manifest is none. It is written last, so a backup that was cut short is never taken for one;
//! - the database is one snapshot, and every content that its rows need is there. Content never changes, and the
//!   session of the snapshot keeps jobs from removing it (`storage::backup`);
//! - no name in a backup becomes a path unless it has been read as a [`name::PartName`]. So a backup of a stranger can
//!   neither read nor write outside of its place;
//! - the names of an encrypted backup are numbers. What it holds, and the hashes of files, are encrypted too.
//!
//! - every backup is whole by itself. Backups in one folder can share the file of a content, which then has a name in
//!   each of them (`place::NewPlace::share`): the removal of one takes nothing from another.
//!
//! Deliberately absent: differences between backups, and files that backups in a bucket share. An object has one name,
//! so a removal would have to know all backups that need it. Point-in-time recovery of the database is PostgreSQL's own
//! (docs/operations.md).

pub mod create;
pub mod dump;
pub mod manifest;
pub mod name;
pub mod open;
pub mod place;
pub mod restore;
pub mod seal;

use crate::storage::StorageError;
use std::io;

/// Why a backup cannot be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupFault {
    /// The system or a bucket refuses something.
    #[error("{what}: {source}")]
    Io {
        /// The step, with the file.
        what: String,
        /// Its error.
        source: io::Error,
    },
    /// A file of the backup is not as it was written.
    #[error("{file}: {reason}")]
    Damaged {
        /// Its name in the backup.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it wrote to its standard error, shortened.
        reason: String,
    },
    /// The arguments do not fit the backup or the place.
    #[error("{0}")]
    Unfit(String),
    /// PostgreSQL's refusal.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

impl BackupFault {
    /// For `map_err`: names the step that failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// A file of the backup is not as it was written.
    pub fn damaged(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), reason: reason.into() }
    }
}
