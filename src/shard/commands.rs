//! Commands: what is answered here, what is read, what is sent to an owner.

use super::Shard;
use super::pending::{Asked, Origin, Pending};
use super::send::NewMessage;
use super::session::Client;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, MAX_SAFE_INTEGER, Seq, UserId};
use crate::latency::Stage;
use crate::limits::{READ_DEADLINE_MS, TYPING_INTERVAL_MS};
use crate::mesh::frame::{Answer, Query, ReadRequest, Request, Token};
use crate::mesh::record::rfc3339;
use crate::wire::command::lookups::LOOKUPS;
use crate::wire::command::{Command, HistoryWindow, Parsed};
use crate::wire::ws::close::CloseCode;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

impl Shard {
    /// A frame of a WebSocket was read as far as it could be.
    pub(super) fn on_command(&mut self, conn: ConnId, parsed: Parsed<'_>) {
        let Some(session) = self.session(conn) else { return };
        let user = session.user;
        let command = parsed.command.as_ref().map_or(usize::MAX, Command::index);
        let asked = Asked { origin: Origin::Connection(conn), id: parsed.id, command, at: self.now };
        // Acks are small; somebody whose queue is full of unread replies gets no more of them.
        if self.sockets.queued_bytes(conn) > 2 * self.settings.limits.max_outbound_queue_bytes {
            return self.close(conn, CloseCode::TooSlow);
        }
        match parsed.command {
            Err(refusal) => self.refuse(asked, &refusal, false),
            Ok(command) => match self.take_place(conn) {
                Err(refusal) => self.refuse(asked, &refusal, false),
                Ok(()) => self.execute(asked, user, command),
            },
        }
    }

    /// Executes a command of a user's. Whatever happens, `asked` is answered once.
    pub(super) fn execute(&mut self, asked: Asked, user: UserId, command: Command<'_>) {
        match command {
            Command::Ping => {
                let data = json!({ "server_time": rfc3339(time::OffsetDateTime::now_utc()) });
                self.acknowledge(asked, &data);
            }
            Command::GetHistory { conversation, window, limit } => {
                let query = match window {
                    HistoryWindow::Newest => {
                        Query::HistoryBefore { conversation, before: Seq(MAX_SAFE_INTEGER), limit }
                    }
                    HistoryWindow::Before(before) => Query::HistoryBefore { conversation, before, limit },
                    HistoryWindow::After(after) => Query::HistoryAfter { conversation, after, limit },
                    HistoryWindow::Around(message) => Query::HistoryAround { conversation, message, limit },
                };
                self.read_for(asked, user, query);
            }
            Command::ListConversations { cursor, limit } => {
                self.read_for(asked, user, Query::Conversations { cursor, limit });
            }
            Command::GetConversation { conversation } => {
                self.read_for(asked, user, Query::Conversation(conversation));
            }
            Command::ListMembers { conversation, cursor, limit } => {
                self.read_for(asked, user, Query::Members { conversation, cursor, limit });
            }
            Command::Subscribe { conversation, after } => {
                self.look_up_heads(asked, user, vec![(conversation, after)]);
            }
            Command::Resume { cursors } => {
                let wanted = cursors.into_iter().map(|(conversation, seq)| (conversation, Some(seq))).collect();
                self.look_up_heads(asked, user, wanted);
            }
            Command::Unsubscribe { conversation } => match asked.origin.connection() {
                Some(conn) => {
                    let cursor =
                        self.rooms.get_mut(&conversation).and_then(|room| room.subscriber(conn)).map(|s| s.cursor);
                    self.unsubscribe(conn, conversation);
                    self.acknowledge(asked, &json!({ "conversation_id": conversation, "last_seq": cursor }));
                }
                None => self.refuse(asked, &needs_a_socket(), true),
            },
            Command::Typing { conversation } => self.typing(asked, user, conversation),
            Command::SetPresence { status, text } => {
                self.set_presence(asked, user, status, text.map(std::borrow::Cow::into_owned));
            }
            Command::GetPresence { users } => self.get_presence(asked, user, &users),
            Command::Lookup { row, arguments } => {
                let (name, arguments) = (LOOKUPS[row].name, Value::Object(arguments));
                self.read_for(asked, user, Query::Lookup { name, arguments });
            }
            Command::SendMessage { conversation, content, parent, message_type, client_message_id } => {
                let message = NewMessage { conversation, content, parent, message_type, client_message_id };
                self.send_message(asked, user, message);
            }
            Command::Change { row, place, arguments } => self.change(asked, user, row, place, arguments),
        }
    }

