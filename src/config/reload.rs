//! What changes when the configuration is read again while the server runs.
//!
//! Invariant: the configuration in force was checked as a whole. The values that a reload applies must also fit those
//! that stay until a restart, so they are checked together; otherwise a frame limit below the message limit could come
//! into force in two steps.

use super::error::{ConfigError, ConfigErrors};
use super::load::Loaded;
use super::schema::Config;
use super::secret::{Secret, SecretUrl};
use super::{print, validate};
use std::collections::{BTreeMap, BTreeSet};

/// The keys that a reload applies; all others need a restart.
pub const RELOADED: &[&str] = &[
    "limits.adaptive",
    "limits.bot_messages_per_minute",
    "limits.max_bots_per_user",
    "limits.max_connections_per_user",
    "limits.max_frame_bytes",
    "limits.max_message_length",
    "limits.max_messages_per_minute",
    "limits.message_edit_window",
    "limits.trusted_after",
    "logging.level",
    "responses.filter_evasion",
    "responses.impossible_travel",
    "responses.mass_direct_messages",
    "responses.mass_invitations",
    "responses.mass_mentions",
    "responses.mass_reading",
    "responses.privilege_jump",
    "responses.refresh_token_reuse",
    "security.admin_user_ids",
    "security.allowed_origins",
    "security.jwt_access_duration",
    "security.jwt_keys",
    "security.jwt_refresh_duration",
    "security.registrations_per_minute",
    "security.sign_ins_per_minute",
    "security.two_factor_required",
    "server.metrics_token",
];

/// The difference between the configuration in force and the one that was read.
#[derive(Clone, Debug)]
pub struct ConfigChange {
    /// What is in force from now on.
    pub config: Config,
    /// Keys whose new values it has.
    pub applied: Vec<String>,
    /// Keys whose new values need a restart.
    pub restart_required: Vec<String>,
}

impl ConfigChange {
    /// From `current` to what was read.
    ///
    /// # Errors
    /// The values that a reload applies do not fit those that stay.
    pub fn new(current: &Config, read: &Loaded) -> Result<Self, ConfigErrors> {
        let config = with_reloaded(current, &read.config);
        let problems: Vec<ConfigError> = validate::check(&config)
            .into_iter()
            .map(|(key, reason)| ConfigError {
                key: key.to_owned(),
                reason: format!("{reason}. Another value that it depends on has changed too, and needs a restart"),
                origin: read.origins.get(key).cloned().unwrap_or_else(|| "not set anywhere".to_owned()),
            })
            .collect();
        if !problems.is_empty() {
            return Err(ConfigErrors(problems));
        }
        let applied = changed_keys(current, &config);
        let restart_required = changed_keys(&config, &read.config);
        Ok(Self { config, applied, restart_required })
    }
}

/// `current` with the values of [`RELOADED`] from `read`.
fn with_reloaded(current: &Config, read: &Config) -> Config {
    let mut config = current.clone();
    let (limits, new) = (&mut config.limits, &read.limits);
    limits.adaptive = new.adaptive;
    limits.max_connections_per_user = new.max_connections_per_user;
    limits.max_frame_bytes = new.max_frame_bytes;
    limits.max_message_length = new.max_message_length;
    limits.max_messages_per_minute = new.max_messages_per_minute;
    limits.bot_messages_per_minute = new.bot_messages_per_minute;
    limits.max_bots_per_user = new.max_bots_per_user;
    limits.message_edit_window = new.message_edit_window;
    limits.trusted_after = new.trusted_after;
    config.logging.level.clone_from(&read.logging.level);
    config.responses = read.responses.clone();
    let (security, new) = (&mut config.security, &read.security);
    security.admin_user_ids.clone_from(&new.admin_user_ids);
    security.allowed_origins.clone_from(&new.allowed_origins);
    security.jwt_access_duration = new.jwt_access_duration;
    security.jwt_keys.clone_from(&new.jwt_keys);
    security.jwt_refresh_duration = new.jwt_refresh_duration;
    security.registrations_per_minute = new.registrations_per_minute;
    security.sign_ins_per_minute = new.sign_ins_per_minute;
    security.two_factor_required.clone_from(&new.two_factor_required);
    config.server.metrics_token.clone_from(&read.server.metrics_token);
    config
}

/// The keys whose values differ.
fn changed_keys(a: &Config, b: &Config) -> Vec<String> {
    let (shown_a, shown_b) = (print::flatten(a), print::flatten(b));
    let keys = shown_a.keys().chain(shown_b.keys());
    let mut changed: BTreeSet<String> = keys.filter(|key| shown_a.get(*key) != shown_b.get(*key)).cloned().collect();
    // Those are shown masked.
    let secrets = secrets(a).into_iter().zip(secrets(b));
    changed.extend(secrets.filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0.to_owned()));
    changed.into_iter().collect()
}

/// The values of these keys, secrets masked, as JSON.
#[must_use]
pub fn shown_values(config: &Config, keys: &[String]) -> BTreeMap<String, serde_json::Value> {
    let shown = print::flatten(config);
    let json = |key: &String| shown.get(key).and_then(|value| serde_json::to_value(value).ok());
    keys.iter().map(|key| (key.clone(), json(key).unwrap_or_default())).collect()
}

