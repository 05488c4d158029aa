//! `veza follow`: shows the last messages of a conversation, then new events, across lost connections.
//!
//! 1. Connect without subscriptions.
//! 2. On the first connection: `subscribe`; its ack has the end L of the log. Read and show the last messages up to L.
//!    Events that arrive meanwhile have a seq above L and wait in the socket.
//! 3. On later connections: `subscribe` after the last seq shown. The server replays what was missed, then `caught_up`.
//! 4. Show an event exactly if its seq is the next one ([`stream`]). After a gap, reconnect, which replays the missing
//!    events.
//!
//! So nothing is shown twice or left out. There is one exception, and the user is notified of it: after `reset` (10,000
//! changes behind) the messages are read from the history, without the changes to older messages.
//!
//! An `error` without an id ends the subscription: the user was removed while the client was catching up. Then the
//! command ends with that error.
//!
//! A reader that blocks this process (a pager) blocks the socket too. The server may then close the connection, and the
//! client reconnects as usual.

mod socket;
mod stream;

use crate::failure::{Failure, Refusal};
use crate::output::{Output, print};
use crate::render::{Transcript, list};
use crate::retry::{Backoff, transient};
use crate::session::Session;
use serde_json::{Value, json};
use socket::{End, Socket};
use std::convert::Infallible;
use std::time::Duration;
use stream::{Step, Stream};

/// Most messages in one answer of `get_history`.
const PAGE: i64 = 200;
/// After this many refused tokens in a row, each newer than the last, another token does not help.
const TOKENS_REFUSED_MAX: u32 = 3;

/// Where to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With this many of the newest messages.
    Last(i64),
    /// With the event after this seq.
    After(i64),
}

/// The state of `veza follow`.
pub struct Follower<'a> {
    session: &'a Session,
    output: Output,
    conversation: &'a str,
    last: i64,
    stream: Option<Stream>,
    transcript: Transcript,
    backoff: Backoff,
    /// Whether a connection has worked before.
    began: bool,
    /// Whether the present connection works.
    subscribed: bool,
    /// Whether an outage was reported and is not over.
    outage: bool,
}

impl<'a> Follower<'a> {
    /// Prepares to follow; [`Self::run`] does it.
    pub fn new(session: &'a Session, output: Output, conversation: &'a str, start: Start) -> Self {
        let (last, stream) = match start {
            Start::Last(last) => (last, None),
            Start::After(seq) => (0, Some(Stream::after(conversation, seq))),
        };
        let (transcript, backoff) = (Transcript::new(output.paint()), Backoff::default());
        let (began, subscribed, outage) = (false, false, false);
        Self { session, output, conversation, last, stream, transcript, backoff, began, subscribed, outage }
    }

