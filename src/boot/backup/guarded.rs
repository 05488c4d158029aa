//! The private PostgreSQL of a command, which must not outlive it.

use super::super::error::{BootError, system};
use super::super::reach::runtime;
use crate::storage::connect::Target;
use crate::storage::embedded::Embedded;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::signal::unix::{SignalKind, signal};

/// A private PostgreSQL that stops with the command, also if a signal stops the command.
pub(in crate::boot) struct GuardedPostgres(Arc<Mutex<Option<Embedded>>>);

impl GuardedPostgres {
    /// After a signal, `remove` is removed too, if it is given.
    pub(in crate::boot) fn start(data_dir: &Path, remove: Option<PathBuf>) -> Result<Self, BootError> {
        let guarded = Self(Arc::new(Mutex::new(None)));
        let slot = Arc::clone(&guarded.0);
        let runtime = runtime(1)?;
        let watching = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
                drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
                if let Some(folder) = remove {
                    let _ = std::fs::remove_dir_all(folder);
                }
                let _ = writeln!(io::stderr(), "chat-server: stopped by a signal");
                std::process::exit(1);
            });
        });
        watching.map_err(system("cannot start a thread"))?;
        // The thread of signals waits for the lock, so it stops one that is still starting too.
        let mut slot = guarded.0.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(Embedded::start(data_dir)?);
        drop(slot);
        Ok(guarded)
    }

    pub(in crate::boot) fn target(&self) -> Result<Target, BootError> {
        let started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = || BootError::Broken("the private PostgreSQL was stopped".to_owned());
        started.as_ref().map(Embedded::target).ok_or_else(stopped)
    }
}

impl Drop for GuardedPostgres {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