    fn look_up_heads(&mut self, asked: Asked, user: UserId, wanted: Vec<(ConversationId, Option<Seq>)>) {
        if asked.origin.connection().is_none() {
            return self.refuse(asked, &needs_a_socket(), true);
        }
        let query = Query::Heads(wanted.iter().map(|(conversation, _)| *conversation).collect());
        if let Err(refusal) = self.may_read(&asked, user, &query) {
            return self.refuse_later(asked, refusal);
        }
        if let Err(Pending::Subscribe(asked, _)) = self.read(user, query, Pending::Subscribe(asked, wanted)) {
            self.refuse_later(asked, Refusal::overloaded("reads"));
        }
    }

    fn typing(&mut self, asked: Asked, user: UserId, conversation: ConversationId) {
        // A socket is throttled by its own last signal; a script by its user's budget.
        if asked.origin.connection().is_none()
            && let Err(refusal) = self.may_change(&asked, user)
        {
            return self.refuse(asked, &refusal, true);
        }
        let now_ms = self.now_ms;
        let subscribed = asked.origin.connection().and_then(|conn| self.session(conn)).map(|session| {
            // In one conversation every two seconds; changing conversations does not make it a flood.
            let throttled = matches!(session.typed, Some((c, at))
                if now_ms - at < if c == conversation { TYPING_INTERVAL_MS } else { TYPING_INTERVAL_MS / 8 });
            if !throttled {
                session.typed = Some((conversation, now_ms));
            }
            (throttled, session.subscriptions.contains(&conversation))
        });
        match subscribed {
            Some((true, _)) => self.forget(asked),
            Some((false, true)) => {
                self.tell_typing(conversation, user);
                self.forget(asked);
            }
            Some((false, false)) | None => {
                let query = Query::Heads(vec![conversation]);
                if let Err(Pending::Typing(asked, ..)) =
                    self.read(user, query, Pending::Typing(asked, conversation, user))
                {
                    self.refuse_later(asked, Refusal::overloaded("reads"));
                }
            }
        }
    }

    fn tell_typing(&mut self, conversation: ConversationId, user: UserId) {
        let owner = self.mesh.placement.owner(conversation);
        if owner == self.id && !self.deliveries_have_room() {
            return; // dropped, as when a lane is full; the next one comes in two seconds
        }
        drop(self.request(owner, Request::Typing { conversation, user }));
    }

    fn read_for(&mut self, asked: Asked, user: UserId, query: Query) {
        if let Err(refusal) = self.may_read(&asked, user, &query) {
            return self.refuse_later(asked, refusal);
        }
        if let Err(Pending::Command(asked)) = self.read(user, query, Pending::Command(asked)) {
            self.refuse_later(asked, Refusal::overloaded("reads"));
        }
    }

    /// Sends a read to the I/O shard, with a place for its result reserved; gives `pending` back when there is none.
    pub(super) fn read(&mut self, user: UserId, query: Query, pending: Pending) -> Result<(), Pending> {
        if !self.has_room_for(user, &query) {
            return Err(pending);
        }
        let commanded = query.is_commanded();
        let token = self.pending.insert(pending);
        let deadline = self.now + Duration::from_millis(READ_DEADLINE_MS);
        let request = Box::new(ReadRequest { token, user, deadline, query });
        if self.mesh.storage(self.id).reads.try_push(request).is_err() {
            return match self.pending.take(token) {
                Some(pending) => Err(pending),
                None => Ok(()), // never: the token was made above
            };
        }
        self.reads_in_flight += 1;
        if commanded {
            *self.reads_by_user.entry(user).or_default() += 1;
        }
        self.ring_storage = true;
        Ok(())
    }

