//! The limits of sign-ins and registrations, as the handlers use them: the clock, the lock, and the refusals.

use super::hashing::HashClient;
use super::problem::Problem;
use crate::address::ClientNetwork;
use crate::auth::attempts::{
    Allowed, Attempts, CODE_FAILURES_PER_NETWORK, Exceeded, FAILURES_OF_STRANGERS, FAILURES_PER_NETWORK,
    FORGOTTEN_AFTER, TooMany,
};
use crate::error::{Refusal, limit_details};
use crate::faults::warn_limited;
use crate::ids::UserId;
use crate::text;
use axum::http::StatusCode;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often entries that limit nothing any longer are dropped.
const SWEEP: Duration = Duration::from_mins(1);

/// The limits of one server; cloning shares them.
#[derive(Clone)]
pub struct SignInLimits {
    inner: Arc<SignInState>,
}

struct SignInState {
    state: Mutex<LimitState>,
    /// Process time begins here.
    began: Instant,
    digests: RandomState,
}

struct LimitState {
    allowed: Allowed,
    attempts: Attempts,
    swept: Duration,
}

/// A check of a password or of a code under way. It counts as a wrong one only after [`PasswordCheck::failed`]; dropped
/// before (the queue was full, the client has disconnected), it does not count.
#[must_use = "a check that is dropped at once limits nothing"]
pub struct PasswordCheck {
    limits: SignInLimits,
    account: u64,
    network: ClientNetwork,
    familiar: bool,
    counts: bool,
}

impl PasswordCheck {
    /// The password was wrong.
    pub fn failed(mut self) {
        self.counts = true;
    }

    /// The password was right, and a second factor is still missing. Forgets wrong passwords: who knows the right one
    /// has nothing to guess.
    pub fn right_but_incomplete(mut self) {
        self.counts = true;
        let (account, network, familiar) = (self.account, self.network, self.familiar);
        self.limits.with(|attempts, now| attempts.succeeded(account, network, familiar, now));
    }

    /// The password was right.
    pub fn succeeded(mut self) {
        self.counts = true;
        let (account, network, familiar) = (self.account, self.network, self.familiar);
        self.limits.with(|attempts, now| {
            attempts.succeeded(account, network, familiar, now);
            attempts.signed_in(network, now);
        });
    }
}

impl Drop for PasswordCheck {
    fn drop(&mut self) {
        if !self.counts {
            let (account, network, familiar) = (self.account, self.network, self.familiar);
            self.limits.with(|attempts, now| attempts.take_back(account, network, familiar, now));
        }
    }
}

impl SignInLimits {
    /// No attempt has been made yet.
    #[must_use]
    pub fn new(allowed: Allowed) -> Self {
        let state = LimitState { allowed, attempts: Attempts::new(allowed), swept: Duration::ZERO };
        let state = Mutex::new(state);
        let inner = SignInState { state, began: Instant::now(), digests: RandomState::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Other numbers of attempts are allowed from now on.
    pub(super) fn allow(&self, allowed: Allowed) {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.allowed = allowed;
        state.attempts.allow(allowed);
    }

    fn allowed(&self) -> Allowed {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).allowed
    }

    fn with<T>(&self, change: impl FnOnce(&mut Attempts, Duration) -> T) -> T {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.inner.began.elapsed();
        if now >= state.swept + SWEEP {
            state.swept = now;
            state.attempts.sweep(now);
        }
        change(&mut state.attempts, now)
    }

    /// A registration begins.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn register(&self, network: ClientNetwork) -> Result<HashClient, Problem> {
        let begun = self.with(|attempts, now| attempts.register(network, now));
        begun.map_err(|refused| {
            budget_refusal("registrations", network, self.allowed().registrations_per_minute, refused)
        })?;
        Ok(self.client(network))
    }

