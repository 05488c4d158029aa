//! The automatic responses of `[responses]`, as the detectors know them.

use crate::audit::suspicion::{AutomaticResponse, ResponsePolicy, Suspicion};
use crate::config::{AbuseResponse, ResponsesConfig, TheftResponse};
use crate::ids::UserId;

/// What follows which event, for everybody but the administrators.
pub(super) fn policy(config: &ResponsesConfig, administrators: Vec<UserId>) -> ResponsePolicy {
    let thefts = [
        (Suspicion::RefreshReuse, config.refresh_token_reuse),
        (Suspicion::ImpossibleTravel, config.impossible_travel),
    ];
    let abuses = [
        (Suspicion::MassInvitations, config.mass_invitations),
        (Suspicion::MassDirect, config.mass_direct_messages),
        (Suspicion::MassMentions, config.mass_mentions),
        (Suspicion::MassReading, config.mass_reading),
        (Suspicion::FilterEvasion, config.filter_evasion),
        (Suspicion::PrivilegeJump, config.privilege_jump),
    ];
    let thefts = thefts.into_iter().filter_map(|(suspicion, response)| match response {
        TheftResponse::Notify => None,
        TheftResponse::Challenge => Some((suspicion, AutomaticResponse::Challenge)),
    });
    let abuses = abuses.into_iter().filter_map(|(suspicion, response)| match response {
        AbuseResponse::Notify => None,
        AbuseResponse::SlowDown => Some((suspicion, AutomaticResponse::SlowDown)),
        AbuseResponse::Challenge => Some((suspicion, AutomaticResponse::Challenge)),
        AbuseResponse::Mute => Some((suspicion, AutomaticResponse::Mute)),
    });
    ResponsePolicy::new(thefts.chain(abuses).collect(), administrators)
}
