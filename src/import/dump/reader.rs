//! The reader: which unit comes next, from the bytes that are there.

use super::fault::{DumpFault, FaultReason, UNIT_BYTES_MAX, lexed, meta_fault};
use super::lexer::{Input, SqlToken, next_token};
use super::rows::DumpSink;
use super::statement::{CopyHead, InsertHead, Statement, read_statement};
use super::values::{AfterRow, copied_row, inserted_row, read_after_row};

/// Bytes that are read before they are removed from the front of the buffer.
const COMPACT_BYTES: usize = 1024 * 1024;
/// The first and the last comment of a dump.
const DUMP_BEGINS: &[u8] = b" PostgreSQL database dump";
const DUMP_ENDS: &[u8] = b" PostgreSQL database dump complete";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

enum ReaderState {
    Statements,
    Copying,
    /// Behind the head of an INSERT, or a comma of it: a row follows.
    Inserting,
    /// Behind a row of an INSERT.
    AfterRow,
    /// The rest of an INSERT behind its rows.
    InsertTail,
}

/// Reads one dump.
pub struct DumpReader {
    buffer: Vec<u8>,
    /// What of the buffer is read.
    start: usize,
    /// What of the unread part has no line end.
    searched: usize,
    line: u64,
    state: ReaderState,
    is_last: bool,
    is_first: bool,
    escapes: bool,
    begun: u64,
    ended: u64,
}

impl Default for DumpReader {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            line: 1,
            state: ReaderState::Statements,
            is_last: false,
            is_first: true,
            escapes: false,
            begun: 0,
            ended: 0,
        }
    }
}

