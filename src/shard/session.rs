//! One open WebSocket, and what time means for it. Pure.
//!
//! ```text
//!            heartbeat without a byte          another heartbeat without a byte
//!   awake ────────────────────────────► pinged ─────────────────────────────────► closed (4006)
//!     ▲                                    │
//!     └───────────── any byte ─────────────┘
//! ```

use crate::address::ClientNetwork;
use crate::auth::signing::KeyTag;
use crate::chat::filter::SharedRepeats;
use crate::ids::{ConnId, ConversationId, SessionId, UserId};
use crate::limits::SLOW_CONSUMER_GRACE_MS;
use crate::mesh::bot_grant::BotGrant;
use crate::mesh::event::TypingPermission;
use crate::mesh::quota::QuotaPlace;
use crate::mesh::standing::UserBudgets;
use crate::wire::Format;
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::peer::Peer;
use std::collections::VecDeque;
use std::sync::Arc;

/// A session is not checked more often than this.
const LOOK_MS_MIN: u64 = 100;

/// An open WebSocket. Idle, it owns one allocation (itself) and its subscriptions.
pub struct Session {
    /// The connection.
    pub conn: ConnId,
    /// The protocol state.
    pub peer: Peer,
    /// The user.
    pub user: UserId,
    /// The sign-in that the connection belongs to.
    pub sign_in: SessionId,
    /// The serialisation that it reads and writes.
    pub format: Format,
    /// Window bits of permessage-deflate; 0 without compression.
    pub deflate_bits: u8,
    /// Conversations that its user joins are subscribed without being asked for.
    pub subscribe_all: bool,
    /// A page of the log was requested for it.
    pub replay_in_flight: bool,
    /// It waits in the queue of deferred replays.
    pub replay_waits: bool,
    /// The code of the close frame that was sent, for the metrics.
    pub close_code: u16,
    /// Command slots in use.
    pub in_flight: u32,
    /// The key that signed the token or ticket that opened it, unless that was a bot's.
    pub key: KeyTag,
    /// What the token permits, if it is a bot's.
    pub grant: Option<Arc<BotGrant>>,
    /// When its access token expires, in milliseconds of the process's clock.
    pub token_expires_ms: u64,
    /// When its last byte arrived.
    pub last_seen_ms: u64,
    /// When it was pinged; `u64::MAX` once a byte has arrived since.
    pub pinged_at_ms: u64,
    /// When its unfinished message or frame must be complete; `u64::MAX` between messages.
    pub message_until_ms: u64,
    /// The planned check of this session; earlier entries in the wheel are void.
    pub check_at_ms: u64,
    /// Its last typing signal.
    pub typing: Option<Box<TypingState>>,
    /// Its place among the WebSockets of its client's network.
    pub network_place: Option<QuotaPlace<ClientNetwork>>,
    /// Its user's budgets.
    pub budgets: Arc<UserBudgets>,
    /// What its user wrote lately.
    pub repeats: SharedRepeats,
    /// Conversations that it is subscribed to.
    pub subscriptions: Vec<ConversationId>,
    /// What it has to catch up on: nothing for most connections.
    catch_up: Option<Box<CatchUpState>>,
}

/// A connection's last typing signal, and whether the next one may be shown.
pub struct TypingState {
    /// Where its user typed.
    pub conversation: ConversationId,
    /// When, in milliseconds of the process's clock.
    pub at_ms: u64,
    /// Where its user may be seen typing, as PostgreSQL has answered last.
    pub permission: Option<TypingPermission>,
}

/// What a connection has to catch up on; see `catch_up`.
#[derive(Default)]
pub struct CatchUpState {
    /// Conversations whose log is to be read for it.
    pub replays: VecDeque<ConversationId>,
    /// Since when its queue is too full for events.
    pub lagging_since_ms: Option<u64>,
    /// Conversations whose events its full queue has refused. None unless it is lagging.
    pub behind: Vec<ConversationId>,
}

/// The result of checking a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// The connection has to be closed.
    Close(CloseCode),
    /// A ping is due; look again then.
    Ping(u64),
    /// Nothing to do; look again then.
    Again(u64),
}

impl Session {
    /// A session that was just opened.
    pub fn new(conn: ConnId, user: UserId, sign_in: SessionId, format: Format, deflate_bits: u8) -> Self {
        Self {
            conn,
            peer: Peer::new(deflate_bits != 0),
            user,
            sign_in,
            format,
            deflate_bits,
            subscribe_all: true,
            replay_in_flight: false,
            replay_waits: false,
            close_code: 1006,
            in_flight: 0,
            key: KeyTag::default(),
            grant: None,
            token_expires_ms: u64::MAX,
            last_seen_ms: 0,
            pinged_at_ms: u64::MAX,
            message_until_ms: u64::MAX,
            check_at_ms: 0,
            typing: None,
            network_place: None,
            budgets: Arc::default(),
            repeats: SharedRepeats::default(),
            subscriptions: Vec::new(),
            catch_up: None,
        }
    }

    /// The next typing signal needs PostgreSQL's permission again.
    pub fn forget_typing_permission(&mut self) {
        if let Some(typing) = &mut self.typing {
            typing.permission = None;
        }
    }

    /// What it has to catch up on, to be added to.
    pub fn catch_up_mut(&mut self) -> &mut CatchUpState {
        self.catch_up.get_or_insert_default()
    }

    /// Takes the next conversation whose log is to be read. Frees the memory when nothing is left.
    pub fn next_replay(&mut self) -> Option<ConversationId> {
        let state = self.catch_up.as_mut()?;
        let next = state.replays.pop_front();
        if state.replays.is_empty() && state.lagging_since_ms.is_none() {
            self.catch_up = None;
        }
        next
    }

