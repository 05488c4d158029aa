//! What an import is given, and how far it is.

use crate::files::store::folder::Folder;
use std::path::PathBuf;

/// Where the content of files is, and where it goes.
#[derive(Clone, Debug)]
pub struct OldFiles {
    /// The folder of the old server; `None` if the export has the content itself.
    pub from: Option<PathBuf>,
    /// The folder of this one. What arrives there is checked when the server starts.
    pub to: Folder,
    /// Bytes that a file of an export may have.
    pub bytes_max: u64,
}

/// The server that a dump is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OldServer {
    /// A legacy Veza server: a dump of PostgreSQL.
    Veza,
    /// Mattermost: its bulk format.
    Mattermost,
    /// Slack: the export of a workspace.
    Slack,
}

/// What an import is given.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// What the dump is of.
    pub server: OldServer,
    /// The dump.
    pub dump: PathBuf,
    /// The name of the old database. The ids of its rows are remembered under it.
    pub source: String,
    /// Whether to write nothing.
    pub is_dry_run: bool,
    /// The content of files; without it, none is imported.
    pub files: Option<OldFiles>,
}

/// How far an import is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportStage {
    /// Bytes of the dump that were read, of so many if that is known.
    Reading(u64, Option<u64>),
    /// A step of the plan, of so many, and what it is about.
    Planning(usize, usize, &'static str),
    /// Users and conversations.
    Accounts,
    /// Messages that were written, of so many.
    Messages(u64, u64),
    /// Files that were looked for, of so many.
    Files(u64, u64),
    /// Counts and checksums.
    Verifying,
}
