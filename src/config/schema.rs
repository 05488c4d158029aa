//! The keys of the configuration and their types; docs/configuration.md explains each.

use super::secret::{Secret, SecretUrl};
use crate::address::ForwardedHeader;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for the server's own files, relative to the working directory.
    pub data_dir: PathBuf,
    /// The process and its port.
    pub server: ServerConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// Tokens, origins, content.
    pub security: SecurityConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// What the server does by itself after a security event.
    pub responses: ResponsesConfig,
    /// Limits, which `welcome` reports to clients.
    pub limits: LimitsConfig,
    /// Files.
    pub files: FilesConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// Enabled features.
    pub features: FeaturesConfig,
    /// The log.
    pub logging: LoggingConfig,
    /// Several nodes.
    pub cluster: ClusterConfig,
    /// A cache shared by several nodes.
    pub cache: CacheConfig,
}

/// The kind of installation. It selects the file `config/{environment}.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A developer's machine. Without a signing secret, the server generates one.
    Development,
    /// The same rules as in production, for tests of an installation.
    Staging,
    /// An installation with real users. The signing secret is required.
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
    /// The kind of installation.
    pub environment: Environment,
    /// Number of shards; 0 means one per core, minus one.
    pub workers: usize,
    /// Time until a request head must be complete.
    #[serde(with = "humantime_serde")]
    pub connection_timeout: Duration,
    /// Time until a WebSocket message must be complete.
    #[serde(with = "humantime_serde")]
    pub message_timeout: Duration,
    /// Time between two pings on an idle WebSocket.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// How long a planned stop waits for running work.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    /// A port for operators: metrics, dashboard, health with reasons. Then the public port has only health.
    #[serde(default, deserialize_with = "empty_is_no_address")]
    pub internal_addr: Option<SocketAddr>,
    /// A token for programs that read the metrics of the public port.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub metrics_token: Option<Secret>,
    /// Networks of the proxies that may name a client's address.
    pub trusted_proxies: Vec<String>,
    /// The header in which they name it.
    pub forwarded_header: ForwardedHeader,
    /// Whether these proxies begin each connection with a PROXY header, version 2, instead.
    pub proxy_protocol: bool,
}

/// What a registration must bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationProof {
    /// Nothing.
    Off,
    /// A proof of work (`auth::proof`).
    ProofOfWork,
}

/// `[database]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgresql://…`; without it the server runs a private PostgreSQL under `data_dir`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub url: Option<SecretUrl>,
    /// The password of the login `chat_owner`; without it, one derived from `security.jwt_secret`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub owner_password: Option<Secret>,
    /// The same for `chat_app`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub app_password: Option<Secret>,
    /// The same for `chat_writer`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub writer_password: Option<Secret>,
    /// Connections for reads.
    pub max_connections: usize,
    /// Whether the server brings tables and rule set to this version at start.
    pub auto_migrate: bool,
    /// Whether other servers may use the database at the same time.
    pub shared: bool,
}

