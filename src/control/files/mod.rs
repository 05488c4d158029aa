//! Files over HTTP.
//!
//! ```text
//!   uploads.rs    POST /files, PATCH, HEAD, DELETE /files/{id}     tus 1.0, with JSON answers for other clients
//!   simple.rs     POST /files/simple                               one multipart form, for scripts
//!   state.rs      what all of these share
//!   turns.rs      one request at a time writes to an upload
//!   receiving.rs  bytes of a body → the disk
//!   pace.rs       how fast all uploads together may arrive
//!   fields.rs     header fields
//!   refusals.rs   the errors of disks that fail, for clients
//!   antivirus.rs  clamd
//!   check.rs      what happens to a complete upload: hash, type, viruses, store (a job)
//!   derived.rs    smaller pictures, copies without places, durations
//!   shares.rs     public links
//!   adoption.rs   content that the server has made → the store
//!   avatars.rs    PUT, DELETE /users/me/avatar, and GET /avatars/{name}
//!   downloads.rs  GET /files/{id}/{name}, POST /files/{id}/link
//! ```
//!
//! Invariants:
//! - a client receives an offset only after the bytes before it, and the row that records them, are durable;
//! - every read asks PostgreSQL whether the user may read the file now. So deleting the message, or leaving the
//!   conversation, ends access at once, also that of links;
//! - only a file that is `ready` is served. Pictures of users are no files: `avatars.rs` has their rules.

mod adoption;
pub mod antivirus;
mod avatars;
mod check;
mod derived;
mod downloads;
mod fields;
mod pace;
mod receiving;
mod refusals;
mod shares;
mod simple;
mod state;
mod turns;
mod uploads;

use super::Control;
pub use super::ports::FilesPort;
pub(super) use adoption::{MadeFile, store_adopted};
use axum::Router;
use axum::http::Method;
use axum::routing::{delete, get, post, put};
pub(super) use downloads::{ContentReader, ServedContent, serve};
pub use state::{FileParts, Files};

/// Whether a request may last as long as its body comes: it has deadlines of its own.
pub(super) fn takes_long(method: &Method, route: &str) -> bool {
    matches!(
        (method, route),
        (&Method::PATCH, "/files/{id}") | (&Method::POST, "/files/simple") | (&Method::PUT, "/users/me/avatar")
    )
}

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/files", post(uploads::create).options(uploads::describe))
        .route("/files/simple", post(simple::upload))
        .route("/files/{id}", get(downloads::show).head(uploads::offset).patch(uploads::append).delete(uploads::remove))
        .route("/files/{id}/link", post(downloads::link))
        .route("/files/{id}/shares", post(shares::share).get(shares::list))
        .route("/files/{id}/shares/{share}", delete(shares::revoke))
        .route("/shared/{token}/{name}", get(shares::read))
        .route("/files/{id}/{name}", get(downloads::read))
        .route("/files/{id}/variants/{kind}", get(downloads::read_variant))
        .route("/users/me/avatar", put(avatars::replace).delete(avatars::remove))
        .route("/avatars/{name}", get(avatars::read))
}
