//! Commands: answered here, read from PostgreSQL, or sent to an owner.

use super::Shard;
use super::bot_commands::{PublicAnswer, not_open};
use super::filter;
use super::permissions;
use super::rate_limits::Budget;
use super::refusals::{full_lane, needs_a_socket, too_many_reads};
use super::requests::{Invoking, Origin, Pending, PendingCommand, SentBy, Subscribing};
use super::send::NewMessage;
use super::session::TypingState;
use super::world::{Clock, World};
use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::ids::{ConnId, ConversationId, ConversationPrefix, MAX_SAFE_INTEGER, MessageId, Seq, UserId};
use crate::limits::{Feature, READ_DEADLINE_MS, TYPING_INTERVAL_MS};
use crate::mesh::event::TypingPermission;
use crate::mesh::frame::{Answer, Query, ReadRequest, Request, Token, TypingSignal};
use crate::mesh::invocation::{GivenAnswer, Invocation, InvocationAnswer, InvocationId};
use crate::mesh::port::Lanes;
use crate::mesh::read_class::HEADS_PER_READ;
use crate::mesh::record::rfc3339;
use crate::planted::{Fault, is_planted};
use crate::wire::command::lookups::LOOKUPS;
use crate::wire::command::{Command, HistoryWindow, Parsed};
use crate::wire::ws::close::CloseCode;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

impl<W: World> Shard<W> {
    /// A frame of a WebSocket, this large, was read as far as it could be.
    pub(super) fn on_command(&mut self, conn: ConnId, parsed: Parsed<'_>, kib: u32) {
        let Some(session) = self.connections.session(conn) else { return };
        let (user, grant, session) = (session.user, session.grant.clone(), Some(session.sign_in));
        let is_change = matches!(parsed.command, Ok(Command::Change { .. }));
        let source = if is_change { self.connections.source(conn) } else { None };
        let sent_by = SentBy { session, grant, source };
        let command = parsed.command.as_ref().ok().map(Command::id);
        let origin = Origin::Connection(conn);
        let mut asked =
            PendingCommand { origin, id: parsed.id, command, sent_by, at: self.now, kib, holds_slot: false };
        // A client whose queue is full of unread replies receives no further replies.
        if !self.reads_its_queue(conn) {
            return self.close(conn, CloseCode::TooSlow);
        }
        match parsed.command.and_then(|command| self.reserve_slot(conn).map(|()| command)) {
            Err(refusal) => self.refuse_and_charge(asked, &refusal),
            Ok(command) => {
                asked.holds_slot = true;
                self.execute(asked, user, command);
            }
        }
    }

    /// Executes a command of a user's. Whatever happens, `asked` is answered once.
    pub(super) fn execute(&mut self, asked: PendingCommand, user: UserId, command: Command<'_>) {
        if let Some(grant) = &asked.sent_by.grant
            && let Err(refusal) = permissions::check(grant, &command)
        {
            return self.refuse(asked, &refusal);
        }
        match command {
            Command::Ping => {
                if let Err(refusal) = self.may_signal(&asked, user) {
                    return self.refuse(asked, &refusal);
                }
                let data = json!({ "server_time": rfc3339(self.clock.utc()) });
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
                let wanted = vec![(conversation, after)];
                self.look_up_heads(Subscribing {
                    asked,
                    user,
                    wanted,
                    impossible: Vec::new(),
                    is_resume: false,
                    read_at_ms: self.now_ms,
                });
            }
            Command::Resume { cursors, impossible } => {
                let wanted = cursors.into_iter().map(|(conversation, seq)| (conversation, Some(seq))).collect();
                let read_at_ms = self.now_ms;
                self.look_up_heads(Subscribing { asked, user, wanted, impossible, is_resume: true, read_at_ms });
            }
            Command::Unsubscribe { conversation } => match asked.origin.connection() {
                Some(conn) => {
                    if let Err(refusal) = self.may_signal(&asked, user) {
                        return self.refuse(asked, &refusal);
                    }
                    let cursor = self.rooms.subscriber(conn, conversation).map(|subscriber| subscriber.cursor);
                    self.unsubscribe(conn, conversation);
                    self.acknowledge(asked, &json!({ "conversation_id": conversation, "last_seq": cursor }));
                }
                None => self.refuse(asked, &needs_a_socket()),
            },
            Command::Typing { conversation } => self.typing(asked, user, conversation),
            Command::SetPresence { status, text } => {
                self.set_presence(asked, user, status, text.map(Cow::into_owned));
            }
            Command::GetPresence { users } => self.get_presence(asked, user, &users),
            Command::Lookup { row, arguments } => {
                let (name, arguments) = (LOOKUPS[row].name, Value::Object(arguments));
                self.read_for(asked, user, Query::Lookup { name, arguments });
            }
            Command::SendMessage { conversation, content, parent, message_type, client_message_id, files } => {
                let message = NewMessage { conversation, content, parent, message_type, client_message_id, files };
                self.send_message(asked, user, message);
            }
            Command::RunCommand { conversation, command, text, parent } => {
                self.run_command(asked, (user, conversation), (&command, &text), parent);
            }
            Command::AnswerCommand { invocation, is_public, content } => {
                self.answer_command(asked, user, &invocation, is_public, &content);
            }
            Command::Change { row, conversation, arguments } => self.change(asked, user, row, conversation, arguments),
        }
    }