/// `[security]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Key that signs access tokens, at least 32 bytes; absent only in development.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub jwt_secret: Option<Secret>,
    /// Keys that sign access tokens, `id:base64` of 32 bytes, the present one first; the item `jwt_secret` stands for
    /// the key made of [`Self::jwt_secret`]. Without any, `data_dir/jwt_keys` has them, or there is that one.
    pub jwt_keys: Vec<Secret>,
    /// Lifetime of an access token.
    #[serde(with = "humantime_serde")]
    pub jwt_access_duration: Duration,
    /// Lifetime of a refresh token.
    #[serde(with = "humantime_serde")]
    pub jwt_refresh_duration: Duration,
    /// Whether users may set up two-factor authentication.
    pub enable_2fa: bool,
    /// Roles whose accounts must have two-factor authentication.
    pub two_factor_required: Vec<ServerRole>,
    /// Keys that encrypt the secrets of authenticator apps, `id:base64` of 32 bytes, the present one first. Without
    /// any, the server makes one in `data_dir`.
    pub encryption_keys: Vec<Secret>,
    /// Whether messages pass the content filter.
    pub content_filtering: bool,
    /// Greatest cost of a bcrypt hash that is accepted. Argon2id hashes new passwords, and those of old hashes at the
    /// next sign-in.
    pub bcrypt_cost: u32,
    /// Sign-ins and other password checks per minute from one IPv4 address or IPv6 /64.
    pub sign_ins_per_minute: u32,
    /// New accounts per minute from one IPv4 address or IPv6 /64.
    pub registrations_per_minute: u32,
    /// What a registration must bring.
    pub registration_proof: RegistrationProof,
    /// Zero bits of a proof of work; each one more doubles the work.
    pub registration_difficulty: u8,
    /// Where the responses of captchas are checked (`siteverify`). With it, a registration needs a solved captcha.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub captcha_verify_url: Option<String>,
    /// What the captcha service knows this server by.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub captcha_secret: Option<Secret>,
    /// What it knows the widget by.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub captcha_site_key: Option<String>,
    /// The script of the widget, which the web client loads.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub captcha_script_url: Option<String>,
    /// How often strangers can add a user to groups and rooms within an hour, before the user must accept.
    pub stranger_additions_per_hour: u32,
    /// Origins of web pages that may open a WebSocket, exactly as browsers send them.
    pub allowed_origins: Vec<String>,
    /// A file in the `MaxMind` DB format with the places of addresses. Without it, the server does not look for
    /// impossible travel.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub geoip_database: Option<PathBuf>,
    /// Ids of users who may read the audit trail and open the dashboard. Names would not be safe: anyone can register a
    /// name that is still free.
    pub admin_user_ids: Vec<u64>,
}

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// The shortest time between two signed heads of the audit trail.
    #[serde(with = "humantime_serde")]
    pub checkpoint_interval: Duration,
    /// Months that ended longer ago are dropped; zero keeps all.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

/// `[responses]`: the keys are the types of security events. Events about an account that strangers attack have no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponsesConfig {
    /// After a stolen refresh token came back.
    pub refresh_token_reuse: TheftResponse,
    /// After the account was at two places that are too far apart.
    pub impossible_travel: TheftResponse,
    /// After many people were brought into conversations.
    pub mass_invitations: AbuseResponse,
    /// After many direct conversations were opened.
    pub mass_direct_messages: AbuseResponse,
    /// After many people, or many whole conversations, were mentioned.
    pub mass_mentions: AbuseResponse,
    /// After more was read than a person can.
    pub mass_reading: AbuseResponse,
    /// After texts were varied until the content filter let them pass.
    pub filter_evasion: AbuseResponse,
    /// After somebody new in a role has promoted others; not [`AbuseResponse::Mute`].
    pub privilege_jump: AbuseResponse,
}

/// What may follow for an account that somebody else may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TheftResponse {
    /// Nothing but the event.
    Notify,
    /// Its sessions are revoked.
    Challenge,
}

/// What may follow for an account that abuses the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbuseResponse {
    /// Nothing but the event.
    Notify,
    /// Its rate limits shrink for ten minutes.
    SlowDown,
    /// Its sessions are revoked.
    Challenge,
    /// It can send nothing for ten minutes.
    Mute,
}

/// The role of an account on the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerRole {
    /// In `security.admin_user_ids`.
    Admin,
    /// Every other account.
    Member,
}

/// `[limits]`, which becomes [`Limits`](crate::limits::Limits).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Characters in a message.
    pub max_message_length: usize,
    /// Bytes in a frame and in a reassembled message.
    pub max_frame_bytes: usize,
    /// Open WebSockets per user.
    pub max_connections_per_user: usize,
    /// Open WebSockets in total.
    pub max_connections: usize,
    /// Open WebSockets from one IPv4 address or IPv6 /64.
    pub max_connections_per_network: usize,
    /// Messages per user and minute.
    pub max_messages_per_minute: u32,
    /// Messages per bot that signs in and minute.
    pub bot_messages_per_minute: u32,
    /// Bots per user.
    pub max_bots_per_user: u32,
    /// Whether a user's limits depend on the user's standing and on the load.
    pub adaptive: bool,
    /// The age from which an account in good standing has twice the limits.
    #[serde(with = "humantime_serde")]
    pub trusted_after: Duration,
    /// How long authors can edit a message; zero means no limit.
    #[serde(with = "humantime_serde")]
    pub message_edit_window: Duration,
    /// Bytes in an uploaded file.
    pub max_file_size: u64,
    /// Bytes queued for one connection before it counts as lagging.
    pub max_outbound_queue_bytes: usize,
}

