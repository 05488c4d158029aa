//! The limits of sign-ins and registrations, as the handlers use them: the clock, the lock, and the refusals.

use super::hashing::HashClient;
use super::problem::Problem;
use crate::auth::attempts::{Allowed, Attempts, Exceeded, Network, TooMany};
use crate::error::{ErrorCode, Refusal};
use axum::http::StatusCode;
use serde_json::json;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often entries that limit nothing any longer are dropped.
const SWEEP: Duration = Duration::from_mins(1);

/// The limits of one server.
pub struct SignInLimits {
    allowed: Allowed,
    state: Mutex<LimitState>,
    /// Process time begins here.
    began: Instant,
    digests: RandomState,
}

struct LimitState {
    attempts: Attempts,
    swept: Duration,
}

/// A password check under way.
pub struct PasswordCheck {
    account: u64,
    network: Network,
    familiar: bool,
}

impl SignInLimits {
    /// No attempt has been made yet.
    #[must_use]
    pub fn new(allowed: Allowed) -> Self {
        let state = LimitState { attempts: Attempts::new(allowed), swept: Duration::ZERO };
        Self { allowed, state: Mutex::new(state), began: Instant::now(), digests: RandomState::new() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Attempts, Duration) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.began.elapsed();
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
    pub fn register(&self, network: Network) -> Result<HashClient, Problem> {
        let begun = self.with(|attempts, now| attempts.register(network, now));
        begun.map_err(|refused| budget_refusal("registrations", self.allowed.registrations_per_minute, refused))?;
        Ok(self.client(network))
    }

    /// A sign-in begins.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn sign_in(&self, network: Network) -> Result<HashClient, Problem> {
        let begun = self.with(|attempts, now| attempts.sign_in(network, now));
        begun.map_err(|refused| budget_refusal("sign_ins", self.allowed.sign_ins_per_minute, refused))?;
        Ok(self.client(network))
    }

    /// Who asks for a hash.
    pub fn client(&self, network: Network) -> HashClient {
        HashClient { network, in_good_standing: self.with(|attempts, now| attempts.is_in_good_standing(network, now)) }
    }

    /// A password check begins: of a user, or of a login that belongs to nobody. `familiar` if this user signed in from
    /// this network before.
    ///
    /// # Errors
    /// `account_locked`.
    pub fn check(&self, who: Result<i64, &str>, network: Network, familiar: bool) -> Result<PasswordCheck, Problem> {
        let account = match who {
            Ok(user) => self.digests.hash_one(user),
            Err(login) => self.digests.hash_one(login.to_lowercase()),
        };
        self.with(|attempts, now| attempts.check(account, network, familiar, now)).map_err(locked)?;
        Ok(PasswordCheck { account, network, familiar })
    }

    /// The password was right.
    pub fn succeeded(&self, check: &PasswordCheck) {
        self.with(|attempts, now| {
            attempts.succeeded(check.account, check.network, check.familiar, now);
            attempts.signed_in(check.network, now);
        });
    }

    /// A session was continued from this network.
    pub fn continued(&self, network: Network) {
        self.with(|attempts, now| attempts.signed_in(network, now));
    }
}

fn budget_refusal(limiter: &'static str, limit: u32, refused: TooMany) -> Problem {
    let scope = if refused.exceeded == Exceeded::Subnet { "subnet" } else { "address" };
    let action = if limiter == "registrations" { "accounts were registered" } else { "sign-ins were tried" };
    Refusal::new(
        ErrorCode::RateLimited,
        format!("Too many {action} from your network within a minute. Wait a moment, then try again."),
    )
    .retry_after(refused.retry_after_ms)
    .with_details(json!({ "limiter": limiter, "scope": scope, "limit": limit, "window_ms": 60_000 }))
    .into()
}

fn locked(refused: TooMany) -> Problem {
    let detail = match refused.exceeded {
        Exceeded::Strangers => {
            "Too many wrong passwords for this account from other networks. Wait a moment, or sign in from a network \
             that you used before."
        }
        Exceeded::Account | Exceeded::Network | Exceeded::Subnet => {
            "Too many wrong passwords for this account from your network. Wait until you try the next one."
        }
    };
    let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "account_locked", detail);
    problem.retry_after_ms = Some(refused.retry_after_ms);
    problem
}
