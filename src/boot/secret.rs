//! The keys of the server. Its secret is configured, or in development made once and kept in `data_dir`. It signs
//! tokens until the keys are rotated (`signing_keys`), and the passwords of the database logins are derived from it.
//! The keys that encrypt secrets are configured, or made once and kept there. The key that signs the audit trail is
//! always kept there.

use super::error::{BootError, system};
use crate::audit::note::AuditKey;
use crate::auth::mac::hmac_sha256;
use crate::auth::sealed::{KEY_BYTES, SealingKeys};
use crate::auth::signing::SECRET_BYTES_MIN;
use crate::config::{Config, Environment, Secret, encryption_key};
use crate::files::link::LinkKey;
use crate::storage::connect::{Role, RolePassword};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a key that the server makes.
const MADE_BYTES: usize = 48;
/// An Ed25519 seed.
const AUDIT_KEY_BYTES: usize = 32;

/// The passwords of the database logins, in the order of [`Role`]: configured, or HMAC-SHA-256 (secret, login).
pub(super) fn database_passwords(config: &Config) -> Result<[RolePassword; 3], BootError> {
    let database = &config.database;
    let configured = [&database.owner_password, &database.app_password, &database.writer_password];
    let mut passwords = [const { RolePassword::None }; 3];
    for ((password, configured), role) in passwords.iter_mut().zip(configured).zip(Role::ALL) {
        *password = match configured {
            Some(given) => RolePassword::Configured(given.expose().to_owned()),
            None => RolePassword::Derived(derived(&secret(config)?, role.name())),
        };
    }
    Ok(passwords)
}

fn derived(secret: &[u8], login: &str) -> String {
    URL_SAFE_NO_PAD.encode(labelled(secret, &format!("database login {login}")))
}

/// A key for one purpose: HMAC-SHA-256 (secret, label).
fn labelled(secret: &[u8], label: &str) -> [u8; 32] {
    hmac_sha256(secret, label.as_bytes())
}

/// The key of links to files.
pub(super) fn link_key(config: &Config) -> Result<LinkKey, BootError> {
    Ok(LinkKey::new(labelled(&secret(config)?, "links to files")))
}

/// Whether the server's secret is configured, or was made. Where it is not, [`database_passwords`] makes it.
pub(super) fn has_secret(config: &Config) -> bool {
    config.security.jwt_secret.is_some() || kept_secret(config).exists()
}

fn kept_secret(config: &Config) -> PathBuf {
    config.data_dir.join("jwt_secret")
}

/// The server's secret.
pub(super) fn secret(config: &Config) -> Result<Vec<u8>, BootError> {
    if let Some(secret) = &config.security.jwt_secret {
        return Ok(secret.expose().as_bytes().to_vec());
    }
    if config.server.environment != Environment::Development {
        return Err(BootError::Configuration(format!(
            "security.jwt_secret is not set: set at least {SECRET_BYTES_MIN} random bytes, for instance from \
             `openssl rand -base64 48`, as CHAT_SERVER__SECURITY__JWT_SECRET"
        )));
    }
    let (secret, is_new) = kept_or_made(config, &kept_secret(config), MADE_BYTES)?;
    if is_new {
        tracing::info!("development: made a signing key in data_dir/jwt_secret; production needs security.jwt_secret");
    }
    Ok(secret)
}

/// The key that signs the audit trail. `make`: make it if it is not there.
pub(super) fn audit_key(config: &Config, make: bool) -> Result<Option<AuditKey>, BootError> {
    let path = config.data_dir.join("audit_key");
    if !make && !path.exists() {
        return Ok(None);
    }
    let (seed, is_new) = kept_or_made(config, &path, AUDIT_KEY_BYTES)?;
    if is_new {
        tracing::info!("made the key that signs the audit trail in {}; keep a copy of it", path.display());
    }
    let seed: [u8; AUDIT_KEY_BYTES] = seed.try_into().map_err(|_| {
        BootError::Configuration(format!("{} must have {AUDIT_KEY_BYTES} bytes; restore it", path.display()))
    })?;
    Ok(Some(AuditKey::new(&seed)))
}

/// The random bytes in a file, and whether they were made now.
fn kept_or_made(config: &Config, path: &Path, bytes: usize) -> Result<(Vec<u8>, bool), BootError> {
    if let Some(secret) = read(path).map_err(system("cannot read a key in data_dir"))? {
        return Ok((secret, false));
    }
    let secret: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
    make(config, path, &secret).map_err(|error| {
        let path = path.display();
        BootError::Configuration(format!("cannot write {path}: {error}; let the server write to data_dir"))
    })?;
    Ok((secret, true))
}

/// The keys that encrypt secrets. A key that the server made stays among them after others are configured, so that it
/// still opens what it has encrypted. `None` if none is configured and none can be made: a server whose database is
/// elsewhere needs no folder that it can write.
pub(super) fn sealing_keys(config: &Config) -> Result<Option<SealingKeys>, BootError> {
    let path = config.data_dir.join("encryption_key");
    let bad = |reason: String| BootError::Configuration(format!("{}: {reason}", path.display()));
    let configured = config.security.encryption_keys.iter().map(encryption_key);
    let mut keys = configured.collect::<Result<Vec<_>, _>>().map_err(bad)?;
    let made = read(&path).map_err(system("cannot read data_dir/encryption_key"))?;
    if let Some(made) = made {
        let (id, key) = encryption_key(&Secret::new(String::from_utf8_lossy(&made).trim())).map_err(bad)?;
        if keys.iter().all(|(configured, _)| *configured != id) {
            keys.push((id, key));
        }
    } else if keys.is_empty() {
        // A random id, so that the keys of two servers do not share one.
        let (id, key) = (format!("made-{:08x}", rand::random::<u32>()), rand::random::<[u8; KEY_BYTES]>());
        let text = format!("{id}:{}\n", STANDARD.encode(key));
        if let Err(error) = make(config, &path, text.as_bytes()) {
            tracing::warn!(
                "users cannot set up two-factor authentication: the server cannot write a key to {} ({error}). Set \
                 security.encryption_keys, or make the folder writable",
                path.display()
            );
            return Ok(None);
        }
        tracing::info!(
            "made a key for two-factor secrets in {}; back it up with the database, or set security.encryption_keys",
            path.display()
        );
        keys.push((id, key));
    }
    let present = keys.remove(0);
    Ok(Some(SealingKeys::new(present, keys)))
}

pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(secret) => Ok(Some(secret)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a new secret that only this user of the system can read.
fn make(config: &Config, path: &Path, secret: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(&config.data_dir)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret)?;
    file.sync_all()
}
