//! Checks the traffic of one room against the promises of the protocol. It is pure: it takes what happened, returns
//! violations, and uses no clock and no I/O. So a test can play any history.
//!
//! The promises, for each room:
//! 1. Every subscriber sees the sequence numbers `baseline + 1, + 2, …`: none skipped, repeated or out of order. This
//!    also holds across reconnections, because the cursor survives them.
//! 2. All subscribers see the same event under the same number, and a message has one number.
//! 3. An acknowledgement names the message that is delivered under its number. A repeated acknowledgement agrees with
//!    it.
//! 4. One send becomes at most one message, no matter how often it is sent again. A send that was finally refused
//!    becomes none.
//! 5. At the end, every stored message (acknowledged, or delivered to at least one subscriber) has reached every
//!    subscriber, and every send has a reply.
//!
//! Deliveries cost a constant amount of memory for a whole room, not for each subscriber. Numbers must be consecutive,
//! so a cursor says what a subscriber has. Only what it misses is stored in addition.
//!
//! ```text
//!  a send:   Pending ──ack──▶ Acked          a repeated ack must agree
//!               ├──refused for good──▶ Refused     must never be delivered
//!               └──refused, unclear──▶ Unclear     may have been stored: storage failed, deadline passed
//! ```
//!
//! Deliberately absent: order *between* rooms, which the protocol does not promise, and events without a number.

use super::ids::{ClientIndex, MessageId, Seq};
use super::range_set::RangeSet;
use crate::payload::Token;
use crate::violations::{ViolationKind, Violations};
use foldhash::HashMap;

/// What was delivered under a sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A message; `token` when it is one of this run's.
    Message {
        /// Its id on the server.
        id: MessageId,
        /// Its send of this run.
        token: Option<Token>,
    },
    /// A message that names this run, but whose content differs from what was sent.
    Garbled {
        /// Its id on the server.
        id: MessageId,
    },
    /// Any other mutation: a join, a reaction, …
    Other,
}

impl Event {
    fn id(self) -> Option<MessageId> {
        match self {
            Self::Message { id, .. } | Self::Garbled { id } => Some(id),
            Self::Other => None,
        }
    }
}

/// The contents of an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// The send it answers.
    pub token: Token,
    /// The message it became.
    pub id: MessageId,
    /// Its position.
    pub seq: Seq,
    /// The server had stored it before.
    pub duplicate: bool,
}

/// Whether a refused message may have been stored nevertheless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It was not stored: bad request, rate limit, …
    Final,
    /// The server itself does not know.
    Unclear,
}

#[derive(Debug)]
struct Subscriber {
    last: u64,
    missing: RangeSet,
    recovering: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Pending,
    Acked,
    Refused,
    Unclear,
}

#[derive(Debug)]
struct Send {
    answer: Answer,
    resent: bool,
    stored_as: Option<(Seq, MessageId)>,
}

/// The checker of one room; see the module's invariants.
#[derive(Debug)]
pub struct RoomChecker {
    name: String,
    subscribers: HashMap<ClientIndex, Subscriber>,
    events: HashMap<Seq, Event>,
    ids: HashMap<MessageId, Seq>,
    sends: HashMap<Token, Send>,
    pending: usize,
    stored_last: u64,
    violations: Violations,
}

