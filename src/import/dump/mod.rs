//! A reader of PostgreSQL's dumps. It executes nothing: a dump is a program for psql, and may come from a stranger.
//!
//! ```text
//!   bytes ──► DumpReader ──► statements ──► CREATE TABLE: names of columns ─────────► DumpSink
//!                            (statement)    COPY … FROM stdin: rows up to `\.` ─────►
//!                                           INSERT … VALUES: rows (values) ─────────►
//!                                           everything else: counted, and left out ─►
//! ```
//!
//! Invariants:
//! - the result does not depend on how the bytes are split: a unit (a line of COPY, a row of INSERT, another statement)
//!   is read when all of it is there;
//! - memory is bounded by [`UNIT_BYTES_MAX`], however long a line is;
//! - what could make the rows others than they look ends the reading with the number of the line: commands of psql,
//!   COPY of programs, statements that change or compute rows, another encoding, converted line ends, an early end.
//!
//! Pure: no I/O, no clock.

mod fault;
mod lexer;
mod reader;
mod rows;
mod statement;
#[cfg(test)]
mod tests;
mod values;

pub use fault::{DumpFault, FaultReason, UNIT_BYTES_MAX};
pub use reader::DumpReader;
pub use rows::{DumpSink, DumpValue, TableName};