    fn look_up_heads(&mut self, subscribing: Subscribing) {
        if subscribing.asked.origin.connection().is_none() {
            return self.refuse(subscribing.asked, &needs_a_socket());
        }
        // Cursors of conversations that cannot exist need no read, but they are parsed and answered like the others.
        let cost = subscribing.query().cost() + subscribing.impossible.len().div_ceil(HEADS_PER_READ) as u32;
        if let Err(refusal) = self.spend(&subscribing.asked, subscribing.user, Budget::Reads, cost) {
            return self.refuse_later(subscribing.asked, refusal);
        }
        self.read_heads(subscribing);
    }

    pub(super) fn read_heads(&mut self, subscribing: Subscribing) {
        let (query, user) = (subscribing.query(), subscribing.user);
        if let Err(Pending::Subscribe(back)) = self.read(user, query, Pending::Subscribe(subscribing)) {
            self.refuse_later(back.asked, too_many_reads());
        }
    }

    fn typing(&mut self, asked: PendingCommand, user: UserId, conversation: ConversationId) {
        // A socket is throttled by its own last signal, too.
        let permitted = match asked.origin {
            Origin::Connection(_) => self.may_signal(&asked, user),
            Origin::Http(_) | Origin::Invocation(..) => self.may_change(&asked, user),
        };
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let now_ms = self.now_ms;
        let subscribed = asked.origin.connection().and_then(|conn| self.connections.session_mut(conn)).map(|session| {
            // In one conversation every two seconds; changing conversations does not make it a flood.
            let last = session.typing.as_deref();
            let throttled = last.is_some_and(|last| {
                let is_here = last.conversation == conversation;
                now_ms - last.at_ms < if is_here { TYPING_INTERVAL_MS } else { TYPING_INTERVAL_MS / 8 }
            });
            if !throttled {
                let permission = session.typing.take().and_then(|last| last.permission);
                session.typing = Some(Box::new(TypingState { conversation, at_ms: now_ms, permission }));
            }
            let is_subscribed = session.subscriptions.contains(&conversation);
            if is_planted(Fault::TypeWithoutAsking) && is_subscribed {
                let hidden_from = Arc::default();
                return (throttled, Some(TypingPermission { conversation, asked_ms: now_ms, hidden_from }));
            }
            // In a direct conversation one user may have blocked the other since.
            let is_direct = conversation.prefix() == ConversationPrefix::Direct;
            let known = session.typing.as_ref().and_then(|typing| typing.permission.as_ref());
            let known = known.filter(|known| known.is_valid(conversation, now_ms) && is_subscribed && !is_direct);
            (throttled, known.cloned())
        });
        match subscribed {
            Some((true, _)) => self.finish(asked),
            Some((false, Some(permission))) => {
                self.send_typing(user, asked.origin.connection(), permission);
                self.finish(asked);
            }
            Some((false, None)) | None => {
                let query = Query::Typing(conversation);
                if let Err(Pending::Typing(asked, ..)) =
                    self.read(user, query, Pending::Typing(asked, conversation, user, now_ms))
                {
                    self.refuse_later(asked, too_many_reads());
                }
            }
        }
    }

