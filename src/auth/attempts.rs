//! Limits of attempts to sign in and to register. Pure: every method takes the time.
//!
//! 1. A *network* is what one client controls: an IPv4 address or an IPv6 /64. A *subnet* has many of them: an IPv4 /24
//!    or an IPv6 /48.
//! 2. Each network and each subnet has a budget of sign-ins and one of registrations. Networks in good standing are
//!    exempt from their subnet's.
//! 3. An account tolerates a few wrong passwords from one network. After that, each further attempt has to wait, twice
//!    as long as the one before.
//! 4. An account also tolerates some wrong passwords from all unfamiliar networks together. A network from which the
//!    account signed in before is *familiar*. It is exempt, so the owner can sign in from there during an attack.
//! 5. A network from which somebody signed in lately is *in good standing*. Its passwords are hashed first
//!    ([`super::hash_queue`]).
//!
//! Invariants:
//! - an attempt counts as failed from its beginning. [`Attempts::succeeded`] and [`Attempts::take_back`] undo that.
//!   Otherwise parallel guesses would all pass before the first of them failed;
//! - every map is bounded. A full one forgets the entry that would be forgotten soonest among a few.

use crate::address::{ClientNetwork, ClientSubnet};
use crate::budget::Rate;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Networks in a subnet that may use their whole budget at the same time.
const NETWORKS_PER_SUBNET: u32 = 4;
/// Wrong passwords of one account from one network before attempts have to wait.
pub const FAILURES_PER_NETWORK: u32 = 5;
/// Wrong codes of one account from one network before attempts have to wait: one more than a challenge allows, so that
/// the owner of a dead challenge can sign in again at once.
pub const CODE_FAILURES_PER_NETWORK: u32 = 6;
/// Wrong passwords of one account from all unfamiliar networks before attempts have to wait.
pub const FAILURES_OF_STRANGERS: u32 = 20;
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// The longest wait of an unfamiliar network, which may be the owner's new one.
const WAIT_OF_STRANGERS_MAX: Duration = Duration::from_mins(1);
/// Failures are forgotten this long after the last one.
pub const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// How long a network is in good standing after a sign-in.
const GOOD_FOR: Duration = Duration::from_hours(24);
/// Most entries of each map.
const ENTRIES_MAX: usize = 65_536;
/// Entries that are compared to choose the one to forget.
const SAMPLE: usize = 16;

/// What a refused attempt exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exceeded {
    /// The network's budget.
    Network,
    /// The subnet's budget.
    Subnet,
    /// The wrong passwords of this account from this network.
    Account,
    /// The wrong passwords of this account from unfamiliar networks.
    Strangers,
}

/// A refused attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany {
    /// What it exceeded.
    pub exceeded: Exceeded,
    /// After how many milliseconds an attempt can succeed.
    pub retry_after_ms: u64,
}

/// Wrong passwords of one account.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    last_ms: u64,
    allowed_ms: u64,
}

impl Failures {
    fn is_forgotten(&self, now_ms: u64) -> bool {
        now_ms >= self.last_ms + FORGOTTEN_AFTER.as_millis() as u64
    }

    /// How long an attempt has to wait.
    fn wait_ms(&self, now_ms: u64) -> Result<(), u64> {
        if self.is_forgotten(now_ms) || now_ms >= self.allowed_ms { Ok(()) } else { Err(self.allowed_ms - now_ms) }
    }

    /// Counts an attempt that begins.
    fn begin(&mut self, tolerated: u32, wait_max: Duration, now_ms: u64) {
        if self.is_forgotten(now_ms) {
            *self = Self::default();
        }
        self.count = self.count.saturating_add(1);
        self.last_ms = now_ms;
        if self.count >= tolerated {
            let wait_ms = 1_000_u64 << (self.count - tolerated).min(20);
            self.allowed_ms = now_ms + wait_ms.min(wait_max.as_millis() as u64);
        }
    }

    /// The attempt that began was not a wrong password.
    fn take_back(&mut self, now_ms: u64) {
        self.count = self.count.saturating_sub(1);
        self.allowed_ms = now_ms;
    }
}

/// Budgets by key, full ones left out.
struct Budgets<K> {
    rate: Rate,
    spent: HashMap<K, AtomicU64>,
}

impl<K: Copy + Eq + Hash> Budgets<K> {
    fn new(rate: Rate) -> Self {
        Self { rate, spent: HashMap::new() }
    }

    /// Whether an attempt conforms, without spending it.
    fn check(&self, key: &K, now_ns: u64) -> Result<(), u64> {
        self.spent.get(key).map_or(Ok(()), |tat| self.rate.check(tat, now_ns))
    }

