//! The configuration: what can be set, where it comes from, and why a value is refused.
//!
//! Layers, each over the one before: the defaults compiled in, `config/default.toml`, `config/{environment}.toml`,
//! the file given with `--config`, environment variables `CHAT_SERVER__SECTION__KEY`.
//!
//! Invariants:
//! - a [`Config`] that exists has been checked: every value is in its range and the values fit one another, so no
//!   other module checks again (a frame limit below the message limit would make messages that nobody can send);
//! - an unknown key is an error, because a misspelt limit that is silently ignored is a limit that does not hold;
//! - all problems are reported at once, each with its key, the reason and the file or variable it came from;
//! - secrets are in [`Secret`] and [`SecretUrl`], and an error never quotes one.
//!
//! Deliberately absent: reloading while the server runs.

mod load;
mod print;
mod secret;
mod validate;

pub use load::{ENV_PREFIX, Loaded, Sources};
pub use secret::{MASK, Secret, SecretUrl};

use crate::limits::{Features, Limits};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keys that this version accepts and checks, but that change nothing yet.
const WITHOUT_EFFECT: &[&str] = &[
    "cache.url",
    "cluster.redis_url",
    "features.file_uploads",
    "features.webhooks",
    "limits.max_file_size",
    "security.bcrypt_cost",
    "security.enable_2fa",
];

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server keeps what it owns; relative to the working directory.
    pub data_dir: PathBuf,
    /// The process and its port.
    pub server: ServerConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// Tokens, origins, content.
    pub security: SecurityConfig,
    /// Bounds that clients are told.
    pub limits: LimitsConfig,
    /// What is switched on.
    pub features: FeaturesConfig,
    /// The log.
    pub logging: LoggingConfig,
    /// Several nodes.
    pub cluster: ClusterConfig,
    /// A cache shared by several nodes.
    pub cache: CacheConfig,
}

/// Kind of installation; names the second layer's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// One developer's machine: a missing signing secret is made up.
    Development,
    /// Production's rules, without its users.
    Staging,
    /// The real thing.
    Production,
}

impl Environment {
    /// The name as configured.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The one port, for WebSocket and HTTP.
    pub bind_addr: SocketAddr,
    /// Kind of installation.
    pub environment: Environment,
    /// Shards; 0 takes what the machine has.
    pub workers: usize,
    /// Time in which a request head must be complete.
    #[serde(with = "humantime_serde")]
    pub connection_timeout: Duration,
    /// Time between two pings to an idle WebSocket.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// Time that a planned stop grants to work that has begun.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
}

/// `[database]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgresql://…`; without it the server runs a private PostgreSQL under `data_dir`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub url: Option<SecretUrl>,
    /// Connections for reads.
    pub max_connections: usize,
    /// Whether migrations are applied at start.
    pub auto_migrate: bool,
}

/// `[security]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Key that signs access tokens, at least 32 bytes; absent only in development.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub jwt_secret: Option<Secret>,
    /// How long an access token is good for.
    #[serde(with = "humantime_serde")]
    pub jwt_access_duration: Duration,
    /// How long a refresh token is good for.
    #[serde(with = "humantime_serde")]
    pub jwt_refresh_duration: Duration,
    /// Whether users may switch two-factor authentication on.
    pub enable_2fa: bool,
    /// Whether messages pass the content filter.
    pub content_filtering: bool,
    /// Accepted for older files; Argon2id hashes the passwords.
    pub bcrypt_cost: u32,
    /// Origins of the web pages that may open a WebSocket, exactly as browsers send them.
    pub allowed_origins: Vec<String>,
    /// Users who may see what the server does as a whole. Numbers, because a name that is free today could be
    /// registered by anybody tomorrow.
    pub admin_user_ids: Vec<u64>,
}

/// `[limits]`: see [`Limits`], which this becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Characters in a message.
    pub max_message_length: usize,
    /// Bytes in a frame and in a reassembled message.
    pub max_frame_bytes: usize,
    /// WebSockets one user may have open.
    pub max_connections_per_user: usize,
    /// WebSockets in total.
    pub max_connections: usize,
    /// Messages one user may send in a minute.
    pub max_messages_per_minute: u32,
    /// For how long a message can be edited; zero for ever.
    #[serde(with = "humantime_serde")]
    pub message_edit_window: Duration,
    /// Bytes in an uploaded file.
    pub max_file_size: u64,
    /// Bytes queued for one connection.
    pub max_outbound_queue_bytes: usize,
}

