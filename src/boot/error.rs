//! Why the server cannot start, or stops before it was asked to.

use crate::backup::BackupFault;
use crate::error::Refusal;
use crate::import::ImportFault;
use crate::storage::StorageError;
use std::io;

/// Why the server cannot start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// PostgreSQL refused something, or is set up in an unsafe way.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// PostgreSQL does not answer.
    #[error("PostgreSQL at {address}: {source}; start it, or correct database.url")]
    Unreachable {
        /// Hosts and ports, or the socket's directory.
        address: String,
        /// The reason.
        source: StorageError,
    },
    /// The kernel, or what the process runs in, gives it no `io_uring`.
    #[error("the server cannot use io_uring: {found}; {advice}")]
    NoRing {
        /// The kernel's error, and what it means.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// A running server does not say that it is ready.
    #[error("{url}: {reason}")]
    NotReady {
        /// The address that was asked.
        url: String,
        /// Its answer, or why there is none.
        reason: String,
    },
    /// The address is not this machine's, or not allowed.
    #[error("cannot listen on {address}: {source}; set server.bind_addr to an address of this machine")]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Another process listens on the address.
    #[error("cannot listen on {address}: {owner} listens there already; stop it, or set server.bind_addr")]
    PortTaken {
        /// As configured.
        address: std::net::SocketAddr,
        /// Its name and process number.
        owner: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The step that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// PostgreSQL could not carry out a step of a command.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The configuration cannot work on this machine.
    #[error("{0}")]
    Configuration(String),
    /// The audit trail is not as it was written.
    #[error("the audit trail was changed: {findings} findings in {rows} rows")]
    Tampered {
        /// Sentences that were printed, and further ones.
        findings: u64,
        /// Rows that were read.
        rows: u64,
    },
    /// Content of files is missing or damaged, or no file needs it.
    #[error("the files are not as they should be: {findings} findings; `chat-server files check --help` explains them")]
    DamagedFiles {
        /// Sentences that were printed.
        findings: u64,
    },
    /// A backup cannot be made, read or restored.
    #[error("{0}")]
    Backup(#[from] BackupFault),
    /// Data of another server cannot be imported.
    #[error("{0}")]
    Import(#[from] ImportFault),
    /// A backup, or the place that was made of it, is not as it should be.
    #[error("the backup is not as it should be: {findings} findings; {advice}")]
    DamagedBackup {
        /// Sentences that were printed.
        findings: u64,
        /// What to do.
        advice: &'static str,
    },
    /// A thread ended before the stop.
    #[error("{0}; the process stops so that a supervisor can start it again; no acknowledged message is lost")]
    Broken(String),
    /// A planned stop was cut short; the process ends with its threads still running.
    #[error("{0}; the process ends now; no acknowledged message is lost")]
    CutShort(&'static str),
}

/// Names what failed when a system call does.
pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::System { what, source }
}
