//! The whole server in the format of another one, for `chat-server export`; docs/export-mattermost.md describes it.
//!
//! ```text
//!   storage::export ──rows of one snapshot──► mattermost (names, threads) ──lines──► output: a file, or a zip
//! ```
//!
//! Invariants:
//! - everything is of one snapshot, while the server goes on;
//! - rows are written as they are read. What stays in memory are names: of users, rooms, and members of groups;
//! - what the other server does not have is changed by a stated rule, or left out, and counted in the report;
//! - the output appears under its name when it is complete.

mod fault;
mod mattermost;
mod names;
mod output;
mod report;
mod thread;

pub use fault::ExportFault;
pub use mattermost::{ExportOptions, export_mattermost};
pub use names::is_team_name;
pub use output::{Output, OutputFormat};
pub use report::ExportReport;
