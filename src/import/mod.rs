//! Data of other chat servers, from their dumps, for `chat-server import`; docs/migration.md describes it.
//!
//! ```text
//!   dump/       bytes of a dump of PostgreSQL → rows; pure, and executes nothing
//!   legacy/     rows of the legacy Veza database → rows of staging tables; pure
//!   reading.rs  a file, plain or in a format of pg_restore, on a thread of its own
//!   files.rs    the content of files, from the folder of the old server
//!   run.rs      staging → plan → transactions → verification (`storage::import`)
//!   report.rs   what was imported, rejected and changed, for people and programs
//! ```
//!
//! Invariants:
//! - a dump is data. The server executes none of its statements;
//! - a row that cannot be imported as it is, is rejected with a reason or changed as the report says, and never in
//!   silence. Rows that are read = imported + there already + united + rejected;
//! - an import that was cut short goes on when it is run again, and a second run changes nothing.

pub mod dump;
mod fault;
mod files;
pub mod legacy;
mod options;
mod reading;
pub mod report;
mod run;

pub use fault::ImportFault;
pub use options::{ImportOptions, ImportStage, OldFiles};
pub use run::import_legacy;
