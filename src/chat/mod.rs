//! What the rules are: pure state machines, `(now, input) → effects`. No I/O, no clock; time is an argument.

pub mod budget;
pub mod directory;
pub mod filter;
pub mod published;
pub mod rooms;
pub mod subscribers;
