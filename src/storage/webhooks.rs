//! Webhooks in PostgreSQL: their settings, the events that each still has to deliver, and the log of deliveries.
//!
//! `migrations/tables/V22__webhooks.sql` gives the invariants: the change log is the outbox.

use super::accounts::{Accounts, row_of};
use super::rows::{self, Statement};
use super::sql::webhooks as sql;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{ConversationId, Seq, UserId};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::{Error, Row};

/// How many seconds a delivery that has ended stays in the log of deliveries.
const KEPT: [(DeliveryState, f64); 3] = [
    (DeliveryState::Delivered, 7.0 * 86_400.0),
    (DeliveryState::Withdrawn, 7.0 * 86_400.0),
    (DeliveryState::Dead, 30.0 * 86_400.0),
];
/// Rows that one statement of a sweep removes.
const SWEPT_MAX: i64 = 5_000;
/// Statements of one sweep: more than any load needs between two of them.
const SWEEP_BATCHES_MAX: u32 = 1_000;
/// Most rows of a page of the log of deliveries.
pub const DELIVERIES_MAX: i64 = 200;

/// The secret that signs deliveries, encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookSecret {
    /// Id of its key.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub sealed: Vec<u8>,
}

/// The state of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryState {
    /// It waits for an attempt.
    Pending,
    /// The receiver has accepted it.
    Delivered,
    /// It was given up.
    Dead,
    /// Its owner can no longer read the event.
    Withdrawn,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Dead, Self::Withdrawn];

    /// The name in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A webhook: where events go, and how its receiver has answered of late.
#[derive(Clone, PartialEq, Debug)]
pub struct Webhook {
    /// Its number.
    pub id: i64,
    /// The user whose rights limit what it reads.
    pub owner: UserId,
    /// Its conversation; none for every conversation of its owner.
    pub conversation: Option<ConversationId>,
    /// Where deliveries go.
    pub url: String,
    /// Names of events; empty means all.
    pub events: Vec<String>,
    /// Whether the events of a conversation arrive in the order of seq.
    pub is_ordered: bool,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When and why it was disabled.
    pub disabled: Option<(OffsetDateTime, String)>,
    /// Attempts in a row that have failed.
    pub failures: u32,
    /// Until when nothing is sent.
    pub paused_until: Option<OffsetDateTime>,
    /// Seconds until then; 0 when nothing is paused.
    pub paused_s: f64,
    /// Counts the changes by people.
    pub version: i64,
    /// When an attempt succeeded last.
    pub last_success_at: Option<OffsetDateTime>,
    /// When an attempt failed last.
    pub last_failure_at: Option<OffsetDateTime>,
    /// The secret.
    pub secret: WebhookSecret,
    /// The one before it, which signs too until this time.
    pub previous: Option<(WebhookSecret, OffsetDateTime)>,
}

/// A new webhook.
#[derive(Clone, Debug)]
pub struct NewWebhook<'a> {
    /// Its number, from [`WebhookStore::next_id`].
    pub id: i64,
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// Where deliveries go.
    pub url: &'a str,
    /// Names of events; empty means all.
    pub events: &'a [String],
    /// Whether the events of a conversation arrive in the order of seq.
    pub is_ordered: bool,
    /// Its secret.
    pub secret: WebhookSecret,
}

/// Changes of a webhook; `None` keeps a field.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange<'a> {
    /// Where deliveries go.
    pub url: Option<&'a str>,
    /// Names of events.
    pub events: Option<&'a [String]>,
    /// Whether the events of a conversation arrive in the order of seq.
    pub is_ordered: Option<bool>,
    /// Whether it sends.
    pub is_active: Option<bool>,
}

/// What is sent again.
#[derive(Clone, Copy, Debug)]
pub enum ReplayRange {
    /// What the log of deliveries has between two times.
    Times(OffsetDateTime, OffsetDateTime),
    /// A part of the log of a conversation, both ends included.
    Log(ConversationId, Seq, Seq),
}