    /// PostgreSQL has answered who must not see that a user types; without a list, nobody may.
    fn typing_permitted(&mut self, asked: PendingCommand, user: UserId, permission: Option<TypingPermission>) {
        if let Some(permission) = permission {
            let session = asked.origin.connection().and_then(|conn| self.connections.session_mut(conn));
            if let Some(typing) = session.and_then(|session| session.typing.as_mut()) {
                typing.permission = Some(permission.clone());
            }
            self.send_typing(user, asked.origin.connection(), permission);
        }
        self.finish(asked);
    }

    fn send_typing(&mut self, user: UserId, conn: Option<ConnId>, permission: TypingPermission) {
        let owner = self.placement.owner(permission.conversation);
        if owner == self.id && !self.deliveries_have_room() {
            return; // dropped, as when a lane is full; the client sends it again after two seconds
        }
        drop(self.request(owner, Request::Typing(Box::new(TypingSignal { user, conn, permission }))));
    }

    /// `run_command`.
    fn run_command(
        &mut self,
        asked: PendingCommand,
        (user, conversation): (UserId, ConversationId),
        (command, text): (&str, &str),
        parent: Option<MessageId>,
    ) {
        let permitted = self
            .may_begin()
            .and_then(|()| self.may_use(parent.map(|_| Feature::MessageThreads)))
            .and_then(|()| self.may_send(&asked, user, text));
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let arguments =
            json!({ "conversation": conversation.number(), "command": command, "parent_message_id": parent });
        let query = Query::Lookup { name: "run_command", arguments };
        let invoking = Invoking { asked, user, conversation, parent, text: text.into() };
        if let Err(Pending::Invoke(back)) = self.read(user, query, Pending::Invoke(Box::new(invoking))) {
            self.refuse_later(back.asked, too_many_reads());
        }
    }

    /// PostgreSQL has found the bot, or not.
    fn command_found(&mut self, invoking: Invoking, found: Result<Value, Box<Refusal>>) {
        let Invoking { asked, user, conversation, parent, text } = invoking;
        let mut found = match found {
            Ok(found) => found,
            Err(refusal) => return self.refuse(asked, &refusal),
        };
        let (Some(bot), Some(command)) = (found["bot_id"].as_i64().map(UserId), found["command"].as_str()) else {
            return self.refuse(asked, &Refusal::new(ErrorCode::Internal, "The server has a fault."));
        };
        let command = Box::from(command);
        let mut shown = serde_json::Map::new();
        shown.insert("conversation_id".to_owned(), json!(conversation));
        shown.insert("command".to_owned(), json!(command));
        shown.insert("text".to_owned(), json!(text));
        shown.insert("user".to_owned(), found["user"].take());
        if let Some(parent) = parent {
            shown.insert("parent_message_id".to_owned(), json!(parent));
        }
        let has_url = found["has_url"] == true;
        let token = self.requests.insert(Pending::Command(asked));
        let invocation = Invocation { token, user, bot, conversation, parent, command, has_url, shown };
        if self.request(self.placement.of_user(bot), Request::Invoke(Box::new(invocation))).is_err()
            && let Some(Pending::Command(asked)) = self.requests.take(token)
        {
            self.refuse(asked, &full_lane("the lane to the bot's shard"));
        }
    }

    /// `answer_command`.
    fn answer_command(&mut self, asked: PendingCommand, bot: UserId, invocation: &str, is_public: bool, content: &str) {
        let Some(id) = InvocationId::parse(invocation) else { return self.refuse(asked, &not_open()) };
        let given = GivenAnswer { id, is_public, content: content.into() };
        let mut permitted = self.may_begin().and_then(|()| self.may_change(&asked, bot));
        // In public it is checked as a message.
        if permitted.is_ok() && !given.is_public {
            permitted = self.may_show(&asked, bot, ("answer_command", "content"), &given.content);
        }
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let token = self.requests.insert(Pending::Command(asked));
        let answer = Box::new(InvocationAnswer { token, bot, given });
        if self.request(self.placement.of_user(bot), Request::AnswerInvocation(answer)).is_err()
            && let Some(Pending::Command(asked)) = self.requests.take(token)
        {
            self.refuse(asked, &full_lane("the lane to the bot's shard"));
        }
    }

