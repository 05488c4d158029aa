//! Files: their states, their names, what they are, and links to them. Pure, except for [`media`], which decodes files
//! in a process of its own. `blobs` has their bytes, and `storage::files` their rows.

pub mod kind;
pub mod link;
pub mod media;
pub mod name;
pub mod state;
pub mod tus;
