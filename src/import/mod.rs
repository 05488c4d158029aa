//! Data of other chat servers, from their dumps, for `chat-server import`; docs/migration.md describes it.
//!
//! ```text
//!   dump/          bytes of a dump of PostgreSQL → rows; pure, and executes nothing
//!   legacy/        rows of the legacy Veza database → rows of staging tables; pure
//!   mattermost/    lines of Mattermost's bulk format → rows of the model; pure
//!   slack/         files of a Slack export → rows of the model; pure
//!   model.rs       users, conversations, messages … of any server → rows of staging tables; pure
//!     written.rs, cards.rs, emoji.rs, convert.rs: texts, cards of programs, reactions, values
//!   staged.rs      lines of staging tables, where all of these end
//!   archive.rs     the files of an export, a zip or a folder; elements.rs: the items of one of them
//!   reading.rs     a dump, on a thread of its own
//!   contents.rs    the content of attachments; files.rs: the content of files, into the folder of the server
//!   run.rs         staging → plan → transactions → verification (`storage::import`)
//!   report.rs      what was imported, rejected and changed, for people and programs
//! ```
//!
//! Invariants:
//! - a dump is data. The server executes none of its statements;
//! - a row that cannot be imported as it is, is rejected with a reason or changed as the report says, and never in
//!   silence. Rows that are read = imported + there already + united + rejected;
//! - an import that was cut short goes on when it is run again, and a second run changes nothing.

mod archive;
mod cards;
mod contents;
mod convert;
pub mod dump;
mod elements;
pub mod emoji;
mod fault;
mod files;
pub mod legacy;
mod mattermost;
mod model;
mod options;
mod reading;
pub mod report;
mod run;
mod slack;
mod staged;
mod written;

pub use fault::{ImportFault, UnreadableExport};
pub use files::has_content;
pub use options::{ImportOptions, ImportStage, OldFiles, OldServer};
pub use run::import;