/// A delivery, as the log of deliveries shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct LoggedDelivery {
    /// Its number, which orders the log.
    pub id: i64,
    /// The conversation of its event.
    pub conversation: ConversationId,
    /// The position of its event in the conversation's log.
    pub seq: Seq,
    /// The event's name.
    pub kind: String,
    /// The name of its [`DeliveryState`].
    pub state: String,
    /// Attempts so far.
    pub attempts: i32,
    /// When its event was taken from the log.
    pub created_at: OffsetDateTime,
    /// When it was delivered or given up.
    pub settled_at: Option<OffsetDateTime>,
    /// When it is tried next.
    pub next_at: Option<OffsetDateTime>,
    /// The last attempts.
    pub log: Value,
}

/// A delivery that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueDelivery {
    /// The conversation of its event.
    pub conversation: ConversationId,
    /// The position of its event in the conversation's log.
    pub seq: Seq,
    /// Attempts so far.
    pub attempts: u32,
}

/// Outcome of an attempt at a delivery.
#[derive(Clone, PartialEq, Debug)]
pub struct SettledDelivery {
    /// The conversation of its event.
    pub conversation: ConversationId,
    /// The position of its event in the conversation's log.
    pub seq: Seq,
    /// Its state from now on.
    pub state: DeliveryState,
    /// Seconds before the next attempt.
    pub retry_s: f64,
    /// The attempt: `{at, status, ms, error}`.
    pub attempt: Value,
}

/// The state of a webhook after attempts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SettledWebhook {
    /// Its version before the attempts. If it has changed since, the rest does not count.
    pub version: i64,
    /// Attempts in a row that have failed.
    pub failures: u32,
    /// Seconds for which nothing is sent.
    pub breaker_s: f64,
    /// Why the webhook is disabled from now on.
    pub disabled: Option<&'static str>,
}

/// Secrets of a webhook that another key encrypts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretsToReseal {
    /// The webhook.
    pub webhook: i64,
    /// Its secret.
    pub secret: WebhookSecret,
    /// The one before it.
    pub previous: Option<WebhookSecret>,
}

/// Handle to the tables of webhooks; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct WebhookStore(Accounts);