    /// A sign-in begins.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn sign_in(&self, network: ClientNetwork) -> Result<HashClient, Problem> {
        let begun = self.with(|attempts, now| attempts.sign_in(network, now));
        begun.map_err(|refused| budget_refusal("sign_ins", network, self.allowed().sign_ins_per_minute, refused))?;
        Ok(self.client(network))
    }

    /// A session is to be continued.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn refresh(&self, network: ClientNetwork) -> Result<(), Problem> {
        let begun = self.with(|attempts, now| attempts.refresh(network, now));
        begun.map_err(|refused| budget_refusal("refreshes", network, self.allowed().refreshes_per_minute(), refused))
    }

    /// Who asks for a hash.
    pub fn client(&self, network: ClientNetwork) -> HashClient {
        HashClient { network, in_good_standing: self.with(|attempts, now| attempts.is_in_good_standing(network, now)) }
    }

    /// A password check begins. `login` is what was typed, whether or not it belongs to an account: if the limits knew
    /// which name and which e-mail address are one account, their refusals would tell. `familiar` if its user signed in
    /// from this network before.
    ///
    /// # Errors
    /// `account_locked`.
    pub fn check(&self, login: &str, network: ClientNetwork, familiar: bool) -> Result<PasswordCheck, Problem> {
        let account = self.inner.digests.hash_one(text::nfc(login).to_lowercase());
        let begun = self.with(|attempts, now| attempts.check(account, network, familiar, now));
        begun.map_err(|refused| locked(network, refused, ("wrong_passwords", FAILURES_PER_NETWORK)))?;
        Ok(PasswordCheck { limits: self.clone(), account, network, familiar, counts: false })
    }

    /// The check of a second factor begins, after the password of `user` was right. Wrong codes count by the account
    /// and apart from wrong passwords.
    ///
    /// # Errors
    /// `account_locked`.
    pub fn check_code(&self, user: UserId, network: ClientNetwork, familiar: bool) -> Result<PasswordCheck, Problem> {
        let account = self.inner.digests.hash_one(("second factor", user.0));
        let begun = self.with(|attempts, now| attempts.check_code(account, network, familiar, now));
        begun.map_err(|refused| locked(network, refused, ("wrong_codes", CODE_FAILURES_PER_NETWORK)))?;
        Ok(PasswordCheck { limits: self.clone(), account, network, familiar, counts: false })
    }

    /// A session was continued from this network.
    pub fn continued(&self, network: ClientNetwork) {
        self.with(|attempts, now| attempts.signed_in(network, now));
    }
}

fn budget_refusal(limiter: &'static str, network: ClientNetwork, limit: u32, refused: TooMany) -> Problem {
    warn_limited!(%network, limiter, "refused attempts of a network beyond its limit");
    let scope = if refused.exceeded == Exceeded::Subnet { "subnet" } else { "address" };
    let action = match limiter {
        "registrations" => "accounts were registered",
        "refreshes" => "sessions were continued",
        _ => "sign-ins were tried",
    };
    let detail = format!("Too many {action} from your network within a minute. Wait a moment, then try again.");
    Refusal::rate_limited(detail, limiter, scope, u64::from(limit), 60_000).retry_after(refused.retry_after_ms).into()
}

/// `tolerated` wrong ones from a network before attempts have to wait.
fn locked(network: ClientNetwork, refused: TooMany, (limiter, tolerated): (&str, u32)) -> Problem {
    warn_limited!(%network, "refused a sign-in after too many wrong passwords or codes for its account");
    let (detail, scope, limit) = match refused.exceeded {
        Exceeded::Strangers => (
            "Too many wrong passwords or codes for this account from other networks. Wait a moment, or sign in from a \
             network that you used before.",
            "account",
            FAILURES_OF_STRANGERS,
        ),
        Exceeded::Account | Exceeded::Network | Exceeded::Subnet => (
            "Too many wrong passwords or codes for this account from your network. Wait until you try the next one.",
            "address",
            tolerated,
        ),
    };
    let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "account_locked", detail);
    problem.retry_after_ms = Some(refused.retry_after_ms);
    let window_ms = FORGOTTEN_AFTER.as_millis() as u64;
    problem.details = Some(Box::new(limit_details(limiter, scope, u64::from(limit), window_ms)));
    problem
}