    /// What was spent at the former rate is still spent.
    fn change_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    fn spend(&mut self, key: K, now_ns: u64) {
        make_room(&mut self.spent, &key, |tat| *tat.get_mut());
        // It was checked before.
        let _ = self.rate.take(self.spent.entry(key).or_default(), now_ns);
    }

    fn sweep(&mut self, now_ns: u64) {
        self.spent.retain(|_, tat| *tat.get_mut() > now_ns);
    }
}

/// Forgets one of a few entries, the one with the smallest `until`, if `key` would be one too many.
fn make_room<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, key: &K, until: impl Fn(&mut V) -> u64) {
    if map.len() < ENTRIES_MAX || map.contains_key(key) {
        return;
    }
    let oldest = map
        .iter_mut()
        .take(SAMPLE)
        .map(|(key, value)| (until(value), key.clone()))
        .min_by_key(|(until, _)| *until)
        .map(|(_, key)| key);
    if let Some(oldest) = oldest {
        map.remove(&oldest);
    }
}

/// Refreshes that a network may make for each sign-in.
const REFRESHES_PER_SIGN_IN: u32 = 10;

/// How many attempts a network may make.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Sign-ins and other password checks per minute.
    pub sign_ins_per_minute: u32,
    /// New accounts per minute.
    pub registrations_per_minute: u32,
}

impl Allowed {
    /// Refreshes per minute. A client needs one for every access token: thousands of clients behind one address need no
    /// more.
    #[must_use]
    pub fn refreshes_per_minute(self) -> u32 {
        self.sign_ins_per_minute.saturating_mul(REFRESHES_PER_SIGN_IN)
    }
}

/// The rates of a network and of a subnet.
fn rates(per_minute: u32) -> (Rate, Rate) {
    (Rate::per_minute(per_minute), Rate::per_minute(per_minute.saturating_mul(NETWORKS_PER_SUBNET)))
}

/// The limits, with what they remember.
pub struct Attempts {
    sign_ins: (Budgets<ClientNetwork>, Budgets<ClientSubnet>),
    registrations: (Budgets<ClientNetwork>, Budgets<ClientSubnet>),
    refreshes: (Budgets<ClientNetwork>, Budgets<ClientSubnet>),
    by_network: HashMap<(u64, ClientNetwork), Failures>,
    by_account: HashMap<u64, Failures>,
    /// When somebody last signed in from a network, in milliseconds.
    signed_in: HashMap<ClientNetwork, u64>,
}

impl Attempts {
    /// Nothing has been attempted yet.
    #[must_use]
    pub fn new(allowed: Allowed) -> Self {
        let both = |per_minute: u32| {
            let (of_network, of_subnet) = rates(per_minute);
            (Budgets::new(of_network), Budgets::new(of_subnet))
        };
        Self {
            sign_ins: both(allowed.sign_ins_per_minute),
            registrations: both(allowed.registrations_per_minute),
            refreshes: both(allowed.refreshes_per_minute()),
            by_network: HashMap::new(),
            by_account: HashMap::new(),
            signed_in: HashMap::new(),
        }
    }

    /// Other numbers of attempts are allowed from now on.
    pub fn allow(&mut self, allowed: Allowed) {
        for (budgets, per_minute) in [
            (&mut self.sign_ins, allowed.sign_ins_per_minute),
            (&mut self.registrations, allowed.registrations_per_minute),
            (&mut self.refreshes, allowed.refreshes_per_minute()),
        ] {
            let (of_network, of_subnet) = rates(per_minute);
            budgets.0.change_rate(of_network);
            budgets.1.change_rate(of_subnet);
        }
    }

    /// A registration begins.
    ///
    /// # Errors
    /// The budget of its network or subnet is used up.
    pub fn register(&mut self, network: ClientNetwork, now: Duration) -> Result<(), TooMany> {
        let is_good = self.is_in_good_standing(network, now);
        take(&mut self.registrations, network, is_good, now)
    }

    /// A session is to be continued, before its token is looked up.
    ///
    /// # Errors
    /// The budget of its network or subnet is used up.
    pub fn refresh(&mut self, network: ClientNetwork, now: Duration) -> Result<(), TooMany> {
        let is_good = self.is_in_good_standing(network, now);
        take(&mut self.refreshes, network, is_good, now)
    }

    /// A sign-in begins, before the account is looked up.
    ///
    /// # Errors
    /// The budget of its network or subnet is used up.
    pub fn sign_in(&mut self, network: ClientNetwork, now: Duration) -> Result<(), TooMany> {
        let is_good = self.is_in_good_standing(network, now);
        take(&mut self.sign_ins, network, is_good, now)
    }

