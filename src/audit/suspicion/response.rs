//! What the server does by itself about a finding, and to whom it may. Pure.
//!
//! | response | does | ends |
//! |---|---|---|
//! | slow down | shrinks the user's rate limits | after ten minutes |
//! | mute | the user can send nothing anywhere | after ten minutes |
//! | challenge | revokes the user's sessions once; the user signs in again | at once |
//!
//! Invariant: a response hits the account that acted, and never one that is attacked. Otherwise an attacker could have
//! a victim muted. So a finding about an attacked account permits no response, or only a challenge where a thief may
//! hold its session: signing in is what its owner can always do, and the thief cannot. Administrators are exempt,
//! because somebody must be able to end a response.

use super::finding::{Finding, Suspicion};
use crate::ids::UserId;
use std::time::Duration;

/// How long a response lasts that is not over at once.
pub const RESPONSE_PERIOD: Duration = Duration::from_mins(10);

/// What the server does to the account of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutomaticResponse {
    /// Its rate limits shrink.
    SlowDown,
    /// Its sessions are revoked.
    Challenge,
    /// It can send nothing.
    Mute,
}

impl AutomaticResponse {
    /// The value of the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowDown => "slow_down",
            Self::Challenge => "challenge",
            Self::Mute => "mute",
        }
    }

    /// How long it lasts.
    #[must_use]
    pub fn lasts(self) -> Duration {
        match self {
            Self::SlowDown | Self::Mute => RESPONSE_PERIOD,
            Self::Challenge => Duration::ZERO,
        }
    }
}

impl Suspicion {
    /// Whether a finding of this kind permits a response to its account.
    #[must_use]
    pub fn permits(self, response: AutomaticResponse) -> bool {
        match self {
            // Strangers guess; the account is their victim. A gap in the trail has no account. Who passes a file on
            // need not know what is in it, and the file is gone.
            Self::Guessing | Self::Stuffing | Self::AuditGap | Self::InfectedFile => false,
            // A thief may hold a session.
            Self::RefreshReuse | Self::ImpossibleTravel => response == AutomaticResponse::Challenge,
            Self::MassInvitations | Self::MassDirect | Self::MassMentions | Self::MassReading | Self::FilterEvasion => {
                true
            }
            // A rival may have given the account its role, and a muted owner could not act against the rival.
            Self::PrivilegeJump => response != AutomaticResponse::Mute,
        }
    }
}

/// Which response follows which finding.
#[derive(Clone, Default, Debug)]
pub struct ResponsePolicy {
    chosen: Vec<(Suspicion, AutomaticResponse)>,
    exempt: Vec<UserId>,
}

impl ResponsePolicy {
    /// The responses that were `chosen`, to everybody but the administrators.
    #[must_use]
    pub fn new(chosen: Vec<(Suspicion, AutomaticResponse)>, administrators: Vec<UserId>) -> Self {
        Self { chosen, exempt: administrators }
    }

    /// The response to a finding.
    #[must_use]
    pub fn to(&self, finding: &Finding) -> Option<AutomaticResponse> {
        finding.user.filter(|user| !self.exempt.contains(user))?;
        let chosen = self.chosen.iter().find(|(suspicion, _)| *suspicion == finding.suspicion);
        chosen.map(|(_, response)| *response).filter(|response| finding.suspicion.permits(*response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: [AutomaticResponse; 3] =
        [AutomaticResponse::SlowDown, AutomaticResponse::Challenge, AutomaticResponse::Mute];

    fn finding(suspicion: Suspicion, user: Option<UserId>) -> Finding {
        Finding::new(suspicion, "x", json!({})).by(user)
    }

    #[test]
    fn responds_to_the_actor_as_chosen_and_never_to_an_administrator() {
        let chosen = vec![(Suspicion::MassMentions, AutomaticResponse::Mute)];
        let policy = ResponsePolicy::new(chosen, vec![UserId(1)]);
        let to = |suspicion, user: Option<i64>| policy.to(&finding(suspicion, user.map(UserId)));
        assert_eq!(to(Suspicion::MassMentions, Some(7)), Some(AutomaticResponse::Mute));
        assert_eq!(to(Suspicion::MassMentions, Some(1)), None, "an administrator");
        assert_eq!(to(Suspicion::MassMentions, None), None, "nobody");
        assert_eq!(to(Suspicion::MassReading, Some(7)), None, "not chosen");
    }

    #[test]
    fn a_jump_of_privileges_mutes_nobody() {
        for response in ALL {
            let policy = ResponsePolicy::new(vec![(Suspicion::PrivilegeJump, response)], Vec::new());
            let to = policy.to(&finding(Suspicion::PrivilegeJump, Some(UserId(7))));
            assert_eq!(to, Some(response).filter(|response| *response != AutomaticResponse::Mute));
        }
    }

    #[test]
    fn a_victim_is_never_muted_or_slowed_down() {
        for victims in [
            Suspicion::Guessing,
            Suspicion::Stuffing,
            Suspicion::RefreshReuse,
            Suspicion::ImpossibleTravel,
            Suspicion::AuditGap,
        ] {
            for response in ALL {
                let policy = ResponsePolicy::new(vec![(victims, response)], Vec::new());
                let to_victim = policy.to(&finding(victims, Some(UserId(7))));
                let is_harmless = matches!(to_victim, None | Some(AutomaticResponse::Challenge));
                assert!(is_harmless, "{victims:?}: {to_victim:?}");
            }
        }
        let policy = ResponsePolicy::new(vec![(Suspicion::Guessing, AutomaticResponse::Challenge)], Vec::new());
        assert_eq!(policy.to(&finding(Suspicion::Guessing, Some(UserId(7)))), None, "guesses sign nobody out");
    }
}
