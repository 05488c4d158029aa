//! Uploads at the same time, each repeated until the phase ends, in threads of their own.
//!
//! Every file is removed when it is ready. The server frees its space a moment later, so an upload begins only if the
//! space of all is there: at no time the files take more than [`DISK_BYTES_MAX`].

use super::content::FileContent;
use super::transfer::{UploadPace, UploadWay, Uploader};
use crate::setup::account::Account;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the files of a run may take of the disk.
pub(super) const DISK_BYTES_MAX: u64 = 2_000_000_000;
/// Between two looks at the space.
const LOOK: Duration = Duration::from_millis(50);

/// Who uploads, where to, and what.
pub(super) struct UploadGround {
    pub(super) address: SocketAddr,
    pub(super) accounts: Vec<Account>,
    pub(super) conversation: String,
    pub(super) content: FileContent,
    /// Of each upload.
    pub(super) pace: UploadPace,
    /// The server's folder of files.
    pub(super) folder: PathBuf,
    /// The number of the next file.
    pub(super) next: AtomicU64,
}

/// Uploads that are under way.
pub(super) struct UploadFlood {
    over: Arc<AtomicBool>,
    began: Instant,
    threads: Vec<JoinHandle<Result<u64, String>>>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Uploaded {
    /// Files that were ready before the end.
    pub(super) files: u64,
    pub(super) bytes_per_s: f64,
}

impl UploadFlood {
    pub(super) fn start(ground: &Arc<UploadGround>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..ground.accounts.len()).map(|n| {
            let (ground, over) = (Arc::clone(ground), Arc::clone(&over));
            std::thread::spawn(move || repeat(&ground, n, &over))
        });
        Self { threads: threads.collect(), over, began: Instant::now() }
    }

    /// Ends them.
    ///
    /// # Errors
    /// The first upload that failed: a phase without its uploads shows nothing.
    pub(super) fn stop(self, size: u64) -> Result<Uploaded, String> {
        self.over.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let mut files = 0;
        let mut failed = None;
        for thread in self.threads {
            match thread.join().map_err(|_| "an uploader panicked".to_owned()).and_then(|uploaded| uploaded) {
                Ok(uploaded) => files += uploaded,
                Err(reason) => failed = failed.or(Some(reason)),
            }
        }
        match failed {
            Some(reason) => Err(format!("an upload failed: {reason}")),
            None => Ok(Uploaded { files, bytes_per_s: (files * size) as f64 / took.as_secs_f64().max(1e-6) }),
        }
    }
}

/// Uploads one file after the other; how many were ready.
fn repeat(ground: &UploadGround, n: usize, over: &AtomicBool) -> Result<u64, String> {
    let UploadGround { address, accounts, conversation, content, pace, folder, next } = ground;
    let connect = || Uploader::connect(*address, &accounts[n].token, conversation, content);
    let is_over = || over.load(Ordering::Relaxed);
    let mut files = 0;
    while !is_over() {
        if !has_room(bytes_below(folder), accounts.len() as u64, content.size()) {
            std::thread::sleep(LOOK);
            continue;
        }
        // A connection for each: one that waits too long is closed.
        let mut uploader = connect()?.at_pace(*pace);
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(file) = uploader.upload(UploadWay::Chunks, number, &is_over)? else { break };
        files += u64::from(uploader.wait_until_ready(file, &is_over)?);
        uploader.remove(file)?;
    }
    Ok(files)
}

/// Whether an upload may begin when the files take so many bytes: each uploader can add a file before the next look.
fn has_room(taken: u64, uploaders: u64, size: u64) -> bool {
    taken + uploaders * size <= DISK_BYTES_MAX
}

/// The bytes of all files below a folder, without those that go away meanwhile.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let mut waiting = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => waiting.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_wait_for_the_space_of_all_of_them() {
        let size = 104_857_600;
        assert!(has_room(0, 8, size) && has_room(11 * size, 8, size));
        assert!(!has_room(12 * size, 8, size));
    }

    #[test]
    fn counts_the_bytes_of_nested_folders() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("blobs/ab/cd")).unwrap();
        std::fs::write(root.path().join("blobs/ab/cd/x"), [0; 100]).unwrap();
        std::fs::write(root.path().join("y"), [0; 11]).unwrap();
        assert_eq!(bytes_below(root.path()), 111);
        assert_eq!(bytes_below(&root.path().join("none")), 0);
    }

    #[test]
    fn a_failed_upload_is_an_error_of_the_phase() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let account = Account { id: 1, username: "a".to_owned(), token: "t".to_owned() };
        let ground = Arc::new(UploadGround {
            address,
            accounts: vec![account],
            conversation: "1".to_owned(),
            content: FileContent::new(100),
            pace: UploadPace { bytes_per_s: 0 },
            folder: PathBuf::from("/nonexistent"),
            next: AtomicU64::new(0),
        });
        let error = repeat(&ground, 0, &AtomicBool::new(false)).unwrap_err();
        assert!(error.contains("cannot connect"), "{error}");
        let flood = UploadFlood::start(&ground);
        while flood.threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::yield_now();
        }
        let error = flood.stop(100).unwrap_err();
        assert!(error.contains("an upload failed: cannot connect"), "{error}");
    }
}
