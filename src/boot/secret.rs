//! The key that signs tokens: configured, or in development made once and kept in `data_dir`. The keys that encrypt
//! secrets: configured, or made once and kept there.

use super::error::{BootError, system};
use crate::auth::sealed::{KEY_BYTES, SealingKeys};
use crate::auth::token::{SECRET_BYTES_MIN, TokenKeys};
use crate::config::{Config, Environment, Secret, encryption_key};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a key that the server makes.
const MADE_BYTES: usize = 48;

/// The keys of access tokens, tickets and refresh tokens.
pub(super) fn keys(config: &Config) -> Result<TokenKeys, BootError> {
    let bad = |e| BootError::Configuration(format!("security.jwt_secret: {e}"));
    if let Some(secret) = &config.security.jwt_secret {
        return TokenKeys::new(secret.expose().as_bytes()).map_err(bad);
    }
    if config.server.environment != Environment::Development {
        return Err(BootError::Configuration(format!(
            "security.jwt_secret is not set: set at least {SECRET_BYTES_MIN} random bytes, for instance from \
             `openssl rand -base64 48`, as CHAT_SERVER__SECURITY__JWT_SECRET"
        )));
    }
    let path = config.data_dir.join("jwt_secret");
    let secret = match read(&path).map_err(system("cannot read data_dir/jwt_secret"))? {
        Some(secret) => secret,
        None => {
            let secret: Vec<u8> = (0..MADE_BYTES).map(|_| rand::random()).collect();
            make(config, &path, &secret).map_err(system("cannot write data_dir/jwt_secret"))?;
            tracing::info!(
                "development: made a signing key in {}; production needs security.jwt_secret",
                path.display()
            );
            secret
        }
    };
    TokenKeys::new(&secret).map_err(bad)
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

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
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
