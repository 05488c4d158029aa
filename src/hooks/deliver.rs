//! The job of a webhook: takes events from the log, sends them, and records the outcome.
//!
//! 1. `queue`: rows for the events after the webhook's cursors, while fewer than [`PENDING_MAX`] wait. The rest stays
//!    in the log, so a receiver that is away for long costs no room.
//! 2. `due`: a page of deliveries whose time has come. While the circuit breaker is half open, one.
//! 3. The bodies are read from the log, with the rights of the webhook's owner.
//! 4. They are sent, some at the same time; those of an ordered webhook one by one in each conversation.
//! 5. `settle`: one transaction records the outcomes. If the server dies before, the page is sent again with the same
//!    ids.
//!
//! Invariants:
//! - the job's lease keeps other servers from sending deliveries of this webhook, so an ordered one stays in order,
//!   unless a server loses its lease while it still sends;
//! - a job begins no request after [`TURN`], so that webhooks with much to send leave places to the others, and no body
//!   is sent that was read long ago;
//! - after [`retry::FAILURES_MAX`] failures in a row nothing else is sent. So a receiver that does not answer holds its
//!   place for a few timeouts at most.

use super::body;
use super::retry;
use super::secret;
use super::sender::{HookSender, SendOutcome};
use crate::auth::sealed::SealingKeys;
use crate::error::{Disposition, ErrorCode, Refusal};
use crate::faults::{error_limited, warn_limited};
use crate::ids::{ConversationId, Seq, UserId};
use crate::mesh::quota::{Quota, QuotaPlace, QuotaRefusal};
use crate::mesh::record::{LogEntry, rfc3339};
use crate::storage::log_reader::LogReader;
use crate::storage::webhooks::{
    DeliveryState, DueDelivery, SettledDelivery, SettledWebhook, Webhook, WebhookSecret, WebhookStore,
};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

/// Events that are taken from one log at a time.
const QUEUED_MAX: i64 = 500;
/// Deliveries of a webhook that wait.
const PENDING_MAX: i64 = 10_000;
/// Deliveries that are sent before their outcomes are recorded.
const PAGE: i64 = 64;
/// Entries of a log that are read at a time.
const LOG_PAGE: i64 = 64;
/// Requests of one webhook at the same time.
pub const IN_FLIGHT_MAX: usize = 4;
/// How long a job goes on before its place is free for other webhooks.
const TURN: Duration = Duration::from_secs(10);

/// Why a delivery is given up without an attempt.
const UNREADABLE: &str = "the owner of the webhook can no longer read this event";

const TOO_MANY_TESTS: QuotaRefusal = QuotaRefusal {
    limiter: "webhook_tests",
    scope: "user",
    detail: "You are already testing a webhook. Wait until that test ends.",
    retry_ms: 1_000,
};

/// Outcomes of deliveries, since the process started.
#[derive(Debug, Default)]
pub struct HookCounts {
    /// Delivered.
    pub delivered: AtomicU64,
    /// Attempts that failed and are repeated.
    pub failed: AtomicU64,
    /// Given up.
    pub dead: AtomicU64,
    /// Not sent, because their owners can no longer read the event.
    pub withdrawn: AtomicU64,
    /// Deliveries that wait, as of the last look.
    pub pending: AtomicU64,
    /// Seconds since the oldest of these was taken from the log.
    pub oldest_s: AtomicU64,
}

/// What [`Hooks`] needs.
pub struct HookParts {
    /// The rows.
    pub store: WebhookStore,
    /// The logs.
    pub log: LogReader,
    /// The HTTP client.
    pub sender: HookSender,
    /// Decrypts the secrets.
    pub keys: SealingKeys,
}

/// The webhooks of the process; cloning shares them.
#[derive(Clone)]
pub struct Hooks(Arc<HooksInner>);

struct HooksInner {
    parts: HookParts,
    counts: Arc<HookCounts>,
    /// Notified when a webhook was created or changed.
    changes: Notify,
    /// Counts the signs that a job may be due.
    work: watch::Sender<u64>,
    tests: Quota<UserId>,
}

/// A delivery with its body; none if the owner cannot read the event any more.
type Prepared = (DueDelivery, Option<Bytes>);

