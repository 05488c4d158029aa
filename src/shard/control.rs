//! What the control plane has for a shard: HTTP commands, revocations, the order to drain.

use super::Shard;
use super::pending::{Asked, Origin};
use crate::ids::{ConnId, SessionId, UserId};
use crate::mesh::frame::{ControlFrame, HttpCommand};
use crate::wire::Format;
use crate::wire::command::{self, Command};
use crate::wire::ws::close::CloseCode;

impl Shard {
    pub(super) fn on_control(&mut self, frame: ControlFrame) {
        match frame {
            ControlFrame::Command(command) => self.http_command(*command),
            ControlFrame::Announce(announcement) => self.announce(*announcement),
            ControlFrame::SessionRevoked(session) => {
                self.revoked.insert(session, self.now_ms + self.settings.revocation_memory_ms);
                self.close_where(CloseCode::SessionRevoked, |_, s| s == session);
            }
            ControlFrame::UserRevoked { user, except } => {
                self.close_where(CloseCode::SessionRevoked, |u, s| u == user && Some(s) != except);
            }
            ControlFrame::Drain => self.begin_drain(),
        }
    }

    /// Whether a session was revoked lately, as far as this shard has heard. The look-up in PostgreSQL, made for every
    /// connection, knows for certain; this closes the moment between that look-up and the socket's arrival.
    pub(super) fn is_revoked(&self, session: SessionId) -> bool {
        self.revoked.contains_key(&session)
    }

    fn close_where(&mut self, code: CloseCode, matches: impl Fn(UserId, SessionId) -> bool) {
        let connections: Vec<ConnId> = self
            .clients
            .iter()
            .filter_map(super::session::Client::session)
            .filter(|s| matches(s.user, s.sign_in))
            .map(|s| s.conn)
            .collect();
        for conn in connections {
            self.close(conn, code);
        }
    }

    fn http_command(&mut self, command: HttpCommand) {
        let HttpCommand { user, mut body, reply } = command;
        let settings = std::sync::Arc::clone(&self.settings);
        let mut json = std::mem::take(&mut self.json);
        let parsed = command::parse(&mut body, Format::Json, &mut json, &settings.limits);
        let index = parsed.command.as_ref().map_or(usize::MAX, Command::index);
        let asked = Asked { origin: Origin::Http(reply), id: None, command: index, at: self.now };
        match parsed.command {
            Ok(command) => self.execute(asked, user, command),
            Err(refusal) => self.refuse(asked, &refusal, false),
        }
        self.json = json;
    }
}