impl WebhookStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// A number for a new webhook.
    ///
    /// # Errors
    /// Failures of PostgreSQL, as for all functions here.
    pub async fn next_id(&self) -> Result<i64, Refusal> {
        let ids = self.0.rows("webhook_id", false, (sql::NEXT_ID, &[]), |row| row.try_get(0)).await?;
        ids.first().copied().ok_or_else(Refusal::storage_unavailable)
    }

    /// Creates a webhook, and its row of the audit trail.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `conflict` when there are too many; failures of PostgreSQL.
    pub async fn create(&self, caller: &Caller, new: NewWebhook<'_>) -> Result<(), Refusal> {
        let row = row_of(caller, "create_webhook", json!({}));
        let conversation = new.conversation.map(ConversationId::number);
        let statement: Statement<'_> = (
            sql::CREATE,
            &[
                &new.id,
                &caller.user.0,
                &conversation,
                &new.url,
                &new.events,
                &new.is_ordered,
                &new.secret.key_id,
                &new.secret.sealed,
                &row,
            ],
        );
        self.0.rows("create_webhook", true, statement, |_| Ok(())).await.map(drop)
    }

    /// The webhooks of a user; with a conversation, those that the user may manage in it.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn list(&self, user: UserId, conversation: Option<ConversationId>) -> Result<Vec<Webhook>, Refusal> {
        let statement: Statement<'_> = (sql::LIST, &[&user.0, &conversation.map(ConversationId::number)]);
        self.0.read_rows("webhooks", statement, webhook).await
    }

    /// A webhook that the user may manage.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn managed(&self, user: UserId, id: i64) -> Result<Option<Webhook>, Refusal> {
        Ok(self.0.rows("webhook", false, (sql::MANAGED, &[&user.0, &id]), webhook).await?.pop())
    }

    /// A webhook.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn load(&self, id: i64) -> Result<Option<Webhook>, Refusal> {
        Ok(self.0.rows("load_webhook", false, (sql::LOAD, &[&id]), webhook).await?.pop())
    }

    /// Changes a webhook that the caller may manage. Returns whether there is one.
    ///
    /// # Errors
    /// `forbidden` for the address of another user's webhook; failures of PostgreSQL.
    pub async fn change(&self, caller: &Caller, id: i64, change: WebhookChange<'_>) -> Result<bool, Refusal> {
        let row = row_of(caller, "change_webhook", json!({}));
        let statement: Statement<'_> = (
            sql::CHANGE,
            &[&caller.user.0, &id, &change.url, &change.events, &change.is_ordered, &change.is_active, &row],
        );
        self.0.is_true("change_webhook", true, statement).await
    }

    /// Gives a webhook of the caller a new secret; the old one signs too for so many seconds. Returns whether the
    /// caller has such a webhook.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn rotate(&self, caller: &Caller, id: i64, secret: &WebhookSecret, keep_s: i64) -> Result<bool, Refusal> {
        let row = row_of(caller, "rotate_webhook_secret", json!({}));
        let statement: Statement<'_> =
            (sql::ROTATE, &[&caller.user.0, &id, &secret.key_id, &secret.sealed, &keep_s, &row]);
        self.0.is_true("rotate_webhook_secret", true, statement).await
    }

    /// Deletes a webhook that the caller may manage. Returns whether there was one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn delete(&self, caller: &Caller, id: i64) -> Result<bool, Refusal> {
        let row = row_of(caller, "delete_webhook", json!({}));
        self.0.is_true("delete_webhook", true, (sql::DELETE, &[&caller.user.0, &id, &row])).await
    }

    /// Sends events of a webhook again. Returns how many; `None` if the caller may not manage the webhook.
    ///
    /// # Errors
    /// `too_large` for a range with too many events, `conflict` for a disabled webhook; failures of PostgreSQL.
    pub async fn replay(&self, caller: &Caller, id: i64, range: ReplayRange) -> Result<Option<i64>, Refusal> {
        let row = row_of(caller, "replay_webhook", json!({}));
        let (times, log) = match range {
            ReplayRange::Times(from, to) => (Some((from, to)), None),
            ReplayRange::Log(conversation, from, to) => (None, Some((conversation.number(), from.0, to.0))),
        };
        let (from, to) = times.unzip();
        let statement: Statement<'_> = (
            sql::REPLAY,
            &[
                &caller.user.0,
                &id,
                &from,
                &to,
                &log.map(|(conversation, ..)| conversation),
                &log.map(|(_, from, _)| from),
                &log.map(|(.., to)| to),
                &row,
            ],
        );
        Ok(self.0.rows("replay_webhook", true, statement, |row| row.try_get(0)).await?.pop().flatten())
    }

    /// A page of the log of deliveries of a webhook that the user may manage, the newest first.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn deliveries(
        &self,
        user: UserId,
        id: i64,
        state: Option<&str>,
        before: i64,
        most: i64,
    ) -> Result<Vec<LoggedDelivery>, Refusal> {
        let statement: Statement<'_> = (sql::DELIVERIES, &[&user.0, &id, &state, &before, &most]);
        let found = self.0.rows("webhook_deliveries", false, statement, logged).await?;
        found.into_iter().collect()
    }

    /// Takes the next events from the logs of a webhook's conversations, `most` of each, while fewer than `pending`
    /// deliveries wait. Returns whether there may be more.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn queue(&self, id: i64, most: i64, pending: i64) -> Result<bool, Refusal> {
        self.0.is_true("queue_webhook_events", true, (sql::QUEUE, &[&id, &most, &pending])).await
    }

    /// Deliveries of a webhook that are due, at most `most`.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn due(&self, id: i64, most: i64) -> Result<Vec<DueDelivery>, Refusal> {
        let read = |row: &Row| {
            let place: (i64, i64, i32) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(place)
        };
        let found = self.0.rows("due_webhook_deliveries", false, (sql::DUE, &[&id, &most]), read).await?;
        let due = found.into_iter().map(|(number, seq, attempts)| {
            let conversation = rows::conversation(number)?;
            Ok(DueDelivery { conversation, seq: Seq(seq), attempts: attempts as u32 })
        });
        due.collect()
    }

    /// Records attempts at deliveries, and the state of the webhook after them. Returns how many other deliveries were
    /// given up, because the receiver has failed for days.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn settle(&self, id: i64, settled: &[SettledDelivery], webhook: &SettledWebhook) -> Result<i64, Refusal> {
        let conversations: Vec<i64> = settled.iter().map(|one| one.conversation.number()).collect();
        let seqs: Vec<i64> = settled.iter().map(|one| one.seq.0).collect();
        let states: Vec<&str> = settled.iter().map(|one| one.state.as_str()).collect();
        let pauses: Vec<f64> = settled.iter().map(|one| one.retry_s).collect();
        let attempts: Vec<&Value> = settled.iter().map(|one| &one.attempt).collect();
        let failures = webhook.failures as i32;
        let statement: Statement<'_> = (
            sql::SETTLE,
            &[
                &id,
                &conversations,
                &seqs,
                &states,
                &pauses,
                &attempts,
                &webhook.version,
                &failures,
                &webhook.breaker_s,
                &webhook.disabled,
            ],
        );
        let given_up = self.0.rows("settle_webhook_deliveries", true, statement, |row| row.try_get(0)).await?;
        Ok(given_up.first().copied().unwrap_or(0))
    }

    /// Seconds until the next delivery of a webhook is due; `None` if none waits.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn next_due(&self, id: i64) -> Result<Option<f64>, Refusal> {
        Ok(self
            .0
            .rows("next_webhook_delivery", false, (sql::NEXT_DUE, &[&id]), |row| row.try_get(0))
            .await?
            .pop()
            .flatten())
    }

    /// Makes the job due of each webhook that follows one of these conversations.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn wake(&self, conversations: &[i64]) -> Result<(), Refusal> {
        self.0.rows("wake_webhooks", true, (sql::WAKE, &[&conversations]), |_| Ok(())).await.map(drop)
    }

    /// Makes the job due of webhooks that have something to send, `most` of those after `after`. Returns the last one
    /// that was looked at; `None` after the last of all.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn wake_behind(&self, after: i64, most: i64) -> Result<Option<i64>, Refusal> {
        let statement: Statement<'_> = (sql::WAKE_BEHIND, &[&after, &most]);
        Ok(self.0.rows("wake_webhooks_behind", true, statement, |row| row.try_get(0)).await?.pop().flatten())
    }

    /// Whether there is an active webhook.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn any(&self) -> Result<bool, Refusal> {
        self.0.is_true("any_webhook", false, (sql::ANY, &[])).await
    }

    /// How many deliveries wait, and for how many seconds the oldest of them.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn backlog(&self) -> Result<(i64, f64), Refusal> {
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let rows = self.0.read_rows("webhook_backlog", (sql::BACKLOG, &[]), read).await?;
        rows.first().copied().ok_or_else(Refusal::storage_unavailable)
    }

    /// Removes old rows of the log of deliveries.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn sweep(&self) -> Result<(), Refusal> {
        for (state, seconds) in KEPT {
            let state = state.as_str();
            let statement: Statement<'_> = (sql::SWEEP, &[&state, &seconds, &SWEPT_MAX]);
            for _ in 0..SWEEP_BATCHES_MAX {
                let removed = self.0.rows("sweep_webhook_deliveries", true, statement, |_| Ok(())).await?;
                if (removed.len() as i64) < SWEPT_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Secrets that another key than `key` encrypts, of webhooks after `after`.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn to_reseal(&self, key: &str, after: i64, most: i64) -> Result<Vec<SecretsToReseal>, Refusal> {
        let read = |row: &Row| {
            Ok(SecretsToReseal {
                webhook: row.try_get(0)?,
                secret: WebhookSecret { key_id: row.try_get(1)?, sealed: row.try_get(2)? },
                previous: optional_secret(row.try_get(3)?, row.try_get(4)?),
            })
        };
        self.0.rows("webhook_secrets", false, (sql::TO_RESEAL, &[&key, &after, &most]), read).await
    }

    /// Replaces secrets, unless they were changed meanwhile.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn reseal(&self, old: &SecretsToReseal, new: &SecretsToReseal) -> Result<(), Refusal> {
        let previous = new.previous.as_ref().map(|secret| secret.sealed.as_slice());
        let statement: Statement<'_> = (
            sql::RESEAL,
            &[&old.webhook, &old.secret.key_id, &old.secret.sealed, &new.secret.key_id, &new.secret.sealed, &previous],
        );
        self.0.rows("reseal_webhook", true, statement, |_| Ok(())).await.map(drop)
    }

    /// Keys that encrypt secrets of webhooks, and how many each.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn keys_in_use(&self) -> Result<Vec<(String, i64)>, Refusal> {
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        self.0.read_rows("webhook_keys", (sql::KEYS_IN_USE, &[]), read).await
    }
}

