//! Two-factor authentication in PostgreSQL.
//!
//! Invariants:
//! - a code is used up in the transaction of its effect, by one statement that compares and sets. Of parallel uses of a
//!   code one has its effect. If the effect fails, the code is not used up;
//! - steps only move forward, over enrolment, sign-in, step-up, new backup codes and disabling together;
//! - an attempt to answer a challenge counts before its code is checked, so that parallel guesses count too.
//!
//! Secrets arrive here encrypted. `auth::sealed` has the keys.

use super::opening::open_session_with;
use super::outcome::settle;
use super::{Accounts, Login, NewSession, Opened, QUERY_TIMEOUT, audited, login_row};
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{SessionId, UserId};
use crate::limits::{
    CHALLENGE_ATTEMPTS_MAX, CHALLENGE_SECONDS, CHALLENGES_PER_USER_MAX, ENROLMENT_SECONDS, FACTOR_FRESH_SECONDS,
};
use crate::storage::sql::two_factor as sql;
use deadpool_postgres::Transaction;
use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::{Error, Row};

/// For how long a second factor lets an administrator read what the server keeps about others. A stolen session shows
/// it for an hour at most. The 5 minutes of dangerous actions would interrupt administrators who read many pages.
pub const READING_SECONDS: u32 = 3_600;

/// What a request needs to know about its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FactorState {
    /// Whether the user has two-factor authentication.
    pub enabled: bool,
    /// Whether a second factor was given in the session lately.
    pub fresh: bool,
    /// Whether one was given within [`READING_SECONDS`].
    pub may_read: bool,
    /// The age of the account, in seconds.
    pub account_age_s: i64,
}

/// What users see of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FactorSummary {
    /// Whether signing in needs a code.
    pub enabled: bool,
    /// Unused backup codes.
    pub backup_codes_left: i64,
}

/// The secret of an authenticator app, encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSecret {
    /// Its number.
    pub enrolment: i64,
    /// Id of its key.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub sealed: Vec<u8>,
}

/// A code that was checked, but not used up yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckedFactor {
    /// It is the code of this step.
    Step {
        /// Number of the secret.
        enrolment: i64,
        /// The step.
        step: i64,
    },
    /// Digest of a backup code. Only using it shows whether it exists.
    BackupCode([u8; 32]),
}

/// A sign-in that waits for its code.
#[derive(Clone, Debug)]
pub struct SignInChallenge {
    /// Its user; the password has not changed since it was verified.
    pub login: Login,
    /// Name of the device.
    pub device_name: String,
}

/// The result of opening a session with a second factor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FactorSignIn {
    /// The session is open.
    Opened(Opened),
    /// The code was used before, or there is no such backup code.
    UsedCode,
    /// The password was changed, or the challenge is over.
    Void,
}

