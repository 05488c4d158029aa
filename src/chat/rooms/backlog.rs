//! Events of one room that have not reached all of its subscribers on this shard.
//!
//! An event leaves the backlog after one full round over the subscribers. The marks `from` and `wrapped` detect this
//! without a count per event.

use super::outbox::SharedBytes;
use crate::ids::{ConnId, UserId};
use crate::mesh::event::{EncodedEvent, Hiding};
use crate::wire::{Format, event};
use std::collections::VecDeque;
use std::sync::Arc;

/// The most events that wait in one room. One turn brings fewer.
pub(super) const BACKLOG_EVENTS_MAX: usize = 4_096;
/// The most bytes of frames that wait in one room.
pub(super) const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The events that one room still has to send.
pub(super) struct Backlog<C> {
    pub(super) events: VecDeque<WaitingEvent<C>>,
    /// Bytes of their frames.
    bytes: usize,
    /// The first connection that the current round has not served.
    pub(super) next: ConnId,
}

impl<C> Default for Backlog<C> {
    fn default() -> Self {
        Self { events: VecDeque::new(), bytes: 0, next: ConnId::FIRST }
    }
}

impl<C: SharedBytes> Backlog<C> {
    pub(super) fn push(&mut self, event: Arc<EncodedEvent>, hidden_from: Vec<UserId>) {
        self.bytes += event.frame_bytes();
        let (from, shared) = (self.next, Shared::default());
        self.events.push_back(WaitingEvent { event, hidden_from, from, wrapped: false, done: false, shared });
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= BACKLOG_EVENTS_MAX || self.bytes >= BACKLOG_BYTES_MAX
    }

    /// Records that the round has served every subscriber before `next`, or all of them, and drops finished events.
    pub(super) fn pass(&mut self, next: Option<ConnId>) {
        self.next = next.unwrap_or(ConnId::FIRST);
        for waiting in &mut self.events {
            waiting.done = waiting.wrapped && next.is_none_or(|next| next >= waiting.from);
            waiting.wrapped |= next.is_none();
            waiting.done |= waiting.wrapped && waiting.from == ConnId::FIRST;
        }
        while self.events.front().is_some_and(|waiting| waiting.done) {
            if let Some(gone) = self.events.pop_front() {
                self.bytes -= gone.event.frame_bytes();
            }
        }
    }
}

/// An event in a backlog.
pub(super) struct WaitingEvent<C> {
    pub(super) event: Arc<EncodedEvent>,
    /// Users from whom a block hides it that is too recent for its owner to know.
    hidden_from: Vec<UserId>,
    /// The position of the round when the event arrived.
    pub(super) from: ConnId,
    /// Whether a new round has begun since.
    pub(super) wrapped: bool,
    /// Whether every subscriber at its arrival was served.
    done: bool,
    shared: Shared<C>,
}

/// An event's frames on this shard, which their receivers share. The first receiver creates them.
struct Shared<C> {
    plain: [Option<C>; 2],
    sender: [Option<C>; 2],
    /// For windows of 2^15 bytes, which nearly all clients use.
    deflated: [Option<C>; 2],
}

impl<C> Default for Shared<C> {
    fn default() -> Self {
        Self { plain: [None, None], sender: [None, None], deflated: [None, None] }
    }
}

impl<C: SharedBytes> WaitingEvent<C> {
    pub(super) fn plain(&mut self, format: Format) -> Option<C> {
        let slot = &mut self.shared.plain[format.index()];
        if slot.is_none() {
            *slot = self.event.frames[format.index()].clone().map(C::from);
        }
        slot.clone()
    }

    /// The copy for the sender's own connections.
    pub(super) fn for_sender(&mut self, format: Format) -> Option<C> {
        let slot = &mut self.shared.sender[format.index()];
        if slot.is_none() {
            let (_, key) = self.event.sender_key.as_ref()?;
            let frame = self.event.frames[format.index()].as_ref()?;
            *slot = event::with_data_field(frame, format, &self.event.kind, "client_message_id", key).map(C::from);
        }
        slot.clone()
    }

    /// The compressed copy, which `compress` creates the first time.
    pub(super) fn deflated(
        &mut self,
        format: Format,
        bits: u8,
        compress: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<C> {
        let slot = &mut self.shared.deflated[format.index()];
        if bits == 15 && slot.is_some() {
            return slot.clone();
        }
        let chunk = C::from(compress(self.event.frames[format.index()].as_ref()?)?);
        if bits == 15 {
            *slot = Some(chunk.clone());
        }
        Some(chunk)
    }

    /// Whether the user does not receive it: the user whom it is about, or one of two users with a block between them.
    pub(super) fn is_hidden_from(&self, user: UserId) -> bool {
        let is_blocked = |hiding: &Hiding| hiding.from.contains(&user) || self.hidden_from.contains(&user);
        self.event.except_user == Some(user) || self.event.about.as_ref().is_some_and(is_blocked)
    }

    /// The user who receives a different copy: the sender, whose copy has the key.
    pub(super) fn special_user(&self) -> Option<UserId> {
        self.event.sender_key.as_ref().map(|(user, _)| *user)
    }
}
