//! Accounts in PostgreSQL: users, credentials, sessions, refresh tokens.
//!
//! Invariants:
//! - one transaction writes what belongs together: no user exists without credentials, and no refresh token is spent
//!   without a successor. Otherwise a crash at the wrong moment would lock a user out;
//! - a refresh token is rotated under its row lock: of two concurrent uses one wins. The other gets the same successor
//!   for a moment; after that it counts as reuse, which revokes the whole session (`auth::refresh` gives the reason);
//! - opening a session and changing the password exclude each other by a lock of the credentials row. So the change
//!   revokes every session that was opened with the old password;
//! - an error states correctly whether something was changed. It says "nothing" only if COMMIT (or a single writing
//!   statement) was not sent. After that, the outcome of a lost connection is *unknown*;
//! - every call ends within two [`QUERY_TIMEOUT`]s. A connection whose query is too slow is closed and does not return
//!   to the pool, where the next call would wait for that query;
//! - reads take at most half of the connections, so that a flood of them does not keep anybody from signing in.
//!
//! The connections of the pool run as `chat_writer`, whose row policies allow these tables and hide messages.

mod announcements;
mod audit_reads;
mod audited;
pub mod avatars;
mod connections;
mod opening;
mod outcome;
mod own_names;
pub mod passwords;
mod reloads;
pub mod rotation;
pub(in crate::storage) mod security_events;
mod standing;
pub mod two_factor;

use super::sql::accounts as sql;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{SessionId, UserId};
pub(super) use audited::{append_of, row_of};
pub use connections::{Accounts, QUERY_TIMEOUT};
use deadpool_postgres::GenericClient;
pub(super) use outcome::settle;
use std::ops::Deref;
use std::time::Instant;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::types::{Json as JsonColumn, ToSql};
use tokio_postgres::{Error, Row};

/// Rows that one statement of a sweep of outcomes removes.
const OUTCOMES_PER_BATCH: i64 = 5_000;
/// The newest outcomes that a sweep keeps, unless they are older than a day: some 40 MB.
const OUTCOMES_KEPT: i64 = 100_000;
/// Batches of one sweep: more than any load needs within a sweep's interval. The other sweeps have their turn then.
const OUTCOME_BATCHES_MAX: u32 = 1_000;
/// After so many batches a sweep rests half as long, after twice as many a third, and so on.
const OUTCOME_BATCHES_UNHURRIED: u32 = 40;
/// Most users that a search returns.
pub const SEARCH_USERS_MAX: i64 = 50;

/// The part of a user that every signed-in user may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountProfile {
    /// Id of the user.
    pub id: UserId,
    /// Unique without case.
    pub username: String,
    /// The displayed name.
    pub display_name: String,
    /// URL of the avatar.
    pub avatar_url: Option<String>,
    /// A text of the user about themselves.
    pub bio: Option<String>,
    /// Whether read receipts are private; only the user sees this.
    pub receipts_private: bool,
    /// Who may add the user to groups: `everyone`, `contacts` or `nobody`.
    pub group_invitations: String,
    /// When the account was created.
    pub created_at: OffsetDateTime,
    /// Whether it is a program.
    pub is_bot: bool,
}

/// A new user.
#[derive(Clone, Copy, Debug)]
pub struct NewAccount<'a> {
    /// Already checked against `[A-Za-z0-9_-]{3,50}`.
    pub username: &'a str,
    /// The displayed name.
    pub display_name: &'a str,
    /// For signing in; no other user sees it.
    pub email: &'a str,
    /// PHC string.
    pub password_hash: &'a str,
}

/// A new session.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// Name of the device; may be empty.
    pub device_name: &'a str,
    /// IP address of the client.
    pub ip: &'a str,
    /// Digest of its first refresh token.
    pub refresh_hash: &'a [u8; 32],
    /// How long that token is valid.
    pub refresh_lifetime_seconds: i64,
}

/// A session that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The user.
    pub profile: AccountProfile,
    /// Id of the session.
    pub session: SessionId,
}

