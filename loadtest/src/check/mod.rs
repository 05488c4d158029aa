//! The promises of the protocol, held by pure code: what happened goes in, violations come out.

mod checker;
mod range_set;

pub use checker::{Ack, ClientIndex, Event, MessageId, Refusal, RoomChecker, Seq};