    /// Follows until Ctrl-C.
    pub async fn run(mut self) -> Result<(), Failure> {
        let session = self.session;
        tokio::select! {
            ended = self.follow() => ended.map(|never| match never {}),
            interrupted = tokio::signal::ctrl_c() => {
                session.settle().await;
                interrupted.map_err(|error| Failure::Usage(format!("signals: {error}")))
            }
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Failure> {
        let (mut spent, mut refused) = (None::<String>, 0);
        loop {
            let token = match &spent {
                None => self.session.access().await,
                Some(token) => self.session.renew(token).await,
            };
            let token = match token {
                Ok(token) => token,
                Err(failure) => {
                    let wait = transient(&failure).filter(|_| self.began).ok_or_else(|| failure.clone())?;
                    self.pause(&failure.to_string(), wait).await;
                    continue;
                }
            };
            self.subscribed = false;
            let Err(end) = self.serve(&token).await;
            match end {
                End::TokenExpired if self.subscribed || refused < TOKENS_REFUSED_MAX => {
                    refused = if self.subscribed { 1 } else { refused + 1 };
                    spent = Some(token);
                }
                End::TokenExpired => {
                    let message = "the server refuses all tokens of this session; sign in again".to_owned();
                    return Err(Failure::NotSignedIn(message));
                }
                End::Final(failure) => return Err(failure),
                End::Lost { why, .. } if !self.began => return Err(Failure::Unreachable(why)),
                End::Lost { why, wait } => {
                    (spent, refused) = (None, 0);
                    self.pause(&why, wait).await;
                }
            }
        }
    }

    async fn pause(&mut self, why: &str, floor: Duration) {
        if !self.outage {
            self.output.note(&format!("{why}; reconnecting …"));
            self.outage = true;
        }
        tokio::time::sleep(self.backoff.next(floor, rand::random())).await;
    }

    /// Runs one connection until it ends.
    async fn serve(&mut self, token: &str) -> Result<Infallible, End> {
        let mut socket = Socket::open(self.session.address(), token, self.conversation).await?;
        let mut subscription = json!({ "conversation_id": self.conversation });
        if let Some(stream) = &self.stream {
            subscription["after_seq"] = stream.seen().into();
        }
        let resumed = self.stream.is_some();
        let ack = socket.command("subscribe", subscription).await?;
        self.subscribed = true;
        if !resumed {
            let end = ack["last_seq"].as_i64().unwrap_or(0);
            for message in self.newest(&mut socket, end).await? {
                self.show("message_created", &message)?;
            }
            self.stream = Some(Stream::after(self.conversation, end));
            self.caught_up();
        }
        self.began = true;
        loop {
            let event = socket.event().await?;
            self.handle(&mut socket, &event).await?;
        }
    }

    async fn handle(&mut self, socket: &mut Socket, event: &Value) -> Result<(), End> {
        let kind = event["type"].as_str().unwrap_or_default();
        let data = &event["data"];
        if let Some(end) = End::unsubscribed(event, self.conversation) {
            return Err(end);
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.saw(event) {
            Step::Old => {}
            Step::Gap => {
                let why = format!("event {} came after {}", data["seq"], stream.seen());
                return Err(End::Lost { why, wait: Duration::ZERO });
            }
            Step::Show => {
                self.show(kind, data)?;
                if kind == "member_left" && data["user"]["id"].as_i64().is_some_and(|id| Some(id) == socket.user_id) {
                    let message = "you are no longer a member of this conversation".to_owned();
                    let refusal = Refusal { code: "not_member".into(), message, ..Refusal::default() };
                    return Err(End::Final(Failure::Refused(refusal)));
                }
            }
            Step::Aside if data["conversation_id"] != *self.conversation => {}
            Step::Aside => match kind {
                "caught_up" => self.caught_up(),
                "message_rejected" => self.show(kind, data)?,
                "reset" => self.read_again(socket, data["last_seq"].as_i64().unwrap_or(0)).await?,
                _ => {}
            },
        }
        Ok(())
    }

    /// The client has caught up.
    fn caught_up(&mut self) {
        if std::mem::take(&mut self.outage) {
            self.output.note("reconnected, up to date");
        }
        self.backoff = Backoff::default();
    }

    /// Reads the newest messages up to the seq `end`, oldest first.
    async fn newest(&self, socket: &mut Socket, end: i64) -> Result<Vec<Value>, End> {
        let (mut messages, mut before) = (Vec::<Value>::new(), end + 1);
        while (messages.len() as i64) < self.last {
            let limit = PAGE.min(self.last - messages.len() as i64);
            let query = json!({ "conversation_id": self.conversation, "before_seq": before, "limit": limit });
            let page = socket.command("get_history", query).await?;
            let older = list(&page["messages"]);
            let Some(first) = older.first().and_then(|message| message["seq"].as_i64()) else { break };
            before = first;
            messages.splice(0..0, older.iter().cloned());
            if page["has_more"] != true {
                break;
            }
        }
        Ok(messages)
    }

    /// Reads the history up to the seq `end` after `reset`: the client was too far behind, or ahead of a log that was
    /// restored from a backup. Later changes arrive as events.
    async fn read_again(&mut self, socket: &mut Socket, end: i64) -> Result<(), End> {
        let mut after = self.stream.as_ref().map_or(0, Stream::seen);
        let note = if after > end {
            "the server's log is shorter than before; continuing from its end"
        } else {
            "more was missed than the server replays: all messages are shown, but not the changes to older ones"
        };
        while after < end {
            let query = json!({ "conversation_id": self.conversation, "after_seq": after, "limit": PAGE });
            let page = socket.command("get_history", query).await?;
            let messages: Vec<(i64, &Value)> = list(&page["messages"])
                .iter()
                .filter_map(|message| Some((message["seq"].as_i64()?, message)))
                .collect();
            for (seq, message) in messages.iter().filter(|(seq, _)| *seq <= end) {
                self.show("message_created", message)?;
                // The next connection continues from here.
                self.jump(*seq);
            }
            let Some((seq, _)) = messages.last().filter(|_| page["has_more"] == true) else { break };
            after = *seq;
        }
        self.jump(end);
        self.outage = false;
        self.backoff = Backoff::default();
        self.output.note(note);
        Ok(())
    }

    fn jump(&mut self, seq: i64) {
        if let Some(stream) = &mut self.stream {
            stream.jump(seq);
        }
    }

    fn show(&mut self, kind: &str, data: &Value) -> Result<(), End> {
        let shown = if self.output.is_json() {
            self.output.result(&json!({ "type": kind, "data": data }), String::new)
        } else {
            self.transcript.event(kind, data).map_or(Ok(()), |text| print(&text))
        };
        shown.map_err(End::Final)
    }
}