    /// The check of a password begins. `account` is a digest of the login, whether or not such an account exists.
    ///
    /// # Errors
    /// Too many passwords were wrong.
    pub fn check(
        &mut self,
        account: u64,
        network: ClientNetwork,
        familiar: bool,
        now: Duration,
    ) -> Result<(), TooMany> {
        self.check_tolerating(FAILURES_PER_NETWORK, account, network, familiar, now)
    }

    /// The check of a second factor begins, after the password was right. `account` is a digest that differs from those
    /// of logins: without the password, nobody can make the owner wait here.
    ///
    /// # Errors
    /// Too many codes were wrong.
    pub fn check_code(
        &mut self,
        account: u64,
        network: ClientNetwork,
        familiar: bool,
        now: Duration,
    ) -> Result<(), TooMany> {
        self.check_tolerating(CODE_FAILURES_PER_NETWORK, account, network, familiar, now)
    }

    fn check_tolerating(
        &mut self,
        tolerated: u32,
        account: u64,
        network: ClientNetwork,
        familiar: bool,
        now: Duration,
    ) -> Result<(), TooMany> {
        let now_ms = now.as_millis() as u64;
        let refused = |exceeded| move |retry_after_ms| TooMany { exceeded, retry_after_ms };
        // Both limits are asked before either counts: a refused attempt is no wrong password.
        let waits = |failures: Option<&Failures>| failures.map_or(Ok(()), |failures| failures.wait_ms(now_ms));
        waits(self.by_network.get(&(account, network))).map_err(refused(Exceeded::Account))?;
        if !familiar {
            waits(self.by_account.get(&account)).map_err(refused(Exceeded::Strangers))?;
            make_room(&mut self.by_account, &account, |failures| failures.last_ms);
            let by_account = self.by_account.entry(account).or_default();
            by_account.begin(FAILURES_OF_STRANGERS, WAIT_OF_STRANGERS_MAX, now_ms);
        }
        make_room(&mut self.by_network, &(account, network), |failures| failures.last_ms);
        let by_network = self.by_network.entry((account, network)).or_default();
        by_network.begin(tolerated, WAIT_MAX, now_ms);
        Ok(())
    }

    /// Somebody signed in from this network, with a password or a refresh token.
    pub fn signed_in(&mut self, network: ClientNetwork, now: Duration) {
        make_room(&mut self.signed_in, &network, |at_ms| *at_ms);
        self.signed_in.insert(network, now.as_millis() as u64);
    }

    /// Whether somebody signed in from this network lately.
    #[must_use]
    pub fn is_in_good_standing(&self, network: ClientNetwork, now: Duration) -> bool {
        self.signed_in.get(&network).is_some_and(|at_ms| is_good(*at_ms, now))
    }

    /// A check that began was given up: nobody knows whether the password was right.
    pub fn take_back(&mut self, account: u64, network: ClientNetwork, familiar: bool, now: Duration) {
        let now_ms = now.as_millis() as u64;
        if let Some(failures) = self.by_network.get_mut(&(account, network)) {
            failures.take_back(now_ms);
        }
        if !familiar && let Some(failures) = self.by_account.get_mut(&account) {
            failures.take_back(now_ms);
        }
    }

    /// The password was right.
    pub fn succeeded(&mut self, account: u64, network: ClientNetwork, familiar: bool, now: Duration) {
        self.by_network.remove(&(account, network));
        if !familiar && let Some(failures) = self.by_account.get_mut(&account) {
            failures.take_back(now.as_millis() as u64);
        }
    }

    /// Forgets what does not limit anything any longer. Looks at everything: call it once a minute.
    pub fn sweep(&mut self, now: Duration) {
        for (networks, subnets) in [&mut self.sign_ins, &mut self.registrations] {
            networks.sweep(now.as_nanos() as u64);
            subnets.sweep(now.as_nanos() as u64);
        }
        let now_ms = now.as_millis() as u64;
        self.signed_in.retain(|_, at_ms| is_good(*at_ms, now));
        self.by_network.retain(|_, failures| !failures.is_forgotten(now_ms));
        self.by_account.retain(|_, failures| !failures.is_forgotten(now_ms));
    }
}

fn is_good(signed_in_ms: u64, now: Duration) -> bool {
    now < Duration::from_millis(signed_in_ms) + GOOD_FOR
}

