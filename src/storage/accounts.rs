//! Accounts in PostgreSQL: users, credentials, sessions, refresh tokens.
//!
//! Invariants:
//! - what belongs together is one transaction: there is never a user without credentials, nor a refresh token that was
//!   spent without its successor existing. Otherwise a crash at the wrong moment would lock a person out;
//! - a refresh token is rotated under its row lock: of two concurrent uses one wins. The other gets the same successor
//!   for a moment; after that it counts as reuse, which revokes the whole session (`auth::refresh` says why);
//! - opening a session and changing the password exclude each other on the credentials row: a session opened with
//!   the old password cannot slip past the revocation that the change makes;
//! - an error says truthfully whether something was changed. "Nothing was changed" is only said when COMMIT (or a
//!   single writing statement) was not sent; after that a lost connection is *unknown*;
//! - every call ends within two [`QUERY_TIMEOUT`]s. A connection whose query did not end in time is closed instead of
//!   going back to the pool, where the next user would queue behind that query.
//!
//! The pool's connections run as `chat_writer`; its row policies allow these tables and hide what people wrote.

mod announcements;
mod outcome;
pub mod rotation;

use super::sql::accounts as sql;
use crate::error::Refusal;
use crate::faults::warn_limited;
use crate::ids::{SessionId, UserId};
use deadpool_postgres::{Object, Pool};
use outcome::settle;
use std::ops::Deref;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::{error::Elapsed, timeout};
use tokio_postgres::{Error, Row};

/// Rows that one statement of a sweep of outcomes removes, and statements of one sweep.
const OUTCOMES_PER_BATCH: i64 = 5_000;
const OUTCOME_BATCHES_MAX: usize = 40;
/// Longest wait for a connection, and again for the statements of one call.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most users that a search returns.
pub const SEARCH_USERS_MAX: i64 = 50;

/// What everybody who is signed in may know of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The user's number.
    pub id: UserId,
    /// Unique without case.
    pub username: String,
    /// What others see.
    pub display_name: String,
    /// Picture, if any.
    pub avatar_url: Option<String>,
    /// What they say of themselves.
    pub bio: Option<String>,
    /// Whether what they have read is theirs alone to know; shown to nobody else.
    pub receipts_private: bool,
    /// When the account was made.
    pub created_at: OffsetDateTime,
}

/// A user to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewAccount<'a> {
    /// Already checked against `[A-Za-z0-9_-]{3,50}`.
    pub username: &'a str,
    /// What others see.
    pub display_name: &'a str,
    /// For signing in; never shown.
    pub email: &'a str,
    /// PHC string.
    pub password_hash: &'a str,
}

/// A session to be opened.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// What the user calls the device; may be empty.
    pub device_name: &'a str,
    /// Where it signed in from.
    pub ip: &'a str,
    /// Digest of its first refresh token.
    pub refresh_hash: &'a [u8; 32],
    /// How long that token is good for.
    pub refresh_lifetime_seconds: i64,
}

/// A session that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Whose.
    pub profile: Profile,
    /// Its number.
    pub session: SessionId,
}

/// What signing in needs to know.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who it would be.
    pub user: UserId,
    /// Their user name.
    pub username: String,
    /// What the password must open.
    pub password_hash: String,
}

/// A sign-in, as its user sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its number.
    pub id: SessionId,
    /// What the user calls the device.
    pub device_name: String,
    /// Where it was last used from.
    pub ip: String,
    /// When it was opened.
    pub created_at: OffsetDateTime,
    /// When its tokens were last renewed.
    pub last_used_at: OffsetDateTime,
}

/// What happens to a field that may be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It becomes empty.
    Clear,
    /// It gets a new value.
    Set(T),
}

impl<T> Change<T> {
    /// The same change of a borrowed value.
    pub fn as_deref(&self) -> Change<&T::Target>
    where
        T: Deref,
    {
        match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(value),
        }
    }

    /// Whether it changes, and what it becomes.
    fn parameters(self) -> (bool, Option<T>) {
        match self {
            Self::Keep => (false, None),
            Self::Clear => (true, None),
            Self::Set(value) => (true, Some(value)),
        }
    }
}

/// What is to become of a profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProfileEdit<'a> {
    /// What others see; none keeps it.
    pub display_name: Option<&'a str>,
    /// Picture.
    pub avatar_url: Change<&'a str>,
    /// What they say of themselves.
    pub bio: Change<&'a str>,
    /// Whether receipts are private; none keeps it.
    pub receipts_private: Option<bool>,
}

/// What a sweep removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Sessions that had run out.
    pub sessions: u64,
    /// Expired refresh tokens.
    pub refresh_tokens: u64,
    /// Expired tickets.
    pub spent_tickets: u64,
}