/// `[features]`
// Eight independent switches are what the file has; an enum for each would only rename `bool`.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// Uploads.
    pub file_uploads: bool,
    /// Emoji reactions.
    pub message_reactions: bool,
    /// `@name` in a message tells that user.
    pub user_mentions: bool,
    /// Pins.
    pub pinned_messages: bool,
    /// Replies that form a thread.
    pub message_threads: bool,
    /// Outgoing webhooks.
    pub webhooks: bool,
    /// permessage-deflate, for clients that offer it.
    pub compression: bool,
}

/// `[logging]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggingConfig {
    /// Level, or levels per module, in `tracing`'s `EnvFilter` syntax.
    pub level: String,
    /// One line of text or one JSON object per event.
    pub format: LogFormat,
    /// The log file; standard error without it.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub file: Option<PathBuf>,
    /// When a new file is begun.
    pub rotation: LogRotation,
    /// Rotated files that are kept.
    pub keep_files: usize,
}

/// How a log event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// When a new log file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogRotation {
    /// At midnight UTC.
    Daily,
    /// At every full hour.
    Hourly,
    /// By somebody else, or not at all.
    Never,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The Redis through which nodes wake each other.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub redis_url: Option<SecretUrl>,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// The Redis that serves as cache.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub url: Option<SecretUrl>,
}

/// An optional text: empty means absent, so that a variable (`…__URL=`) can switch off what a file has set.
fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<Text>,
{
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| T::from(Text(text))))
}

/// A text on its way into one of the optional types.
struct Text(String);

impl From<Text> for Secret {
    fn from(text: Text) -> Self {
        Self::new(text.0)
    }
}

impl From<Text> for SecretUrl {
    fn from(text: Text) -> Self {
        Self::new(text.0)
    }
}

impl From<Text> for PathBuf {
    fn from(text: Text) -> Self {
        Self::from(text.0)
    }
}

impl FeaturesConfig {
    /// What clients can do without, and are told of.
    #[must_use]
    pub fn for_clients(&self) -> Features {
        Features {
            message_reactions: self.message_reactions,
            pinned_messages: self.pinned_messages,
            user_mentions: self.user_mentions,
            message_threads: self.message_threads,
        }
    }
}

impl Config {
    /// Reads all layers of this process.
    ///
    /// # Errors
    /// Every problem found, with its key and origin.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigErrors> {
        Sources::of_process(file).load().map(|loaded| loaded.config)
    }

    /// The limits, as the rest of the server uses them.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limits = &self.limits;
        Limits {
            max_message_length: limits.max_message_length,
            max_frame_bytes: limits.max_frame_bytes,
            max_connections_per_user: limits.max_connections_per_user,
            max_connections: limits.max_connections,
            max_messages_per_minute: limits.max_messages_per_minute,
            message_edit_window_s: limits.message_edit_window.as_secs(),
            max_file_size: limits.max_file_size,
            max_outbound_queue_bytes: limits.max_outbound_queue_bytes,
        }
    }

    /// Keys that were set to something other than their default although this version does nothing with them. Whoever
    /// set one expects an effect, so the server says at start that there is none.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let (mine, defaults) = (print::flatten(self), print::flatten(&Self::default()));
        WITHOUT_EFFECT.iter().copied().filter(|key| mine.get(*key) != defaults.get(*key)).collect()
    }

    /// Things that are allowed but that nobody should run with; for the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .without_effect()
            .into_iter()
            .map(|key| format!("{key} is set, but it has no effect in this version"))
            .collect();
        if self.security.jwt_secret.as_ref().is_some_and(|secret| validate::is_published(secret.expose())) {
            warnings.push(
                "security.jwt_secret is an example from public documentation: anybody can sign tokens with it; set one \
                 of your own (openssl rand -base64 48)"
                    .to_owned(),
            );
        }
        warnings
    }
}

impl Default for Config {
    /// What `config/default.toml` says.
    fn default() -> Self {
        let nothing = Sources { dir: None, file: None, env: Vec::new() };
        // PROOF: the input is compiled in, and `has_valid_defaults` in tests/config.rs loads it.
        nothing.load().expect("config/default.toml is valid").config
    }
}

/// One reason why the configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `section.key`; empty when a file as a whole is the problem.
    pub key: String,
    /// What is wrong and what would be right.
    pub reason: String,
    /// The file or the environment variable it came from.
    pub origin: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.reason)
        } else {
            write!(f, "{}: {} (from {})", self.key, self.reason, self.origin)
        }
    }
}

/// Every reason why the configuration is refused; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a problem:")?,
            n => write!(f, "the configuration has {n} problems:")?,
        }
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}
