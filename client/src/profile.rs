//! The sessions of this machine: one file per profile under `$XDG_CONFIG_HOME/veza`, readable by its owner only.
//!
//! Invariants:
//! 1. The file is replaced in one step: written under another name, flushed, renamed. A reader sees the old session or
//!    the new one, and a crash leaves one of them. Half a refresh token would lose the session.
//! 2. A process uses the refresh token only while it holds the [`Lock`], and reads the file again once it has the lock.
//!    If two processes used the same token, the server would take it for stolen and revoke the session.
//!
//! The lock is a file of its own, because the file with the tokens is replaced while a process holds the lock. When a
//! session ends, `NAME.server` keeps the server's address, so that the next `veza login` goes to the same server.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The pause before a lock is tried again. Another process holds it for one request.
const LOCK_POLL: Duration = Duration::from_millis(20);
const LOCK_PATIENCE: Duration = Duration::from_mins(1);
/// How long an upload that was interrupted is remembered.
const UPLOAD_LIFE: Duration = Duration::from_hours(7 * 24);

/// A session as it is saved.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Saved {
    /// The server's address.
    pub server: String,
    /// The user, as the server described them.
    pub user: Value,
    /// Authorizes requests.
    pub access_token: String,
    /// Buys the next access token; valid for one use.
    pub refresh_token: String,
    /// When the access token expires by this machine's clock, in seconds of Unix time.
    pub expires_at: u64,
}

/// A profile's files.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    folder: PathBuf,
}

/// Exclusive permission to use the refresh token; released when it is dropped.
pub struct Lock {
    _file: File,
}

impl Profile {
    /// The profile with this name in the user's configuration folder.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| Failure::Usage("neither XDG_CONFIG_HOME nor HOME is set".to_owned()))?;
        Ok(Self { name: name.to_owned(), folder: config.join("veza") })
    }

    /// The name given with `--profile`.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.name))
    }

    /// The saved session, if there is one.
    pub fn load(&self) -> Result<Option<Saved>, Failure> {
        let path = self.path();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_failure(&path, &error)),
        };
        let damaged = |error| {
            Failure::Usage(format!("{} is damaged ({error}); sign in again, which replaces it", path.display()))
        };
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// The server of the session, or of the last session that ended.
    pub fn server(&self) -> Option<String> {
        let ended = || std::fs::read_to_string(self.server_path()).ok();
        // A damaged file is replaced by signing in, which needs the server's address from somewhere else.
        self.load().ok().flatten().map(|saved| saved.server).or_else(ended)
    }

    fn server_path(&self) -> PathBuf {
        self.folder.join(format!("{}.server", self.name))
    }

    /// Replaces the saved session.
    pub fn save(&self, saved: &Saved) -> Result<(), Failure> {
        self.make_folder()?;
        let path = self.path();
        let beside = self.folder.join(format!(".{}.{}.tmp", self.name, std::process::id()));
        let text = serde_json::to_vec_pretty(saved).map_err(|error| file_failure(&path, &error.into()))?;
        let outcome = write_private(&beside, &text).and_then(|()| std::fs::rename(&beside, &path));
        // The rename, too, has to survive a power cut: the old refresh token is no longer valid.
        let outcome = outcome.and_then(|()| File::open(&self.folder)?.sync_all());
        outcome.map_err(|error| {
            let _ = std::fs::remove_file(&beside); // absent when the rename succeeded
            file_failure(&path, &error)
        })
    }

    /// Deletes the saved session; its server's address stays.
    pub fn forget(&self) -> Result<(), Failure> {
        if let Ok(Some(saved)) = self.load() {
            let path = self.server_path();
            write_private(&path, saved.server.as_bytes()).map_err(|error| file_failure(&path, &error))?;
        }
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file_failure(&self.path(), &error)),
            _ => Ok(()),
        }
    }

    /// Waits for the permission to use the refresh token.
    pub async fn lock(&self) -> Result<Lock, Failure> {
        self.make_folder()?;
        let path = self.folder.join(format!("{}.lock", self.name));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| file_failure(&path, &error))?;
        let locked = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                    Err(TryLockError::Error(error)) => return Err(file_failure(&path, &error)),
                }
            }
        };
        let held = || {
            let path = path.display();
            Failure::Usage(format!("another veza process holds {path} and does not release it; end that process"))
        };
        tokio::time::timeout(LOCK_PATIENCE, locked).await.map_err(|_| held())??;
        Ok(Lock { _file: file })
    }

    /// The upload that a run of this program has begun and not ended, by the key of the file.
    pub fn begun_upload(&self, key: &str) -> Option<i64> {
        std::fs::read_to_string(self.upload_path(key)).ok()?.trim().parse().ok()
    }

    /// Remembers an upload, so that the next run continues it.
    pub fn remember_upload(&self, key: &str, file_id: i64) -> Result<(), Failure> {
        self.make_folder()?;
        self.forget_old_uploads();
        let path = self.upload_path(key);
        write_private(&path, file_id.to_string().as_bytes()).map_err(|error| file_failure(&path, &error))
    }

    /// Forgets an upload, which has ended.
    pub fn forget_upload(&self, key: &str) {
        let _ = std::fs::remove_file(self.upload_path(key)); // absent if it was never remembered
    }

    /// The server deletes uploads that nobody ends, so what is remembered of them is deleted too.
    fn forget_old_uploads(&self) {
        let prefix = format!("{}.upload-", self.name);
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > UPLOAD_LIFE) {
                let _ = std::fs::remove_file(entry.path()); // another process may have been faster
            }
        }
    }

    fn upload_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.upload-{key}", self.name))
    }

    fn make_folder(&self) -> Result<(), Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| file_failure(&self.folder, &error))
    }
}