/// Handle to the account tables; cloning it is cheap.
#[derive(Clone)]
pub struct Accounts {
    pool: Pool,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl Accounts {
    /// `pool`'s connections must run as `chat_writer`.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    async fn connection(&self, what: &'static str) -> Result<Object, Refusal> {
        match timeout(QUERY_TIMEOUT, self.pool.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                warn_limited!(what, %error, "no connection to PostgreSQL");
                Err(Refusal::storage_unavailable())
            }
            Err(Elapsed { .. }) => {
                warn_limited!(what, "no connection to PostgreSQL became free in time");
                Err(Refusal::storage_unavailable())
            }
        }
    }

    /// Makes a user and opens the first session.
    ///
    /// # Errors
    /// `conflict` when the username or the email is taken; the store's failures.
    pub async fn register(&self, account: NewAccount<'_>, session: NewSession<'_>) -> Result<Opened, Refusal> {
        let mut connection = self.connection("register").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::REGISTER).await?;
            let row = transaction
                .query_one(
                    &statement,
                    &[
                        &account.username,
                        &account.display_name,
                        &account.email,
                        &account.password_hash,
                        &session.device_name,
                        &session.ip,
                    ],
                )
                .await?;
            let opened = opened(&row)?;
            insert_refresh_token(&transaction, &opened, session.refresh_hash, session.refresh_lifetime_seconds).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(opened)
        })
        .await;
        settle(connection, "register", in_doubt, outcome)
    }

    /// The active user with this username or, when it contains an `@`, this email; case does not matter.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn find_login(&self, login: &str) -> Result<Option<Login>, Refusal> {
        // A user name cannot contain an @.
        let text = if login.contains('@') { sql::FIND_LOGIN_BY_EMAIL } else { sql::FIND_LOGIN_BY_USERNAME };
        let connection = self.connection("find_login").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(text).await?;
            connection.query_opt(&statement, &[&login]).await?.map(|row| login_row(&row)).transpose()
        })
        .await;
        settle(connection, "find_login", false, outcome)
    }

    /// The same by number, for checks of the current password.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn find_login_by_id(&self, user: UserId) -> Result<Option<Login>, Refusal> {
        let connection = self.connection("find_login_by_id").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::FIND_LOGIN_BY_ID).await?;
            connection.query_opt(&statement, &[&user.0]).await?.map(|row| login_row(&row)).transpose()
        })
        .await;
        settle(connection, "find_login_by_id", false, outcome)
    }

    /// Opens a session for a login whose password was verified; `None` when the password was changed since.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn open_session(&self, login: &Login, session: NewSession<'_>) -> Result<Option<Opened>, Refusal> {
        let mut connection = self.connection("open_session").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::OPEN_SESSION).await?;
            let row = transaction
                .query_opt(&statement, &[&login.user.0, &login.password_hash, &session.device_name, &session.ip])
                .await?;
            let Some(row) = row else { return Ok(None) };
            let opened = opened(&row)?;
            insert_refresh_token(&transaction, &opened, session.refresh_hash, session.refresh_lifetime_seconds).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(Some(opened))
        })
        .await;
        settle(connection, "open_session", in_doubt, outcome)
    }

    /// Revokes one session of `user`; `false` when they have no such active session.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn revoke_session(&self, user: UserId, session: SessionId) -> Result<bool, Refusal> {
        let connection = self.connection("revoke_session").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::REVOKE_SESSION).await?;
            in_doubt = true;
            Ok(connection.execute(&statement, &[&session.0, &user.0]).await? > 0)
        })
        .await;
        settle(connection, "revoke_session", in_doubt, outcome)
    }

    /// Revokes every session of `user`; says how many there were.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn revoke_all(&self, user: UserId) -> Result<u64, Refusal> {
        let connection = self.connection("revoke_all").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::REVOKE_ALL).await?;
            in_doubt = true;
            connection.execute(&statement, &[&user.0, &None::<i64>]).await
        })
        .await;
        settle(connection, "revoke_all", in_doubt, outcome)
    }

    /// Sets a new password and revokes every session but `keep`, in one transaction. `false` when the password was
    /// changed since `verified` was read.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn change_password(&self, verified: &Login, new_hash: &str, keep: SessionId) -> Result<bool, Refusal> {
        let mut connection = self.connection("change_password").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::CHANGE_PASSWORD).await?;
            let changed =
                transaction.execute(&statement, &[&verified.user.0, &verified.password_hash, &new_hash]).await?;
            if changed == 0 {
                return Ok(false);
            }
            let statement = transaction.prepare_cached(sql::REVOKE_ALL).await?;
            transaction.execute(&statement, &[&verified.user.0, &Some(keep.0)]).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(true)
        })
        .await;
        settle(connection, "change_password", in_doubt, outcome)
    }

    /// The sessions of `user` that can still be used, last used first.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn list_sessions(&self, user: UserId) -> Result<Vec<SessionInfo>, Refusal> {
        let connection = self.connection("list_sessions").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::LIST_SESSIONS).await?;
            connection.query(&statement, &[&user.0]).await?.iter().map(session_info).collect()
        })
        .await;
        settle(connection, "list_sessions", false, outcome)
    }

    /// Whether the session is `user`'s and not revoked, and the user is active.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn session_is_active(&self, user: UserId, session: SessionId) -> Result<bool, Refusal> {
        let connection = self.connection("session_is_active").await?;
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
    /// The store's failures.
    pub async fn profile(&self, user: UserId) -> Result<Option<Profile>, Refusal> {
        let connection = self.connection("profile").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::PROFILE).await?;
            connection.query_opt(&statement, &[&user.0]).await?.map(|row| profile(&row)).transpose()
        })
        .await;
        settle(connection, "profile", false, outcome)
    }

    /// Users whose username begins with `query`, or whose display name has its words (the last of them as a beginning),
    /// at most `limit` (≤ [`SEARCH_USERS_MAX`]).
    ///
    /// # Errors
    /// The store's failures.
    pub async fn search_users(&self, query: &str, limit: i64) -> Result<Vec<Profile>, Refusal> {
        let limit = limit.clamp(1, SEARCH_USERS_MAX);
        let connection = self.connection("search_users").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SEARCH_USERS).await?;
            connection.query(&statement, &[&query, &limit]).await?.iter().map(profile).collect()
        })
        .await;
        settle(connection, "search_users", false, outcome)
    }

    /// Changes what is given; `None` when the user is not active.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn update_profile(&self, user: UserId, edit: ProfileEdit<'_>) -> Result<Option<Profile>, Refusal> {
        let ProfileEdit { display_name, avatar_url, bio, receipts_private } = edit;
        let (set_avatar, avatar_url) = avatar_url.parameters();
        let (set_bio, bio) = bio.parameters();
        let connection = self.connection("update_profile").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::UPDATE_PROFILE).await?;
            in_doubt = true;
            connection
                .query_opt(
                    &statement,
                    &[&user.0, &display_name, &set_avatar, &avatar_url, &set_bio, &bio, &receipts_private],
                )
                .await?
                .map(|row| profile(&row))
                .transpose()
        })
        .await;
        settle(connection, "update_profile", in_doubt, outcome)
    }

    /// Ends sessions that have run out and removes what has expired, a bounded amount per call; call it every few
    /// minutes.
    ///
    /// # Errors
    /// The store's failures; what was swept before stays swept.
    pub async fn sweep_expired(&self) -> Result<Swept, Refusal> {
        let mut counts = [0; 3];
        let statements = [sql::SWEEP_SESSIONS, sql::SWEEP_REFRESH_TOKENS, sql::SWEEP_SPENT_TICKETS];
        for (count, text) in counts.iter_mut().zip(statements) {
            let connection = self.connection("sweep_expired").await?;
            let outcome = timeout(QUERY_TIMEOUT, async {
                let statement = connection.prepare_cached(text).await?;
                connection.execute(&statement, &[]).await
            })
            .await;
            *count = settle(connection, "sweep_expired", false, outcome)?;
        }
        self.sweep_outcomes().await?;
        let [sessions, refresh_tokens, spent_tickets] = counts;
        Ok(Swept { sessions, refresh_tokens, spent_tickets })
    }
}

