//! What the control plane sends to a shard: HTTP commands, revocations, new settings, the order to drain.

use super::Shard;
use super::charges::kib;
use super::rate_limits::RateLimits;
use super::requests::{Origin, PendingCommand, SentBy};
use super::world::World;
use crate::ids::{ConnId, SessionId};
use crate::mesh::asked::HttpCommand;
use crate::mesh::frame::ControlFrame;
use crate::mesh::live::LiveSettings;
use crate::wire::Format;
use crate::wire::command::{self, Command};
use crate::wire::ws::close::CloseCode;
use std::collections::HashSet;
use std::sync::Arc;

impl<W: World> Shard<W> {
    pub(super) fn on_control(&mut self, frame: ControlFrame) {
        match frame {
            ControlFrame::Command(command) => self.http_command(*command),
            ControlFrame::Announce(announcement) => self.announce(*announcement),
            ControlFrame::SendApproved(approval) => self.send_approved(*approval),
            // Two changes may overtake each other on their way.
            ControlFrame::FilterRules(rules) if rules.version < self.filter.version => {}
            ControlFrame::FilterRules(rules) => self.filter = rules,
            ControlFrame::MarkedUsers(marked) if marked.version < self.marked_users.version => {}
            ControlFrame::MarkedUsers(marked) => self.mark_users(marked),
            ControlFrame::Live(live) if live.version < self.live.version => {}
            ControlFrame::Live(live) => self.replace_settings(live),
            ControlFrame::ExplainLimits(question) => self.explain_limits(*question),
            ControlFrame::SessionsRevoked(sessions) => self.revoke(&sessions),
            ControlFrame::Drain => self.begin_drain(),
        }
    }

    /// Closes the connections of these sessions, and remembers the sessions for connections that are on their way.
    fn revoke(&mut self, sessions: &[SessionId]) {
        let until_ms = self.now_ms + self.live.revocation_memory_ms();
        let known = &mut self.directory.revocations;
        // Every node tells of what it has read: most of it was known before.
        let news: HashSet<SessionId> = sessions.iter().copied().filter(|session| !known.contains(*session)).collect();
        if news.is_empty() {
            return;
        }
        for session in &news {
            known.revoke(*session, until_ms);
        }
        let revoked = self.connections.sessions().filter(|session| news.contains(&session.sign_in));
        let connections: Vec<ConnId> = revoked.map(|session| session.conn).collect();
        for conn in connections {
            self.close(conn, CloseCode::SessionRevoked);
        }
    }

    /// The configuration was loaded again.
    fn replace_settings(&mut self, live: Arc<LiveSettings>) {
        self.rate_limits = RateLimits::new(&live.limits);
        let admins = &live.factor_policy.admins;
        self.directory.users.of_admins(|user| admins.contains(&user));
        // A key that was removed before its time may be stolen. Its thief can sign tokens for every user.
        let void = self.connections.sessions().filter(|session| session.grant.is_none() && !live.keys.has(session.key));
        let void: Vec<ConnId> = void.map(|session| session.conn).collect();
        self.live = live;
        for conn in void {
            self.close(conn, CloseCode::TokenExpired);
        }
    }

    fn http_command(&mut self, command: HttpCommand) {
        let HttpCommand { user, session, grant, source, mut body, reply } = command;
        if grant.is_some() {
            self.budgets_of(user).set_is_bot(true);
        }
        let live = Arc::clone(&self.live);
        let mut json = std::mem::take(&mut self.json);
        let kib = kib(body.len());
        let parsed = command::parse(&mut body, Format::Json, &mut json, &live.limits);
        let command = parsed.command.as_ref().ok().map(Command::id);
        let sent_by = SentBy { session: Some(session), grant, source: Some(source) };
        let origin = Origin::Http(reply);
        let asked = PendingCommand { origin, id: None, command, sent_by, at: self.now, kib, holds_slot: false };
        match parsed.command {
            Ok(command) => self.execute(asked, user, command),
            Err(refusal) => self.refuse(asked, &refusal),
        }
        self.json = json;
    }
}
