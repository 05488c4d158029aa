//! The user's shard: counts a user's connections, keeps its budget, and lets sockets in.
//!
//! 1. `Admit` arrives with a valid token → the session is looked up in PostgreSQL.
//! 2. The answer says who it is → the socket goes home: to the owner of the conversation it named, or it stays.
//! 3. `Settle` at home: `101`, `welcome`, subscriptions.

use super::Shard;
use super::pending::Pending;
use super::presence::Presence;
use super::session::{Client, Session};
use crate::chat::budget;
use crate::chat::subscribers::{Phase, Subscriber};
use crate::error::ErrorCode;
use crate::ids::UserId;
use crate::limits::READS_IN_FLIGHT_PER_SHARD;
use crate::mesh::frame::{Admission, Answer, Budgets, Query, Request, Settlement};
use crate::mesh::record::{ConversationHead, OpenedSession, Profile, rfc3339};
use crate::net::Chunk;
use crate::wire::Format;
use crate::wire::ws::close::CloseCode;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Sockets that may wait for their look-up, per shard; beyond, they are answered 503.
const ADMISSIONS_WAITING_MAX: usize = 32_768;

/// One user as its shard knows it.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) connections: usize,
    budgets: Arc<Budgets>,
    pub(super) presence: Presence,
}

/// Users that are remembered for their presence alone: when they were last seen, and who wants to hear of them.
const REMEMBERED_MAX: usize = 100_000;

/// The users of one shard. An entry lives while its user is connected or its budget is not full again, so that
/// reconnecting does not refill it; the map is bounded by connections, by the rate at which budgets drain, and by
/// [`REMEMBERED_MAX`].
#[derive(Default)]
pub(super) struct Registry {
    users: HashMap<UserId, Entry>,
}

impl Registry {
    pub(super) fn budgets(&mut self, user: UserId) -> Arc<Budgets> {
        Arc::clone(&self.entry(user).budgets)
    }

    pub(super) fn entry(&mut self, user: UserId) -> &mut Entry {
        self.users.entry(user).or_default()
    }

    /// One of the user's connections has ended; whether it was the last.
    pub(super) fn departed(&mut self, user: UserId) -> bool {
        let entry = self.entry(user);
        entry.connections = entry.connections.saturating_sub(1);
        entry.connections == 0
    }

    pub(super) fn sweep(&mut self, now_ns: u64) {
        let remembered = self.users.len() <= REMEMBERED_MAX;
        self.users.retain(|_, entry| {
            entry.connections > 0
                || entry.budgets.iter().any(|budget| !budget::is_replenished(budget, now_ns))
                || (remembered && !entry.presence.is_plain())
        });
    }
}

#[derive(Serialize)]
struct Welcome<'a> {
    session_id: crate::ids::SessionId,
    user: &'a Profile,
    server_time: String,
    heartbeat_ms: u64,
    limits: &'a crate::limits::Limits,
    features: crate::limits::Features,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<&'a [ConversationHead]>,
}

impl Shard {
    pub(super) fn admit(&mut self, admission: Box<Admission>) {
        let user = admission.user;
        let query = Query::OpenSession {
            session: admission.session,
            ticket: admission.ticket.clone(),
            with_conversations: admission.handshake.subscribe_all,
        };
        if let Err(Pending::Admission(admission)) = self.read(user, query, Pending::Admission(admission)) {
            if self.admissions_waiting.len() < ADMISSIONS_WAITING_MAX {
                self.admissions_waiting.push_back((self.now, admission));
            } else {
                self.answer_503(admission.socket);
            }
        }
    }

    /// Sockets of a storm of clients that had no room among the reads.
    pub(super) fn serve_waiting_admissions(&mut self) {
        while self.reads_in_flight < READS_IN_FLIGHT_PER_SHARD {
            let Some((_, admission)) = self.admissions_waiting.pop_front() else { return };
            self.admit(admission);
        }
    }

