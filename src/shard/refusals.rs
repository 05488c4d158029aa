//! Refusals that several commands share.

use crate::error::{ErrorCode, Refusal};
use crate::limits::{
    COMMIT_WAIT_MAX_MS, COMMITS_IN_FLIGHT_PER_SHARD, INPUT_WAIT_TARGET_MS, LANE_FRAMES, READS_IN_FLIGHT_PER_SHARD,
    SUBSCRIPTIONS_PER_CONNECTION_MAX,
};

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
    Refusal::overloaded("reads", ("reads_waiting", "server", READS_IN_FLIGHT_PER_SHARD))
}

/// No more changes fit.
pub(super) fn too_many_commits() -> Refusal {
    Refusal::overloaded(CHANGES, ("commits_in_flight", "server", COMMITS_IN_FLIGHT_PER_SHARD))
}

/// A change would have to wait too long for those before it.
pub(super) fn commits_wait() -> Refusal {
    Refusal::overloaded(CHANGES, ("commit_wait_ms", "server", COMMIT_WAIT_MAX_MS as usize))
}

/// What clients send has to wait too long before it is read.
pub(super) fn input_waits() -> Refusal {
    Refusal::overloaded("changes to read", ("input_wait_ms", "server", INPUT_WAIT_TARGET_MS as usize))
}

const CHANGES: &str = "changes to commit";

/// The lane to the shard of `whom` is full.
pub(super) fn full_lane(whom: &'static str) -> Refusal {
    Refusal::overloaded(whom, ("shard_lane", "server", LANE_FRAMES))
}

/// The refusal of a subscription beyond the bound.
pub(super) fn too_many_subscriptions() -> Refusal {
    let message = format!(
        "a connection can have {SUBSCRIPTIONS_PER_CONNECTION_MAX} subscriptions; unsubscribe from some, or open \
         another connection"
    );
    Refusal::new(ErrorCode::Conflict, message)
}
