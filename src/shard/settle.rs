//! The home shard: `101`, `welcome`, subscriptions.
//!
//! The session was looked up before the socket arrived here. What was committed since is not in the answer: a
//! revocation, a membership that was lost. This shard has since received and kept it (`chat::directory`); it is applied
//! here, so that nothing is opened that was just closed.

use super::Shard;
use super::connections::Client;
use super::session::Session;
use super::shutdown_steps::RETURN_MS_MIN;
use super::world::{Clock, Transport, World};
use crate::chat::subscribers::{Mode, Subscriber};
use crate::ids::{ConversationId, Seq, SessionId};
use crate::limits::{Features, Limits};
use crate::mesh::bot_grant::Scope;
use crate::mesh::frame::{Request, Settlement};
use crate::mesh::invocation::BotConnection;
use crate::mesh::record::{ConversationHead, Profile, rfc3339};
use crate::net::Chunk;
use crate::planted::{Fault, is_planted};
use crate::wire::Format;
use crate::wire::ws::close::CloseCode;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Serialize)]
struct Welcome<'a> {
    session_id: SessionId,
    user: &'a Profile,
    server_time: String,
    heartbeat_ms: u64,
    limits: &'a Limits,
    features: Features,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<&'a [ConversationHead]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_more_conversations: bool,
}

impl<W: World> Shard<W> {
    pub(super) fn settle(&mut self, settlement: Settlement<W::Socket>) {
        // More memberships changed than this shard can remember: only a new look-up knows which conversations to open.
        if self.directory.recent.forgot_since(settlement.admission.looked_up_ms) && !settlement.too_many {
            return self.look_up_again(settlement);
        }
        let Settlement { admission, mut opened, budgets, repeats, too_many } = settlement;
        if let Some(grant) = &opened.grant {
            opened.conversations.retain(|head| grant.has(Scope::Read) && grant.covers(head.id));
            opened.has_more_conversations &= grant.receives_notices();
        }
        let handshake = admission.handshake;
        let conn = self.sockets.adopt(admission.socket);
        self.counters.connection_opened();
        self.sockets.set_nodelay(conn);
        self.sockets.keep(conn);
        let format = Format::ALL[usize::from(handshake.format.min(1))];
        // A bot's token has one expiry, whether the socket was opened with it or with a ticket.
        let expires_seconds = opened.expires_seconds.unwrap_or(admission.token_expires_seconds);
        let expires_ms = match expires_seconds {
            // A ticket does not know when the session's tokens expire: its socket lives as long as a fresh token would.
            i64::MAX => self.now_ms + self.live.revocation_memory_ms(),
            at => self.now_ms + (at - self.clock.utc().unix_timestamp()).max(0) as u64 * 1_000,
        };
        let deflate_bits = handshake.deflate_window_bits.unwrap_or(0);
        let mut session = Session::new(conn, admission.user, admission.session, format, deflate_bits);
        session.network_place = admission.network_place;
        session.budgets = budgets;
        session.repeats = repeats;
        session.token_expires_ms = expires_ms;
        session.key = admission.key.unwrap_or_default();
        session.grant.clone_from(&opened.grant);
        session.last_seen_ms = self.now_ms;
        // What a token must not read is not subscribed.
        let may_read = session.grant.as_ref().is_none_or(|grant| grant.has(Scope::Read));
        session.subscribe_all = handshake.subscribe_all && may_read;
        *self.connections.client(conn) = Client::Open(Box::new(session), admission.source);
        self.directory.local.add(admission.user, conn);
        if let Some(grant) = &opened.grant {
            let grant = Arc::clone(grant);
            self.bots.arrivals.push_back(BotConnection { bot: admission.user, conn, grant });
        }
        self.sockets.send(conn, Chunk::from(handshake.response.into_bytes()));
        self.sockets.receive_stream(conn);
        let look = expires_ms.min(self.now_ms + self.settings.heartbeat_ms);
        self.connections.schedule_session(conn, look, self.now_ms);
        if too_many {
            return self.close(conn, CloseCode::TooManyConnections);
        }
        if self.shutdown.is_some() {
            return self.close_with(conn, CloseCode::GoingAway, RETURN_MS_MIN); // it was moving here when it began
        }
        if opened.grant.is_none() && admission.key.is_some_and(|key| !self.live.keys.has(key)) {
            return self.close(conn, CloseCode::TokenExpired);
        }
        if self.directory.revocations.contains(admission.session) && !is_planted(Fault::ForgetRevocations) {
            return self.close(conn, CloseCode::SessionRevoked);
        }
        let (settings, live) = (Arc::clone(&self.settings), Arc::clone(&self.live));
        // A bot learns of the limit that holds for it.
        let limits = opened
            .grant
            .is_some()
            .then(|| Limits { max_messages_per_minute: live.limits.bot_messages_per_minute, ..live.limits.clone() });
        let welcome = Welcome {
            session_id: opened.session,
            user: &opened.profile,
            server_time: rfc3339(self.clock.utc()),
            heartbeat_ms: settings.heartbeat_ms,
            limits: limits.as_ref().unwrap_or(&live.limits),
            features: Features {
                files_scanned: settings.features.file_uploads && settings.scans_files.load(Ordering::Relaxed),
                ..settings.features
            },
            conversations: handshake.subscribe_all.then_some(&opened.conversations),
            has_more_conversations: opened.has_more_conversations,
        };
        self.send_event(conn, "welcome", None, &welcome);
        for conversation in &opened.conversations {
            self.subscribe(
                Subscriber {
                    conn,
                    user: admission.user,
                    cursor: conversation.last_seq,
                    member_at: conversation.last_seq,
                    mode: Mode::CatchingUp,
                    announce: false,
                    must_read: false,
                    format,
                    deflate_bits,
                },
                conversation.id,
            );
        }
        let read: HashMap<ConversationId, Seq> =
            opened.conversations.iter().map(|conversation| (conversation.id, conversation.last_seq)).collect();
        self.apply_recent_changes(admission.user, &read);
        let mut early = handshake.early_bytes;
        if !early.is_empty() {
            self.received(conn, &mut early);
        }
    }

    /// Sends the socket back to the user's shard, where it does not count as connected meanwhile.
    fn look_up_again(&mut self, settlement: Settlement<W::Socket>) {
        let admission = settlement.admission;
        let user = admission.user;
        self.departures.push_back((user, None));
        // A ticket is spent by the first look-up.
        let admission = Box::new(crate::mesh::frame::Admission { ticket: None, ..admission });
        if let Err(Request::Admit(back)) = self.request(self.placement.of_user(user), Request::Admit(admission)) {
            self.answer_503(back.socket);
        }
    }
}