    /// The look-up came back.
    pub(super) fn admission_answered(&mut self, admission: Admission, answer: Answer) {
        match answer {
            Answer::Session(opened) => self.send_home(admission, *opened),
            Answer::Refused(refusal) => {
                let store_is_down = refusal.code != ErrorCode::Unauthenticated;
                self.answer_unadmitted(admission.socket, store_is_down);
            }
            _ => self.answer_503(admission.socket),
        }
    }

    fn send_home(&mut self, admission: Admission, opened: OpenedSession) {
        let user = admission.user;
        let entry = self.registry.users.entry(user).or_default();
        let too_many = entry.connections >= self.settings.limits.max_connections_per_user;
        entry.connections += 1;
        let is_first = entry.connections == 1;
        let budgets = Arc::clone(&entry.budgets);
        if is_first {
            self.presence_changed(user);
        }
        let home = admission.handshake.hint.map_or(self.id, |hint| self.mesh.placement.owner(hint));
        let settlement = Box::new(Settlement { admission, opened, budgets, too_many });
        if let Err(Request::Settle(back)) = self.request(home, Request::Settle(settlement)) {
            self.settle(*back); // its lane is full: the hint is only a hint
        }
    }

    pub(super) fn settle(&mut self, settlement: Settlement) {
        let Settlement { admission, opened, budgets, too_many } = settlement;
        let handshake = admission.handshake;
        let conn = self.sockets.adopt(admission.socket);
        self.counters.connection_opened();
        self.sockets.set_nodelay(conn);
        let format = Format::ALL[usize::from(handshake.format.min(1))];
        let expires_ms = match admission.token_expires_seconds {
            // A ticket says nothing of the session's tokens: its socket lives as long as a fresh token would.
            i64::MAX => self.now_ms + self.settings.revocation_memory_ms,
            at => self.now_ms + (at - Self::unix_seconds()).max(0) as u64 * 1_000,
        };
        let mut session = Session::new(conn, admission.user, admission.session, format, handshake.deflate_window_bits);
        session.budgets = budgets;
        session.token_expires_ms = expires_ms;
        session.last_seen_ms = self.now_ms;
        session.subscribe_all = handshake.subscribe_all;
        *self.client(conn) = Client::Open(Box::new(session));
        self.local_users.entry(admission.user).or_default().push(conn);
        self.sockets.send(conn, Chunk::new(handshake.response));
        self.sockets.receive_stream(conn);
        let look = expires_ms.min(self.now_ms + self.settings.heartbeat_ms);
        self.schedule_session(conn, look);
        if too_many {
            return self.close(conn, CloseCode::TooManyConnections);
        }
        if self.drain.is_some() {
            return self.close(conn, CloseCode::GoingAway); // it was on its way when the end began
        }
        // A revocation may have overtaken the socket on its way here.
        if self.is_revoked(admission.session) {
            return self.close(conn, CloseCode::SessionRevoked);
        }
        let settings = Arc::clone(&self.settings);
        let welcome = Welcome {
            session_id: opened.session,
            user: &opened.profile,
            server_time: rfc3339(time::OffsetDateTime::now_utc()),
            heartbeat_ms: settings.heartbeat_ms,
            limits: &settings.limits,
            features: settings.features,
            conversations: handshake.subscribe_all.then_some(&opened.conversations),
        };
        self.say(conn, "welcome", None, &welcome);
        for conversation in &opened.conversations {
            self.subscribe(
                Subscriber {
                    conn,
                    cursor: conversation.last_seq,
                    phase: Phase::CatchingUp,
                    announce: false,
                    must_read: false,
                    format: format.bit(),
                },
                conversation.id,
            );
        }
        let read = opened.conversations.iter().map(|conversation| (conversation.id, conversation.last_seq)).collect();
        self.apply_recent_changes(admission.user, &read);
        let mut early = handshake.early_bytes;
        if !early.is_empty() {
            self.received(conn, &mut early);
        }
    }
}
