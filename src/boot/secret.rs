//! The server's secret: configured, or in development made once and kept in `data_dir`. It signs tokens, and the
//! passwords of the database logins are derived from it.

use super::error::{BootError, system};
use crate::auth::token::{SECRET_BYTES_MIN, TokenKeys};
use crate::config::{Config, Environment};
use crate::storage::connect::{Role, RolePassword};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Bytes of a key that the server makes.
const MADE_BYTES: usize = 48;

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
    let path = config.data_dir.join("jwt_secret");
    std::fs::create_dir_all(&config.data_dir).map_err(system("cannot create data_dir"))?;
    let mut secret = Vec::new();
    match OpenOptions::new().read(true).open(&path) {
        Ok(mut file) => {
            file.read_to_end(&mut secret).map_err(system("cannot read data_dir/jwt_secret"))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            secret = (0..MADE_BYTES).map(|_| rand::random()).collect();
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(system("cannot write data_dir/jwt_secret"))?;
            file.write_all(&secret)
                .and_then(|()| file.sync_all())
                .map_err(system("cannot write data_dir/jwt_secret"))?;
            tracing::info!(
                "development: made a signing key in {}; production needs security.jwt_secret",
                path.display()
            );
        }
        Err(error) => return Err(system("cannot open data_dir/jwt_secret")(error)),
    }
    Ok(secret)
}
