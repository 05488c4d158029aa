//! One user's connection during a run: sends by the plan, matches acks, reports every event to the checkers, and comes
//! back after a lost connection.
//!
//! ```text
//!            open, welcome           phase = Done
//!  (start) ───────────────▶ serving ─────────────▶ closed
//!                            │   ▲
//!              connection    │   │ open, welcome, resume {cursors},
//!              lost          ▼   │ then unanswered messages again, oldest first
//!                         reconnecting ──▶ given up (phase = Done)
//! ```
//!
//! Invariants:
//! - a message keeps its `client_message_id` through every repetition, so a correct server stores it once;
//! - a message is known to the checker before it is written: no delivery can overtake that;
//! - what waits is bounded: at most `in_flight_max` unanswered messages; those planned beyond wait in the plan itself;
//! - frames are read in every phase, so a quiet client never becomes a slow one.

use crate::account::Account;
use crate::checker::{Ack, ClientIndex, Event, MessageId, Refusal, RoomChecker, Seq};
use crate::payload::{Reading, Token};
use crate::plan::Plan;
use crate::run::{Phase, Shared};
use crate::socket::{OpenError, Socket, Step, Subscribe};
use crate::stats::{count, lock};
use crate::violations::Kind;
use crate::wire::{
    Command, CommandId, ConversationSummary, Data, Frame, GetHistory, Lenient, MessageField, Resume, SendMessage,
};
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// First pause before a reconnection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Messages asked for in one page of history.
const HISTORY_LIMIT: u32 = 200;
/// Longest wait for the first frame.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);

/// A message that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    planned_ns: u64,
    room: u32,
}

/// Why serving a connection ended.
enum End {
    Done,
    Lost(String),
}

/// One user's connection.
pub struct Client {
    index: ClientIndex,
    account: Account,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    socket: Socket,
    /// Indices of the rooms it sends to, in turn.
    rooms: Vec<u32>,
    plan: Option<Plan>,
    next_number: u32,
    in_flight: BTreeMap<u32, InFlight>,
    resend: VecDeque<u32>,
    reconnect_after: Option<Duration>,
    /// Something other than this machine holds sends back: a limit, or a lost connection.
    held_back: bool,
    /// When it last stopped doing so, nanoseconds since the epoch.
    free_since_ns: u64,
}

impl Client {
    /// Connects a user who is already a member of `rooms`.
    pub async fn connect(
        shared: Arc<Shared>,
        index: ClientIndex,
        account: Account,
        rooms: Vec<u32>,
        plan: Option<Plan>,
    ) -> Result<Self, String> {
        let context = |reason: String| format!("{} cannot connect: {reason}", account.username);
        let open = shared.connector.open(index, &account.token, Subscribe::All).await;
        let mut socket = open.map_err(|error| context(error.to_string()))?;
        let conversations = welcome(&shared, &mut socket).await.map_err(context)?;
        for conversation in &conversations {
            if let Some(room) = shared.room_index.get(&conversation.id) {
                shared.checker(*room).subscribed(index, Seq(conversation.last_seq));
            }
        }
        for room in &rooms {
            if shared.checker(*room).cursor(index).is_none() {
                let id = &shared.room_ids[*room as usize];
                return Err(context(format!("it joined {id}, but the welcome frame does not list it")));
            }
        }
        let phase = shared.phase.subscribe();
        Ok(Self {
            index,
            account,
            shared,
            phase,
            socket,
            rooms,
            plan,
            next_number: 0,
            in_flight: BTreeMap::new(),
            resend: VecDeque::new(),
            reconnect_after: None,
            held_back: false,
            free_since_ns: 0,
        })
    }

    /// Takes part in the run until its phase is [`Phase::Done`].
    pub async fn run(mut self) {
        loop {
            match self.serve().await {
                End::Done => break,
                End::Lost(reason) => {
                    count(&self.shared.stats.counters.lost);
                    self.held_back = true;
                    if !self.shared.survive_restarts {
                        let client = self.index.0;
                        self.shared.stats.violation(Kind::ConnectionLost, || format!("client {client}: {reason}"));
                    }
                    if let Err(last) = self.reconnect().await {
                        let client = self.index.0;
                        self.shared.stats.violation(Kind::NotRestored, || format!("client {client}: {reason}; {last}"));
                        break;
                    }
                }
            }
        }
        self.close_plan(u64::MAX);
        self.socket.close().await;
    }

