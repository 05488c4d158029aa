//! Why an import failed.

use super::dump::DumpFault;
use crate::backup::BackupFault;
use crate::storage::StorageError;

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// The dump cannot be read; nothing was changed.
    #[error("the dump cannot be imported, and nothing was changed: {0}")]
    Dump(#[from] DumpFault),
    /// A file cannot be read or written, or a program of PostgreSQL failed.
    #[error("{0}")]
    Backup(#[from] BackupFault),
    /// PostgreSQL's refusal.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The dump does not fit what is there.
    #[error("{0}")]
    Unfit(String),
}
