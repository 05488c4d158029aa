//! The rights of people over their data: erasure, a copy of everything, retention and legal holds.
//!
//! ```text
//!   state.rs     what requests and jobs share
//!   proof.rs     the password again
//!   requests.rs  DELETE /users/me, DELETE /admin/users/{id}, GET /erasures/{id}
//!   downloads.rs POST /users/me/exports, and the archive
//!   holds.rs     /admin/holds
//!   ledger.rs    the file that outlives the database
//!   work.rs      the jobs:
//!     erasure.rs   the erasure of a person
//!     export.rs    a copy of all data: archive.rs, a ZIP that grows, and page.rs, the pages in it
//!     retention.rs the removal of old messages
//! ```
//!
//! Invariants:
//! - a person who has asked for erasure cannot sign in from the commit of the request on;
//! - whatever others see of an erasure is in the log of its conversation: deleted messages, changed texts, a member who
//!   left. So clients that were away learn of it, and `seq` has no gap;
//! - an erasure is in the ledger before anything is removed. So a backup that was made before it, and restored after
//!   it, does not bring the person back;
//! - nothing is removed that a legal hold keeps. The erasure goes on when the hold is released.

mod archive;
mod downloads;
mod erasure;
mod export;
mod holds;
pub mod ledger;
mod page;
mod proof;
mod requests;
mod retention;
mod state;
mod work;

pub use state::{DataRights, DataRightsParts, RightsPort};

use super::Control;
use axum::Router;
use axum::routing::{delete, get, post};

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/users/me", delete(requests::erase_me))
        .route("/admin/users/{id}", delete(requests::erase_user))
        .route("/erasures/{id}", get(requests::show))
        .route("/admin/holds", post(holds::create).get(holds::list))
        .route("/admin/holds/{id}", delete(holds::release))
        .route("/users/me/exports", post(downloads::request).get(downloads::list))
        .route("/users/me/exports/{id}", get(downloads::show))
        .route("/users/me/exports/{id}/archive", get(downloads::archive))
}
