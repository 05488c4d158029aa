//! The user's shard: counts a user's connections, keeps their budgets, and admits sockets.
//!
//! 1. `Admit` arrives with a valid token → a user who was closed for flooding a moment ago is refused; for others the
//!    session is looked up in PostgreSQL.
//! 2. The answer names the user → the socket moves to its home shard: the owner of the requested conversation, or this
//!    shard.
//! 3. The home shard opens it (`settle`).

use super::Shard;
use super::requests::Pending;
use super::world::World;
use crate::error::{ErrorCode, Refusal};
use crate::mesh::frame::{Admission, Query, Request, Settlement};
use crate::mesh::record::OpenedSession;

impl<W: World> Shard<W> {
    pub(super) fn admit(&mut self, mut admission: Box<Admission<W::Socket>>) {
        if self.directory.users.is_kept_out(admission.user, self.now_ns()) {
            return self.answer_unadmitted(admission.socket, ErrorCode::RateLimited);
        }
        admission.looked_up_ms = self.now_ms;
        let query = Query::OpenSession {
            session: admission.session,
            bot_token: admission.bot_token.clone(),
            ticket: admission.ticket.clone(),
            with_conversations: admission.handshake.subscribe_all,
            needs_factor: self.live.factor_policy.requires(admission.user),
        };
        let user = admission.user;
        let Err(Pending::Admission(admission)) = self.read(user, query, Pending::Admission(admission)) else { return };
        let per_second = self.settings.overload.admissions.per_second() / self.placement.shards() as u64;
        if let Err(admission) = self.requests.let_wait(admission, (self.now, per_second)) {
            self.answer_503(admission.socket);
        }
    }

    /// Sockets that wait for a free read slot, as when thousands of clients reconnect at once.
    pub(super) fn serve_waiting_admissions(&mut self) {
        for _ in 0..self.requests.admissions_waiting() {
            if !self.requests.may_read() {
                return;
            }
            if let Some(admission) = self.requests.next_admission() {
                self.admit(admission);
            }
        }
    }

    /// The look-up was answered.
    pub(super) fn admission_answered(
        &mut self,
        admission: Admission<W::Socket>,
        opened: Result<Box<OpenedSession>, Box<Refusal>>,
    ) {
        match opened {
            Ok(opened) => self.send_home(admission, *opened),
            Err(refusal) => self.answer_unadmitted(admission.socket, refusal.code),
        }
    }

    fn send_home(&mut self, mut admission: Admission<W::Socket>, opened: OpenedSession) {
        let user = admission.user;
        admission.session = opened.session;
        let budgets = self.budgets_of(user);
        budgets.set_is_bot(opened.grant.is_some());
        self.trust_if_old(&budgets, opened.user_created_at);
        let users = &mut self.directory.users;
        let too_many = users.connections(user, self.now_ms) >= self.live.limits.max_connections_per_user;
        users.connect(user);
        let repeats = users.repeats(user);
        let home = admission.handshake.hint.map_or(self.id, |hint| self.placement.owner(hint));
        let settlement = Box::new(Settlement { admission, opened, budgets, repeats, too_many });
        if let Err(Request::Settle(back)) = self.request(home, Request::Settle(settlement)) {
            self.settle(*back); // its lane is full: the hint is only a hint
        }
    }
}