impl DumpReader {
    /// Reads the next bytes.
    ///
    /// # Errors
    /// Why the dump cannot be read, with its line. The reader is of no use afterwards.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl DumpSink) -> Result<(), DumpFault> {
        self.buffer.extend_from_slice(bytes);
        self.run(sink)
    }

    /// Reads what is left: no bytes follow.
    ///
    /// # Errors
    /// As [`Self::feed`]; [`FaultReason::Truncated`] if something is missing.
    pub fn finish(mut self, sink: &mut impl DumpSink) -> Result<(), DumpFault> {
        self.is_last = true;
        self.run(sink)?;
        if self.begun > self.ended || !matches!(self.state, ReaderState::Statements) {
            return Err(self.fault(FaultReason::Truncated));
        }
        Ok(())
    }

    fn fault(&self, reason: FaultReason) -> DumpFault {
        DumpFault { line: self.line, reason }
    }

    fn run(&mut self, sink: &mut impl DumpSink) -> Result<(), DumpFault> {
        if self.is_first {
            if self.buffer.len() < BYTE_ORDER_MARK.len() && !self.is_last {
                return Ok(());
            }
            self.is_first = false;
            self.start = if self.buffer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        }
        while self.step(sink)? {
            if self.start > COMPACT_BYTES {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() > UNIT_BYTES_MAX {
            return Err(self.fault(FaultReason::TooLong));
        }
        Ok(())
    }

    /// Reads a unit. Returns whether there was one.
    fn step(&mut self, sink: &mut impl DumpSink) -> Result<bool, DumpFault> {
        let taken = match self.state {
            ReaderState::Statements => self.statement(sink),
            ReaderState::Copying => self.copied(sink),
            ReaderState::Inserting => self.inserted(sink),
            ReaderState::AfterRow => self.after_row(),
            ReaderState::InsertTail => self.tail(),
        };
        match taken {
            Ok(Some(length)) => {
                let unit = &self.buffer[self.start..self.start + length];
                if length > UNIT_BYTES_MAX {
                    return Err(self.fault(FaultReason::TooLong));
                }
                self.line += line_ends(unit);
                self.start += length;
                self.searched = 0;
                Ok(length > 0 || !self.is_last)
            }
            Ok(None) => Ok(false),
            Err((offset, reason)) => {
                let read = &self.buffer[self.start..(self.start + offset).min(self.buffer.len())];
                self.line += line_ends(read);
                Err(self.fault(reason))
            }
        }
    }

    fn input(&self) -> Input<'_> {
        Input { bytes: &self.buffer[self.start..], is_last: self.is_last, escapes: self.escapes }
    }

    fn statement(&mut self, sink: &mut impl DumpSink) -> Taken {
        let input = Input { bytes: &self.buffer[self.start..], is_last: self.is_last, escapes: self.escapes };
        let Some((statement, length)) = read_statement(input)? else { return Ok(None) };
        require_utf8(&input.bytes[..length])?;
        match statement {
            Statement::End => {}
            Statement::Comment(text) if text == DUMP_BEGINS => self.begun += 1,
            Statement::Comment(text) if text == DUMP_ENDS => self.ended += 1,
            Statement::Comment(_) => {}
            Statement::Encoding(name) => {
                let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                if !["utf8", "unicode", "sqlascii"].contains(&plain.to_ascii_lowercase().as_str()) {
                    return Err((length, FaultReason::Encoding(name)));
                }
            }
            Statement::Escapes(escapes) => self.escapes = escapes,
            Statement::Table(name, columns) => sink.table(&name, columns),
            Statement::Copy(CopyHead { table, columns }) => {
                sink.begin(&table, columns);
                self.state = ReaderState::Copying;
            }
            Statement::Insert(InsertHead { table, columns }) => {
                sink.begin(&table, columns);
                self.state = ReaderState::Inserting;
            }
            Statement::Other(words) => sink.ignored(words),
        }
        Ok(Some(length))
    }

    fn copied(&mut self, sink: &mut impl DumpSink) -> Taken {
        let rest = &self.buffer[self.start..];
        let Some(length) = rest[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = rest.len();
            return if self.is_last { Err((rest.len(), FaultReason::Truncated)) } else { Ok(None) };
        };
        let length = self.searched + length;
        let line = &rest[..length];
        if line == b"\\." {
            self.state = ReaderState::Statements;
            return Ok(Some(length + 1));
        }
        if line.ends_with(b"\r") {
            return Err((0, FaultReason::CarriageReturn));
        }
        if length > UNIT_BYTES_MAX {
            return Err((0, FaultReason::TooLong));
        }
        require_utf8(line)?;
        let fields = copied_row(line).ok_or((0, FaultReason::OpenLine))?;
        sink.row(self.line, &fields).map_err(|reason| (0, reason))?;
        Ok(Some(length + 1))
    }

    fn inserted(&mut self, sink: &mut impl DumpSink) -> Taken {
        let input = self.input();
        let Some((fields, begins, length)) = inserted_row(input)? else { return Ok(None) };
        require_utf8(&input.bytes[..length])?;
        let before = line_ends(&input.bytes[..begins]);
        sink.row(self.line + before, &fields).map_err(|reason| (begins, reason))?;
        self.state = ReaderState::AfterRow;
        Ok(Some(length))
    }

    fn after_row(&mut self) -> Taken {
        let Some((after, length)) = read_after_row(self.input())? else { return Ok(None) };
        self.state = match after {
            AfterRow::Row => ReaderState::Inserting,
            AfterRow::Tail => ReaderState::InsertTail,
            AfterRow::End => ReaderState::Statements,
        };
        Ok(Some(length))
    }

    fn tail(&mut self) -> Taken {
        let input = self.input();
        let mut at = 0;
        loop {
            let Some((token, end)) = next_token(input, at).map_err(|fault| lexed(fault, at))? else { return Ok(None) };
            at = end;
            match token {
                SqlToken::Symbol(b';') => break,
                SqlToken::End => return Err((at, FaultReason::Truncated)),
                SqlToken::Meta(command) => return Err((at, meta_fault(command))),
                _ => {}
            }
        }
        self.state = ReaderState::Statements;
        Ok(Some(at))
    }
}

/// The bytes of a unit; `None` if it is not complete. A fault has its offset.
type Taken = Result<Option<usize>, (usize, FaultReason)>;

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}

fn require_utf8(unit: &[u8]) -> Result<(), (usize, FaultReason)> {
    std::str::from_utf8(unit).map(drop).map_err(|error| (error.valid_up_to(), FaultReason::NotUtf8))
}
