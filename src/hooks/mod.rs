//! Outgoing webhooks: events of conversations as signed HTTP requests (Standard Webhooks 1.0).
//!
//! ```text
//! commit ──► wake ──► job of the webhook ──► deliver: queue ─► read the log ─► body ─► sender ─► settle
//!   (storage)  (a conversation that a webhook follows)                     (target, connect, signature)
//! ```
//!
//! 1. An event is in the log of its conversation. That is the outbox: nothing else is written when it is committed.
//! 2. [`wake`] notices that a conversation has new events and makes the job of each of its webhooks due. A sweep finds
//!    what nobody noticed, such as the events of a server that was killed.
//! 3. The job runner gives the job to one server ([`deliver`]). It takes events from the log, sends them, and records
//!    the outcome. So an event is sent at least once, and each attempt has the same `webhook-id`.
//!
//! Invariants:
//! - a webhook reads with the rights of its owner, so it never sends what its owner may not read;
//! - a receiver costs a bounded number of connections and a bounded time ([`sender`]). One that fails is paused
//!   ([`retry`]), and the others do not wait for it;
//! - no request goes to an address that only this machine or its network can reach ([`target`]), unless the operator
//!   allows it. Otherwise every user could send requests to internal services.
//!
//! Deliberately absent: a queue in memory. Everything that waits is a row or a position in a log.

pub mod body;
pub mod connect;
pub mod deliver;
pub mod retry;
pub mod secret;
pub mod sender;
pub mod signature;
pub mod slack;
pub mod target;
pub mod wake;

/// The events that a webhook can ask for: those of the change log.
pub const EVENTS: &[&str] = &[
    "message_created",
    "message_edited",
    "message_deleted",
    "message_pinned",
    "reaction_added",
    "reaction_removed",
    "member_joined",
    "member_left",
    "member_updated",
    "conversation_created",
    "conversation_updated",
    "file_updated",
];