    /// An answer came, from an owner or from the I/O shard.
    pub(super) fn on_answer(&mut self, token: Token, answer: Answer) {
        match self.pending.take(token) {
            Some(Pending::Command(asked)) => self.reply(asked, answer),
            Some(Pending::Subscribe(asked, wanted)) => self.heads_answered(asked, wanted, answer),
            Some(Pending::Presence(asked)) => self.presence_permitted(asked, answer),
            Some(Pending::PresenceCheck(conn, users)) => self.presence_checked(conn, users, &answer),
            Some(Pending::PresencePart(gathering)) => {
                let found = if let Answer::Presence(shown) = answer { Some(shown) } else { None };
                self.presence_gathered(&gathering, found);
            }
            Some(Pending::Change(asked, user, row, arguments)) => self.located(asked, user, row, arguments, answer),
            Some(Pending::Typing(asked, conversation, user)) => match answer {
                Answer::Heads(heads) if heads.is_empty() => self.refuse(asked, &not_a_member(), true),
                Answer::Heads(_) => {
                    self.tell_typing(conversation, user);
                    self.forget(asked);
                }
                Answer::Refused(refusal) => self.refuse(asked, &refusal, true),
                _ => self.forget(asked),
            },
            Some(Pending::Admission(admission)) => self.admission_answered(*admission, answer),
            Some(Pending::Replay(conn, conversation)) => self.log_answered(conn, conversation, answer),
            None => crate::faults::error_limited!("an answer came for a request that was answered already"),
        }
    }

    fn reply(&mut self, asked: Asked, answer: Answer) {
        match answer {
            Answer::Sent(receipt) => {
                self.counters.stages.record(Stage::Ack, asked.at.elapsed(), 1);
                self.acknowledge(asked, &*receipt);
            }
            Answer::Data(data) => self.acknowledge(asked, &*data),
            Answer::Page(page) => self.acknowledge(asked, &*page),
            Answer::Refused(refusal) if matches!(refusal.code, ErrorCode::RateLimited | ErrorCode::Overloaded) => {
                self.refuse_later(asked, *refusal);
            }
            Answer::Refused(refusal) => self.refuse(asked, &refusal, true),
            Answer::Log(_) | Answer::Heads(_) | Answer::Session(_) | Answer::Located(_) | Answer::Presence(_) => {
                let words = "the server answered a command with something else; this is a fault of its own";
                self.refuse(asked, &Refusal::new(ErrorCode::Internal, words), true);
            }
        }
    }

    /// Answers a command that took a place with success.
    pub(super) fn acknowledge<T: Serialize>(&mut self, asked: Asked, data: &T) {
        self.counters.command_done(asked.command, self.now.duration_since(asked.at));
        match asked.origin {
            Origin::Connection(conn) => {
                self.give_place_back(conn);
                self.say(conn, "ack", asked.id.as_ref(), data);
            }
            Origin::Http(reply) => {
                let words = "the answer cannot be written as JSON";
                reply(serde_json::to_vec(data).map_err(|_| Refusal::new(ErrorCode::Internal, words)));
            }
        }
    }

    /// Answers a command with a refusal; `took_place` says whether it counts as in flight.
    pub(super) fn refuse(&mut self, asked: Asked, refusal: &Refusal, took_place: bool) {
        self.counters.error(refusal.code);
        match asked.origin {
            Origin::Connection(conn) => {
                if took_place {
                    self.give_place_back(conn);
                }
                self.say(conn, "error", asked.id.as_ref(), refusal);
            }
            Origin::Http(reply) => reply(Err(refusal.clone())),
        }
    }

    /// Ends a command that has no ack; over HTTP an empty object says that it is done.
    fn forget(&mut self, asked: Asked) {
        self.counters.command_done(asked.command, self.now.duration_since(asked.at));
        match asked.origin {
            Origin::Connection(conn) => self.give_place_back(conn),
            Origin::Http(reply) => reply(Ok(b"{}".to_vec())),
        }
    }

    fn give_place_back(&mut self, conn: ConnId) {
        if let Some(Client::Open(session)) = self.clients.get_mut(conn.slot() as usize)
            && session.conn == conn
        {
            session.in_flight = session.in_flight.saturating_sub(1);
        }
    }
}

pub(super) fn needs_a_socket() -> Refusal {
    Refusal::bad_request("type: this command is about a WebSocket's own subscriptions; send it over one")
}

/// The refusal of somebody who is not a member.
pub(super) fn not_a_member() -> Refusal {
    Refusal::new(ErrorCode::NotMember, "you are not a member of this conversation; join it first")
}