fn optional_secret(key_id: Option<String>, sealed: Option<Vec<u8>>) -> Option<WebhookSecret> {
    key_id.zip(sealed).map(|(key_id, sealed)| WebhookSecret { key_id, sealed })
}

fn webhook(row: &Row) -> Result<Webhook, Error> {
    let disabled_at: Option<OffsetDateTime> = row.try_get("disabled_at")?;
    let reason: Option<String> = row.try_get("disabled_reason")?;
    let previous = optional_secret(row.try_get("previous_key_id")?, row.try_get("previous_sealed")?);
    Ok(Webhook {
        id: row.try_get("id")?,
        owner: UserId(row.try_get("owner_id")?),
        // The foreign key vouches for the number.
        conversation: row.try_get::<_, Option<i64>>("conversation_id")?.and_then(ConversationId::from_number),
        url: row.try_get("url")?,
        events: row.try_get("events")?,
        is_ordered: row.try_get("is_ordered")?,
        created_at: row.try_get("created_at")?,
        disabled: disabled_at.map(|at| (at, reason.unwrap_or_default())),
        failures: row.try_get::<_, i32>("failures")? as u32,
        paused_until: row.try_get("paused_until")?,
        paused_s: row.try_get::<_, Option<f64>>("paused_s")?.unwrap_or(0.0),
        version: row.try_get("version")?,
        last_success_at: row.try_get("last_success_at")?,
        last_failure_at: row.try_get("last_failure_at")?,
        secret: WebhookSecret { key_id: row.try_get("key_id")?, sealed: row.try_get("sealed")? },
        previous: previous.zip(row.try_get("previous_until")?),
    })
}

fn logged(row: &Row) -> Result<Result<LoggedDelivery, Refusal>, Error> {
    let number = row.try_get(1)?;
    let conversation = match rows::conversation(number) {
        Ok(conversation) => conversation,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(Ok(LoggedDelivery {
        id: row.try_get(0)?,
        conversation,
        seq: Seq(row.try_get(2)?),
        kind: row.try_get(3)?,
        state: row.try_get(4)?,
        attempts: row.try_get(5)?,
        created_at: row.try_get(6)?,
        settled_at: row.try_get(7)?,
        next_at: row.try_get(8)?,
        log: row.try_get(9)?,
    }))
}
