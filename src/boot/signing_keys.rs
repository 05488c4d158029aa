//! The keys that sign tokens: read at the start and at every reload, listed, and rotated by a command.
//!
//! They are those of `security.jwt_keys`, or of the file `data_dir/jwt_keys`, or there is one made of the server's
//! secret. The file has a line for each key, the oldest first: since when it signs, in seconds of Unix time, and
//! `id:base64`. A key verifies until the tokens that it signed have expired.
//!
//! Invariant: a token that was issued before a rotation is valid after it, unless `--now` was asked for.

use super::cluster::is_shared;
use super::error::{BootError, system};
use super::listen;
use super::output::print;
use super::secret;
use crate::auth::signing::SigningKey;
use crate::auth::token::{LEEWAY_SECONDS, TokenKeys};
use crate::config::{Config, KEY_OF_SECRET, Secret, encryption_key, signing_key};
use crate::limits::SIGNING_KEYS_MAX;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Beyond the lifetime of a token: a socket that a ticket opened lives this much longer than one.
const MARGIN_SECONDS: i64 = 60;

/// A line of the file.
struct KeptKey {
    since_seconds: i64,
    id: String,
    secret: [u8; 32],
}

/// The keys in force now.
pub(super) fn token_keys(config: &Config) -> Result<TokenKeys, BootError> {
    let secret = secret::secret(config)?;
    let mut keys = signing_keys(config, &secret)?;
    // Connections of a key that is not among them are closed.
    keys.retain(|key| key.until_seconds > now_seconds());
    // PROOF: the key that signs has no end.
    TokenKeys::with_keys(&secret, &keys[0], &keys[1..])
        .map_err(|e| BootError::Configuration(format!("security.jwt_secret: {e}")))
}

/// All keys, the one that signs first; never empty.
fn signing_keys(config: &Config, secret: &[u8]) -> Result<Vec<SigningKey>, BootError> {
    let configured = config.security.jwt_keys.iter().map(|item| {
        let key = signing_key(item).map_err(|reason| BootError::Configuration(format!("security.jwt_keys: {reason}")));
        Ok(key?.map_or_else(|| SigningKey::of_secret(secret), |(id, key)| unlimited(id, &key)))
    });
    let configured: Vec<SigningKey> = configured.collect::<Result<_, BootError>>()?;
    if !configured.is_empty() {
        return Ok(configured);
    }
    let kept = kept(&file(config))?;
    let window = token_window(config);
    let mut until_seconds = i64::MAX;
    let mut keys = Vec::with_capacity(kept.len() + 1);
    for KeptKey { since_seconds, id, secret } in kept.into_iter().rev() {
        keys.push(SigningKey { until_seconds, ..unlimited(id, &secret) });
        until_seconds = since_seconds.saturating_add(window);
    }
    keys.push(SigningKey { until_seconds, ..SigningKey::of_secret(secret) });
    Ok(keys)
}

fn unlimited(id: String, secret: &[u8]) -> SigningKey {
    SigningKey { id, secret: secret.to_vec(), until_seconds: i64::MAX }
}

/// How long a key still verifies after its successor has begun to sign, in seconds: until its last tokens have expired.
fn token_window(config: &Config) -> i64 {
    config.security.jwt_access_duration.as_secs() as i64 + LEEWAY_SECONDS + MARGIN_SECONDS
}

fn file(config: &Config) -> PathBuf {
    config.data_dir.join("jwt_keys")
}

