//! Files: their states, their names, what they are, and links to them. Pure; `blobs` has their bytes, and
//! `storage::files` their rows.

pub mod kind;
pub mod link;
pub mod name;
pub mod state;
pub mod tus;
