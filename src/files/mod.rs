//! Files: their states, their names, what they are, links to them, and their bytes. `storage::files` has their rows.
//!
//! ```text
//!   state.rs     uploading → scanning → ready …
//!   name.rs      what people see, never a path
//!   kind.rs      what a file is, by its first bytes
//!   reason.rs    why uploads are refused and files fail
//!   tus.rs       the header fields of resumable uploads
//!   link.rs      signed links
//!   media/       pictures, sound and film, decoded in a process of its own
//!   content.rs   SHA-256, and names in the store
//!   store/       the bytes
//! ```

pub mod content;
pub mod kind;
pub mod link;
pub mod media;
pub mod name;
pub mod reason;
pub mod state;
pub mod store;
pub mod tus;