/// The data that signing in needs.
#[derive(Clone, Debug)]
pub struct Login {
    /// Id of the user.
    pub user: UserId,
    /// User name.
    pub username: String,
    /// The hash that the password must match.
    pub password_hash: String,
    /// Whether the user has signed in from this network before.
    pub familiar: bool,
    /// Whether the user has two-factor authentication.
    pub two_factor: bool,
}

/// A session, as its user sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Id of the session.
    pub id: SessionId,
    /// Name of the device.
    pub device_name: String,
    /// IP address of its last use.
    pub ip: String,
    /// When it was opened.
    pub created_at: OffsetDateTime,
    /// When its tokens were last renewed.
    pub last_used_at: OffsetDateTime,
}

/// The change of an optional field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FieldChange<T> {
    /// The field keeps its value.
    #[default]
    Keep,
    /// The field becomes empty.
    Clear,
    /// The field has a new value.
    Set(T),
}

impl<T> FieldChange<T> {
    /// The same change of a borrowed value.
    pub fn as_deref(&self) -> FieldChange<&T::Target>
    where
        T: Deref,
    {
        match self {
            Self::Keep => FieldChange::Keep,
            Self::Clear => FieldChange::Clear,
            Self::Set(value) => FieldChange::Set(value),
        }
    }

    /// Whether the field changes, and its new value.
    pub(in crate::storage) fn parameters(self) -> (bool, Option<T>) {
        match self {
            Self::Keep => (false, None),
            Self::Clear => (true, None),
            Self::Set(value) => (true, Some(value)),
        }
    }
}

/// The changes of a profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProfileEdit<'a> {
    /// The displayed name; `None` keeps it.
    pub display_name: Option<&'a str>,
    /// URL of the avatar.
    pub avatar_url: FieldChange<&'a str>,
    /// A text of the user about themselves.
    pub bio: FieldChange<&'a str>,
    /// Whether read receipts are private; `None` keeps it.
    pub receipts_private: Option<bool>,
    /// Who may add the user to groups: `everyone`, `contacts` or `nobody`; none keeps it.
    pub group_invitations: Option<&'static str>,
}

/// The numbers of removed rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Expired sessions.
    pub sessions: u64,
    /// Expired refresh tokens.
    pub refresh_tokens: u64,
    /// Expired tickets.
    pub spent_tickets: u64,
    /// Additions by strangers that no budget counts any longer.
    pub stranger_additions: u64,
    /// Budgets of an hour that is over.
    pub toggle_budgets: u64,
}