    /// Sends and receives until the run is done or the connection lost.
    async fn serve(&mut self) -> End {
        loop {
            let phase = *self.phase.borrow_and_update();
            let sent = match phase {
                Phase::Waiting => Ok(None),
                Phase::Running { epoch } => self.send_due(epoch, u64::MAX),
                Phase::Draining { epoch, end_ns } => {
                    let sent = self.send_due(epoch, end_ns).map(|_| None);
                    self.close_plan(end_ns);
                    sent
                }
                Phase::Done => return End::Done,
            };
            let wake = match sent {
                Ok(wake) => wake,
                Err(reason) => return End::Lost(reason),
            };
            let step = tokio::select! {
                step = self.socket.step() => Some(step),
                // The sender lives as long as the run; were it gone, the next turn of the loop would see Done.
                _ = self.phase.changed() => None,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => None,
            };
            match step {
                None | Some(Step::Flushed) => {}
                Some(Step::Lost(reason)) => return End::Lost(reason),
                Some(Step::Frame(Message::Close(frame))) => {
                    let reason = frame.map(|frame| format!("closed {}: {}", u16::from(frame.code), frame.reason));
                    return End::Lost(reason.unwrap_or_else(|| "closed without a reason".to_owned()));
                }
                Some(Step::Frame(message)) => {
                    if let Err(reason) = self.received(&message) {
                        return End::Lost(reason);
                    }
                }
            }
        }
    }

    /// Repeats what must be repeated, then sends what is due, as far as limits allow. Answers when to come back; `None`
    /// when something else must happen first (an ack, a flush, the end of the run).
    fn send_due(&mut self, epoch: Instant, end_ns: u64) -> Result<Option<Instant>, String> {
        while self.socket.can_queue() {
            let Some(number) = self.resend.pop_front() else { break };
            if let Some(flight) = self.in_flight.get(&number).copied() {
                let token = Token { client: self.index, number };
                self.shared.checker(flight.room).resent(token);
                count(&self.shared.stats.counters.resent);
                self.write_message(token, flight)?;
            }
        }
        loop {
            let blocked = !self.socket.can_queue() || self.in_flight.len() >= self.shared.in_flight_max;
            let Some(planned_ns) = self.plan.as_ref().and_then(Plan::peek_ns) else { return Ok(None) };
            if blocked || planned_ns >= end_ns {
                self.held_back |= blocked;
                return Ok(None);
            }
            let now_ns = nanoseconds_since(epoch);
            if self.held_back {
                self.held_back = false;
                self.free_since_ns = now_ns;
            }
            if planned_ns > now_ns {
                return Ok(Some(epoch + Duration::from_nanos(planned_ns)));
            }
            if let Some(plan) = &mut self.plan {
                plan.advance();
            }
            let number = self.next_number;
            self.next_number += 1;
            let flight = InFlight { planned_ns, room: self.rooms[number as usize % self.rooms.len()] };
            let token = Token { client: self.index, number };
            self.in_flight.insert(number, flight);
            self.shared.checker(flight.room).sent(token);
            count(&self.shared.stats.counters.sent);
            // The harness's own share: what was held back is the server's.
            let lag_us = now_ns.saturating_sub(planned_ns.max(self.free_since_ns)) / 1000;
            self.shared.stats.latencies(self.index).send_lag.saturating_record(lag_us.max(1));
            self.write_message(token, flight)?;
        }
    }

    fn write_message(&mut self, token: Token, flight: InFlight) -> Result<(), String> {
        let content = self.shared.payload.write(token, flight.planned_ns);
        let client_message_id = self.shared.payload.client_message_id(token);
        let data = SendMessage {
            conversation_id: &self.shared.room_ids[flight.room as usize],
            content: &content,
            client_message_id: &client_message_id,
        };
        let command = Command { kind: "send_message", id: CommandId::Number(u64::from(token.number)), data };
        let frame = self.shared.connector.format().encode(&command)?;
        self.socket.queue(frame)
    }

    /// Ends the plan: what was due before `end_ns` and is not written is counted and forgotten.
    fn close_plan(&mut self, end_ns: u64) {
        if let Some(mut plan) = self.plan.take() {
            let unsent = plan.skip_due(end_ns);
            self.shared.stats.counters.unsent.fetch_add(unsent, Ordering::Relaxed);
        }
    }

