//! Bytes ⇄ meaning. No I/O, no clock, no runtime.
pub mod ws;
