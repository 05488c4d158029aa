//! What a run, a thread and a connection store.

use super::hint::Hints;
use super::log::RoomLog;
use super::wire::Format;
use crate::check::{RoomChecker, Seq};
use crate::payload::PayloadFormat;
use crate::protocol::Peer;
use foldhash::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state that all threads of a run share.
#[derive(Debug)]
pub struct Veza {
    /// The rooms' identifiers, by index.
    pub(super) rooms: Vec<String>,
    /// The rooms' indices, by identifier.
    pub(super) room_index: HashMap<String, u32>,
    /// One checker per room, by index. Each has its own lock, so rooms do not wait for each other.
    pub(super) checkers: Vec<Mutex<RoomChecker>>,
    /// The users' access tokens, by index.
    pub(super) tokens: Vec<Mutex<String>>,
    /// Contents of this run.
    pub(super) payload: PayloadFormat,
    pub(super) options: VezaOptions,
}

/// Options of the connections.
#[derive(Clone, Debug)]
pub struct VezaOptions {
    /// The formats; connections take them in turn.
    pub formats: Vec<Format>,
    /// Offer permessage-deflate.
    pub compression: bool,
    /// Check the promises of the protocol.
    pub checks: bool,
}

/// Locks a mutex. A panic elsewhere does not hide earlier findings.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Veza {
    /// A run in `rooms` by users with `tokens`.
    pub fn new(rooms: Vec<String>, tokens: Vec<String>, payload: PayloadFormat, options: VezaOptions) -> Self {
        Self {
            room_index: rooms.iter().cloned().zip(0..).collect(),
            checkers: rooms.iter().map(|id| Mutex::new(RoomChecker::new(id))).collect(),
            rooms,
            tokens: tokens.into_iter().map(Mutex::new).collect(),
            payload,
            options,
        }
    }

    /// Replaces a user's access token.
    pub fn renew(&self, user: u32, token: String) {
        if let Some(known) = self.tokens.get(user as usize) {
            *lock(known) = token;
        }
    }

    pub(super) fn checker(&self, room: u32) -> MutexGuard<'_, RoomChecker> {
        lock(&self.checkers[room as usize])
    }
}

/// A connection's place in one room.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) room: u32,
    /// The last number it has.
    pub(super) last: u64,
    /// It is behind until it has this number.
    pub(super) target: u64,
    /// The server has not yet sent `caught_up`.
    pub(super) resuming: bool,
}

/// What the protocol remembers of a connection.
#[derive(Debug)]
pub struct VezaState {
    pub(super) format: Format,
    pub(super) cursors: Vec<Cursor>,
    /// The cursor of the last event.
    pub(super) recent: usize,
    /// This connection's first frame has arrived.
    pub(super) welcomed: bool,
    /// Commands other than messages that wait for their answer.
    pub(super) asked: u64,
}

impl VezaState {
    pub(super) fn cursor(&mut self, room: u32) -> Option<&mut Cursor> {
        self.cursors.iter_mut().find(|cursor| cursor.room == room)
    }
}

/// One thread's side.
#[derive(Debug)]
pub struct VezaProtocol {
    pub(super) system: Arc<Veza>,
    pub(super) logs: Vec<RoomLog>,
    pub(super) hints: Hints,
}

impl VezaProtocol {
    /// Reports the cursors of a connection to the checkers.
    pub(super) fn share_cursors(&self, peer: &Peer<VezaState>) {
        if self.system.options.checks {
            for cursor in &peer.state.cursors {
                self.system.checker(cursor.room).advanced(peer.client, Seq(cursor.last));
            }
        }
    }
}