    /// A user runs a command of a bot that is connected here.
    pub(super) fn on_invoked(&mut self, conn: ConnId, shown: &Value) {
        self.send_event(conn, "command_invoked", None, shown);
    }

    /// Sends a public answer as a message of its bot.
    pub(super) fn post_answer(&mut self, answer: PublicAnswer) {
        let PublicAnswer { id, bot, parent, content } = answer;
        let asked = PendingCommand {
            origin: Origin::Invocation(id, bot),
            id: None,
            command: None,
            sent_by: SentBy::default(),
            at: self.now,
            kib: 1,
            holds_slot: false,
        };
        let message = NewMessage {
            conversation: id.conversation,
            content: Cow::Borrowed(&content),
            parent,
            message_type: "text",
            client_message_id: Some(Cow::Owned(id.to_string())),
            files: Vec::new(),
        };
        self.send_message(asked, bot, message);
    }

    fn read_for(&mut self, asked: PendingCommand, user: UserId, query: Query) {
        if let Err(refusal) = self.may_read(&asked, user, &query) {
            return self.refuse_later(asked, refusal);
        }
        if let Err(Pending::Command(asked)) = self.read(user, query, Pending::Command(asked)) {
            self.refuse_later(asked, too_many_reads());
        }
    }

    /// Sends a read to the I/O shard, and reserves a slot for its result; returns `pending` if no slot is free.
    #[expect(
        clippy::result_large_err,
        reason = "a request without a slot is returned once, and only if the shard is full"
    )]
    pub(super) fn read(
        &mut self,
        user: UserId,
        query: Query,
        pending: Pending<W::Socket>,
    ) -> Result<(), Pending<W::Socket>> {
        if !self.requests.has_room_for(user, &query) {
            return Err(pending);
        }
        let commanded_by = query.is_commanded().then_some(user);
        let token = self.requests.insert(pending);
        let deadline = self.now + Duration::from_millis(READ_DEADLINE_MS);
        let request = Box::new(ReadRequest { token, user, deadline, query });
        if self.lanes.push_read(request).is_err() {
            return match self.requests.take(token) {
                Some(pending) => Err(pending),
                None => Ok(()), // never: the token was made above
            };
        }
        self.requests.read_sent(token, commanded_by);
        Ok(())
    }

    /// An answer arrived from an owner or from the I/O shard.
    pub(super) fn on_answer(&mut self, token: Token, answer: Answer) {
        let Some(pending) = self.requests.take(token) else {
            return error_limited!("an answer arrived for a request that was already answered");
        };
        match pending {
            Pending::Command(asked) => self.reply(asked, answer),
            Pending::Subscribe(subscribing) => self.heads_answered(subscribing, answer.into_heads()),
            Pending::Presence(watching) => self.presence_permitted(watching, answer.into_data()),
            Pending::PresenceCheck(conn, users) => self.presence_checked(conn, users, answer.into_data()),
            Pending::PresencePart(gathering) => self.presence_gathered(&gathering, answer.into_presence().ok()),
            Pending::FilterRecord(hits) => {
                if let Ok(decided) = answer.into_data() {
                    filter::recorded(&hits, &decided);
                }
            }
            Pending::Filter(filtering) => self.filter_answered(*filtering, answer.into_data()),
            Pending::Change(locating) => self.located(locating, answer.into_located()),
            Pending::Typing(asked, conversation, user, asked_ms) => match answer.into_data() {
                Ok(data) => {
                    let permission = data["hidden_from"].as_array().map(|users| {
                        let hidden_from = users.iter().filter_map(Value::as_i64).map(UserId).collect();
                        TypingPermission { conversation, asked_ms, hidden_from }
                    });
                    self.typing_permitted(asked, user, permission);
                }
                Err(refusal) => self.refuse(asked, &refusal),
            },
            Pending::Invoke(invoking) => self.command_found(*invoking, answer.into_data()),
            Pending::Admission(admission) => self.admission_answered(*admission, answer.into_session()),
            Pending::Replay(conn, conversation, member_at) => {
                self.log_answered(conn, conversation, member_at, answer.into_log());
            }
        }
    }
}
