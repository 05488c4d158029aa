//! The configuration: its keys, its layers, and the reasons for refusing a value.
//!
//! A later layer overrides an earlier one: the compiled-in defaults, `config/default.toml`,
//! `config/{environment}.toml`, the file given with `--config`, environment variables `CHAT_SERVER__SECTION__KEY`.
//!
//! Invariants:
//! - every existing [`Config`] was checked. Each value is in its range and the values fit together, so no other module
//!   checks again. (With a frame limit below the message limit, no client could send a long message.);
//! - an unknown key is an error. If the server ignored a misspelt limit, the limit would not hold;
//! - all problems are reported together, each with its key, the reason and the file or variable of its origin;
//! - secrets are in [`Secret`] and [`SecretUrl`], and an error never quotes one.

mod error;
mod load;
mod print;
mod reload;
mod schema;
mod secret;
mod validate;

pub use error::{ConfigError, ConfigErrors};
pub use load::{ENV_PREFIX, GivenFile, Loaded, Sources};
pub use reload::{ConfigChange, RELOADED, shown_values};
pub use schema::{
    AbuseResponse, AuditConfig, CacheConfig, ClusterConfig, Config, ContentStore, DatabaseConfig, Environment,
    FeaturesConfig, FileScan, FilesConfig, LimitsConfig, LogFormat, LogRotation, LoggingConfig, RegistrationProof,
    ResponsesConfig, SecurityConfig, ServerConfig, ServerRole, TheftResponse, WebhooksConfig,
};
pub use secret::{KEY_OF_SECRET, MASK, Secret, SecretUrl, encryption_key, signing_key};

use crate::address::{TrustedProxies, parse_network};
use crate::limits::{Features, Limits};
use std::path::Path;

/// Keys that this version accepts and checks, but that have no effect yet.
const WITHOUT_EFFECT: &[&str] = &["cache.url"];

impl FeaturesConfig {
    /// The switches that `welcome.features` reports to clients.
    #[must_use]
    pub fn for_clients(&self) -> Features {
        Features {
            message_reactions: self.message_reactions,
            pinned_messages: self.pinned_messages,
            user_mentions: self.user_mentions,
            message_threads: self.message_threads,
            file_uploads: self.file_uploads,
            files_scanned: false,
        }
    }
}

impl Config {
    /// Reads all layers of this process.
    ///
    /// # Errors
    /// All problems, each with its key and origin.
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
            max_connections_per_network: limits.max_connections_per_network,
            max_messages_per_minute: limits.max_messages_per_minute,
            bot_messages_per_minute: limits.bot_messages_per_minute,
            max_bots_per_user: limits.max_bots_per_user,
            adaptive: limits.adaptive,
            trusted_after_s: limits.trusted_after.as_secs().min(u64::from(u32::MAX)) as i64,
            message_edit_window_s: limits.message_edit_window.as_secs(),
            max_file_size: limits.max_file_size,
            max_outbound_queue_bytes: limits.max_outbound_queue_bytes,
        }
    }

    /// The proxies that may name a client's address.
    #[must_use]
    pub fn trusted_proxies(&self) -> TrustedProxies {
        let networks = self.server.trusted_proxies.iter().filter_map(|text| parse_network(text));
        TrustedProxies::new(networks.collect(), self.server.forwarded_header)
    }

    /// Keys without effect that are not at their default. The operator expects an effect, so the server warns at start.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let (mine, defaults) = (print::flatten(self), print::flatten(&Self::default()));
        WITHOUT_EFFECT.iter().copied().filter(|key| mine.get(*key) != defaults.get(*key)).collect()
    }

    /// Warnings for the log at start: settings that are allowed but not recommended.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .without_effect()
            .into_iter()
            .map(|key| format!("{key} is set, but it has no effect in this version"))
            .collect();
        if self.security.jwt_secret.as_ref().is_some_and(|secret| validate::is_published(secret.expose())) {
            warnings.push(
                "security.jwt_secret is an example from public documentation, so anyone can sign tokens with it; set \
                 your own (openssl rand -base64 48)"
                    .to_owned(),
            );
        }
        if self.server.environment == Environment::Production && self.scans_no_files() {
            warnings.push(
                "files are not scanned for viruses, and features.file_uploads is on; set files.clamd (see \
                 docs/files.md), or files.scan = \"off\" if that is meant"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Whether files are accepted and nobody has said that they need not be scanned.
    fn scans_no_files(&self) -> bool {
        self.features.file_uploads && self.files.clamd.is_none() && self.files.scan != FileScan::Off
    }
}

impl Default for Config {
    /// The values of `config/default.toml`.
    fn default() -> Self {
        let nothing = Sources { dir: None, file: None, env: Vec::new() };
        // PROOF: the input is compiled in, and `has_valid_defaults` in tests/config.rs loads it.
        nothing.load().expect("config/default.toml is valid").config
    }
}