/// What the deliveries of one page share while they are sent.
struct DeliveryPage {
    failures: AtomicU32,
    is_gone: AtomicBool,
    /// Seconds for which the receiver wants no request.
    wait_s: AtomicU64,
    /// Requests that were made.
    attempts: AtomicU32,
    /// No request begins afterwards.
    until: Instant,
    settled: Mutex<Vec<SettledDelivery>>,
}

impl DeliveryPage {
    fn goes_on(&self) -> bool {
        self.failures.load(Relaxed) < retry::FAILURES_MAX
            && !self.is_gone.load(Relaxed)
            && self.wait_s.load(Relaxed) == 0
            && Instant::now() < self.until
    }

    fn settle(&self, settled: SettledDelivery) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(settled);
    }
}

impl Hooks {
    /// Sends nothing yet.
    #[must_use]
    pub fn new(parts: HookParts) -> Self {
        Self(Arc::new(HooksInner {
            parts,
            counts: Arc::default(),
            changes: Notify::new(),
            work: watch::Sender::new(0),
            tests: Quota::new(1),
        }))
    }

    /// A webhook was created, changed, or has something to send again: its job is made due. If PostgreSQL fails, a
    /// sweep makes it due later.
    pub async fn note_change(&self, webhook: i64) {
        self.0.changes.notify_one();
        if let Err(refusal) = self.store().wake_behind(webhook - 1, 1).await {
            warn_limited!(%refusal, "a webhook could not be woken; a sweep does it later");
        }
        self.work_arrived();
    }

    /// Waits for the next change.
    pub async fn changed(&self) {
        self.0.changes.notified().await;
    }

    /// A job may be due.
    pub fn work_arrived(&self) {
        self.0.work.send_modify(|signs| *signs += 1);
    }

