//! The state of every handler, and the notices of revoked sessions.

use super::access::Access;
use super::account_reads::AccountReads;
use super::captcha::Captcha;
use super::dashboard::Dashboard;
use super::files::Files;
use super::filter::ContentFilter;
use super::hashing::{self, Hashing};
use super::key_budget::KeyBudget;
use super::metrics::Metrics;
use super::ports::{CommandPort, HealthPort, LimitsPort, ReloadPort};
use super::problem::Problem;
use super::request_budget::RequestBudget;
use super::security_watch::SecurityWatch;
use super::sign_in_limits::SignInLimits;
use crate::address::ClientNetwork;
use crate::audit::suspicion::ResponsePolicy;
use crate::auth::attempts::Allowed;
use crate::auth::proof::Proofs;
use crate::auth::sealed::SealingKeys;
use crate::hooks::deliver::Hooks;
use crate::ids::{SessionId, UserId};
use crate::latency::QueueGauge;
use crate::limits::BOT_POSTS_PER_BOT_MAX;
use crate::mesh::live::LiveSettings;
use crate::mesh::node_status::NodeStatus;
use crate::mesh::overload::Overload;
use crate::mesh::quota::Quota;
use crate::storage::accounts::Accounts;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::sync::Notify;

/// Receives sessions that were revoked; the shards close their sockets with 4002. It is called on the control thread
/// and must not block.
pub type Notices = Arc<dyn Fn(Arc<[SessionId]>) + Send + Sync>;

/// What the control plane reads of the configuration, as a reload replaces it.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// What it shares with the shards.
    pub live: Arc<LiveSettings>,
    /// Who may see metrics, dashboard and the reasons of failing checks.
    pub access: Access,
    /// How many sign-ins and registrations a network may try.
    pub allowed_attempts: Allowed,
    /// What follows a security event by itself.
    pub responses: ResponsePolicy,
}

/// The parts of [`Control`].
pub struct ControlParts {
    /// The account tables.
    pub accounts: Accounts,
    /// What a reload replaces.
    pub settings: ControlSettings,
    /// Most passwords that are hashed at the same time, each on its own thread.
    pub hash_workers: usize,
    /// Greatest cost of an older hash that is computed.
    pub bcrypt_cost: u32,
    /// Encrypts the secrets of authenticator apps.
    pub sealing: SealingKeys,
    /// Whether users may set up two-factor authentication.
    pub allows_two_factor: bool,
    /// Zero bits of the proof of work that a registration needs; 0 for none.
    pub registration_difficulty: u8,
    /// The captcha that a registration needs.
    pub captcha: Option<Captcha>,
    /// Shows the passwords that wait for a thread.
    pub hash_queue: Arc<QueueGauge>,
    /// The port to the shards.
    pub commands: Arc<dyn CommandPort>,
    /// The port to the limits of users.
    pub limits: Arc<dyn LimitsPort>,
    /// Loads the configuration again.
    pub reload: Arc<dyn ReloadPort>,
    /// What part of every budget the server can serve now.
    pub overload: Arc<Overload>,
    /// Notified when a profile has changed.
    pub profile_changes: Arc<Notify>,
    /// The checks of `/health`.
    pub health: Arc<dyn HealthPort>,
    /// Receives revocations.
    pub notices: Notices,
    /// The exchange with other nodes, if there are any.
    pub nodes: Option<Arc<NodeStatus>>,
    /// Watches for suspicious activity.
    pub watch: SecurityWatch,
    /// The metrics of `/metrics`.
    pub metrics: Metrics,
    /// The state of `/dashboard`.
    pub dashboard: Dashboard,
    /// Files.
    pub files: Files,
    /// The content filter.
    pub filter: ContentFilter,
    /// Webhooks, if the server has them.
    pub hooks: Option<Hooks>,
}

/// The state of every handler; cloning shares it.
#[derive(Clone)]
pub struct Control {
    inner: Arc<ControlInner>,
}

struct ControlInner {
    parts: ControlParts,
    /// Never locked across an `await`.
    settings: RwLock<Arc<ControlSettings>>,
    hashing: Hashing,
    sign_ins: SignInLimits,
    /// Locked by one thread only, and never across an `await`.
    proofs: Mutex<Proofs>,
    account_reads: AccountReads,
    requests: RequestBudget,
    profile_edits: KeyBudget,
    avatar_reads: KeyBudget<ClientNetwork>,
    hook_posts: KeyBudget<ClientNetwork>,
    filter_edits: KeyBudget,
    decisions: KeyBudget,
    reloads: KeyBudget,
    /// Posts of slash commands under way, by bot.
    bot_posts: Quota<UserId>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// A control plane of these parts.
    #[must_use]
    pub fn new(parts: ControlParts) -> Self {
        let hashing = Hashing::new(parts.hash_workers, hashing::WAITING_MAX, Arc::clone(&parts.hash_queue))
            .accepting_bcrypt(parts.bcrypt_cost);
        let settings = Arc::new(parts.settings.clone());
        let live = &settings.live;
        let sign_ins = SignInLimits::new(settings.allowed_attempts);
        let admins = live.factor_policy.admins.clone();
        let requests = RequestBudget::new(&live.limits, admins, Arc::clone(&parts.overload));
        let proofs = Mutex::new(Proofs::new(live.keys.proof_key(), parts.registration_difficulty));
        Self {
            inner: Arc::new(ControlInner {
                parts,
                settings: RwLock::new(settings),
                hashing,
                sign_ins,
                proofs,
                account_reads: AccountReads::default(),
                requests,
                profile_edits: KeyBudget::of_profile_edits(),
                avatar_reads: KeyBudget::of_avatar_reads(),
                hook_posts: KeyBudget::of_hook_posts(),
                filter_edits: KeyBudget::of_filter_rules(),
                decisions: KeyBudget::of_decisions(),
                reloads: KeyBudget::of_reloads(),
                bot_posts: Quota::new(BOT_POSTS_PER_BOT_MAX),
            }),
        }
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.inner.parts.accounts
    }