fn take(
    (networks, subnets): &mut (Budgets<ClientNetwork>, Budgets<ClientSubnet>),
    network: ClientNetwork,
    is_good: bool,
    now: Duration,
) -> Result<(), TooMany> {
    let now_ns = now.as_nanos() as u64;
    let refused = |exceeded| move |retry_after_ms| TooMany { exceeded, retry_after_ms };
    // Both are asked before either is charged: one address must not use up the budget of its neighbours by attempts
    // that are refused, nor a subnet fill the map of networks. A network in good standing does not depend on its
    // neighbours.
    networks.check(&network, now_ns).map_err(refused(Exceeded::Network))?;
    if !is_good {
        subnets.check(&network.subnet(), now_ns).map_err(refused(Exceeded::Subnet))?;
        subnets.spend(network.subnet(), now_ns);
    }
    networks.spend(network, now_ns);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn network(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse().unwrap())
    }

    fn attempts() -> Attempts {
        Attempts::new(Allowed { sign_ins_per_minute: 60, registrations_per_minute: 60 })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn bounds_registrations_of_a_network_and_of_its_subnet() {
        let mut attempts = attempts();
        let allowed = |attempts: &mut Attempts, from: &str| {
            (0..1_000).filter(|_| attempts.register(network(from), at(0)).is_ok()).count()
        };
        assert_eq!(allowed(&mut attempts, "192.0.2.1"), 60);
        let refused = attempts.register(network("192.0.2.1"), at(0)).unwrap_err();
        assert_eq!(refused, TooMany { exceeded: Exceeded::Network, retry_after_ms: 1_000 });
        let others: usize = (2..100).map(|n| allowed(&mut attempts, &format!("192.0.2.{n}"))).sum();
        assert_eq!(others, 180, "the subnet has four times the budget of a network");
        let refused = attempts.register(network("192.0.2.200"), at(0)).unwrap_err();
        assert_eq!(refused.exceeded, Exceeded::Subnet);
        assert_eq!(allowed(&mut attempts, "198.51.100.1"), 60, "other subnets are not affected");
        assert_eq!(attempts.sign_in(network("192.0.2.1"), at(0)), Ok(()), "sign-ins have a budget of their own");
    }

    #[test]
    fn lets_guesses_wait_longer_each_time() {
        let mut attempts = attempts();
        let from = network("192.0.2.1");
        let (mut guesses, mut now) = (0, at(0));
        while now < at(3_600) {
            match attempts.check(7, from, false, now) {
                Ok(()) => guesses += 1,
                Err(refused) => now += Duration::from_millis(refused.retry_after_ms),
            }
        }
        assert!((10..20).contains(&guesses), "{guesses} guesses in an hour");
        assert_eq!(attempts.check(8, from, false, now), Ok(()), "another account");
    }

    #[test]
    fn parallel_guesses_count_before_they_fail() {
        let mut attempts = attempts();
        let from = network("192.0.2.1");
        let allowed = (0..300).filter(|_| attempts.check(7, from, false, at(0)).is_ok()).count();
        assert_eq!(allowed, FAILURES_PER_NETWORK as usize);
    }

    #[test]
    fn a_right_password_takes_its_attempt_back() {
        let mut attempts = attempts();
        let from = network("192.0.2.1");
        for n in 0..1_000 {
            attempts.check(7, from, false, at(n)).unwrap();
            attempts.succeeded(7, from, false, at(n));
        }
    }

    #[test]
    fn an_attack_from_many_networks_locks_strangers_out_and_not_the_owner() {
        let mut attempts = attempts();
        let from = |n: u32| ClientNetwork::of(IpAddr::V4((0x0a00_0000 + n).into()));
        let guesses = (0..2_000).filter(|n| attempts.check(7, from(*n), false, at(0)).is_ok()).count();
        assert_eq!(guesses, FAILURES_OF_STRANGERS as usize);
        let refused = attempts.check(7, from(9_999), false, at(0)).unwrap_err();
        assert_eq!(refused.exceeded, Exceeded::Strangers);
        assert_eq!(attempts.check(7, network("192.0.2.1"), true, at(0)), Ok(()), "the owner, from a familiar network");
        let waits = (0..10).map(|n| {
            let now = at(100 * (n + 1));
            attempts.check(7, from(n as u32), false, now).err().map_or(0, |refused| refused.retry_after_ms)
        });
        assert!(waits.max() <= Some(WAIT_OF_STRANGERS_MAX.as_millis() as u64));
    }

    #[test]
    fn forgets_what_is_over_and_never_holds_more_than_its_bound() {
        let mut attempts = attempts();
        for n in 0..ENTRIES_MAX as u32 + 1_000 {
            let from = ClientNetwork::of(IpAddr::V4((n << 8).into())); // each in a subnet of its own
            let _ = attempts.sign_in(from, at(0));
            let _ = attempts.check(u64::from(n), from, false, at(0));
        }
        for length in [attempts.sign_ins.0.spent.len(), attempts.by_network.len(), attempts.by_account.len()] {
            assert_eq!(length, ENTRIES_MAX);
        }
        attempts.sweep(at(3_601));
        assert!(attempts.by_network.is_empty() && attempts.by_account.is_empty());
        assert!(attempts.sign_ins.0.spent.is_empty() && attempts.sign_ins.1.spent.is_empty());
    }
}