impl Accounts {
    /// The state of an active session; `None` if it or its user is not active.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn session_state(&self, user: UserId, session: SessionId) -> Result<Option<FactorState>, Refusal> {
        let (connection, _permit) = self.read_connection("session_state").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SESSION_STATE).await?;
            let windows = [seconds(FACTOR_FRESH_SECONDS), seconds(READING_SECONDS)];
            let row = connection.query_opt(&statement, &[&session.0, &user.0, &windows[0], &windows[1]]).await?;
            let state = |row: Row| {
                let (enabled, fresh) = (row.try_get("two_factor")?, row.try_get("fresh")?);
                let (may_read, account_age_s) = (row.try_get("may_read")?, row.try_get("account_age_s")?);
                Ok(FactorState { enabled, fresh, may_read, account_age_s })
            };
            row.map(state).transpose()
        })
        .await;
        settle(connection, "session_state", false, outcome)
    }

    /// Whether two-factor authentication is on, and what is left of the backup codes.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn factor_summary(&self, user: UserId) -> Result<FactorSummary, Refusal> {
        let (connection, _permit) = self.read_connection("factor_summary").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SUMMARY).await?;
            let row = connection.query_one(&statement, &[&user.0]).await?;
            Ok(FactorSummary { enabled: row.try_get("enabled")?, backup_codes_left: row.try_get("backup_codes")? })
        })
        .await;
        settle(connection, "factor_summary", false, outcome)
    }

    /// Stores a secret that is not confirmed yet, in place of an earlier one; `false` if two-factor authentication is
    /// on already.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn begin_enrolment(&self, user: UserId, secret: &StoredSecret) -> Result<bool, Refusal> {
        let connection = self.connection("begin_enrolment").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::BEGIN_ENROLMENT).await?;
            in_doubt = true;
            let StoredSecret { enrolment, key_id, sealed } = secret;
            Ok(connection.execute(&statement, &[&user.0, enrolment, sealed, key_id]).await? > 0)
        })
        .await;
        settle(connection, "begin_enrolment", in_doubt, outcome)
    }

    /// The secret that waits for its confirmation.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn pending_secret(&self, user: UserId) -> Result<Option<StoredSecret>, Refusal> {
        let connection = self.connection("pending_secret").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::PENDING_SECRET).await?;
            let row = connection.query_opt(&statement, &[&user.0, &seconds(ENROLMENT_SECONDS)]).await?;
            row.map(|row| stored_secret(&row)).transpose()
        })
        .await;
        settle(connection, "pending_secret", false, outcome)
    }

    /// The secret in force.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn confirmed_secret(&self, user: UserId) -> Result<Option<StoredSecret>, Refusal> {
        let connection = self.connection("confirmed_secret").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::CONFIRMED_SECRET).await?;
            let row = connection.query_opt(&statement, &[&user.0]).await?;
            row.map(|row| stored_secret(&row)).transpose()
        })
        .await;
        settle(connection, "confirmed_secret", false, outcome)
    }

    /// Switches two-factor authentication on, with the step of the first code and the digests of the backup codes. The
    /// code counts as a second factor of `session`. `false` if the enrolment is over.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn confirm_enrolment(
        &self,
        caller: &Caller,
        (enrolment, step): (i64, i64),
        backup_codes: &[[u8; 32]],
    ) -> Result<bool, Refusal> {
        let (user, session) = (caller.user, caller.session);
        let mut connection = self.connection("confirm_enrolment").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::CONFIRM).await?;
            let pending_for = seconds(ENROLMENT_SECONDS);
            if transaction.execute(&statement, &[&user.0, &enrolment, &step, &pending_for]).await? == 0 {
                return Ok(false);
            }
            renew_backup_codes(&transaction, user, backup_codes).await?;
            mark_session(&transaction, user, session).await?;
            audited::change_of_user(&transaction, caller, "enable_two_factor").await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(true)
        })
        .await;
        settle(connection, "confirm_enrolment", in_doubt, outcome)
    }

    /// Uses a code up as the second factor of a session that is open; `false` if it was used before.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn step_up(&self, caller: &Caller, factor: CheckedFactor) -> Result<bool, Refusal> {
        let (user, session) = (caller.user, caller.session);
        let mut connection = self.connection("step_up").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            if !use_up(&transaction, user, factor).await? {
                return Ok(false);
            }
            mark_session(&transaction, user, session).await?;
            audited::change_of_user(&transaction, caller, "step_up").await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(true)
        })
        .await;
        settle(connection, "step_up", in_doubt, outcome)
    }

    /// Replaces the backup codes; `false` if the code was used before.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn replace_backup_codes(
        &self,
        caller: &Caller,
        factor: CheckedFactor,
        backup_codes: &[[u8; 32]],
    ) -> Result<bool, Refusal> {
        let user = caller.user;
        let mut connection = self.connection("replace_backup_codes").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            if !use_up(&transaction, user, factor).await? {
                return Ok(false);
            }
            renew_backup_codes(&transaction, user, backup_codes).await?;
            audited::change_of_user(&transaction, caller, "renew_backup_codes").await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(true)
        })
        .await;
        settle(connection, "replace_backup_codes", in_doubt, outcome)
    }

    /// Switches two-factor authentication off; `false` if the code was used before.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn disable_two_factor(&self, caller: &Caller, factor: CheckedFactor) -> Result<bool, Refusal> {
        let user = caller.user;
        let mut connection = self.connection("disable_two_factor").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            if !use_up(&transaction, user, factor).await? {
                return Ok(false);
            }
            let statement = transaction.prepare_cached(sql::DISABLE).await?;
            transaction.execute(&statement, &[&user.0]).await?;
            audited::change_of_user(&transaction, caller, "disable_two_factor").await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(true)
        })
        .await;
        settle(connection, "disable_two_factor", in_doubt, outcome)
    }

    /// Remembers that the password of `login` was right; `false` if it was changed since.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn open_challenge(&self, login: &Login, hash: &[u8; 32], device_name: &str) -> Result<bool, Refusal> {
        let connection = self.connection("open_challenge").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::OPEN_CHALLENGE).await?;
            in_doubt = true;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
                &hash.as_slice(),
                &login.user.0,
                &login.password_hash,
                &device_name,
                &seconds(CHALLENGE_SECONDS),
                &(CHALLENGES_PER_USER_MAX - 1),
            ];
            Ok(connection.execute(&statement, &parameters).await? > 0)
        })
        .await;
        settle(connection, "open_challenge", in_doubt, outcome)
    }

    /// A challenge that can still be answered.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn find_challenge(&self, hash: &[u8; 32], network: &str) -> Result<Option<SignInChallenge>, Refusal> {
        let connection = self.connection("find_challenge").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::FIND_CHALLENGE).await?;
            let row = connection.query_opt(&statement, &[&hash.as_slice(), &CHALLENGE_ATTEMPTS_MAX, &network]).await?;
            row.map(|row| Ok(SignInChallenge { login: login_row(&row)?, device_name: row.try_get("device_name")? }))
                .transpose()
        })
        .await;
        settle(connection, "find_challenge", false, outcome)
    }

    /// Counts an attempt to answer a challenge. Returns how many are left after it, or `None` if none was left.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn charge_challenge(&self, hash: &[u8; 32]) -> Result<Option<i32>, Refusal> {
        let connection = self.connection("charge_challenge").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::CHARGE_CHALLENGE).await?;
            in_doubt = true;
            let row = connection.query_opt(&statement, &[&hash.as_slice(), &CHALLENGE_ATTEMPTS_MAX]).await?;
            row.map(|row| Ok(CHALLENGE_ATTEMPTS_MAX - row.try_get::<_, i32>(0)?)).transpose()
        })
        .await;
        settle(connection, "charge_challenge", in_doubt, outcome)
    }

    /// Opens a session for a login whose password was verified, and uses its code up. Also ends its challenge, if there
    /// is one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn open_session_with_factor(
        &self,
        login: &Login,
        factor: CheckedFactor,
        challenge: Option<&[u8; 32]>,
        session: NewSession<'_>,
    ) -> Result<FactorSignIn, Refusal> {
        let mut connection = self.connection("open_session_with_factor").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            if !use_up(&transaction, login.user, factor).await? {
                return Ok(FactorSignIn::UsedCode);
            }
            if let Some(hash) = challenge {
                let statement = transaction.prepare_cached(sql::END_CHALLENGE).await?;
                if transaction.execute(&statement, &[&hash.as_slice()]).await? == 0 {
                    return Ok(FactorSignIn::Void);
                }
            }
            let Some(opened) = open_session_with(&transaction, login, session, true).await? else {
                return Ok(FactorSignIn::Void);
            };
            in_doubt = true;
            transaction.commit().await?;
            Ok(FactorSignIn::Opened(opened))
        })
        .await;
        settle(connection, "open_session_with_factor", in_doubt, outcome)
    }

    /// The ids of the keys that secrets are encrypted with, each with the number of its secrets.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn keys_in_use(&self) -> Result<Vec<(String, i64)>, Refusal> {
        let connection = self.connection("keys_in_use").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::KEYS_IN_USE).await?;
            let rows = connection.query(&statement, &[]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        })
        .await;
        settle(connection, "keys_in_use", false, outcome)
    }

    /// At most `limit` secrets under other keys than `current`, of users after `after`.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn secrets_to_reseal(
        &self,
        current: &str,
        after: UserId,
        limit: i64,
    ) -> Result<Vec<(UserId, StoredSecret)>, Refusal> {
        let connection = self.connection("secrets_to_reseal").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::SECRETS_TO_RESEAL).await?;
            let rows = connection.query(&statement, &[&current, &after.0, &limit]).await?;
            rows.iter().map(|row| Ok((UserId(row.try_get("user_id")?), stored_secret(row)?))).collect()
        })
        .await;
        settle(connection, "secrets_to_reseal", false, outcome)
    }

    /// Stores secrets under the key `key_id`, each with its user and the id of its key before, and returns how many it
    /// changed: the others were replaced meanwhile. A change is a row of the audit trail, by the server itself.
    ///
    /// # Errors
    /// Failures of PostgreSQL. No secret was changed then.
    pub async fn reseal(&self, key_id: &str, secrets: &[(UserId, String, StoredSecret)]) -> Result<u64, Refusal> {
        let mut connection = self.connection("reseal").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::RESEAL).await?;
            let mut changed = 0;
            for (user, old_key_id, secret) in secrets {
                let StoredSecret { enrolment, key_id, sealed } = secret;
                changed += transaction.execute(&statement, &[&user.0, enrolment, old_key_id, sealed, key_id]).await?;
            }
            if changed == 0 {
                return Ok(0);
            }
            let details = json!({ "key": key_id, "secrets": changed });
            audited::append(&transaction, json!([{ "action": "rotate_keys", "details": details }])).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(changed)
        })
        .await;
        settle(connection, "reseal", in_doubt, outcome)
    }

    /// Removes challenges and enrolments that are over, a bounded number per call.
    ///
    /// # Errors
    /// Failures of PostgreSQL. Rows that were removed before stay removed.
    pub async fn sweep_two_factor(&self) -> Result<(), Refusal> {
        for text in [sql::SWEEP_CHALLENGES, sql::SWEEP_ENROLMENTS] {
            let connection = self.connection("sweep_two_factor").await?;
            let outcome = timeout(QUERY_TIMEOUT, async {
                let statement = connection.prepare_cached(text).await?;
                connection.execute(&statement, &[]).await
            })
            .await;
            settle(connection, "sweep_two_factor", false, outcome)?;
        }
        Ok(())
    }
}