    /// Notified when a job may be due.
    #[must_use]
    pub fn work_signs(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    /// A place for a test that a user has asked for.
    ///
    /// # Errors
    /// `rate_limited` while another one runs.
    pub fn admit_test(&self, user: UserId) -> Result<QuotaPlace<UserId>, Refusal> {
        self.0.tests.admit_or(user, &TOO_MANY_TESTS)
    }

    /// The rows.
    #[must_use]
    pub fn store(&self) -> &WebhookStore {
        &self.0.parts.store
    }

    /// The HTTP client.
    #[must_use]
    pub fn sender(&self) -> &HookSender {
        &self.0.parts.sender
    }

    /// Outcomes of deliveries.
    #[must_use]
    pub fn counts(&self) -> &Arc<HookCounts> {
        &self.0.counts
    }

    /// Encrypts a secret of a webhook.
    #[must_use]
    pub fn seal(&self, webhook: i64, secret: &[u8]) -> WebhookSecret {
        secret::seal(&self.0.parts.keys, webhook, secret)
    }

    /// Does the job of a webhook. Returns when it has something to do again, if nothing wakes it before.
    ///
    /// # Errors
    /// Failures of PostgreSQL, and secrets that cannot be decrypted.
    pub async fn run(&self, id: i64) -> Result<Option<Duration>, Refusal> {
        let until = Instant::now() + TURN;
        loop {
            let found = self.store().load(id).await?;
            let Some(webhook) = found.filter(|webhook| webhook.disabled.is_none()) else { return Ok(None) };
            if webhook.paused_s > 0.0 {
                return Ok(Some(seconds(webhook.paused_s)));
            }
            let has_more = self.store().queue(id, QUEUED_MAX, PENDING_MAX).await?;
            let is_probe = webhook.failures >= retry::FAILURES_MAX;
            let due = self.store().due(id, if is_probe { 1 } else { PAGE }).await?;
            if due.is_empty() && !has_more {
                return Ok(self.store().next_due(id).await?.map(seconds));
            }
            if !due.is_empty() {
                self.send_page(&webhook, due, until).await?;
            }
            if Instant::now() >= until {
                return Ok(Some(Duration::ZERO));
            }
        }
    }

    /// Sends a test event, and records nothing.
    ///
    /// # Errors
    /// A secret that cannot be decrypted.
    pub async fn test(&self, webhook: &Webhook) -> Result<SendOutcome, Refusal> {
        let secrets = self.secrets(webhook)?;
        let now = rfc3339(OffsetDateTime::now_utc());
        let body = body::of("webhook_test", &now, json!({ "webhook_id": webhook.id }));
        let id = format!("evt_test_{:032x}", rand::random::<u128>());
        Ok(self.sender().send(&webhook.url, &id, &secrets, body).await)
    }

    /// The secrets that sign now. An old one that cannot be read signs nothing any more.
    fn secrets(&self, webhook: &Webhook) -> Result<Vec<Vec<u8>>, Refusal> {
        let open = |secret: &WebhookSecret| {
            secret::open(&self.0.parts.keys, webhook.id, secret).inspect_err(|error| {
                error_limited!(webhook = webhook.id, "a secret of a webhook cannot be read: {error}");
            })
        };
        let secret = open(&webhook.secret).map_err(|_| {
            Refusal::new(
                ErrorCode::Internal,
                "The server cannot read the secret of this webhook, so it sends nothing. Rotate the secret, or ask the \
                 operator of this server for the key.",
            )
        })?;
        let previous = webhook.previous.as_ref().filter(|(_, until)| *until > OffsetDateTime::now_utc());
        let previous = previous.and_then(|(secret, _)| open(secret).ok());
        Ok(std::iter::once(secret).chain(previous).collect())
    }

    async fn send_page(&self, webhook: &Webhook, due: Vec<DueDelivery>, until: Instant) -> Result<(), Refusal> {
        let secrets = self.secrets(webhook)?;
        let prepared = self.read_bodies(webhook, due).await?;
        let page = DeliveryPage {
            failures: AtomicU32::new(webhook.failures),
            is_gone: AtomicBool::new(false),
            wait_s: AtomicU64::new(0),
            attempts: AtomicU32::new(0),
            until,
            settled: Mutex::default(),
        };
        // While the breaker is half open, the failures of before do not keep the probe from being sent.
        if webhook.failures >= retry::FAILURES_MAX {
            page.failures.store(retry::FAILURES_MAX - 1, Relaxed);
        }
        let sending = groups(prepared, webhook.is_ordered).into_iter().map(|group| async {
            for (delivery, body) in group {
                if !page.goes_on() || !self.send_one(webhook, &secrets, &page, delivery, body).await {
                    break;
                }
            }
        });
        stream::iter(sending).buffer_unordered(IN_FLIGHT_MAX).collect::<()>().await;
        let DeliveryPage { failures, is_gone, wait_s, attempts, settled, .. } = page;
        let failures = if attempts.into_inner() == 0 {
            webhook.failures // nothing was sent, so nothing is known
        } else {
            failures_after(webhook.failures, failures.into_inner())
        };
        let is_paused = failures > webhook.failures;
        let breaker = if is_paused { retry::breaker_pause(failures) } else { Duration::ZERO };
        let after = SettledWebhook {
            failures,
            version: webhook.version,
            breaker_s: breaker.as_secs_f64().max(wait_s.into_inner() as f64),
            disabled: is_gone.into_inner().then_some("the receiver answered 410 Gone"),
        };
        let settled = settled.into_inner().unwrap_or_else(PoisonError::into_inner);
        let given_up = self.store().settle(webhook.id, &settled, &after).await?;
        self.0.counts.dead.fetch_add(given_up as u64, Relaxed);
        Ok(())
    }

    /// Sends a delivery. Returns whether the next one in its order may follow.
    async fn send_one(
        &self,
        webhook: &Webhook,
        secrets: &[Vec<u8>],
        page: &DeliveryPage,
        delivery: DueDelivery,
        body: Option<Bytes>,
    ) -> bool {
        let counts = &self.0.counts;
        let DueDelivery { conversation, seq, attempts, .. } = delivery;
        let Some(body) = body else {
            let attempt = json!({ "at": rfc3339(OffsetDateTime::now_utc()), "error": UNREADABLE });
            let state = DeliveryState::Withdrawn;
            page.settle(SettledDelivery { conversation, seq, state, retry_s: 0.0, attempt });
            counts.withdrawn.fetch_add(1, Relaxed);
            return true;
        };
        page.attempts.fetch_add(1, Relaxed);
        let attempt = self.sender().send(&webhook.url, &event_id(conversation, seq), secrets, body).await;
        let SendOutcome { at, ms, status, error, retry_after } = &attempt;
        let logged = json!({ "at": rfc3339(*at), "ms": ms, "status": status, "error": error });
        let (state, pause, count) = if attempt.is_success() {
            page.failures.store(0, Relaxed);
            (DeliveryState::Delivered, Duration::ZERO, &counts.delivered)
        } else {
            page.failures.fetch_add(1, Relaxed);
            if attempt.is_gone() {
                page.is_gone.store(true, Relaxed);
            }
            if let Some(wait) = retry_after.filter(|_| attempt.is_overloaded()) {
                page.wait_s.fetch_max(retry::bounded(wait).as_secs(), Relaxed);
            }
            match retry::pause(attempts + 1, *retry_after, rand::random()) {
                Some(pause) => (DeliveryState::Pending, pause, &counts.failed),
                None => (DeliveryState::Dead, Duration::ZERO, &counts.dead),
            }
        };
        count.fetch_add(1, Relaxed);
        page.settle(SettledDelivery { conversation, seq, state, retry_s: pause.as_secs_f64(), attempt: logged });
        state != DeliveryState::Pending
    }

    /// The bodies of deliveries, in their order.
    async fn read_bodies(&self, webhook: &Webhook, due: Vec<DueDelivery>) -> Result<Vec<Prepared>, Refusal> {
        let mut wanted: BTreeMap<ConversationId, Vec<Seq>> = BTreeMap::new();
        for delivery in &due {
            wanted.entry(delivery.conversation).or_default().push(delivery.seq);
        }
        let mut bodies = HashMap::with_capacity(due.len());
        for (conversation, mut seqs) in wanted {
            seqs.sort_unstable();
            // A page is read from the first seq that is wanted, up to the last wanted one that is near enough.
            let (mut read, mut read_to) = (Vec::new(), Seq(0));
            for seq in &seqs {
                let seq = *seq;
                if seq > read_to {
                    let near = seqs.iter().rev().find(|last| last.0 < seq.0 + LOG_PAGE);
                    read_to = near.copied().unwrap_or(seq);
                    read = self.read_log(webhook, conversation, seq, read_to.0 - seq.0 + 1).await?;
                }
                if let Some(at) = read.iter().position(|entry| entry.seq() == seq) {
                    bodies.insert((conversation, seq), body::of_entry(conversation, read.swap_remove(at)));
                }
            }
        }
        let prepared = due.into_iter().map(|delivery| {
            let body = bodies.remove(&(delivery.conversation, delivery.seq));
            (delivery, body)
        });
        Ok(prepared.collect())
    }

    /// A page of a log from a position on; nothing if the owner may not read it.
    async fn read_log(
        &self,
        webhook: &Webhook,
        conversation: ConversationId,
        from: Seq,
        limit: i64,
    ) -> Result<Vec<LogEntry>, Refusal> {
        match self.0.parts.log.page(webhook.owner, conversation, Seq(from.0 - 1), limit).await {
            Ok(page) => Ok(page.entries),
            Err(refusal) if refusal.code.disposition() == Disposition::Final && refusal.code != ErrorCode::Internal => {
                Ok(Vec::new())
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// Failures in a row after a page that began with `before` of them and ended with `counted`. Requests that were in
/// flight together when the breaker opened count as one, so that the first pause is the shortest.
fn failures_after(before: u32, counted: u32) -> u32 {
    match (before >= retry::FAILURES_MAX, counted >= retry::FAILURES_MAX) {
        (true, true) => before.saturating_add(1),
        (false, true) => retry::FAILURES_MAX,
        (_, false) => counted,
    }
}

/// The `webhook-id` of an event: the same at every attempt, and for every webhook.
fn event_id(conversation: ConversationId, seq: Seq) -> String {
    format!("evt_{conversation}_{}", seq.0)
}

/// What is sent one by one, in its order: the deliveries of a conversation for an ordered webhook. Otherwise each
/// delivery is alone.
fn groups(prepared: Vec<Prepared>, is_ordered: bool) -> Vec<Vec<Prepared>> {
    if !is_ordered {
        return prepared.into_iter().map(|one| vec![one]).collect();
    }
    let mut of: BTreeMap<ConversationId, Vec<Prepared>> = BTreeMap::new();
    for one in prepared {
        of.entry(one.0.conversation).or_default().push(one);
    }
    of.into_values().collect()
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