/// The keys of the file, the oldest first.
fn kept(path: &Path) -> Result<Vec<KeptKey>, BootError> {
    let text = secret::read(path).map_err(system("cannot read data_dir/jwt_keys"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let keys = lines.map(|(at, line)| {
        let bad = |reason: &str| {
            let path = path.display();
            BootError::Configuration(format!("{path}, line {}: {reason}; restore the file, or remove the line", at + 1))
        };
        let (since, item) = line.trim().split_once(' ').ok_or_else(|| bad("must be a time and id:base64"))?;
        let since_seconds = since.parse().map_err(|_| bad("must begin with seconds since 1970"))?;
        let (id, secret) = encryption_key(&Secret::new(item)).map_err(|reason| bad(&reason))?;
        Ok(KeptKey { since_seconds, id, secret })
    });
    let keys: Vec<KeptKey> = keys.collect::<Result<_, BootError>>()?;
    if keys.len() > SIGNING_KEYS_MAX {
        let path = path.display();
        let reason =
            format!("{path} has {} keys, of which {SIGNING_KEYS_MAX} can be used; remove the oldest", keys.len());
        return Err(BootError::Configuration(reason));
    }
    Ok(keys)
}

/// Prints the keys and what each is used for.
///
/// # Errors
/// The keys cannot be read.
pub fn list_signing_keys(config: &Config) -> Result<(), BootError> {
    let keys = signing_keys(config, &secret::secret(config)?)?;
    let mut text = String::new();
    for (at, key) in keys.iter().enumerate() {
        let use_of_it = match key.until_seconds {
            _ if at == 0 => "signs and verifies".to_owned(),
            i64::MAX => "verifies".to_owned(),
            until if until <= now_seconds() => "is no longer in use".to_owned(),
            until => format!("verifies until {}", rfc3339(until)),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}  {use_of_it}", key.id);
    }
    print(&text);
    Ok(())
}

/// Makes a new key that signs from the next reload on. `now`: no other key verifies any longer.
///
/// # Errors
/// The file cannot be written, or the keys were rotated too often of late.
pub fn rotate_signing_keys(config: &Config, now: bool) -> Result<(), BootError> {
    let (at, random) = (now_seconds(), rand::random::<[u8; 32]>());
    let id = format!("{}-{:06x}", &rfc3339(at)[..10], rand::random::<u32>() & 0xff_ffff);
    let item = format!("{id}:{}", STANDARD.encode(random));
    if !config.security.jwt_keys.is_empty() || is_shared(config) {
        print(&by_configuration(config, &item));
        return Ok(());
    }
    secret::secret(config)?; // made, if this is a first start: it stays the source of the other keys
    let path = file(config);
    let window = token_window(config);
    let mut kept = if now { Vec::new() } else { kept(&path)? };
    // A key is of no use once its successor has signed for as long as a token is valid.
    while kept.get(1).is_some_and(|successor| successor.since_seconds + window <= at) {
        kept.remove(0);
    }
    if kept.len() >= SIGNING_KEYS_MAX {
        return Err(BootError::Broken(format!(
            "{} keys are in use; the oldest is free again at {}. `chat-server keys rotate --now` takes all of them out \
             of use at once, and every client has to refresh its token",
            kept.len(),
            kept.get(1).map_or_else(String::new, |key| rfc3339(key.since_seconds + window)),
        )));
    }
    // With --now the key of the secret has been out of use since 1970.
    kept.push(KeptKey { since_seconds: if now { 0 } else { at }, id: id.clone(), secret: random });
    let mut text = String::new();
    for key in &kept {
        let _ = writeln!(text, "{} {}:{}", key.since_seconds, key.id, STANDARD.encode(key.secret));
    }
    replace(&path, text.as_bytes()).map_err(|error| {
        BootError::Configuration(format!("cannot write {}: {error}; run this as the server's user", path.display()))
    })?;
    let reload = match listen::owner_of(config.server.bind_addr.port()) {
        Some(owner) => format!("Reload the server, {owner}: systemctl reload chat-server, or kill -HUP"),
        None => "It does not seem to run; it uses the key when it starts. If it does, send it SIGHUP".to_owned(),
    };
    let others = if now { "no other key is valid" } else { "the others verify until their tokens have expired" };
    print(&format!("{id} signs from the next reload on; {others}.\n{reload}.\n"));
    Ok(())
}

/// What to do where the keys are not those of one server's file.
fn by_configuration(config: &Config, item: &str) -> String {
    let configured: Vec<String> = config.security.jwt_keys.iter().map(id_of).collect();
    let others = if configured.is_empty() { KEY_OF_SECRET.to_owned() } else { configured.join(", ") };
    format!(
        "The servers share their keys, so they are rotated in the configuration of all of them (security.jwt_keys):\n\
         1. Add this key as the last one, after {others}, and reload every server:\n   {item}\n\
         2. Move it to the front, and reload every server. It signs from now on.\n\
         3. After security.jwt_access_duration, remove the others, and reload every server.\n"
    )
}

/// The id of a configured key, without its secret.
fn id_of(item: &Secret) -> String {
    item.expose().split(':').next().unwrap_or_default().to_owned()
}

/// Replaces a secret file as a whole: a reload finds the old content or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

fn now_seconds() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64)
}

fn rfc3339(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
