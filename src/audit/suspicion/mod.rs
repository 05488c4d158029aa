//! Suspicious activity: what looks like an attack, found in sign-ins, in the audit trail, and in what users read and
//! write. Pure.
//!
//! Signals come from three places. The sign-in handlers report wrong passwords, stolen refresh tokens and the places of
//! sign-ins. The I/O shard reports reads, mentions and texts that the content filter refused. None of them are rows of
//! the audit trail.
//! Everything else is read from its rows, at most a second after their commit. Each detector turns a signal into a
//! [`Finding`] or into nothing.
//!
//! Invariants: memory is bounded ([`windows`]); a detector never changes what it watches; a finding has a key, and an
//! attack that goes on has the same key for an hour, so that it is one row with a count.

mod conduct;
mod finding;
mod response;
mod restart;
mod trail;
mod travel;
pub mod windows;

pub use finding::{Finding, Severity, Suspicion};
pub use response::{AutomaticResponse, RESPONSE_PERIOD, ResponsePolicy};
pub use restart::{TrailFound, gap_at_start};
pub use trail::Act;
pub use travel::{GeoPlace, Sighting, is_public};

use crate::ids::{SessionId, UserId};
use conduct::Conduct;
use serde_json::json;
use std::time::Duration;
use trail::Trail;
use travel::Travel;
use windows::Windows;

/// Wrong passwords for one login within [`GUESSING_PERIOD`].
pub const GUESSES: usize = 10;
/// The limits of sign-ins let an attacker try a few passwords per minute and network.
pub const GUESSING_PERIOD: Duration = Duration::from_mins(15);
/// Different logins with a wrong password from one network within [`STUFFING_PERIOD`].
pub const STUFFED_LOGINS: usize = 20;
/// See [`STUFFED_LOGINS`].
pub const STUFFING_PERIOD: Duration = Duration::from_mins(5);

/// All detectors of one server.
pub struct Detectors {
    guessing: Windows<u64>,
    stuffing: Windows<u64>,
    /// Numbers wrong passwords, so that each counts.
    wrong: u64,
    trail: Trail,
    conduct: Conduct,
    travel: Travel,
}

impl Default for Detectors {
    fn default() -> Self {
        Self {
            guessing: Windows::new(GUESSES, GUESSING_PERIOD),
            stuffing: Windows::new(STUFFED_LOGINS, STUFFING_PERIOD),
            wrong: 0,
            trail: Trail::default(),
            conduct: Conduct::default(),
            travel: Travel::default(),
        }
    }
}

/// A wrong password.
#[derive(Clone, Copy, Debug)]
pub struct WrongPassword<'a> {
    /// A digest of what was typed as the login, which may be nobody's.
    pub login: u64,
    /// Its account, if it has one.
    pub user: Option<UserId>,
    /// A digest of the network, and the network.
    pub network: (u64, &'a str),
}

impl Detectors {
    /// A wrong password at the process time `now`.
    pub fn wrong_password(&mut self, wrong: WrongPassword<'_>, now: Duration) -> Vec<Finding> {
        let WrongPassword { login, user, network: (network, address) } = wrong;
        let mut findings = Vec::new();
        self.wrong += 1;
        if self.guessing.add(login, self.wrong, now) {
            let minutes = GUESSING_PERIOD.as_secs() / 60;
            let details = json!({ "wrong_passwords": GUESSES, "within_minutes": minutes, "last_from": address });
            let finding = Finding::new(Suspicion::Guessing, &format!("{login:x}"), details);
            findings.push(finding.by(user).at_address(address));
        }
        if self.stuffing.add(network, login, now) {
            let minutes = STUFFING_PERIOD.as_secs() / 60;
            let details = json!({ "logins": STUFFED_LOGINS, "within_minutes": minutes });
            findings.push(Finding::new(Suspicion::Stuffing, address, details).at_address(address));
        }
        findings
    }

    /// A refresh token that had been spent before.
    #[must_use]
    pub fn refresh_reused(user: UserId, session: SessionId, address: &str) -> Finding {
        let details = json!({ "session_revoked": true });
        let finding = Finding::new(Suspicion::RefreshReuse, &session.0.to_string(), details);
        Finding { session: Some(session), ..finding.by(Some(user)).at_address(address) }
    }

