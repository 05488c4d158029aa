//! Checks the ranges of single values, and the relations between values.

use super::schema::{AbuseResponse, Config, ContentStore, Environment, FilesConfig, SecurityConfig};
use super::secret::{KEY_OF_SECRET, SecretUrl, encryption_key, signing_key};
use crate::address::{parse_host_port, parse_network};
use crate::ids::MAX_SAFE_INTEGER;
use crate::limits::{SHARDS_MAX, SIGNING_KEYS_MAX};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// HMAC-SHA-256 keys shorter than its output weaken it (RFC 7518 §3.2).
const JWT_SECRET_BYTES_MIN: usize = 32;

/// Shorter tokens could be guessed.
const METRICS_TOKEN_BYTES_MIN: usize = 32;

/// Secrets that appear in public documentation.
const PUBLISHED_SECRETS: &[&str] = &["production-secret-key-change-this", "your-super-secret-jwt-key-minimum-32-chars"];

/// Upper bound for the bytes of a `send_message` frame around its content.
const ENVELOPE_BYTES: usize = 1_024;

pub(super) fn is_published(secret: &str) -> bool {
    PUBLISHED_SECRETS.contains(&secret)
}

/// The problems found so far: key and reason.
struct Problems(Vec<(&'static str, String)>);

impl Problems {
    fn add(&mut self, key: &'static str, reason: impl Into<String>) {
        self.0.push((key, reason.into()));
    }

    fn range<T: Copy + PartialOrd + Display>(&mut self, key: &'static str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.add(key, format!("must be between {min} and {max}, found {value}"));
        }
    }

    fn time(&mut self, key: &'static str, value: Duration, min: Duration, max: Duration) {
        if value < min || value > max {
            let [value, min, max] = [value, min, max].map(humantime_serde::re::humantime::format_duration);
            self.add(key, format!("must be between {min} and {max}, found {value}"));
        }
    }

    /// Each key, written as id:base64, has an id of its own.
    fn distinct_ids(&mut self, key: &'static str, ids: impl Iterator<Item = Result<String, String>>) {
        let mut seen = BTreeSet::new();
        for id in ids {
            match id {
                Ok(id) if !seen.insert(id.clone()) => {
                    self.add(key, format!("two keys have the id {id:?}; give each its own"));
                }
                Ok(_) => {}
                Err(reason) => self.add(key, reason),
            }
        }
    }

    fn url(&mut self, key: &'static str, url: Option<&SecretUrl>, schemes: &[&str]) {
        let Some(url) = url else { return };
        let host = schemes.iter().find_map(|scheme| url.expose().strip_prefix(scheme)?.strip_prefix("://"));
        match host {
            Some(host) if !host.is_empty() && !url.expose().contains(|c: char| c.is_whitespace() || c.is_control()) => {
            }
            _ => self.add(key, format!("must be a URL beginning with {}://", schemes.join(":// or "))),
        }
    }
}

pub(super) fn check(config: &Config) -> Vec<(&'static str, String)> {
    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(100);
    const DAY: Duration = Duration::from_hours(24);
    let mut problems = Problems(Vec::new());
    let p = &mut problems;

    if config.data_dir.as_os_str().is_empty() {
        p.add("data_dir", "must name a folder");
    }

    let server = &config.server;
    p.range("server.workers", server.workers, 0, SHARDS_MAX);
    p.time("server.connection_timeout", server.connection_timeout, TICK, 300 * SECOND);
    p.time("server.message_timeout", server.message_timeout, TICK, 600 * SECOND);
    p.time("server.heartbeat_interval", server.heartbeat_interval, TICK, 3_600 * SECOND);
    p.time("server.shutdown_timeout", server.shutdown_timeout, Duration::ZERO, 600 * SECOND);

    if server.internal_addr == Some(server.bind_addr) {
        p.add("server.internal_addr", "must differ from server.bind_addr");
    }
    if server.metrics_token.as_ref().is_some_and(|token| token.expose().len() < METRICS_TOKEN_BYTES_MIN) {
        p.add("server.metrics_token", format!("must have at least {METRICS_TOKEN_BYTES_MIN} bytes"));
    }
    for network in &server.trusted_proxies {
        if parse_network(network).is_none() {
            p.add("server.trusted_proxies", format!("{network:?} is neither a network (10.0.0.0/8) nor an address"));
        }
    }

    p.time("webhooks.timeout", config.webhooks.timeout, SECOND, 60 * SECOND);
    for network in &config.webhooks.allowed_networks {
        if parse_network(network).is_none() {
            p.add("webhooks.allowed_networks", format!("{network:?} is neither a network (10.0.0.0/8) nor an address"));
        }
    }

    if server.proxy_protocol && server.trusted_proxies.is_empty() {
        p.add("server.proxy_protocol", "needs server.trusted_proxies: only these may send a PROXY header");
    }

    p.url("database.url", config.database.url.as_ref(), &["postgresql", "postgres"]);
    p.range("database.max_connections", config.database.max_connections, 1, 1_000);
    p.url("cluster.redis_url", config.cluster.redis_url.as_ref(), &["redis", "rediss"]);
    if config.cluster.redis_url.is_some() && config.database.url.is_none() {
        p.add("cluster.redis_url", "needs database.url: the embedded PostgreSQL belongs to one server");
    }
    if !config.cluster.redis_seeds.is_empty() && config.cluster.redis_url.is_none() {
        p.add("cluster.redis_seeds", "needs cluster.redis_url: the seeds are other servers of that Redis Cluster");
    }
    for seed in config.cluster.redis_seeds.iter().filter(|seed| parse_host_port(seed).is_none()) {
        p.add("cluster.redis_seeds", format!("{seed:?} is not a host and a port: redis-2.example.com:6379"));
    }
    let name = &config.cluster.name;
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        p.add("cluster.name", "must have 1 to 64 letters, digits, '-', '_' or '.'");
    }
    p.url("cache.url", config.cache.url.as_ref(), &["redis", "rediss"]);

    let security = &config.security;
    match &security.jwt_secret {
        Some(secret) if secret.expose().len() < JWT_SECRET_BYTES_MIN => p.add(
            "security.jwt_secret",
            format!(
                "must have at least {JWT_SECRET_BYTES_MIN} bytes, has {} \
                 (openssl rand -base64 48 generates a good one)",
                secret.expose().len()
            ),
        ),
        None if server.environment != Environment::Development => p.add(
            "security.jwt_secret",
            format!(
                "must be set if server.environment is {:?}: put the output of openssl rand -base64 48 into \
                 CHAT_SERVER__SECURITY__JWT_SECRET",
                server.environment.as_str()
            ),
        ),
        _ => {}
    }
    p.time("security.jwt_access_duration", security.jwt_access_duration, SECOND, DAY);
    p.time("security.jwt_refresh_duration", security.jwt_refresh_duration, SECOND, 365 * DAY);
    if security.jwt_refresh_duration <= security.jwt_access_duration {
        p.add("security.jwt_refresh_duration", "must be longer than security.jwt_access_duration");
    }
    let encryption_keys = security.encryption_keys.iter().map(|item| Ok(encryption_key(item)?.0));
    p.distinct_ids("security.encryption_keys", encryption_keys);
    p.distinct_ids(
        "security.jwt_keys",
        security
            .jwt_keys
            .iter()
            .map(|item| Ok(signing_key(item)?.map_or_else(|| KEY_OF_SECRET.to_owned(), |(id, _)| id))),
    );
    if security.jwt_keys.len() > SIGNING_KEYS_MAX {
        p.add(
            "security.jwt_keys",
            format!("must have at most {SIGNING_KEYS_MAX} keys, has {}", security.jwt_keys.len()),
        );
    }
    if !security.enable_2fa && !security.two_factor_required.is_empty() {
        p.add("security.two_factor_required", "needs security.enable_2fa = true: these accounts could not set it up");
    }
    p.range("security.bcrypt_cost", security.bcrypt_cost, 4, 31);
    p.range("security.sign_ins_per_minute", security.sign_ins_per_minute, 1, 1_000_000);
    p.range("security.registrations_per_minute", security.registrations_per_minute, 1, 1_000_000);
    p.range("security.registration_difficulty", u32::from(security.registration_difficulty), 8, 28);
    p.range("security.stranger_additions_per_hour", security.stranger_additions_per_hour, 0, 1_000_000);
    for origin in &security.allowed_origins {
        if !is_origin(origin) {
            p.add(
                "security.allowed_origins",
                format!(
                    "{origin:?} is not an origin as browsers send it: write scheme://host or scheme://host:port in \
                     lower case, without a path"
                ),
            );
        }
    }

    captcha(security, p);
    for id in &security.admin_user_ids {
        p.range("security.admin_user_ids", *id, 1, MAX_SAFE_INTEGER as u64);
    }

    p.time("audit.checkpoint_interval", config.audit.checkpoint_interval, SECOND, DAY);
    if !config.audit.retention.is_zero() {
        p.time("audit.retention", config.audit.retention, DAY, 36_500 * DAY);
    }

    if config.responses.privilege_jump == AbuseResponse::Mute {
        p.add(
            "responses.privilege_jump",
            "must be notify, slow_down or challenge, found mute: a rival could have a new owner muted",
        );
    }

    let limits = &config.limits;
    p.range("limits.max_message_length", limits.max_message_length, 1, 1_000_000);
    p.range("limits.max_frame_bytes", limits.max_frame_bytes, 1_024, 16 * 1024 * 1024);
    p.range("limits.max_connections_per_user", limits.max_connections_per_user, 1, 10_000);
    p.range("limits.max_connections", limits.max_connections, 1, 10_000_000);
    p.range("limits.max_connections_per_network", limits.max_connections_per_network, 1, 10_000_000);
    p.range("limits.max_messages_per_minute", limits.max_messages_per_minute, 1, 100_000_000);
    p.range("limits.bot_messages_per_minute", limits.bot_messages_per_minute, 1, 100_000_000);
    p.range("limits.max_bots_per_user", limits.max_bots_per_user, 0, 1_000);
    p.time("limits.trusted_after", limits.trusted_after, Duration::ZERO, DAY * 36_500);
    p.time("limits.message_edit_window", limits.message_edit_window, Duration::ZERO, 366 * DAY);
    p.range("limits.max_file_size", limits.max_file_size, 1, 1 << 40);
    p.range("limits.max_outbound_queue_bytes", limits.max_outbound_queue_bytes, 4 * 1024, 1 << 30);
    // A character has at most four bytes in UTF-8.
    let needed = limits.max_message_length.saturating_mul(4).saturating_add(ENVELOPE_BYTES);
    if limits.max_frame_bytes < needed {
        p.add(
            "limits.max_frame_bytes",
            format!(
                "must be at least {needed}, so that a message of limits.max_message_length = {} characters fits; \
                 found {}",
                limits.max_message_length, limits.max_frame_bytes
            ),
        );
    }
    if limits.max_outbound_queue_bytes < 2 * limits.max_frame_bytes {
        p.add(
            "limits.max_outbound_queue_bytes",
            format!(
                "must be at least twice limits.max_frame_bytes = {}, found {}",
                limits.max_frame_bytes, limits.max_outbound_queue_bytes
            ),
        );
    }

    let files = &config.files;
    p.range("files.user_quota", files.user_quota, 0, 1 << 50);
    p.range("files.total_quota", files.total_quota, 0, 1 << 52);
    p.range("files.upload_rate", files.upload_rate, 0, 1 << 40);
    p.range("files.keep_free", files.keep_free, 0, 1 << 50);
    p.range("files.uploads_per_hour", files.uploads_per_hour, 1, 1_000_000);
    p.range("files.unfinished_uploads", files.unfinished_uploads, 1, 10_000);
    p.time("files.expiry", files.expiry, SECOND, 366 * DAY);
    if files.clamd.as_deref().is_some_and(|address| !is_clamd_address(address)) {
        p.add("files.clamd", "must be unix:/PATH or tcp:HOST:PORT");
    }
    if files.allowed_types.iter().any(|kind| !is_media_type(kind)) {
        p.add("files.allowed_types", "must have media types such as image/png, image/* or *");
    }
    bucket(files, p);

    let logging = &config.logging;
    if let Err(reason) = check_level(&logging.level) {
        p.add("logging.level", reason);
    }
    if logging.file.as_ref().is_some_and(|file| file.file_name().is_none()) {
        p.add("logging.file", "must name a file");
    }
    p.range("logging.keep_files", logging.keep_files, 1, 10_000);

    problems.0
}

