//! Watches for suspicious activity: passes signals to the detectors, and records what they find.
//!
//! Handlers report at once, under a lock that is held for the time of a few map look-ups. A task of its own drains what
//! the I/O shard has seen, reads the audit trail, and writes the findings twice a second. So no sign-in and no command
//! waits for PostgreSQL because of a detector. While PostgreSQL does not answer, findings wait here, [`WAITING_MAX`] at
//! most; the log has every one of them.

use super::places::Places;
use crate::address::ClientNetwork;
use crate::audit::suspicion::{Act, Detectors, Finding, ResponsePolicy, Severity, Sighting, WrongPassword};
use crate::faults::warn_limited;
use crate::ids::{SessionId, UserId};
use crate::mesh::activity::{Activity, READS_WAITING, TEXTS_WAITING, TextActivity};
use crate::storage::accounts::Accounts;
use crate::text;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two looks at the audit trail. A finding is visible within two of them.
const INTERVAL: Duration = Duration::from_millis(400);
const _: () = assert!(2 * INTERVAL.as_millis() < 1_000, "docs/security-events.md says a second");

/// Findings that wait for PostgreSQL. More are logged and counted only.
const WAITING_MAX: usize = 1_024;

/// Receives what the metrics count.
pub type CountFinding = Arc<dyn Fn(&Finding) + Send + Sync>;

/// The watch of one server; cloning shares it.
#[derive(Clone)]
pub struct SecurityWatch {
    inner: Arc<WatchState>,
}

/// What a watch needs.
pub struct WatchParts {
    /// Where the I/O shard reports to.
    pub activity: Arc<Activity>,
    /// Counts findings for the metrics.
    pub count: CountFinding,
    /// Where addresses are, if the server knows.
    pub places: Option<Places>,
}