impl Accounts {
    /// Removes outcomes of mutations that nobody submits again, a batch at a time: a large deletion would hold up
    /// commits.
    async fn sweep_outcomes(&self) -> Result<(), Refusal> {
        for _ in 0..OUTCOME_BATCHES_MAX {
            let connection = self.connection("sweep_outcomes").await?;
            let outcome = timeout(QUERY_TIMEOUT, async {
                let statement = connection.prepare_cached(sql::SWEEP_MUTATION_OUTCOMES).await?;
                connection.execute(&statement, &[&OUTCOMES_PER_BATCH]).await
            })
            .await;
            let removed = settle(connection, "sweep_outcomes", false, outcome)?;
            if removed < OUTCOMES_PER_BATCH as u64 {
                break;
            }
        }
        Ok(())
    }
}

async fn insert_refresh_token(
    transaction: &deadpool_postgres::Transaction<'_>,
    opened: &Opened,
    hash: &[u8; 32],
    lifetime_seconds: i64,
) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::INSERT_REFRESH_TOKEN).await?;
    let seconds = lifetime_seconds as f64;
    transaction
        .execute(&statement, &[&hash.as_slice(), &opened.session.0, &opened.profile.id.0, &seconds])
        .await
        .map(|_| ())
}

fn profile(row: &Row) -> Result<Profile, Error> {
    Ok(Profile {
        id: UserId(row.try_get("id")?),
        username: row.try_get("username")?,
        display_name: row.try_get("display_name")?,
        avatar_url: row.try_get("avatar_url")?,
        bio: row.try_get("bio")?,
        receipts_private: row.try_get("receipts_private")?,
        created_at: row.try_get("created_at")?,
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
    })
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
