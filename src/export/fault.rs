//! Why an export failed.

use crate::storage::StorageError;
use std::io;

/// Why an export failed. There is no output then.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// PostgreSQL's refusal.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The output cannot be written.
    #[error("cannot write the export: {0}")]
    Output(#[from] io::Error),
}