/// Whether the text names a socket of clamd.
fn is_clamd_address(text: &str) -> bool {
    match text.split_once(':') {
        Some(("unix", path)) => path.starts_with('/'),
        Some(("tcp", address)) => address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)),
        _ => false,
    }
}

/// The bucket of the files has a name, an address and a key, if it is used.
fn bucket(files: &FilesConfig, p: &mut Problems) {
    if files.store == ContentStore::S3 {
        for (key, is_set) in [
            ("files.s3_bucket", files.s3_bucket.is_some()),
            ("files.s3_access_key_id", files.s3_access_key_id.is_some()),
            ("files.s3_secret_access_key", files.s3_secret_access_key.is_some()),
        ] {
            if !is_set {
                p.add(key, "must be set with files.store = \"s3\"");
            }
        }
    }
    let is_name = |text: &str, others: &[u8], most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b))
    };
    if files.s3_bucket.as_deref().is_some_and(|name| name.len() < 3 || !is_name(name, b"-.", 63)) {
        p.add("files.s3_bucket", "must have 3 to 63 lower-case letters, digits, dots and hyphens");
    }
    if !is_name(&files.s3_region, b"-_", 64) {
        p.add("files.s3_region", "must have lower-case letters, digits and hyphens, such as eu-central-1");
    }
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let prefix = &files.s3_prefix;
    let is_prefix = || prefix.strip_suffix('/').is_some_and(|parts| parts.split('/').all(is_part));
    if prefix.len() > 200 || (!prefix.is_empty() && !is_prefix()) {
        let reason =
            "must be empty, or names of letters, digits, dots, hyphens and underscores, each with a / after it";
        p.add("files.s3_prefix", reason);
    }
    if files.s3_access_key_id.as_ref().is_some_and(|key| key.len() > 200 || !key.bytes().all(|b| b.is_ascii_graphic()))
    {
        p.add("files.s3_access_key_id", "must have at most 200 printable ASCII characters, and no spaces");
    }
    let Some(endpoint) = &files.s3_endpoint else { return };
    match endpoint.split_once("://") {
        Some(("https" | "http", _)) if !is_origin(endpoint) => {
            p.add("files.s3_endpoint", "must be https://HOST or https://HOST:PORT, in lower case and without a path");
        }
        Some(("https", _)) => {}
        Some(("http", host)) if files.s3_allow_http || is_private_host(host) => {}
        Some(("http", _)) => p.add(
            "files.s3_endpoint",
            "must begin with https://, because the files of users would cross the network in the clear; with an \
             address of a private network, or files.s3_allow_http = true, it may begin with http://",
        ),
        _ => p.add("files.s3_endpoint", "must begin with https://"),
    }
}

