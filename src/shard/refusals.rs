//! Refusals that several commands share.

use crate::error::{ErrorCode, Refusal};
use crate::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;

/// The command needs a WebSocket.
pub(super) fn needs_a_socket() -> Refusal {
    Refusal::bad_request("type: This command changes the subscriptions of a WebSocket. Send it over a WebSocket.")
}

/// The user is not a member of the conversation.
pub(super) fn not_a_member() -> Refusal {
    Refusal::new(ErrorCode::NotMember, "You are not a member of this conversation. Join it first.")
}

/// No more reads fit.
pub(super) fn too_many_reads() -> Refusal {
    Refusal::overloaded("reads")
}

/// The refusal of a subscription beyond the bound.
pub(super) fn too_many_subscriptions() -> Refusal {
    let message = format!(
        "a connection can have {SUBSCRIPTIONS_PER_CONNECTION_MAX} subscriptions; unsubscribe from some, or open \
         another connection"
    );
    Refusal::new(ErrorCode::Conflict, message)
}
