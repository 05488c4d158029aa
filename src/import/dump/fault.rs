//! Why a dump cannot be read.

use super::lexer::LexFault;
use std::fmt;

/// Bytes of a line of COPY, of a row of INSERT, or of any other statement.
pub const UNIT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a dump cannot be read, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpFault {
    /// The line, from 1.
    pub line: u64,
    /// The reason.
    pub reason: FaultReason,
}

/// Why a dump cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultReason {
    /// A command of psql, which could do anything.
    Meta(String),
    /// COPY to or from something else than the dump itself.
    CopyElsewhere,
    /// COPY in another format than the one of `pg_dump`.
    CopyOptions,
    /// Data that a statement computes.
    ComputedRows(&'static str),
    /// A statement that changes rows, which a dump does not have.
    Change(String),
    /// A line, statement or row is longer than [`UNIT_BYTES_MAX`].
    TooLong,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// `client_encoding` is another one.
    Encoding(String),
    /// A line ends with CR LF.
    CarriageReturn,
    /// A line of COPY ends with a backslash.
    OpenLine,
    /// The dump ends too early.
    Truncated,
    /// A statement is not what it begins as.
    Malformed(&'static str),
    /// What takes the rows has stopped.
    Stopped,
}

impl fmt::Display for DumpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.reason {
            FaultReason::Meta(command) => write!(
                f,
                "{command:?} is a command of psql, which a dump does not need. Somebody may have changed this file; \
                 make the dump again"
            ),
            FaultReason::CopyElsewhere => f.write_str(
                "COPY with a program or a file is not part of a dump. Somebody may have changed this file; make the \
                 dump again",
            ),
            FaultReason::CopyOptions => f.write_str(
                "COPY has options, and only pg_dump's own text format can be read. Make the dump with pg_dump",
            ),
            FaultReason::ComputedRows(what) => write!(
                f,
                "{what} computes rows, and nothing of a dump is executed. Make the dump with pg_dump, which writes \
                 values"
            ),
            FaultReason::Change(statement) => write!(
                f,
                "{statement} changes rows, and nothing of a dump is executed. Make the dump with pg_dump, which only \
                 adds rows"
            ),
            FaultReason::TooLong => write!(
                f,
                "a row or statement is longer than {} MiB, which no row of a chat is",
                UNIT_BYTES_MAX / (1024 * 1024)
            ),
            FaultReason::NotUtf8 => f.write_str(
                "these bytes are not UTF-8. Make the dump with `pg_dump --encoding=UTF8`, and do not convert the file",
            ),
            FaultReason::Encoding(name) => write!(
                f,
                "the dump has the encoding {name}, and only UTF-8 can be read. Make it with `pg_dump --encoding=UTF8`"
            ),
            FaultReason::CarriageReturn => f.write_str(
                "this line ends with CR LF, so another program has changed the file and perhaps texts in it. Make the \
                 dump again with `pg_dump --format=custom`, or convert its line ends back",
            ),
            FaultReason::OpenLine => f.write_str("this row of COPY ends with a backslash, which pg_dump never writes"),
            FaultReason::Truncated => f.write_str("the dump ends here, before its end. Copy or make it again"),
            FaultReason::Malformed(statement) => write!(f, "this {statement} cannot be read"),
            FaultReason::Stopped => f.write_str("the reader has stopped"),
        }
    }
}

impl std::error::Error for DumpFault {}

/// A fault of the lexer at an offset.
pub(super) fn lexed(fault: LexFault, at: usize) -> (usize, FaultReason) {
    let reason = match fault {
        LexFault::CarriageReturn => FaultReason::CarriageReturn,
        LexFault::Truncated => FaultReason::Truncated,
    };
    (at, reason)
}

/// A command of psql.
pub(super) fn meta_fault(command: &[u8]) -> FaultReason {
    FaultReason::Meta(String::from_utf8_lossy(command).chars().take(60).collect())
}