impl RoomChecker {
    /// A checker of the room called `name` in its findings.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            subscribers: HashMap::default(),
            events: HashMap::default(),
            ids: HashMap::default(),
            sends: HashMap::default(),
            pending: 0,
            stored_last: 0,
            violations: Violations::default(),
        }
    }

    /// A client watches the room from right after `baseline` on. A second call changes nothing: the first baseline
    /// holds through reconnections.
    pub fn subscribed(&mut self, client: ClientIndex, baseline: Seq) {
        self.subscribers.entry(client).or_insert_with(|| Subscriber {
            last: baseline.0,
            missing: RangeSet::default(),
            recovering: false,
        });
    }

    /// The last number that a client has seen, from which it resumes.
    pub fn cursor(&self, client: ClientIndex) -> Option<Seq> {
        self.subscribers.get(&client).map(|subscriber| Seq(subscriber.last))
    }

    /// A message is about to be written for the first time.
    pub fn sent(&mut self, token: Token) {
        let fresh = Send { answer: Answer::Pending, resent: false, stored_as: None };
        if self.sends.insert(token, fresh).is_none() {
            self.pending += 1;
        }
    }

    /// An unanswered message is about to be written again after a reconnection.
    pub fn resent(&mut self, token: Token) {
        if let Some(send) = self.sends.get_mut(&token) {
            send.resent = true;
        }
    }

    /// The server acknowledged a send.
    pub fn acked(&mut self, ack: Ack) {
        let Some(send) = self.sends.get_mut(&ack.token) else {
            self.violations.note(ViolationKind::UnexpectedReply, || {
                format!("{}: ack of {}, which was never sent", self.name, ack.token)
            });
            return;
        };
        match send.answer {
            Answer::Pending => {
                self.pending -= 1;
                if ack.duplicate && !send.resent {
                    self.violations.note(ViolationKind::FalseDuplicate, || {
                        format!("{}: {} was sent once and acknowledged as a duplicate", self.name, ack.token)
                    });
                }
            }
            Answer::Acked => {}
            Answer::Refused | Answer::Unclear => self.violations.note(ViolationKind::AckChanged, || {
                format!("{}: {} was acknowledged after it had been refused", self.name, ack.token)
            }),
        }
        let was_acked = send.answer == Answer::Acked;
        send.answer = Answer::Acked;
        match send.stored_as {
            Some((seq, id)) if (seq, id) != (ack.seq, ack.id) => {
                let kind = if was_acked { ViolationKind::AckChanged } else { ViolationKind::AckMismatch };
                self.violations.note(kind, || {
                    format!(
                        "{}: {} is message {} at seq {}, the ack says message {} at seq {}",
                        self.name, ack.token, id.0, seq.0, ack.id.0, ack.seq.0
                    )
                });
            }
            _ => send.stored_as = Some((ack.seq, ack.id)),
        }
        self.stored_last = self.stored_last.max(ack.seq.0);
        self.record(ack.seq, Event::Message { id: ack.id, token: Some(ack.token) }, ViolationKind::AckMismatch);
    }

    /// The server refused a send.
    pub fn refused(&mut self, token: Token, refusal: Refusal) {
        let Some(send) = self.sends.get_mut(&token) else {
            self.violations.note(ViolationKind::UnexpectedReply, || {
                format!("{}: refusal of {token}, which was never sent", self.name)
            });
            return;
        };
        if send.answer == Answer::Pending {
            self.pending -= 1;
            // A refused repetition does not mean that the first attempt was not stored.
            let unclear = refusal == Refusal::Unclear || send.resent;
            send.answer = if unclear { Answer::Unclear } else { Answer::Refused };
            if !unclear && send.stored_as.is_some() {
                self.violations.note(ViolationKind::RefusedButDelivered, || {
                    format!("{}: {token} was delivered, then refused", self.name)
                });
            }
        } else {
            self.violations.note(ViolationKind::AckChanged, || {
                format!("{}: {token} was answered before it was refused", self.name)
            });
        }
    }

    /// A client has seen everything up to `seq`, in order, and each event was the one known under its number. What a
    /// caller has compared itself, byte for byte, needs no second look; without this the cursor here would lag behind.
    pub fn advanced(&mut self, client: ClientIndex, seq: Seq) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.last = subscriber.last.max(seq.0);
        }
    }

    /// Whether the event under `seq` is known, is this one, and nothing is wrong with it: further deliveries of it need
    /// only be compared with it.
    pub fn is_sound(&self, seq: Seq, event: Event) -> bool {
        let sent = match event {
            Event::Message { id, token: Some(token) } => self
                .sends
                .get(&token)
                .is_some_and(|send| send.stored_as == Some((seq, id)) && send.answer != Answer::Refused),
            Event::Message { token: None, .. } | Event::Other => true,
            Event::Garbled { .. } => false,
        };
        let only = event.id().is_none_or(|id| self.ids.get(&id) == Some(&seq));
        sent && only && self.events.get(&seq) == Some(&event)
    }

    /// A numbered event reached a subscriber. Returns false when the client is not known to watch this room.
    pub fn delivered(&mut self, client: ClientIndex, seq: Seq, event: Event) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&client) else { return false };
        let expected = subscriber.last + 1;
        if seq.0 >= expected {
            if seq.0 > expected {
                subscriber.missing.push(expected, seq.0 - 1);
                self.violations.note(ViolationKind::Gap, || {
                    format!("{}: client {} expected seq {expected}, got {}", self.name, client.0, seq.0)
                });
            }
            subscriber.last = seq.0;
        } else if subscriber.missing.remove(seq.0) {
            self.violations.note(ViolationKind::Disorder, || {
                format!("{}: client {} got seq {} after seq {}", self.name, client.0, seq.0, expected - 1)
            });
        } else {
            self.violations.note(ViolationKind::Duplicate, || {
                format!("{}: client {} got seq {} again (it is at {})", self.name, client.0, seq.0, expected - 1)
            });
        }
        self.observe(client, seq, event);
        true
    }

    /// The server said that a client is too far behind and must read the history up to `last` itself: numbers up to
    /// there may then come in any order, through [`recovered`](Self::recovered), until
    /// [`recovery_ended`](Self::recovery_ended).
    pub fn reset(&mut self, client: ClientIndex, last: Seq) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.recovering = true;
            subscriber.missing.push(subscriber.last + 1, last.0);
            subscriber.last = subscriber.last.max(last.0);
        }
    }

    /// A message a client read from the history after a reset. False when the client lacked nothing there: the history
    /// may reach into what is delivered anyway.
    pub fn recovered(&mut self, client: ClientIndex, seq: Seq, event: Event) -> bool {
        let lacked = self.subscribers.get_mut(&client).is_some_and(|subscriber| subscriber.missing.remove(seq.0));
        self.observe(client, seq, event);
        lacked
    }

    /// A client has read the history to its end, or has given up.
    pub fn recovery_ended(&mut self, client: ClientIndex) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.recovering = false;
        }
    }

    /// The server reported that a client has everything up to `seq`.
    pub fn caught_up(&mut self, client: ClientIndex, seq: Seq) {
        if let Some(subscriber) = self.subscribers.get_mut(&client)
            && seq.0 > subscriber.last
        {
            let last = subscriber.last;
            self.violations.note(ViolationKind::Gap, || {
                format!("{}: client {} is at seq {last}, but received caught_up {}", self.name, client.0, seq.0)
            });
            subscriber.missing.push(last + 1, seq.0);
            subscriber.last = seq.0;
        }
    }

    /// True when every send is answered and every subscriber has reached the last message stored: nothing more to wait
    /// for.
    pub fn settled(&self) -> bool {
        let has_all = |subscriber: &Subscriber| subscriber.last >= self.stored_last && !subscriber.recovering;
        self.pending == 0 && self.subscribers.values().all(has_all)
    }

    /// Ends the check. `complete` is false when the run was cut short before it settled; what is still pending is
    /// then no fault.
    pub fn finish(mut self, complete: bool) -> Violations {
        if !complete {
            return self.violations;
        }
        for (token, send) in &self.sends {
            if send.answer == Answer::Pending {
                self.violations.note(ViolationKind::Unanswered, || format!("{}: no answer to {token}", self.name));
            }
        }
        let mut stored: Vec<u64> =
            self.sends.values().filter_map(|send| send.stored_as.map(|(seq, _)| seq.0)).collect();
        stored.sort_unstable();
        let within = |first: u64, last: u64| {
            let from = stored.partition_point(|seq| *seq < first);
            let to = stored.partition_point(|seq| *seq <= last);
            (to.saturating_sub(from), stored.get(from).copied().unwrap_or_default())
        };
        let mut subscribers: Vec<_> = self.subscribers.iter().collect();
        subscribers.sort_unstable_by_key(|(client, _)| **client);
        for (client, subscriber) in subscribers {
            let tail = (subscriber.last + 1, u64::MAX);
            for (first, last) in subscriber.missing.iter().chain([tail]) {
                let (count, sample) = within(first, last);
                self.violations.note_many(ViolationKind::Undelivered, count as u64, || {
                    format!(
                        "{}: client {} never received {count} stored messages from seq {sample} on",
                        self.name, client.0
                    )
                });
            }
        }
        self.violations
    }

    /// Compares an event with what others received and with what was sent.
    fn observe(&mut self, client: ClientIndex, seq: Seq, event: Event) {
        self.record(seq, event, ViolationKind::SeqReused);
        let Event::Message { id, token: Some(token) } = event else { return };
        let Some(send) = self.sends.get_mut(&token) else {
            self.violations.note(ViolationKind::Phantom, || {
                format!("{}: client {} got {token} at seq {}, which was never sent here", self.name, client.0, seq.0)
            });
            return;
        };
        if send.answer == Answer::Pending && !send.resent && token.client == client {
            self.violations.note(ViolationKind::EventBeforeAck, || {
                format!("{}: client {} got its own {token} at seq {} before the ack", self.name, client.0, seq.0)
            });
        }
        if send.answer == Answer::Refused {
            self.violations.note(ViolationKind::RefusedButDelivered, || {
                format!("{}: {token} was refused, yet delivered at seq {}", self.name, seq.0)
            });
        }
        match send.stored_as {
            Some((stored_seq, stored_id)) if (stored_seq, stored_id) != (seq, id) => {
                // Under its own number a different id is caught by `record`.
                if stored_seq != seq {
                    self.violations.note(ViolationKind::CommittedTwice, || {
                        format!("{}: {token} is stored at seq {} and at seq {}", self.name, stored_seq.0, seq.0)
                    });
                }
            }
            Some(_) => {}
            None => {
                send.stored_as = Some((seq, id));
                self.stored_last = self.stored_last.max(seq.0);
            }
        }
    }

    /// Stores the event of a number, or compares it with the stored one.
    fn record(&mut self, seq: Seq, event: Event, disagreement: ViolationKind) {
        let known = *self.events.entry(seq).or_insert(event);
        if known != event {
            // The same message with another content, as far as it could be read, is a fault of content, not of order.
            let kind =
                if known.id().is_some() && known.id() == event.id() { ViolationKind::Corrupted } else { disagreement };
            self.violations.note(kind, || {
                format!("{}: at seq {} there was {}, now {}", self.name, seq.0, describe(known), describe(event))
            });
            if kind == ViolationKind::Corrupted && matches!(event, Event::Message { token: Some(_), .. }) {
                self.events.insert(seq, event);
            }
        } else if matches!(event, Event::Garbled { .. }) {
            self.violations
                .note(ViolationKind::Corrupted, || format!("{}: at seq {}: {}", self.name, seq.0, describe(event)));
        }
        if let Some(id) = event.id() {
            let first = *self.ids.entry(id).or_insert(seq);
            if first != seq {
                self.violations.note(ViolationKind::MessageIdReused, || {
                    format!("{}: message {} is at seq {} and at seq {}", self.name, id.0, first.0, seq.0)
                });
            }
        }
    }
}

fn describe(event: Event) -> String {
    match event {
        Event::Message { id, token: Some(token) } => format!("message {} ({token})", id.0),
        Event::Message { id, token: None } => format!("message {} (not of this run)", id.0),
        Event::Garbled { id } => format!("message {} (garbled)", id.0),
        Event::Other => "another kind of event".to_owned(),
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