struct WatchState {
    /// What follows a finding by itself.
    responses: Mutex<ResponsePolicy>,
    detectors: Mutex<Detectors>,
    waiting: Mutex<Vec<Finding>>,
    parts: WatchParts,
    /// Signals that did not fit, when the log reported it last.
    dropped: AtomicU64,
    began: Instant,
    digests: RandomState,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SecurityWatch {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(parts: WatchParts, responses: ResponsePolicy) -> Self {
        let responses = Mutex::new(responses);
        let (detectors, waiting) = (Mutex::default(), Mutex::default());
        let (began, digests, dropped) = (Instant::now(), RandomState::new(), AtomicU64::new(0));
        let inner = WatchState { responses, detectors, waiting, parts, dropped, began, digests };
        Self { inner: Arc::new(inner) }
    }

    /// Other responses follow from now on.
    pub(super) fn respond(&self, responses: ResponsePolicy) {
        *locked(&self.inner.responses) = responses;
    }

    /// A wrong password for `login`, which is the account of `user` if it is one.
    pub fn wrong_password(&self, login: &str, user: Option<UserId>, network: ClientNetwork) {
        let address = network.to_string();
        let address = address.trim_end_matches("/32"); // an IPv4 network is one address
        let digests = &self.inner.digests;
        let wrong = WrongPassword {
            login: digests.hash_one(text::nfc(login).to_lowercase()),
            user,
            network: (digests.hash_one(address), address),
        };
        let found = locked(&self.inner.detectors).wrong_password(wrong, self.inner.began.elapsed());
        self.found(found);
    }

    /// A spent refresh token was used again, and its session is revoked.
    pub fn refresh_reused(&self, user: UserId, session: SessionId, address: &str) {
        self.found(vec![Detectors::refresh_reused(user, session, address)]);
    }

    /// A user signed in, or went on with a session, from this address.
    pub fn seen(&self, user: UserId, session: SessionId, address: IpAddr) {
        let Some(place) = self.inner.parts.places.as_ref().and_then(|places| places.of(address)) else { return };
        let seen = Sighting { user, session, address: address.to_canonical(), place };
        let found = locked(&self.inner.detectors).seen(seen, self.inner.began.elapsed());
        self.found(found);
    }

    /// Something was found elsewhere, such as at the start of the server.
    pub fn report(&self, found: Option<Finding>) {
        self.found(found);
    }

    fn acts(&self, acts: &[Act]) {
        let found = locked(&self.inner.detectors).acts(acts, self.inner.began.elapsed());
        self.found(found);
    }

    fn found(&self, found: impl IntoIterator<Item = Finding>) {
        for finding in found {
            let kind = finding.suspicion.as_str();
            let (user, address) = (finding.user.map(|user| user.0), finding.address.as_deref());
            (self.inner.parts.count)(&finding);
            let mut waiting = locked(&self.inner.waiting);
            // What is repeated within one look is one finding. So an attacker who repeats one act neither fills the log
            // nor keeps other findings out.
            if waiting.iter().any(|known| known.suspicion == finding.suspicion && known.key == finding.key) {
                continue;
            }
            match finding.suspicion.severity() {
                Severity::Critical => tracing::error!(kind, user, address, key = finding.key, "{ADVICE}"),
                Severity::Warning => tracing::warn!(kind, user, address, key = finding.key, "{ADVICE}"),
                Severity::Info => tracing::info!(kind, user, address, key = finding.key, "{ADVICE}"),
            }
            if waiting.len() < WAITING_MAX {
                waiting.push(finding);
            }
        }
    }

    /// Drains what the I/O shard has seen since the last time. A look takes what fits into the lanes at most, however
    /// fast they fill.
    fn drain(&self) {
        let activity = &self.inner.parts.activity;
        let now = self.inner.began.elapsed();
        let mut detectors = locked(&self.inner.detectors);
        let mut found = Vec::new();
        for read in std::iter::from_fn(|| activity.next_read()).take(READS_WAITING) {
            found.extend(detectors.read(read.user, read.cost, now));
        }
        for text in std::iter::from_fn(|| activity.next_text()).take(TEXTS_WAITING) {
            found.extend(match text {
                TextActivity::Mentioned { author, people } => detectors.mentioned(author, &people, now),
                TextActivity::MentionedAll { author, message } => detectors.mentioned_all(author, message, now),
                TextActivity::Refused { author, text } => {
                    activity.suspect(author); // again, because it may have been cleared meanwhile
                    detectors.refused_text(author, &text, now)
                }
                TextActivity::Passed { author, text } => detectors.passed_text(author, &text, now),
            });
        }
        if detectors.suspects_no_author(now) {
            activity.clear_suspects();
        }
        drop(detectors);
        self.found(found);
        let dropped = activity.dropped();
        if self.inner.dropped.swap(dropped, Ordering::Relaxed) != dropped {
            warn_limited!(dropped, "the detectors of suspicious activity were too slow and missed some reads or texts");
        }
    }

    /// Reads the audit trail, records findings and responds to them, for as long as the server runs. `notify_revoked`
    /// receives the sessions that a response has revoked.
    pub async fn run(self, accounts: Accounts, notify_revoked: impl Fn(Arc<[SessionId]>) + Send + Sync) {
        let mut position = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.drain();
            position = match position {
                // The last row that was read is read again, so that the first new one can be compared with it.
                None => accounts.security_progress().await.ok().map(|position| (position - 1).max(0)),
                Some(position) => Some(self.look(&accounts, &notify_revoked, position).await),
            };
        }
    }

    /// One look: what is new in the trail, and what was found. Returns the position for the next one.
    async fn look(
        &self,
        accounts: &Accounts,
        notify_revoked: &(impl Fn(Arc<[SessionId]>) + Sync),
        mut position: i64,
    ) -> i64 {
        let acts = accounts.audit_tail(position).await.unwrap_or_default();
        let is_new = !acts.is_empty();
        if let Some(last) = acts.last() {
            position = last.position;
            self.acts(&acts);
        }
        let found = std::mem::take(&mut *locked(&self.inner.waiting));
        if !is_new && found.is_empty() {
            return position;
        }
        let responses = locked(&self.inner.responses).clone();
        match accounts.record_security_events(&found, &responses, position).await {
            Ok(revoked) if revoked.is_empty() => {}
            Ok(revoked) => notify_revoked(revoked.into()),
            Err(_) => {
                warn_limited!(
                    findings = found.len(),
                    "security events could not be recorded yet; they are tried again"
                );
                let mut waiting = locked(&self.inner.waiting);
                let room = WAITING_MAX.saturating_sub(waiting.len());
                waiting.extend(found.into_iter().take(room));
            }
        }
        position
    }
}

const ADVICE: &str = "suspicious activity: see GET /admin/security-events and docs/security-events.md";
