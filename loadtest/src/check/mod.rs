//! The promises of the protocol, held by pure code: what happened goes in, violations come out.

mod checker;
mod ids;
mod range_set;

pub use checker::{Ack, Event, Refusal, RoomChecker};
pub use ids::{ClientIndex, MessageId, Seq};