    fn settings(&self) -> Arc<ControlSettings> {
        Arc::clone(&self.inner.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings that it shares with the shards.
    pub(super) fn live(&self) -> Arc<LiveSettings> {
        Arc::clone(&self.settings().live)
    }

    /// The configuration was loaded again.
    pub fn replace_settings(&self, settings: ControlSettings) {
        let live = &settings.live;
        self.inner.requests.replace(&live.limits, live.factor_policy.admins.clone());
        self.inner.sign_ins.allow(settings.allowed_attempts);
        self.inner.parts.watch.respond(settings.responses.clone());
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub(super) fn reload(&self) -> &dyn ReloadPort {
        &*self.inner.parts.reload
    }

    pub(super) fn hashing(&self) -> &Hashing {
        &self.inner.hashing
    }

    pub(super) fn hooks(&self) -> Option<&Hooks> {
        self.inner.parts.hooks.as_ref()
    }

    pub(super) fn sealing(&self) -> &SealingKeys {
        &self.inner.parts.sealing
    }

    pub(super) fn allows_two_factor(&self) -> bool {
        self.inner.parts.allows_two_factor
    }

    pub(super) fn account_reads(&self) -> &AccountReads {
        &self.inner.account_reads
    }

    pub(super) fn requests(&self) -> &RequestBudget {
        &self.inner.requests
    }

    pub(super) fn profile_edits(&self) -> &KeyBudget {
        &self.inner.profile_edits
    }

    pub(super) fn hook_posts(&self) -> &KeyBudget<ClientNetwork> {
        &self.inner.hook_posts
    }

    pub(super) fn avatar_reads(&self) -> &KeyBudget<ClientNetwork> {
        &self.inner.avatar_reads
    }

    pub(super) fn filter_edits(&self) -> &KeyBudget {
        &self.inner.filter_edits
    }

    pub(super) fn decisions(&self) -> &KeyBudget {
        &self.inner.decisions
    }

    pub(super) fn bot_posts(&self) -> &Quota<UserId> {
        &self.inner.bot_posts
    }

    pub(super) fn reloads(&self) -> &KeyBudget {
        &self.inner.reloads
    }

    pub(super) fn sign_ins(&self) -> &SignInLimits {
        &self.inner.sign_ins
    }

    pub(super) fn nodes(&self) -> Option<&NodeStatus> {
        self.inner.parts.nodes.as_deref()
    }

    pub(super) fn watch(&self) -> &SecurityWatch {
        &self.inner.parts.watch
    }

    pub(super) fn proofs(&self) -> MutexGuard<'_, Proofs> {
        self.inner.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn captcha(&self) -> Option<&Captcha> {
        self.inner.parts.captcha.as_ref()
    }

    pub(super) fn commands(&self) -> &dyn CommandPort {
        &*self.inner.parts.commands
    }

    pub(super) fn limits(&self) -> &dyn LimitsPort {
        &*self.inner.parts.limits
    }

    /// Wakes the announcer.
    pub(super) fn profile_changed(&self) {
        self.inner.parts.profile_changes.notify_one();
    }

    pub(super) fn health(&self) -> &dyn HealthPort {
        &*self.inner.parts.health
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.parts.metrics
    }

    pub(super) fn access(&self) -> Access {
        self.settings().access.clone()
    }

    pub(super) fn files(&self) -> &Files {
        &self.inner.parts.files
    }

    pub(super) fn filter(&self) -> &ContentFilter {
        &self.inner.parts.filter
    }

    pub(super) fn dashboard(&self) -> &Dashboard {
        &self.inner.parts.dashboard
    }

    pub(super) fn notify_revoked(&self, sessions: impl Into<Arc<[SessionId]>>) {
        (self.inner.parts.notices)(sessions.into());
    }
}

/// Seconds since 1970, by the system clock.
pub(super) fn now_seconds() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64)
}

/// Runs `work` to its end even if its request is cancelled: hyper drops the handler of a client that disconnects, at
/// any `await`.
pub(super) async fn shielded<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        crate::faults::error_limited!(%error, "the task of a request panicked");
        Err(Problem::internal())
    })
}
