//! What every peer must fulfil: each acknowledged message reaches every connection in its room once, with the content
//! that was sent, and the messages of one sender arrive in their order.
//!
//! Peers have no sequence numbers, so a loss is not visible when it happens. The ledger counts arrivals per connection
//! and room, and compares them at the end with the messages acknowledged there. Only rising numbers of a sender count
//! as arrivals. So a message that comes twice or late is a violation and cannot replace a lost one.
//!
//! A connection keeps its own [`LedgerAccount`] and reports it to the shared [`Ledger`] from time to time; a delivery
//! takes no lock.
//!
//! Most peers deliver at most once. The ledger counts and shows what they lose, because that is part of the comparison.

use crate::check::ClientIndex;
use crate::payload::Token;
use crate::violations::{ViolationKind, Violations};
use foldhash::HashMap;
use std::cmp::Ordering;

/// One connection's side.
#[derive(Clone, Debug, Default)]
pub struct LedgerAccount {
    rooms: Vec<RoomAccount>,
    /// The room of the last message.
    recent: usize,
    /// Messages published and not answered.
    unanswered: u64,
}

#[derive(Clone, Debug)]
struct RoomAccount {
    room: u32,
    /// Messages that arrived in their sender's order.
    arrived: u64,
    /// Messages of this connection that were acknowledged there.
    acked: u64,
    /// The last number of each sender.
    last: HashMap<ClientIndex, u32>,
}

/// The result of an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is correct.
    Sound,
    /// It is a violation.
    Broken(ViolationKind),
}

impl LedgerAccount {
    /// A connection that is in `rooms`.
    pub fn new(rooms: &[u32]) -> Self {
        let account = |room: &u32| RoomAccount { room: *room, arrived: 0, acked: 0, last: HashMap::default() };
        Self { rooms: rooms.iter().map(account).collect(), recent: 0, unanswered: 0 }
    }

    /// A message is published, not for the first time when it is `repeated`.
    pub fn published(&mut self, repeated: bool) {
        self.unanswered += u64::from(!repeated);
    }

    /// A message was acknowledged.
    pub fn acked(&mut self, room: u32) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if let Some(account) = self.rooms.iter_mut().find(|account| account.room == room) {
            account.acked += 1;
        }
    }

    /// A message was refused.
    pub fn refused(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// A message arrived.
    #[inline]
    pub fn arrived(&mut self, room: u32, token: Token) -> Arrival {
        if self.rooms.get(self.recent).is_none_or(|account| account.room != room) {
            match self.rooms.iter().position(|account| account.room == room) {
                Some(at) => self.recent = at,
                None => return Arrival::Broken(ViolationKind::Phantom),
            }
        }
        let account = &mut self.rooms[self.recent];
        // Numbers from 1, so that 0 means none yet.
        let last = account.last.entry(token.client).or_insert(0);
        let number = token.number + 1;
        match number.cmp(last) {
            Ordering::Greater => {
                *last = number;
                account.arrived += 1;
                Arrival::Sound
            }
            Ordering::Equal => Arrival::Broken(ViolationKind::Duplicate),
            Ordering::Less => Arrival::Broken(ViolationKind::Disorder),
        }
    }
}

/// What all connections have reported.
#[derive(Debug)]
pub struct Ledger {
    accounts: Vec<LedgerAccount>,
}

impl Ledger {
    /// A ledger of this many connections.
    pub fn new(connections: usize) -> Self {
        Self { accounts: vec![LedgerAccount::default(); connections] }
    }

    /// Takes the report of a connection.
    pub fn note(&mut self, client: ClientIndex, account: &LedgerAccount) {
        if let Some(known) = self.accounts.get_mut(client.0 as usize) {
            known.unanswered = account.unanswered;
            known.rooms.clear();
            // The last numbers of each sender stay with the connection.
            known.rooms.extend(account.rooms.iter().map(|room| RoomAccount {
                room: room.room,
                arrived: room.arrived,
                acked: room.acked,
                last: HashMap::default(),
            }));
        }
    }

