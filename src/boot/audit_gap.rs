//! The newest signed head of the audit trail, in a file beside the key: a copy that nobody reaches through PostgreSQL.
//! A starting server compares the trail with it and with the checkpoints in the database.
//!
//! The file never names fewer rows than before. After a gap it is kept under another name, for
//! `chat-server audit verify --checkpoint`.

use crate::audit::note::{AuditKey, Checkpoint, NoteError};
use crate::audit::origin;
use crate::audit::suspicion::{Finding, TrailFound, gap_at_start};
use crate::storage::StorageError;
use crate::storage::audit::AuditTables;
use crate::storage::connect::Target;
use std::io;
use std::path::Path;

const FILE: &str = "audit_checkpoint";
const BROKEN: &str = "audit_checkpoint.broken";

/// What is wrong with the trail at the start of the server.
pub(super) async fn at_start(target: &Target, key: &AuditKey, data_dir: &Path) -> Option<Finding> {
    match compare(target, key, data_dir).await {
        Ok(gap) => {
            let file = data_dir.join(FILE);
            if gap.is_some() && file.exists() {
                let kept = data_dir.join(BROKEN);
                if let Err(error) = std::fs::rename(&file, &kept) {
                    tracing::warn!("cannot rename {} to {}: {error}", file.display(), kept.display());
                }
            }
            gap
        }
        Err(error) => {
            tracing::warn!("the audit trail was not compared with its last signed head: {error}");
            None
        }
    }
}

async fn compare(target: &Target, key: &AuditKey, data_dir: &Path) -> Result<Option<Finding>, StorageError> {
    let tables = AuditTables::open(target).await?;
    let (log_id, head) = tables.head().await?;
    let public = key.public();
    let (mut newest, mut dropped_to) = (kept(key, data_dir), 0);
    for stored in tables.checkpoints().await? {
        match public.open(&stored.note) {
            Ok(checkpoint) if checkpoint.closing => dropped_to = checkpoint.head.size,
            Ok(checkpoint) if newest.as_ref().is_none_or(|known| known.head.size < checkpoint.head.size) => {
                newest = Some(checkpoint);
            }
            // Another key signed it, or it was changed: `chat-server audit verify` reports that.
            Ok(_) | Err(_) => {}
        }
    }
    let known_root = match &newest {
        Some(known) => tables.root_at(known.head.size).await?,
        None => None,
    };
    let origin = origin(&log_id);
    let found =
        TrailFound { origin: &origin, head, last_root: tables.root_at(head.size).await?, known_root, dropped_to };
    Ok(gap_at_start(newest.as_ref().map(|known| (known.origin.as_str(), known.head)), &found))
}

/// The checkpoint in the file, if it is there and of this key.
fn kept(key: &AuditKey, data_dir: &Path) -> Option<Checkpoint> {
    let path = data_dir.join(FILE);
    let note = match std::fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read {}: {error}", path.display());
            return None;
        }
    };
    match key.public().open(&note) {
        Ok(checkpoint) => Some(checkpoint),
        Err(error) => {
            let hint = if error == NoteError::UnknownKey { "; was audit_key replaced?" } else { "" };
            tracing::warn!("{} is ignored: {error}{hint}", path.display());
            None
        }
    }
}

/// Keeps a checkpoint in the file, unless the file names more rows of the same chain.
pub(super) fn keep(key: &AuditKey, data_dir: &Path, note: &str) {
    let Ok(new) = key.public().open(note) else { return }; // of another key: an older file says more
    if let Some(old) = kept(key, data_dir)
        && old.origin == new.origin
        && old.head.size >= new.head.size
    {
        return;
    }
    let path = data_dir.join(FILE);
    // A file of its own first: a crash leaves the old one or the new one.
    let written = data_dir.join(format!("{FILE}.new"));
    if let Err(error) = std::fs::write(&written, note).and_then(|()| std::fs::rename(&written, &path)) {
        tracing::warn!("the signed end of the audit trail was not kept in {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::ChainHead;

    #[test]
    fn the_file_never_names_fewer_rows() {
        let folder = tempfile::tempdir().unwrap();
        let key = AuditKey::new(&[7; 32]);
        let note = |size: i64| {
            let head = ChainHead { size, root: [size as u8; 32] };
            key.sign(&Checkpoint { origin: origin("1"), head, closing: false })
        };
        let size = || kept(&key, folder.path()).map(|known| known.head.size);
        assert_eq!(size(), None);
        for (kept, expected) in [(5, 5), (3, 5), (9, 9)] {
            keep(&key, folder.path(), &note(kept));
            assert_eq!(size(), Some(expected));
        }
        let stranger = AuditKey::new(&[8; 32]);
        let head = ChainHead { size: 99, root: [9; 32] };
        keep(&key, folder.path(), &stranger.sign(&Checkpoint { origin: origin("1"), head, closing: false }));
        assert_eq!(size(), Some(9));
        std::fs::write(folder.path().join(FILE), note(9).replace("\n9\n", "\n1\n")).unwrap();
        assert_eq!(size(), None, "a changed file says nothing");
    }
}
