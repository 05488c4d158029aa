//! Why an import failed.

use super::dump::DumpFault;
use crate::backup::BackupFault;
use crate::storage::StorageError;
use std::fmt;

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// The dump cannot be read; nothing was changed.
    #[error("the dump cannot be imported, and nothing was changed: {0}")]
    Dump(#[from] DumpFault),
    /// The export cannot be read; nothing was changed.
    #[error("the export cannot be imported, and nothing was changed: {0}")]
    Export(#[from] UnreadableExport),
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

/// Why an export of another server cannot be read, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreadableExport {
    /// The file of the export, if it has several.
    pub file: Option<String>,
    /// The line or the item of a list, from 1.
    pub item: Option<u64>,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for UnreadableExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if let Some(item) = self.item {
            write!(f, "line or item {item}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for UnreadableExport {}