/// `[files]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// Media types that are accepted: `image/png`, `image/*` or `*`.
    pub allowed_types: Vec<String>,
    /// Bytes of all files of a user.
    pub user_quota: u64,
    /// Bytes of all files.
    pub total_quota: u64,
    /// Bytes a second of all uploads together; any number with 0.
    pub upload_rate: u64,
    /// Files that a user may upload within an hour.
    pub uploads_per_hour: u32,
    /// Unfinished uploads of a user.
    pub unfinished_uploads: u32,
    /// What happens to files that cannot be scanned for viruses.
    pub scan: FileScan,
    /// Where clamd listens: `unix:/PATH` or `tcp:HOST:PORT`. Empty: files are not scanned.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub clamd: Option<String>,
    /// Bytes of the disk of `data_dir` that uploads leave free, for PostgreSQL and the log.
    pub keep_free: u64,
    /// Whether members can make public links to files.
    pub public_links: bool,
    /// Whether pictures are also kept as they came, where readers get a copy without places and serial numbers.
    pub keep_originals: bool,
    /// How long an upload may take, and how long a file is kept without a message.
    #[serde(with = "humantime_serde")]
    pub expiry: Duration,
    /// Where content is.
    pub store: ContentStore,
    /// The bucket of `store = "s3"`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub s3_bucket: Option<String>,
    /// What the names of its objects begin with: empty, or ending with `/`.
    pub s3_prefix: String,
    /// Its region.
    pub s3_region: String,
    /// `scheme://host[:port]` of a store that is not AWS.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub s3_endpoint: Option<String>,
    /// Whether `s3_endpoint` may be `http://` outside private networks.
    pub s3_allow_http: bool,
    /// The access key.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub s3_access_key_id: Option<String>,
    /// Its secret.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub s3_secret_access_key: Option<Secret>,
}

/// Where the content of files is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentStore {
    /// In `data_dir`.
    Folder,
    /// In a bucket of S3.
    S3,
}

/// What happens to a file that cannot be scanned for viruses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileScan {
    /// It waits until it was scanned.
    Required,
    /// It is released.
    WhenAvailable,
    /// No file is scanned.
    Off,
}

/// `[webhooks]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhooksConfig {
    /// How long a receiver may take to answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Networks that are not public and that receivers may be in all the same.
    pub allowed_networks: Vec<String>,
}

/// `[features]`
// The file has eight independent switches. An enum for each would only rename `bool`.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// Uploads.
    pub file_uploads: bool,
    /// Emoji reactions.
    pub message_reactions: bool,
    /// `@name` in a message notifies that user.
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
    /// The log file. Without it, the log goes to standard error.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub file: Option<PathBuf>,
    /// When the server starts a new file.
    pub rotation: LogRotation,
    /// Number of rotated files to keep.
    pub keep_files: usize,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

/// When the server starts a new log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogRotation {
    /// At midnight UTC.
    Daily,
    /// At every full hour.
    Hourly,
    /// Never. An external tool may rotate the file.
    Never,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The Redis server through which nodes notify each other, or one server of a Redis Cluster.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub redis_url: Option<SecretUrl>,
    /// Other servers of that Redis Cluster, as `host:port`. User, password and TLS are those of `redis_url`.
    pub redis_seeds: Vec<String>,
    /// Begins the names of the channels in Redis.
    pub name: String,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// The Redis server used as a cache.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub url: Option<SecretUrl>,
}

/// An optional text. Empty means absent, so that a variable (`…__URL=`) can unset the value of a file.
fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<Text>,
{
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| T::from(Text(text))))
}

/// An optional address; empty as in [`empty_is_none`].
fn empty_is_no_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let address = (!text.is_empty()).then(|| text.parse().map_err(D::Error::custom));
    address.transpose()
}

/// Conversion from text into the types of optional keys.
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

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<Text> for PathBuf {
    fn from(text: Text) -> Self {
        Self::from(text.0)
    }
}