    /// A user signed in, or went on with a session.
    pub fn seen(&mut self, seen: Sighting, now: Duration) -> Option<Finding> {
        self.travel.seen(seen, now)
    }

    /// `author` has mentioned `people` by their names.
    pub fn mentioned(&mut self, author: UserId, people: &[UserId], now: Duration) -> Option<Finding> {
        self.conduct.mentioned(author, people, now)
    }

    /// The message with this number mentions everybody of its conversation.
    pub fn mentioned_all(&mut self, author: UserId, message: u64, now: Duration) -> Option<Finding> {
        self.conduct.mentioned_all(author, message, now)
    }

    /// `user` has read as much as `cost` pages.
    pub fn read(&mut self, user: UserId, cost: u32, now: Duration) -> Option<Finding> {
        self.conduct.read(user, cost, now)
    }

    /// A rule of the server has refused a text.
    pub fn refused_text(&mut self, author: UserId, text: &str, now: Duration) -> Option<Finding> {
        self.conduct.refused(author, text, now)
    }

    /// A text was sent.
    pub fn passed_text(&mut self, author: UserId, text: &str, now: Duration) -> Option<Finding> {
        self.conduct.passed(author, text, now)
    }

    /// Whether no text was refused within the period of the detector: then texts that pass show nothing.
    pub fn suspects_no_author(&mut self, now: Duration) -> bool {
        self.conduct.suspects_nobody(now)
    }

    /// Rows of the audit trail, in its order, at the process time `now`.
    pub fn acts(&mut self, acts: &[Act], now: Duration) -> Vec<Finding> {
        acts.iter().filter_map(|act| self.trail.observe(act, now)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORKS: [(u64, &str); 2] = [(1, "192.0.2.1"), (2, "192.0.2.2")];

    fn wrong(login: u64, network: usize) -> WrongPassword<'static> {
        WrongPassword { login, user: (login == 7).then_some(UserId(70)), network: NETWORKS[network] }
    }

    #[test]
    fn ten_wrong_passwords_for_one_login_are_guessing() {
        let mut detectors = Detectors::default();
        let at = |n: u64| Duration::from_secs(n * 30);
        // From alternating networks: it is the account that is attacked.
        let found: Vec<Finding> =
            (0..10).flat_map(|n| detectors.wrong_password(wrong(7, n as usize % 2), at(n))).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].suspicion, found[0].user), (Suspicion::Guessing, Some(UserId(70))));
        assert_eq!(found[0].address.as_deref(), Some("192.0.2.2"));
        assert!(detectors.wrong_password(wrong(7, 0), at(11)).is_empty(), "found already");
    }

    #[test]
    fn somebody_who_forgot_a_password_is_not_guessing() {
        let mut detectors = Detectors::default();
        for n in 0..90_u64 {
            // Nine wrong ones in each quarter of an hour.
            let now = GUESSING_PERIOD * (n / 9) as u32 + Duration::from_secs(n % 9);
            assert!(detectors.wrong_password(wrong(7, 0), now).is_empty(), "{n}");
        }
    }

    #[test]
    fn twenty_logins_from_one_network_are_stuffing() {
        let mut detectors = Detectors::default();
        let mut found = Vec::new();
        for login in 100..120 {
            found.extend(detectors.wrong_password(wrong(login, 0), Duration::from_secs(login)));
        }
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].suspicion, found[0].suspicion.severity()), (Suspicion::Stuffing, Severity::Critical));
        assert_eq!(found[0].key, "credential_stuffing 192.0.2.1");
        // An office whose people mistype now and then.
        let mut detectors = Detectors::default();
        for login in 0..200_u64 {
            let found = detectors.wrong_password(wrong(login, 0), Duration::from_secs(login * 20));
            assert!(found.is_empty(), "15 in five minutes");
        }
    }

    #[test]
    fn names_are_unique_and_severities_fit_the_table() {
        let mut names: Vec<&str> = Suspicion::ALL.iter().map(|suspicion| suspicion.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Suspicion::ALL.len());
        let reused = Detectors::refresh_reused(UserId(1), SessionId(2), "192.0.2.1");
        assert_eq!((reused.suspicion.severity().as_str(), reused.key.as_str()), ("critical", "refresh_token_reuse 2"));
    }
}