/// The keys of `load::SECRETS` and their values.
fn secrets(config: &Config) -> Vec<(&'static str, Vec<&str>)> {
    fn one(secret: Option<&Secret>) -> Vec<&str> {
        secret.map(Secret::expose).into_iter().collect()
    }
    fn all(secrets: &[Secret]) -> Vec<&str> {
        secrets.iter().map(Secret::expose).collect()
    }
    fn of_url(url: Option<&SecretUrl>) -> Vec<&str> {
        url.map(SecretUrl::expose).into_iter().collect()
    }
    let Config { server, database, security, files, cluster, cache, .. } = config;
    vec![
        ("cache.url", of_url(cache.url.as_ref())),
        ("cluster.redis_url", of_url(cluster.redis_url.as_ref())),
        ("database.app_password", one(database.app_password.as_ref())),
        ("database.owner_password", one(database.owner_password.as_ref())),
        ("database.url", of_url(database.url.as_ref())),
        ("database.writer_password", one(database.writer_password.as_ref())),
        ("files.s3_secret_access_key", one(files.s3_secret_access_key.as_ref())),
        ("security.captcha_secret", one(security.captcha_secret.as_ref())),
        ("security.encryption_keys", all(&security.encryption_keys)),
        ("security.jwt_keys", all(&security.jwt_keys)),
        ("security.jwt_secret", one(security.jwt_secret.as_ref())),
        ("server.metrics_token", one(server.metrics_token.as_ref())),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::load::{GivenFile, SECRETS, Sources};
    use super::*;

    fn read(text: &str) -> Loaded {
        Sources { dir: None, file: Some(GivenFile::Text(text.to_owned())), env: Vec::new() }.load().unwrap()
    }

    /// Every key with another valid value than its default.
    const OTHERS: &str = r#"
        [limits]
        adaptive = false
        max_connections_per_user = 7
        max_frame_bytes = 131072
        max_message_length = 5000
        max_messages_per_minute = 61
        bot_messages_per_minute = 301
        max_bots_per_user = 21
        message_edit_window = "5m"
        trusted_after = "1d"
        max_connections = 99
        [logging]
        level = "warn"
        [responses]
        filter_evasion = "notify"
        impossible_travel = "challenge"
        mass_direct_messages = "mute"
        mass_invitations = "mute"
        mass_mentions = "notify"
        mass_reading = "challenge"
        privilege_jump = "challenge"
        refresh_token_reuse = "challenge"
        [security]
        admin_user_ids = [7]
        allowed_origins = ["https://chat.example"]
        jwt_access_duration = "14m"
        jwt_keys = ["a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "jwt_secret"]
        jwt_refresh_duration = "8d"
        jwt_secret = "0123456789abcdef0123456789abcdef0123456789abcdef"
        registrations_per_minute = 9
        sign_ins_per_minute = 9
        two_factor_required = ["admin"]
        [server]
        metrics_token = "0123456789abcdef0123456789abcdef"
    "#;

    #[test]
    fn applies_exactly_the_keys_of_the_list() {
        let change = ConfigChange::new(&Config::default(), &read(OTHERS)).unwrap();
        let unchanged = shown_values(&Config::default(), &change.applied);
        let same: Vec<&str> = RELOADED.iter().copied().filter(|key| !change.applied.iter().any(|k| k == key)).collect();
        assert_eq!(change.applied, RELOADED, "the example leaves {same:?} at the default {unchanged:?}");
        assert_eq!(change.restart_required, ["limits.max_connections", "security.jwt_secret"]);
        assert_eq!(change.config.limits.max_connections, Config::default().limits.max_connections);
    }

    #[test]
    fn finds_changed_secrets_although_both_are_masked() {
        let secret = |text: &str| read(&format!("[server]\nmetrics_token = {text:?}"));
        let (a, b) = (secret(&"a".repeat(40)), secret(&"b".repeat(40)));
        let change = ConfigChange::new(&a.config, &b).unwrap();
        assert_eq!(change.applied, ["server.metrics_token"]);
        let shown = serde_json::to_string(&shown_values(&change.config, &change.applied)).unwrap();
        assert!(!shown.contains("bbb"), "{shown}");
    }

    #[test]
    fn refuses_values_that_do_not_fit_what_stays() {
        let current = read("[security]\nenable_2fa = false").config;
        let error = ConfigChange::new(&current, &read("[security]\ntwo_factor_required = [\"admin\"]")).unwrap_err();
        assert_eq!(error.0[0].key, "security.two_factor_required");
        assert!(error.0[0].reason.contains("needs a restart"), "{error}");
    }

    #[test]
    fn knows_every_secret() {
        let known: BTreeSet<&str> = secrets(&Config::default()).into_iter().map(|(key, _)| key).collect();
        for key in SECRETS {
            assert!(known.contains(key), "{key} can change unnoticed");
        }
    }
}