    fn lagging_since_ms(&self) -> Option<u64> {
        self.catch_up.as_ref()?.lagging_since_ms
    }

    /// Whether it has something to catch up on.
    pub fn is_behind(&self) -> bool {
        self.catch_up.is_some()
    }

    /// Ends its lagging. Returns the conversations whose events its queue has refused.
    pub fn caught_up_with_queue(&mut self) -> Vec<ConversationId> {
        let Some(state) = &mut self.catch_up else { return Vec::new() };
        state.lagging_since_ms = None;
        std::mem::take(&mut state.behind)
    }

    /// Checks the session at `now_ms`. Before `paused_until_ms` no client counts as idle, because the shard was
    /// delayed.
    pub fn look(&mut self, now_ms: u64, heartbeat_ms: u64, paused_until_ms: u64) -> Look {
        if now_ms >= self.token_expires_ms {
            return Look::Close(CloseCode::TokenExpired);
        }
        let grace_ends_ms = self.lagging_since_ms().map_or(u64::MAX, |since| since + SLOW_CONSUMER_GRACE_MS);
        if now_ms >= grace_ends_ms {
            return Look::Close(CloseCode::TooSlow);
        }
        // While the shard was delayed, the rest of the message may have waited in the ring.
        let message_ends_ms = self.message_until_ms.max(paused_until_ms);
        if now_ms >= message_ends_ms {
            return Look::Close(CloseCode::Policy);
        }
        let (pings, next) = if self.pinged_at_ms < u64::MAX {
            let pong_ends_ms = (self.pinged_at_ms + heartbeat_ms).max(paused_until_ms);
            // Idle for two heartbeats, and pinged in between: idle time alone may be that of a delayed server.
            if now_ms >= pong_ends_ms {
                return Look::Close(CloseCode::HeartbeatTimeout);
            }
            (false, pong_ends_ms)
        } else if now_ms >= self.last_seen_ms + heartbeat_ms {
            self.pinged_at_ms = now_ms;
            (true, now_ms + heartbeat_ms)
        } else {
            (false, self.last_seen_ms + heartbeat_ms)
        };
        let at = next.min(self.token_expires_ms).min(grace_ends_ms).min(message_ends_ms).max(now_ms + LOOK_MS_MIN);
        if pings { Look::Ping(at) } else { Look::Again(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn session() -> Session {
        Session::new(ConnId::new(ShardId(0), 0, 1), UserId(1), SessionId(1), Format::Json, 0)
    }

    #[test]
    fn stays_small_while_idle() {
        assert!(size_of::<Session>() <= 256, "{} bytes", size_of::<Session>());
    }

    #[test]
    fn keeps_no_memory_of_what_it_caught_up_on() {
        let mut session = session();
        let [one, other] = [6, 10].map(|id| ConversationId::from_number(id).unwrap());
        session.catch_up_mut().replays.extend([one, other]);
        session.catch_up_mut().lagging_since_ms = Some(5);
        session.catch_up_mut().behind.push(one);
        assert_eq!(
            [session.next_replay(), session.next_replay(), session.next_replay()],
            [Some(one), Some(other), None]
        );
        assert!(session.is_behind(), "its queue is still full");
        assert_eq!(session.caught_up_with_queue(), [one]);
        assert_eq!((session.next_replay(), session.is_behind()), (None, false));
    }

    #[test]
    fn is_pinged_after_one_idle_heartbeat_and_closed_after_two() {
        let mut session = session();
        assert_eq!(session.look(500, 1_000, 0), Look::Again(1_000));
        assert_eq!(session.look(1_000, 1_000, 0), Look::Ping(2_000));
        assert_eq!(session.look(1_999, 1_000, 0), Look::Again(2_099));
        assert_eq!(session.look(2_000, 1_000, 5_000), Look::Again(5_000), "the shard was delayed");
        assert_eq!(session.look(5_000, 1_000, 5_000), Look::Close(CloseCode::HeartbeatTimeout));
    }

    #[test]
    fn is_closed_when_its_message_stays_unfinished() {
        let mut session = session();
        let late = 37_000;
        session.message_until_ms = late;
        for now_ms in (7_000..late).step_by(1_000) {
            session.last_seen_ms = now_ms; // its fragments go on, or its pings
            assert_eq!(session.look(now_ms, 25_000, 0), Look::Again((now_ms + 25_000).min(late)));
        }
        session.last_seen_ms = late;
        assert_eq!(session.look(late, 25_000, late + 500), Look::Again(late + 500), "the shard was delayed");
        assert_eq!(session.look(late, 25_000, 0), Look::Close(CloseCode::Policy));
        session.message_until_ms = u64::MAX;
        assert_eq!(session.look(late, 25_000, 0), Look::Again(late + 25_000));
    }

    #[test]
    fn is_closed_when_its_token_expires_or_it_does_not_read() {
        let mut expiring = session();
        expiring.token_expires_ms = 700;
        assert_eq!(expiring.look(600, 1_000, 0), Look::Again(700));
        assert_eq!(expiring.look(700, 1_000, 0), Look::Close(CloseCode::TokenExpired));
        let mut slow = session();
        slow.catch_up_mut().lagging_since_ms = Some(50);
        assert_eq!(
            slow.look(50 + SLOW_CONSUMER_GRACE_MS - 1, 60_000, 0),
            Look::Again(150 + SLOW_CONSUMER_GRACE_MS - 1)
        );
        assert_eq!(slow.look(50 + SLOW_CONSUMER_GRACE_MS, 60_000, 0), Look::Close(CloseCode::TooSlow));
    }
}
