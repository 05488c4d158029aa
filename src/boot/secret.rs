//! The server's secret: configured, or in development made once and kept in `data_dir`. It signs tokens, and the
//! passwords of the database logins are derived from it. The key that signs the audit trail is always kept there.

use super::error::{BootError, system};
use crate::audit::note::AuditKey;
use crate::auth::token::{SECRET_BYTES_MIN, TokenKeys};
use crate::config::{Config, Environment};
use crate::storage::connect::{Role, RolePassword};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a key that the server makes.
const MADE_BYTES: usize = 48;
/// An Ed25519 seed.
const AUDIT_KEY_BYTES: usize = 32;

/// The keys of access tokens, tickets and refresh tokens.
pub(super) fn keys(config: &Config) -> Result<TokenKeys, BootError> {
    TokenKeys::new(&secret(config)?).map_err(|e| BootError::Configuration(format!("security.jwt_secret: {e}")))
}

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
    // PROOF: HMAC takes keys of any length (RFC 2104).
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key");
    mac.update(b"database login ");
    mac.update(login.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

fn secret(config: &Config) -> Result<Vec<u8>, BootError> {
    if let Some(secret) = &config.security.jwt_secret {
        return Ok(secret.expose().as_bytes().to_vec());
    }
    if config.server.environment != Environment::Development {
        return Err(BootError::Configuration(format!(
            "security.jwt_secret is not set: set at least {SECRET_BYTES_MIN} random bytes, for instance from \
             `openssl rand -base64 48`, as CHAT_SERVER__SECURITY__JWT_SECRET"
        )));
    }
    let (secret, is_new) = kept_or_made(&config.data_dir.join("jwt_secret"), MADE_BYTES)?;
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
    let (seed, is_new) = kept_or_made(&path, AUDIT_KEY_BYTES)?;
    if is_new {
        tracing::info!("made the key that signs the audit trail in {}; keep a copy of it", path.display());
    }
    let seed: [u8; AUDIT_KEY_BYTES] = seed.try_into().map_err(|_| {
        BootError::Configuration(format!("{} must have {AUDIT_KEY_BYTES} bytes; restore it", path.display()))
    })?;
    Ok(Some(AuditKey::new(&seed)))
}

/// The random bytes in a file, and whether they were made now. Only the server's user can read the file.
fn kept_or_made(path: &Path, bytes: usize) -> Result<(Vec<u8>, bool), BootError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(system("cannot create data_dir"))?;
    }
    match std::fs::read(path) {
        Ok(secret) => Ok((secret, false)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let written = file.and_then(|mut file| file.write_all(&secret).and_then(|()| file.sync_all()));
            written.map_err(|error| {
                let path = path.display();
                BootError::Configuration(format!("cannot write {path}: {error}; let the server write to data_dir"))
            })?;
            Ok((secret, true))
        }
        Err(error) => Err(system("cannot read a key in data_dir")(error)),
    }
}