impl Accounts {
    /// The active user with this username or, when it contains an `@`, this email; case does not matter.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn find_login(&self, login: &str, network: &str) -> Result<Option<Login>, Refusal> {
        // A user name cannot contain an @.
        let text = if login.contains('@') { sql::FIND_LOGIN_BY_EMAIL } else { sql::FIND_LOGIN_BY_USERNAME };
        let connection = self.connection("find_login").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(text).await?;
            connection.query_opt(&statement, &[&login, &network]).await?.map(|row| login_row(&row)).transpose()
        })
        .await;
        settle(connection, "find_login", false, outcome)
    }

    /// The active user with this id, for checks of the current password.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn find_login_by_id(&self, user: UserId) -> Result<Option<Login>, Refusal> {
        let connection = self.connection("find_login_by_id").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::FIND_LOGIN_BY_ID).await?;
            connection.query_opt(&statement, &[&user.0]).await?.map(|row| login_row(&row)).transpose()
        })
        .await;
        settle(connection, "find_login_by_id", false, outcome)
    }

    /// Whether any account still has a password hash of an older version.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn has_old_hashes(&self) -> Result<bool, Refusal> {
        let connection = self.connection("has_old_hashes").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::HAS_OLD_HASHES).await?;
            connection.query_one(&statement, &[]).await?.try_get(0)
        })
        .await;
        settle(connection, "has_old_hashes", false, outcome)
    }

    /// Revokes one session of the caller; `false` when there is no such active session.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn revoke_session(&self, caller: &Caller, session: SessionId) -> Result<bool, Refusal> {
        let connection = self.connection("revoke_session").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::REVOKE_SESSION).await?;
            in_doubt = true;
            let Caller { user, session: by, source } = caller;
            let action = if session == *by { "sign_out" } else { "revoke_session" };
            let parameters: [&(dyn ToSql + Sync); 6] =
                [&session.0, &user.0, &by.0, &action, &None::<&str>, &JsonColumn(&**source)];
            Ok(connection.execute(&statement, &parameters).await? > 0)
        })
        .await;
        settle(connection, "revoke_session", in_doubt, outcome)
    }

    /// Revokes every session of the caller; returns those that this revoked.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn revoke_all(&self, caller: &Caller) -> Result<Vec<SessionId>, Refusal> {
        let connection = self.connection("revoke_all").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SIGN_OUT_ALL).await?;
            in_doubt = true;
            let parameters: [&(dyn ToSql + Sync); 3] =
                [&caller.user.0, &caller.session.0, &JsonColumn(&*caller.source)];
            session_ids(&connection.query(&statement, &parameters).await?)
        })
        .await;
        settle(connection, "revoke_all", in_doubt, outcome)
    }

    /// The sessions of `user` that can still be used, last used first.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn list_sessions(&self, user: UserId) -> Result<Vec<SessionInfo>, Refusal> {
        let (connection, _permit) = self.read_connection("list_sessions").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::LIST_SESSIONS).await?;
            connection.query(&statement, &[&user.0]).await?.iter().map(session_info).collect()
        })
        .await;
        settle(connection, "list_sessions", false, outcome)
    }

    /// Whether the session belongs to `user` and is not revoked, and the user is active.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn session_is_active(&self, user: UserId, session: SessionId) -> Result<bool, Refusal> {
        let (connection, _permit) = self.read_connection("session_is_active").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SESSION_IS_ACTIVE).await?;
            connection.query_one(&statement, &[&session.0, &user.0]).await?.try_get(0)
        })
        .await;
        settle(connection, "session_is_active", false, outcome)
    }

    /// The profile of an active user.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn profile(&self, user: UserId) -> Result<Option<AccountProfile>, Refusal> {
        let (connection, _permit) = self.read_connection("profile").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::PROFILE).await?;
            connection.query_opt(&statement, &[&user.0]).await?.map(|row| profile(&row)).transpose()
        })
        .await;
        settle(connection, "profile", false, outcome)
    }

    /// At most `limit` (≤ [`SEARCH_USERS_MAX`]) users whose username begins with `query`, or whose display name
    /// contains its words. The last word may be a prefix.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn search_users(&self, query: &str, limit: i64) -> Result<Vec<AccountProfile>, Refusal> {
        let limit = limit.clamp(1, SEARCH_USERS_MAX);
        let (connection, _permit) = self.read_connection("search_users").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SEARCH_USERS).await?;
            connection.query(&statement, &[&query, &limit]).await?.iter().map(profile).collect()
        })
        .await;
        settle(connection, "search_users", false, outcome)
    }

    /// Changes the caller's profile; `None` when the user is not active.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn update_profile(
        &self,
        caller: &Caller,
        edit: ProfileEdit<'_>,
    ) -> Result<Option<AccountProfile>, Refusal> {
        let connection = self.connection("update_profile").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, changed_profile(&connection, caller, edit, &mut in_doubt)).await;
        settle(connection, "update_profile", in_doubt, outcome)
    }

    /// Ends expired sessions and removes expired rows, a bounded number per call. Call it every few minutes.
    ///
    /// # Errors
    /// Failures of PostgreSQL. Rows that were removed before stay removed.
    pub async fn sweep_expired(&self) -> Result<Swept, Refusal> {
        let mut counts = [0; 5];
        let statements = [
            sql::SWEEP_SESSIONS,
            sql::SWEEP_REFRESH_TOKENS,
            sql::SWEEP_SPENT_TICKETS,
            sql::SWEEP_STRANGER_ADDITIONS,
            sql::SWEEP_TOGGLE_BUDGETS,
        ];
        for (count, text) in counts.iter_mut().zip(statements) {
            let connection = self.connection("sweep_expired").await?;
            let outcome = timeout(QUERY_TIMEOUT, async {
                let statement = connection.prepare_cached(text).await?;
                connection.execute(&statement, &[]).await
            })
            .await;
            *count = settle(connection, "sweep_expired", false, outcome)?;
        }
        self.sweep_outcomes(OUTCOMES_KEPT, OUTCOMES_PER_BATCH).await?;
        let [sessions, refresh_tokens, spent_tickets, stranger_additions, toggle_budgets] = counts;
        Ok(Swept { sessions, refresh_tokens, spent_tickets, stranger_additions, toggle_budgets })
    }
}

