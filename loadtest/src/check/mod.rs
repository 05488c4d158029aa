//! The promises of the protocol, checked by pure code: it takes what happened and returns violations.

mod checker;
mod ids;
mod range_set;

pub use checker::{Ack, Event, Refusal, RoomChecker};
pub use ids::{ClientIndex, MessageId, Seq};