    /// Messages acknowledged in each room.
    fn acked(&self) -> HashMap<u32, u64> {
        let mut acked = HashMap::default();
        for room in self.accounts.iter().flat_map(|account| &account.rooms) {
            *acked.entry(room.room).or_default() += room.acked;
        }
        acked
    }

    /// Whether every message is answered, and every acknowledged one has reached all connections of its room.
    pub fn settled(&self) -> bool {
        let acked = self.acked();
        let has_all = |room: &RoomAccount| room.arrived >= acked.get(&room.room).copied().unwrap_or_default();
        self.accounts.iter().all(|account| account.unanswered == 0 && account.rooms.iter().all(has_all))
    }

    /// What is missing at the end of a run that was not interrupted.
    pub fn finish(&self) -> Violations {
        let mut violations = Violations::default();
        let acked = self.acked();
        for (client, account) in self.accounts.iter().enumerate() {
            violations.note_many(ViolationKind::Unanswered, account.unanswered, || {
                format!("client {client}: no answer to {} messages", account.unanswered)
            });
            for room in &account.rooms {
                let expected = acked.get(&room.room).copied().unwrap_or_default();
                let missing = expected.saturating_sub(room.arrived);
                violations.note_many(ViolationKind::Undelivered, missing, || {
                    format!("room {}: client {client} never got {missing} of {expected} messages", room.room)
                });
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(client: u32, number: u32) -> Token {
        Token { client: ClientIndex(client), number }
    }

    /// Client 0 publishes three messages in room 7, where clients 0 and 1 are.
    fn published() -> (LedgerAccount, LedgerAccount) {
        let (mut sender, reader) = (LedgerAccount::new(&[7]), LedgerAccount::new(&[3, 7]));
        for _ in 0..3 {
            sender.published(false);
            sender.acked(7);
        }
        for number in [0, 4, 5] {
            assert_eq!(sender.arrived(7, token(0, number)), Arrival::Sound);
        }
        (sender, reader)
    }

    fn ledger(accounts: [&LedgerAccount; 2]) -> Ledger {
        let mut ledger = Ledger::new(2);
        for (client, account) in (0..).zip(accounts) {
            ledger.note(ClientIndex(client), account);
        }
        ledger
    }

    #[test]
    fn accepts_deliveries_in_each_senders_order() {
        let (sender, mut reader) = published();
        for number in [0, 4, 5] {
            assert!(!ledger([&sender, &reader]).settled());
            assert_eq!(reader.arrived(7, token(0, number)), Arrival::Sound);
        }
        assert_eq!(reader.arrived(3, token(9, 0)), Arrival::Sound, "other senders have numbers of their own");
        let ledger = ledger([&sender, &reader]);
        assert!(ledger.settled());
        assert_eq!(ledger.finish().total(), 0);
    }

    #[test]
    fn finds_a_lost_message_even_if_another_arrives_twice() {
        let (sender, mut reader) = published();
        assert_eq!(reader.arrived(7, token(0, 0)), Arrival::Sound);
        assert_eq!(reader.arrived(7, token(0, 5)), Arrival::Sound);
        assert_eq!(reader.arrived(7, token(0, 5)), Arrival::Broken(ViolationKind::Duplicate));
        let ledger = ledger([&sender, &reader]);
        assert!(!ledger.settled());
        assert_eq!(ledger.finish().count(ViolationKind::Undelivered), 1);
    }

    #[test]
    fn reports_disorder_and_foreign_rooms() {
        let (_, mut reader) = published();
        assert_eq!(reader.arrived(7, token(0, 5)), Arrival::Sound);
        assert_eq!(reader.arrived(7, token(0, 4)), Arrival::Broken(ViolationKind::Disorder));
        assert_eq!(reader.arrived(8, token(0, 6)), Arrival::Broken(ViolationKind::Phantom));
    }

    #[test]
    fn reports_an_unanswered_message_once() {
        let mut sender = LedgerAccount::new(&[7]);
        sender.published(false);
        sender.published(true);
        let other = LedgerAccount::new(&[]);
        assert_eq!(ledger([&sender, &other]).finish().count(ViolationKind::Unanswered), 1);
        sender.refused();
        assert!(ledger([&sender, &other]).settled());
    }
}