    /// Handles a data frame. An error means that nothing more can be written.
    fn received(&mut self, message: &Message) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let frame = match shared.connector.format().decode(message) {
            Ok(frame) => frame,
            Err(reason) => {
                let client = self.index.0;
                shared.stats.violation(Kind::Protocol, || format!("client {client}: {reason}"));
                return Ok(());
            }
        };
        match frame.kind.as_ref() {
            "ack" => return self.acked(frame),
            "error" => self.refused(frame),
            "caught_up" | "reset" | "lagging" => return self.stream_notice(&frame),
            "going_away" => {
                self.reconnect_after = frame.data.retry_after_ms.map(Duration::from_millis);
            }
            "welcome" => shared
                .stats
                .violation(Kind::Protocol, || format!("client {}: a second welcome on one connection", self.index.0)),
            // These have no number of their own; a `seq` in them refers to another event.
            "mention" | "read_updated" | "typing" | "presence" => count(&shared.stats.counters.other_events),
            kind => self.event(kind, frame.data),
        }
        Ok(())
    }

    fn acked(&mut self, frame: Frame<'_>) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let client = self.index;
        let data = frame.data;
        let number = match frame.id {
            Some(CommandId::Number(number)) => u32::try_from(number).ok(),
            Some(CommandId::Word(word)) => match word.strip_prefix("history-").and_then(|room| room.parse().ok()) {
                Some(room) => return self.history_page(room, data),
                None if word == "resume" => return Ok(()),
                None => None,
            },
            None => None,
        };
        let Some((number, flight)) = number.and_then(|number| Some((number, self.in_flight.remove(&number)?))) else {
            shared.stats.violation(Kind::UnexpectedReply, || {
                format!("client {}: an ack of nothing that waits for one (seq {:?})", client.0, data.seq)
            });
            return Ok(());
        };
        count(&shared.stats.counters.acked);
        if let Some(epoch) = self.epoch() {
            let latency_us = nanoseconds_since(epoch).saturating_sub(flight.planned_ns) / 1000;
            shared.stats.latencies(client).ack.saturating_record(latency_us.max(1));
        }
        let token = Token { client, number };
        let room = &shared.room_ids[flight.room as usize];
        match (data.message_id, data.seq) {
            (Some(id), Some(seq)) if data.conversation_id.as_ref().is_none_or(|named| named.0 == *room) => {
                let ack = Ack { token, id: MessageId(id), seq: Seq(seq), duplicate: data.duplicate };
                shared.checker(flight.room).acked(ack);
            }
            _ => {
                shared.stats.violation(Kind::Protocol, || {
                    format!("client {}: the ack of {token} lacks message_id or seq, or names another room", client.0)
                });
                shared.checker(flight.room).refused(token, Refusal::Unclear);
            }
        }
        Ok(())
    }

    fn refused(&mut self, frame: Frame<'_>) {
        let shared = Arc::clone(&self.shared);
        let client = self.index.0;
        let code = frame.data.code.map_or_else(|| "(no code)".to_owned(), |code| code.0.into_owned());
        let words = match frame.data.message {
            Some(MessageField::Words(words)) => words.into_owned(),
            _ => String::new(),
        };
        shared.stats.error(&code);
        match frame.id {
            Some(CommandId::Number(number)) => {
                let flight = u32::try_from(number).ok().and_then(|n| Some((n, self.in_flight.remove(&n)?)));
                let Some((number, flight)) = flight else {
                    shared.stats.violation(Kind::UnexpectedReply, || {
                        format!("client {client}: error {code} for nothing that waits for a reply")
                    });
                    return;
                };
                count(&shared.stats.counters.refused);
                let unclear = ["storage_unavailable", "deadline_exceeded", "overloaded", "internal"];
                let refusal = if unclear.contains(&code.as_str()) { Refusal::Unclear } else { Refusal::Final };
                shared.checker(flight.room).refused(Token { client: self.index, number }, refusal);
            }
            Some(CommandId::Word(word)) => {
                if let Some(room) = word.strip_prefix("history-").and_then(|room| room.parse().ok())
                    && (room as usize) < shared.room_ids.len()
                {
                    shared.checker(room).recovery_ended(self.index);
                }
                shared
                    .stats
                    .violation(Kind::ResumeRefused, || format!("client {client}: {word} refused: {code} {words}"));
            }
            None => shared
                .stats
                .violation(Kind::Protocol, || format!("client {client}: an error without an id: {code} {words}")),
        }
    }

    /// What the server says about the stream of events itself.
    fn stream_notice(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let named = frame.data.conversation_id.as_ref();
        let room = named.and_then(|id| shared.room_index.get(id.0.as_ref())).copied();
        match (frame.kind.as_ref(), room) {
            ("caught_up", Some(room)) => {
                if let Some(seq) = frame.data.seq {
                    shared.checker(room).caught_up(self.index, Seq(seq));
                }
            }
            ("reset", Some(room)) => {
                count(&shared.stats.counters.resets);
                let last = match frame.data.last_seq {
                    Some(Lenient::Wanted(last)) => last,
                    _ => frame.data.seq.unwrap_or_default(),
                };
                let Some(cursor) = shared.checker(room).cursor(self.index) else { return Ok(()) };
                shared.checker(room).reset(self.index, Seq(last));
                return self.read_history(room, cursor.0);
            }
            ("lagging", _) => {
                count(&shared.stats.counters.lagging);
                return self.resume(room);
            }
            _ => {}
        }
        Ok(())
    }

    /// A numbered event, or one that does not concern the run's rooms.
    fn event(&mut self, kind: &str, data: Data<'_>) {
        let shared = Arc::clone(&self.shared);
        let room = data.conversation_id.as_ref().and_then(|id| shared.room_index.get(id.0.as_ref())).copied();
        let (Some(room), Some(seq)) = (room, data.seq) else {
            count(&shared.stats.counters.other_events);
            return;
        };
        let seq = Seq(seq);
        if kind != "message_created" {
            count(&shared.stats.counters.other_events);
            shared.checker(room).delivered(self.index, seq, Event::Other);
            return;
        }
        let (id, content) = match (data.message_id, data.content, data.message) {
            (Some(id), content, _) => (id, content.map(|content| content.0.into_owned())),
            (None, _, Some(MessageField::Nested(message))) => (message.message_id, message.content),
            _ => {
                shared.stats.violation(Kind::Protocol, || {
                    format!("client {}: message_created at seq {} without a message_id", self.index.0, seq.0)
                });
                return;
            }
        };
        let (event, planned_ns) = self.read_message(MessageId(id), content.as_deref().unwrap_or_default());
        shared.checker(room).delivered(self.index, seq, event);
        let Some(planned_ns) = planned_ns else {
            count(&shared.stats.counters.other_events);
            return;
        };
        count(&shared.stats.counters.delivered);
        if let Some(epoch) = self.epoch() {
            let latency_us = nanoseconds_since(epoch).saturating_sub(planned_ns) / 1000;
            shared.stats.latencies(self.index).delivery.saturating_record(latency_us.max(1));
        }
    }

    /// What a message is to the checker, and when it was planned if it is this run's.
    fn read_message(&self, id: MessageId, content: &str) -> (Event, Option<u64>) {
        match self.shared.payload.read(content) {
            Reading::Ours { token, planned_ns } => (Event::Message { id, token: Some(token) }, Some(planned_ns)),
            Reading::Foreign => (Event::Message { id, token: None }, None),
            Reading::Corrupted => (Event::Garbled { id }, None),
        }
    }

    fn read_history(&mut self, room: u32, after_seq: u64) -> Result<(), String> {
        let id = format!("history-{room}");
        let shared = Arc::clone(&self.shared);
        let conversation_id = &shared.room_ids[room as usize];
        let data = GetHistory { conversation_id, after_seq, limit: HISTORY_LIMIT };
        let command = Command { kind: "get_history", id: CommandId::Word(id.into()), data };
        self.socket.queue(shared.connector.format().encode(&command)?)
    }

    /// A page of the history that a reset made us read.
    fn history_page(&mut self, room: u32, data: Data<'_>) -> Result<(), String> {
        if room as usize >= self.shared.room_ids.len() {
            return Ok(());
        }
        let messages = data.messages.and_then(Lenient::wanted).unwrap_or_default();
        let mut lacked_any = false;
        for message in &messages {
            let content = message.content.as_deref().unwrap_or_default();
            let seq = Seq(message.seq);
            let (event, planned_ns) = self.read_message(MessageId(message.message_id), content);
            let lacked = self.shared.checker(room).recovered(self.index, seq, event);
            lacked_any |= lacked;
            if lacked && planned_ns.is_some() {
                count(&self.shared.stats.counters.delivered);
            }
        }
        match messages.last() {
            // A page that fills nothing is past the reset: live events come on their own from there.
            Some(last) if data.has_more && lacked_any => self.read_history(room, last.seq),
            _ => {
                self.shared.checker(room).recovery_ended(self.index);
                Ok(())
            }
        }
    }

    /// Asks for everything after the cursors, of one room or of all.
    fn resume(&mut self, only: Option<u32>) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let mut cursors = BTreeMap::new();
        for (id, room) in &shared.room_index {
            if only.is_none_or(|only| only == *room)
                && let Some(cursor) = shared.checker(*room).cursor(self.index)
            {
                cursors.insert(id.as_str(), cursor.0);
            }
        }
        let command = Command { kind: "resume", id: CommandId::Word("resume".into()), data: Resume { cursors } };
        self.socket.queue(shared.connector.format().encode(&command)?)
    }

    /// Opens a new connection and resumes. The error says what stood in the way when the run ended first.
    async fn reconnect(&mut self) -> Result<(), String> {
        let mut pause = self.reconnect_after.take().unwrap_or(RECONNECT_PAUSE);
        let mut last = "the run ended before the first attempt".to_owned();
        loop {
            // Spread: all clients lose a restarting server at the same moment.
            let spread = pause.mul_f64(rand::rng().random_range(0.5..1.5));
            if !self.sleep(spread).await {
                return Err(last);
            }
            match self.reopen().await {
                Ok(()) => {
                    count(&self.shared.stats.counters.restored);
                    return Ok(());
                }
                Err(reason) => last = reason,
            }
            pause = (pause * 2).clamp(RECONNECT_PAUSE, RECONNECT_PAUSE_MAX);
        }
    }

    async fn reopen(&mut self) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let mut socket = match shared.connector.open(self.index, &self.account.token, Subscribe::None).await {
            Ok(socket) => socket,
            Err(OpenError::Unauthorized) => {
                self.account = shared.sign_in.login(&shared.api, self.account.username.clone()).await?;
                return Err("the access token had expired".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        };
        welcome(&shared, &mut socket).await?;
        self.socket = socket;
        self.resend = self.in_flight.keys().copied().collect();
        self.resume(None)
    }

    /// Sleeps; false when the run is done first.
    async fn sleep(&mut self, pause: Duration) -> bool {
        let done = self.phase.wait_for(|phase| matches!(phase, Phase::Done));
        tokio::time::timeout(pause, done).await.is_err()
    }

    /// What planned times count from, once the run has begun.
    fn epoch(&self) -> Option<Instant> {
        match *self.phase.borrow() {
            Phase::Running { epoch } | Phase::Draining { epoch, .. } => Some(epoch),
            Phase::Waiting | Phase::Done => None,
        }
    }
}

/// Reads the first frame, which must be `welcome`; answers the conversations it lists.
async fn welcome(shared: &Shared, socket: &mut Socket) -> Result<Vec<ConversationSummary>, String> {
    let first = async {
        loop {
            match socket.step().await {
                Step::Flushed => {}
                Step::Lost(reason) => return Err(format!("lost before the welcome frame: {reason}")),
                Step::Frame(Message::Close(frame)) => {
                    return Err(format!("closed before the welcome frame: {frame:?}"));
                }
                Step::Frame(message) => return Ok(message),
            }
        }
    };
    let message = tokio::time::timeout(WELCOME_TIMEOUT, first)
        .await
        .map_err(|_| format!("no welcome frame within {} s", WELCOME_TIMEOUT.as_secs()))??;
    let frame = shared.connector.format().decode(&message)?;
    if frame.kind != "welcome" {
        return Err(format!("the first frame is {}, not welcome", frame.kind));
    }
    Ok(frame.data.conversations.and_then(Lenient::wanted).unwrap_or_default())
}

fn nanoseconds_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Shared {
    /// The checker of a room, locked.
    pub fn checker(&self, room: u32) -> MutexGuard<'_, RoomChecker> {
        lock(&self.checkers[room as usize])
    }
}