/// Whether `host[:port]` is an address of this machine or of a private network.
fn is_private_host(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name);
    match name.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => name == "localhost",
    }
}

/// Whether the text is a media type in lower case, `class/*` or `*`.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
    };
    text == "*" || text.split_once('/').is_some_and(|(class, kind)| is_name(class) && (kind == "*" || is_name(kind)))
}

/// The captcha has an address, a secret and a site key, or none of them.
fn captcha(security: &SecurityConfig, p: &mut Problems) {
    let is_set = [
        ("security.captcha_verify_url", security.captcha_verify_url.is_some()),
        ("security.captcha_secret", security.captcha_secret.is_some()),
        ("security.captcha_site_key", security.captcha_site_key.is_some()),
    ];
    if is_set.iter().any(|(_, set)| *set) || security.captcha_script_url.is_some() {
        for (key, _) in is_set.iter().filter(|(_, set)| !set) {
            p.add(key, "must be set too: a captcha needs captcha_verify_url, captcha_secret and captcha_site_key");
        }
    }
    let urls = [
        ("security.captcha_verify_url", &security.captcha_verify_url),
        ("security.captcha_script_url", &security.captcha_script_url),
    ];
    for (key, url) in urls {
        if url.as_ref().is_some_and(|url| !is_private_url(url)) {
            p.add(key, "must be an https:// URL with its host in lower case; http:// only for this machine");
        }
    }
    if security
        .captcha_site_key
        .as_ref()
        .is_some_and(|key| key.len() > 200 || !key.bytes().all(|b| b.is_ascii_graphic()))
    {
        p.add("security.captcha_site_key", "must have at most 200 printable ASCII characters, and no spaces");
    }
}

/// Whether nobody on the way can read a request to the URL: it is `https`, or stays on this machine.
fn is_private_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let is_local = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
    (scheme == "https" || (scheme == "http" && is_local))
        && is_origin(&format!("{scheme}://{authority}"))
        && rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"' | b'\''))
}

/// Whether the text is `scheme://host[:port]` (RFC 6454 §6.2). The server compares it byte by byte with the browser's
/// header.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let default_port = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    let host_ok = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    scheme_ok && host_ok && !default_port && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `EnvFilter` reads a bare word as the name of a module, so a misspelt level would silently switch the log off. A
/// module therefore needs a level here.
fn check_level(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("must be a level: error, warn, info, debug, trace or off".to_owned());
    }
    for directive in text.split(',').map(str::trim) {
        let plain = !directive.contains(['=', '[', '{']);
        let level =
            matches!(directive.to_ascii_lowercase().as_str(), "error" | "warn" | "info" | "debug" | "trace" | "off");
        if plain && !level && !text.contains('[') {
            return Err(format!(
                "{directive:?} is no level (error, warn, info, debug, trace, off); for a module write module=level"
            ));
        }
    }
    EnvFilter::try_new(text).map(drop).map_err(|error| format!("{text:?} is not a valid filter: {error}"))
}
