//! Content that the server has made, a picture or a copy of a person's data, on its way into the store.
//!
//! 1. PostgreSQL reserves a number for the content.
//! 2. The content is stored under it.
//! 3. A row adopts it. If nothing did so for ten minutes, a job has released the content meanwhile: it begins again.

use crate::error::Refusal;
use crate::files::content::{ContentHash, ContentName};
use crate::files::store::Store;
use crate::storage::accounts::Accounts;
use std::fs;
use std::io;
use std::path::Path;

/// How often content is stored that was released meanwhile.
const ATTEMPTS: usize = 3;

/// A file that was made in a work folder. It stays there.
#[derive(Clone, Copy)]
pub(in super::super) struct MadeFile<'a> {
    pub(in super::super) path: &'a Path,
    pub(in super::super) hash: ContentHash,
    pub(in super::super) size: u64,
}

/// Stores a file, and lets `adopt` make a row refer to it, which returns `None` if the content was released meanwhile.
/// `None` if it was, again and again.
///
/// # Errors
/// Those of `adopt`, of PostgreSQL, and of the store, which `refused` translates.
pub(in super::super) async fn store_adopted<T, E: From<Refusal>, F: Future<Output = Result<Option<T>, E>>>(
    (store, accounts): (&Store, &Accounts),
    made: MadeFile<'_>,
    refused: impl Fn(io::Error) -> E,
    adopt: impl Fn(ContentName) -> F,
) -> Result<Option<T>, E> {
    for _ in 0..ATTEMPTS {
        let name = accounts.reserve_content(made.hash, made.size).await?;
        let (from, linked) = (made.path.to_owned(), made.path.with_extension("copy"));
        let to = linked.clone();
        store.disk().run(move || fs::hard_link(from, to)).await.map_err(&refused)?;
        store.take(linked, name).await.map_err(&refused)?;
        if let Some(adopted) = adopt(name).await? {
            return Ok(Some(adopted));
        }
        // Its removal may have come before the content was stored.
        store.remove_content(name).await.map_err(&refused)?;
    }
    Ok(None)
}