impl Accounts {
    /// Removes the outcomes of mutations that are older than a day, and all but the newest `kept`. It removes a batch
    /// at a time, because a large deletion would hold up commits, and rests after each for as long as the batch took.
    /// The longer a sweep lasts, the shorter it rests. So it catches up with the commits, and the table cannot grow
    /// without bound.
    ///
    /// # Errors
    /// Failures of PostgreSQL. Rows that were removed before stay removed.
    pub async fn sweep_outcomes(&self, kept: i64, per_batch: i64) -> Result<u64, Refusal> {
        let mut all = 0;
        for batch in 0..OUTCOME_BATCHES_MAX {
            let began = Instant::now();
            let connection = self.connection("sweep_outcomes").await?;
            let outcome = timeout(QUERY_TIMEOUT, async {
                let statement = connection.prepare_cached(sql::SWEEP_MUTATION_OUTCOMES).await?;
                connection.execute(&statement, &[&per_batch, &kept]).await
            })
            .await;
            let removed = settle(connection, "sweep_outcomes", false, outcome)?;
            all += removed;
            if removed < per_batch as u64 {
                break;
            }
            tokio::time::sleep(began.elapsed() / (1 + batch / OUTCOME_BATCHES_UNHURRIED)).await;
        }
        Ok(all)
    }
}

/// The caller's profile after a change; `None` when the user is not active. `is_sent`: the statement was sent.
async fn changed_profile(
    client: &impl GenericClient,
    caller: &Caller,
    edit: ProfileEdit<'_>,
    is_sent: &mut bool,
) -> Result<Option<AccountProfile>, Error> {
    let ProfileEdit { display_name, avatar_url, bio, receipts_private, group_invitations } = edit;
    let (set_avatar, avatar_url) = avatar_url.parameters();
    let (set_bio, bio) = bio.parameters();
    let statement = client.prepare_cached(sql::UPDATE_PROFILE).await?;
    *is_sent = true;
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &caller.user.0,
        &display_name,
        &set_avatar,
        &avatar_url,
        &set_bio,
        &bio,
        &receipts_private,
        &group_invitations,
        &caller.session.0,
        &JsonColumn(&*caller.source),
    ];
    client.query_opt(&statement, &parameters).await?.map(|row| profile(&row)).transpose()
}

fn profile(row: &Row) -> Result<AccountProfile, Error> {
    Ok(AccountProfile {
        id: UserId(row.try_get("id")?),
        username: row.try_get("username")?,
        display_name: row.try_get("display_name")?,
        avatar_url: row.try_get("avatar_url")?,
        bio: row.try_get("bio")?,
        receipts_private: row.try_get("receipts_private")?,
        group_invitations: row.try_get("group_invitations")?,
        created_at: row.try_get("created_at")?,
        is_bot: row.try_get("is_bot")?,
    })
}

fn opened(row: &Row) -> Result<Opened, Error> {
    Ok(Opened { profile: profile(row)?, session: SessionId(row.try_get("session_id")?) })
}

fn login_row(row: &Row) -> Result<Login, Error> {
    Ok(Login {
        user: UserId(row.try_get("id")?),
        username: row.try_get("username")?,
        password_hash: row.try_get("password_hash")?,
        familiar: row.try_get("familiar")?,
        two_factor: row.try_get("two_factor")?,
    })
}

fn session_ids(rows: &[tokio_postgres::Row]) -> Result<Vec<SessionId>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get(0).map(SessionId)).collect()
}

fn session_info(row: &Row) -> Result<SessionInfo, Error> {
    Ok(SessionInfo {
        id: SessionId(row.try_get("id")?),
        device_name: row.try_get("device_name")?,
        ip: row.try_get("ip")?,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}
