//! The statements of imports. They run as the owner of the tables, while no server runs.
//!
//! ```text
//!   staging.rs    the tables that a dump is read into, and the suspension of row level security
//!   people.rs     users of three generations → one user each
//!   rooms.rs      rooms, groups, direct conversations → conversations and members
//!   messages.rs   messages, threads, edits, reactions, pins, mentions, read markers
//!   files.rs      files and the messages that have them
//!   apply.rs      sanctions, and what is written
//!   report.rs     counts, checksums, rejected rows
//! ```
//!
//! Each step of the plan is a set of statements over whole tables, so a million messages take a minute. The plan
//! depends only on the dump and on what the database has, so a resumed import makes the same one.

pub mod apply;
pub mod files;
pub mod messages;
pub mod people;
pub mod report;
pub mod rooms;
pub mod staging;

/// The steps of the plan in their order, with what they are about.
#[must_use]
pub fn plan() -> Vec<(&'static str, String)> {
    let mut steps = people::plan();
    steps.extend(rooms::plan());
    steps.extend(messages::plan_authors());
    steps.extend(rooms::plan_conversations());
    steps.extend(messages::plan());
    steps.extend(files::plan());
    steps.push(("sanctions", apply::PLAN_SANCTIONS.to_owned()));
    steps.push(("rejected rows", apply::PLAN_QUARANTINE.to_owned()));
    steps
}
