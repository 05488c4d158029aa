//! Lets the engine drive a peer: puts its [`Codec`] behind the engine's [`Protocol`] and checks its deliveries with the
//! [`Ledger`].

use super::codec::{Codec, Frames, Incoming};
use super::contents::Contents;
use super::ledger::{Arrival, Ledger, LedgerAccount};
use crate::check::ClientIndex;
use crate::engine::websocket::Outbox;
use crate::payload::{PayloadFormat, Reading};
use crate::protocol::{Message, Peer, Protocol, Publish, Sink, System, Upgrade};
use crate::violations::{ViolationKind, Violations};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all threads share.
#[derive(Debug)]
pub struct Adapter<C> {
    payload: PayloadFormat,
    ledger: Mutex<Ledger>,
    codec: PhantomData<fn() -> C>,
}

impl<C> Adapter<C> {
    /// A run with this many connections.
    pub fn new(connections: usize, payload: PayloadFormat) -> Self {
        Self { payload, ledger: Mutex::new(Ledger::new(connections)), codec: PhantomData }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Codec + 'static> System for Adapter<C> {
    type Protocol = AdapterProtocol<C>;

    fn protocol(self: &Arc<Self>) -> AdapterProtocol<C> {
        AdapterProtocol { system: Arc::clone(self), contents: Contents::new(self.payload.clone()) }
    }

    fn settled(&self) -> bool {
        self.ledger().settled()
    }

    fn finish(&self, complete: bool) -> Violations {
        if complete { self.ledger().finish() } else { Violations::default() }
    }
}

/// One thread's side.
#[derive(Debug)]
pub struct AdapterProtocol<C> {
    system: Arc<Adapter<C>>,
    contents: Contents,
}

/// The state of a connection.
#[derive(Debug)]
pub struct State<C> {
    codec: C,
    account: LedgerAccount,
}

impl Frames for Outbox {
    fn text(&mut self, content: &str) {
        Outbox::text(self, content.as_bytes());
    }

    fn binary(&mut self, content: &[u8]) {
        Outbox::binary(self, content);
    }
}

impl<C: Codec> Protocol for AdapterProtocol<C> {
    type State = State<C>;

    fn state(&mut self, client: ClientIndex, rooms: &[u32]) -> State<C> {
        State { codec: C::new(client.0, rooms), account: LedgerAccount::new(rooms) }
    }

    fn upgrade(&mut self, _peer: &Peer<State<C>>) -> Upgrade {
        Upgrade { path: C::PATH.to_owned(), headers: Vec::new(), subprotocol: C::SUBPROTOCOL, deflate: false }
    }

    fn opened<S: Sink>(&mut self, peer: &mut Peer<State<C>>, _sink: &mut S) {
        peer.state.codec = C::new(peer.client.0, &peer.rooms);
        peer.state.codec.opened(&mut peer.out);
    }

    fn message<S: Sink>(&mut self, peer: &mut Peer<State<C>>, message: Message<'_>, sink: &mut S) {
        let Peer { client, state: State { codec, account }, out, .. } = peer;
        let client = *client;
        let contents = &mut self.contents;
        codec.received(message.payload, out, &mut |incoming| match incoming {
            Incoming::Delivered { room, content } => match contents.read(content) {
                Reading::Ours { token, planned_ns } => match account.arrived(room, token) {
                    Arrival::Sound => sink.delivered(room, planned_ns),
                    Arrival::Broken(kind) => {
                        sink.violation(kind, || format!("room {room}: client {} got {token}", client.0));
                    }
                },
                Reading::Foreign => sink.other_event(),
                Reading::Corrupted => sink.violation(ViolationKind::Corrupted, || {
                    let content = String::from_utf8_lossy(content);
                    format!("room {room}: client {} got \"{content}\"", client.0)
                }),
            },
            Incoming::Acked(number) => match sink.acked(number) {
                Some(flight) => account.acked(flight.room),
                None => unexpected(client, number, "an acknowledgement", sink),
            },
            Incoming::Refused(number, reason) => match sink.refused(number, &reason, None) {
                Some(_) => account.refused(),
                None => unexpected(client, number, "a refusal", sink),
            },
            Incoming::Ready => sink.ready(),
            Incoming::Failed(reason) => {
                sink.violation(ViolationKind::Protocol, || format!("client {}: {reason}", client.0));
                sink.fail(reason);
            }
        });
    }

    fn publish(&mut self, peer: &mut Peer<State<C>>, publish: Publish) {
        let content = self.system.payload.write(publish.token, publish.planned_ns);
        let State { codec, account } = &mut peer.state;
        account.published(publish.repeated);
        codec.publish(publish.room, publish.token.number, &content, &mut peer.out);
    }

    fn sync(&mut self, peer: &mut Peer<State<C>>) {
        self.system.ledger().note(peer.client, &peer.state.account);
    }
}

fn unexpected<S: Sink>(client: ClientIndex, number: u32, what: &str, sink: &mut S) {
    sink.violation(ViolationKind::UnexpectedReply, || {
        format!("client {}: {what} of message {number}, which waits for none", client.0)
    });
}

#[cfg(test)]
#[path = "adapter_tests.rs"]
mod tests;