/// Reads a profile's name, which becomes part of a file name.
pub fn parse_name(text: &str) -> Result<String, String> {
    let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if allowed && (1..=40).contains(&text.len()) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 40 characters of A-Z a-z 0-9 _ - . and not begin with a dot".to_owned())
    }
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let _ = std::fs::remove_file(path); // an older file, perhaps with other permissions
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn file_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn saved(token: &str) -> Saved {
        Saved {
            server: "http://a".into(),
            user: Value::Null,
            access_token: token.into(),
            refresh_token: "r".into(),
            expires_at: 7,
        }
    }

    fn in_folder(folder: &Path) -> Profile {
        Profile { name: "work".into(), folder: folder.join("veza") }
    }

    #[test]
    fn only_the_owner_can_read_a_session() {
        let home = tempfile::tempdir().unwrap();
        let profile = in_folder(home.path());
        assert_eq!(profile.load(), Ok(None));
        for token in ["one", "two"] {
            profile.save(&saved(token)).unwrap();
            assert_eq!(profile.load(), Ok(Some(saved(token))));
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&profile.path()), mode(&profile.folder)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&profile.folder).unwrap().count(), 1, "no other file is left");
        profile.forget().unwrap();
        profile.forget().unwrap();
        assert_eq!((profile.load(), profile.server()), (Ok(None), Some("http://a".into())));
        std::fs::write(profile.path(), "{").unwrap();
        assert!(profile.load().is_err_and(|failure| failure.status() == 2));
    }

    #[tokio::test]
    async fn one_process_at_a_time_holds_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let profile = in_folder(home.path());
        let first = profile.lock().await.unwrap();
        let second = profile.lock();
        tokio::pin!(second);
        let waited = tokio::time::timeout(LOCK_POLL * 3, &mut second).await;
        assert!(waited.is_err(), "the first still holds it");
        drop(first);
        second.await.unwrap();
    }

    #[test]
    fn refuses_names_that_leave_the_folder() {
        assert!(parse_name("work-2.b_C").is_ok());
        for wrong in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(41)] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }
}
