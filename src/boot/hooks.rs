//! The webhooks of this process: their connections, the threads that resolve names, and their jobs.

use super::error::BootError;
use super::reach::runtime;
use crate::address::parse_network;
use crate::auth::sealed::SealingKeys;
use crate::config::Config;
use crate::control::jobs::{self, HOOKS};
use crate::hooks::deliver::{HookParts, Hooks, IN_FLIGHT_MAX};
use crate::hooks::sender::HookSender;
use crate::hooks::target::AddressPolicy;
use crate::hooks::wake;
use crate::mesh::lane::Mesh;
use crate::storage::accounts::Accounts;
use crate::storage::connect::{Role, Target};
use crate::storage::health::StorageHealth;
use crate::storage::jobs::JobStore;
use crate::storage::log_reader::{self, LogReader};
use crate::storage::webhooks::WebhookStore;
use std::sync::Arc;
use tokio::runtime::{Handle, Runtime};

/// Connections to PostgreSQL that write for webhooks. They are apart from those of sign-ins, which must not wait.
const CONNECTIONS: usize = 2;
/// All connections to PostgreSQL: those, the one that takes jobs, and those that read logs.
const CONNECTIONS_MAX: usize = CONNECTIONS + 1 + log_reader::CONNECTIONS;
/// Descriptors that webhooks need: those, and a connection for each request to a receiver.
pub(super) const DESCRIPTORS: usize = CONNECTIONS_MAX + HOOKS.at_once * IN_FLIGHT_MAX;
/// Threads that may wait for a name server.
const NAME_THREADS: usize = 32;

/// Webhooks, and the threads that resolve names.
pub(super) struct HookThreads {
    pub(super) hooks: Hooks,
    names: Runtime,
}

impl HookThreads {
    /// The webhooks of the configuration; none if the feature is off or no key encrypts their secrets.
    pub(super) fn new(
        config: &Config,
        target: &Target,
        health: StorageHealth,
        keys: Option<&SealingKeys>,
    ) -> Result<Option<Self>, BootError> {
        if !config.features.webhooks {
            return Ok(None);
        }
        let Some(keys) = keys else {
            tracing::error!(
                "features.webhooks is on, but no key encrypts the secrets of webhooks, so webhooks stay off: set \
                 security.encryption_keys"
            );
            return Ok(None);
        };
        let names = runtime(NAME_THREADS)?;
        let allowed = config.webhooks.allowed_networks.iter().filter_map(|text| parse_network(text)).collect();
        let sender = HookSender::new(AddressPolicy::new(allowed), config.webhooks.timeout, names.handle());
        let sender = sender.map_err(|error| {
            BootError::Configuration(format!(
                "features.webhooks: the certificates of this machine cannot be read: {error}; install ca-certificates"
            ))
        })?;
        let parts = HookParts {
            store: WebhookStore::new(Accounts::new(target.pool(Role::Writer, CONNECTIONS)?)),
            log: LogReader::new(target, health)?,
            sender,
            keys: keys.clone(),
        };
        Ok(Some(Self { hooks: Hooks::new(parts), names }))
    }

    /// Starts to deliver.
    pub(super) fn start(&self, handle: &Handle, mesh: &Arc<Mesh>, target: &Target) -> Result<(), BootError> {
        let jobs = JobStore::new(Accounts::new(target.pool(Role::Writer, 1)?));
        handle.spawn(jobs::run(jobs, self.hooks.clone(), HOOKS));
        handle.spawn(wake::run(self.hooks.clone(), Arc::clone(&mesh.log_watch)));
        Ok(())
    }

    /// Ends without waiting for name servers.
    pub(super) fn stop(self) {
        self.names.shutdown_background();
    }
}
