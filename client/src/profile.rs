//! Who is signed in where: one file per profile under `$XDG_CONFIG_HOME/veza`, readable by its owner only.
//!
//! Invariants:
//! 1. The file is replaced in one step (written beside, flushed, renamed), so a reader sees the old session or the new
//!    one, and a crash leaves one of them. Half a refresh token would be a session lost.
//! 2. Whoever spends the refresh token holds the [`Lock`], and reads the file again once it has it. Two processes that
//!    spent the same token would have the server believe that it was stolen, and revoke the session.
//!
//! The lock is a file of its own, because the one with the tokens is replaced under whoever holds it.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that somebody else holds is tried again. They hold it for one request.
const LOCK_POLL: Duration = Duration::from_millis(20);
const LOCK_PATIENCE: Duration = Duration::from_mins(1);

/// What is kept of a session.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Saved {
    /// The server it is a session of.
    pub server: String,
    /// The user, as the server describes them.
    pub user: Value,
    /// For requests.
    pub access_token: String,
    /// For the next access token; good for one use.
    pub refresh_token: String,
    /// Until when the access token is good by this machine's clock, in seconds of Unix time.
    pub expires_at: u64,
}

/// A profile's files.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    folder: PathBuf,
}

/// The right to spend the refresh token; given back when it is dropped.
pub struct Lock {
    _file: File,
}

impl Profile {
    /// The profile of this name in the user's configuration.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| Failure::Usage("neither XDG_CONFIG_HOME nor HOME is set".to_owned()))?;
        Ok(Self { name: name.to_owned(), folder: config.join("veza") })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.name))
    }

    /// What is saved, if anything.
    pub fn load(&self) -> Result<Option<Saved>, Failure> {
        let path = self.path();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble(&path, &error)),
        };
        let damaged = |error| {
            Failure::Usage(format!("{} is damaged ({error}); sign in again, which replaces it", path.display()))
        };
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Replaces what is saved.
    pub fn save(&self, saved: &Saved) -> Result<(), Failure> {
        self.make_folder()?;
        let path = self.path();
        let beside = self.folder.join(format!(".{}.{}.tmp", self.name, std::process::id()));
        let outcome = write_private(&beside, saved).and_then(|()| std::fs::rename(&beside, &path));
        // The new name, too, has to outlive a power cut: the old refresh token is spent by now.
        let outcome = outcome.and_then(|()| File::open(&self.folder)?.sync_all());
        outcome.map_err(|error| {
            let _ = std::fs::remove_file(&beside); // gone already when the rename succeeded
            trouble(&path, &error)
        })
    }

    /// Forgets what is saved.
    pub fn forget(&self) -> Result<(), Failure> {
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(trouble(&self.path(), &error)),
            _ => Ok(()),
        }
    }

    /// Waits for the right to spend the refresh token.
    pub async fn lock(&self) -> Result<Lock, Failure> {
        self.make_folder()?;
        let path = self.folder.join(format!("{}.lock", self.name));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| trouble(&path, &error))?;
        let taken = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                    Err(TryLockError::Error(error)) => return Err(trouble(&path, &error)),
                }
            }
        };
        let held = || Failure::Usage(format!("{} is held by another veza that does not end", path.display()));
        tokio::time::timeout(LOCK_PATIENCE, taken).await.map_err(|_| held())??;
        Ok(Lock { _file: file })
    }

    fn make_folder(&self) -> Result<(), Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| trouble(&self.folder, &error))
    }
}

/// Reads a profile's name: it becomes part of a file's name.
pub fn parse_name(text: &str) -> Result<String, String> {
    let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if allowed && (1..=40).contains(&text.len()) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 40 of A-Z a-z 0-9 _ - . and not begin with a dot".to_owned())
    }
}

fn write_private(path: &Path, saved: &Saved) -> std::io::Result<()> {
    let _ = std::fs::remove_file(path); // of a process with this number that was killed
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec_pretty(saved)?)?;
    file.sync_all()
}

fn trouble(path: &Path, error: &std::io::Error) -> Failure {
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
    fn a_session_is_kept_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let profile = in_folder(home.path());
        assert_eq!(profile.load(), Ok(None));
        for token in ["one", "two"] {
            profile.save(&saved(token)).unwrap();
            assert_eq!(profile.load(), Ok(Some(saved(token))));
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&profile.path()), mode(&profile.folder)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&profile.folder).unwrap().count(), 1, "nothing is left beside it");
        profile.forget().unwrap();
        profile.forget().unwrap();
        assert_eq!(profile.load(), Ok(None));
        std::fs::write(profile.path(), "{").unwrap();
        assert!(profile.load().is_err_and(|failure| failure.status() == 2));
    }

    #[tokio::test]
    async fn a_lock_has_one_holder() {
        let home = tempfile::tempdir().unwrap();
        let profile = in_folder(home.path());
        let first = profile.lock().await.unwrap();
        let second = profile.lock();
        tokio::pin!(second);
        let waited = tokio::time::timeout(LOCK_POLL * 3, &mut second).await;
        assert!(waited.is_err(), "held by the first");
        drop(first);
        second.await.unwrap();
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert!(parse_name("work-2.b_C").is_ok());
        for wrong in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(41)] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }
}
