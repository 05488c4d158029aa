//! Threads that may wait for the disk. They are the files' own: a slow disk delays neither the control thread nor the
//! hashing of passwords.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::io;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::spawn_blocking;

/// Enough to keep a disk busy. More would only wait for it too.
const THREADS: usize = 8;

/// Bytes in order, until the first error.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// They hash and write what is large, and messages must not wait for a core meanwhile: every other thread and
/// PostgreSQL come first.
const NICENESS: i32 = 10;

/// Runs blocking work on the files' threads; cloning shares them. Every caller awaits its work, so the queue for the
/// threads is as long as there are requests and jobs for files, which are bounded where they begin.
#[derive(Clone, Debug)]
pub struct Disk(Handle);

/// The threads. When it is dropped, they finish their present work and end.
#[derive(Debug)]
pub struct DiskThreads(Runtime);

impl DiskThreads {
    /// Starts none yet: each begins when it is needed.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(THREADS)
            .thread_name("files")
            // Of this thread only. If it is not allowed, the work is done all the same.
            .on_thread_start(|| {
                let _ = rustix::process::nice(NICENESS);
            })
            .build()?;
        Ok(Self(runtime))
    }

    /// To run work with.
    #[must_use]
    pub fn disk(&self) -> Disk {
        Disk(self.0.handle().clone())
    }
}

impl Disk {
    /// Runs `work`, to its end even if the caller does not wait.
    ///
    /// # Errors
    /// Those of `work`; `Other` if it panicked or the server stops.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let running = {
            let _inside = self.0.enter();
            spawn_blocking(work)
        };
        running.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_on_threads_of_its_own_and_its_errors_arrive() {
        let threads = DiskThreads::new().unwrap();
        let disk = threads.disk();
        let name = disk.run(|| Ok(std::thread::current().name().map(str::to_owned))).await.unwrap();
        assert_eq!(name.as_deref(), Some("files"));
        let failed = disk.run::<()>(|| Err(io::ErrorKind::StorageFull.into())).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let panicked = disk.run::<()>(|| panic!("planted")).await;
        assert_eq!(panicked.unwrap_err().kind(), io::ErrorKind::Other);
        tokio::task::spawn_blocking(move || drop(threads)).await.unwrap();
    }
}