/// Uses a code up; `false` if somebody has used it before.
pub(super) async fn use_up(transaction: &Transaction<'_>, user: UserId, factor: CheckedFactor) -> Result<bool, Error> {
    let rows = match factor {
        CheckedFactor::Step { enrolment, step } => {
            let statement = transaction.prepare_cached(sql::USE_STEP).await?;
            transaction.execute(&statement, &[&user.0, &enrolment, &step]).await?
        }
        CheckedFactor::BackupCode(hash) => {
            let statement = transaction.prepare_cached(sql::USE_BACKUP_CODE).await?;
            transaction.execute(&statement, &[&user.0, &hash.as_slice()]).await?
        }
    };
    Ok(rows > 0)
}

async fn renew_backup_codes(transaction: &Transaction<'_>, user: UserId, codes: &[[u8; 32]]) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::DROP_BACKUP_CODES).await?;
    transaction.execute(&statement, &[&user.0]).await?;
    let statement = transaction.prepare_cached(sql::ADD_BACKUP_CODES).await?;
    let codes: Vec<&[u8]> = codes.iter().map(<[u8; 32]>::as_slice).collect();
    transaction.execute(&statement, &[&user.0, &codes]).await.map(|_| ())
}

pub(super) async fn mark_session(transaction: &Transaction<'_>, user: UserId, session: SessionId) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::MARK_SESSION).await?;
    transaction.execute(&statement, &[&session.0, &user.0]).await.map(|_| ())
}

fn stored_secret(row: &Row) -> Result<StoredSecret, Error> {
    Ok(StoredSecret {
        enrolment: row.try_get("enrolment")?,
        key_id: row.try_get("key_id")?,
        sealed: row.try_get("sealed_secret")?,
    })
}

/// For `make_interval`.
fn seconds(seconds: u32) -> f64 {
    f64::from(seconds)
}
