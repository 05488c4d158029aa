//! Loads the configuration again while the server runs: at SIGHUP, and at `POST /admin/reload`.
//!
//! Read all layers → check them → find out what a reload can apply (`config::ConfigChange`) → a row of the audit
//! trail → the shards, the control plane and the log get the new settings.
//!
//! Invariants:
//! - a configuration with a problem changes nothing, and the answer names every problem;
//! - the row of the audit trail comes first. If it cannot be written, nothing changes: a change that nobody can find
//!   later must not come into force;
//! - one reload runs at a time, and a later one has a higher version: a shard never goes back to older settings.

use super::logging::LevelHandle;
use super::ports::Commands;
use super::settings::settings;
use super::signing_keys;
use crate::audit::caller::Caller;
use crate::auth::token::TokenKeys;
use crate::config::{Config, ConfigChange, ConfigErrors, Sources, shown_values};
use crate::control::Control;
use crate::control::reload::{RejectedValue, ReloadFuture, ReloadPort, ReloadReport};
use crate::error::Refusal;
use crate::storage::accounts::Accounts;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Mutex;

/// How the report names the keys of `data_dir/jwt_keys`.
const KEPT_KEYS: &str = "data_dir/jwt_keys";

/// What a reload needs.
pub(super) struct ReloadParts {
    pub(super) sources: Sources,
    pub(super) level: LevelHandle,
    pub(super) accounts: Accounts,
    pub(super) commands: Arc<Commands>,
    /// WebSockets that the process has room for.
    pub(super) websockets: usize,
}

/// Loads the configuration again; cloning shares it.
#[derive(Clone)]
pub(super) struct Reloader {
    inner: Arc<ReloadState>,
}

struct ReloadState {
    parts: ReloadParts,
    /// The configuration in force, its version, and the ids of its signing keys.
    present: Mutex<(Config, u64, Vec<String>)>,
    /// A signal has come whose reload has not begun: another one asks for nothing more.
    is_signalled: AtomicBool,
    /// Set once the control plane has been built.
    control: OnceLock<Control>,
}

impl Reloader {
    pub(super) fn new(parts: ReloadParts, present: Config, key_ids: Vec<String>) -> Self {
        let present = Mutex::new((present, 0, key_ids));
        let (is_signalled, control) = (AtomicBool::new(false), OnceLock::new());
        Self { inner: Arc::new(ReloadState { parts, present, is_signalled, control }) }
    }

    /// Gives the new settings to this control plane, too.
    pub(super) fn attach(&self, control: Control) {
        // It is attached once, at the start.
        let _ = self.inner.control.set(control);
    }

    /// SIGHUP came. The outcome is in the log.
    pub(super) async fn on_signal(&self) {
        if self.inner.is_signalled.swap(true, Ordering::Relaxed) {
            return;
        }
        match self.clone().run(None).await {
            Ok(_) => {}
            Err(refusal) => tracing::error!("SIGHUP: nothing was reloaded: {refusal}"),
        }
    }

    async fn run(self, caller: Option<Caller>) -> Result<ReloadReport, Refusal> {
        let ReloadState { parts, present, is_signalled, control } = &*self.inner;
        let mut present = present.lock().await;
        // Before anything is read: a change after this moment needs another signal.
        if caller.is_none() {
            is_signalled.store(false, Ordering::Relaxed);
        }
        let (in_force, version, key_ids) = &mut *present;
        let (change, keys) = match read(&parts.sources, in_force) {
            Ok(read) => read,
            Err(errors) => {
                let report = rejected(errors);
                log(&report);
                let details = json!({"rejected": report.rejected.iter().map(|value| &value.key).collect::<Vec<_>>()});
                parts.accounts.note_reload(caller.as_ref(), details).await?;
                return Ok(report);
            }
        };
        let ids: Vec<String> = keys.ids().map(str::to_owned).collect();
        let ConfigChange { config, mut applied, restart_required } = change;
        let details = json!({
            "before": shown_values(in_force, &applied),
            "after": shown_values(&config, &applied),
            "restart_required": restart_required,
            "signing_keys": ids,
        });
        if ids != *key_ids && !applied.iter().any(|key| key == "security.jwt_keys") {
            applied.push(KEPT_KEYS.to_owned());
        }
        parts.accounts.note_reload(caller.as_ref(), details).await?;
        *version += 1;
        let new = settings(&config, keys, *version, parts.websockets);
        parts.commands.replace_settings(&new.live).await;
        if let Some(control) = control.get() {
            control.replace_settings(new);
        }
        if config.logging.level != in_force.logging.level {
            parts.level.set(&config.logging.level);
        }
        (*in_force, *key_ids) = (config, ids);
        let report = ReloadReport { applied, restart_required, rejected: Vec::new() };
        log(&report);
        Ok(report)
    }
}

impl ReloadPort for Reloader {
    fn reload(&self, caller: Caller) -> ReloadFuture {
        Box::pin(self.clone().run(Some(caller)))
    }
}

/// What the layers have now, beside what is in force.
fn read(sources: &Sources, in_force: &Config) -> Result<(ConfigChange, TokenKeys), ConfigErrors> {
    let change = ConfigChange::new(in_force, &sources.load()?)?;
    let keys = signing_keys::token_keys(&change.config)
        .map_err(|error| ConfigErrors::of_file(KEPT_KEYS, error.to_string()))?;
    Ok((change, keys))
}

fn rejected(ConfigErrors(errors): ConfigErrors) -> ReloadReport {
    let rejected =
        errors.into_iter().map(|error| RejectedValue { key: error.key, reason: error.reason, origin: error.origin });
    ReloadReport { applied: Vec::new(), restart_required: Vec::new(), rejected: rejected.collect() }
}

fn log(report: &ReloadReport) {
    for RejectedValue { key, reason, origin } in &report.rejected {
        tracing::error!("the configuration was read again and not applied: {key}: {reason} (from {origin})");
    }
    if report.rejected.is_empty() {
        tracing::info!(applied = ?report.applied, "the configuration was read again");
    }
    if !report.restart_required.is_empty() {
        tracing::warn!(keys = ?report.restart_required, "these keys have changed too; they need a restart");
    }
}
