//! The key that signs tokens: configured, or in development made once and kept in `data_dir`.

use super::error::{BootError, system};
use crate::auth::token::{SECRET_BYTES_MIN, TokenKeys};
use crate::config::{Config, Environment};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

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
    TokenKeys::new(&secret).map_err(bad)
}
