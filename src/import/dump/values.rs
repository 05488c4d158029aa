//! Rows: a line of COPY in text format, and the values of an INSERT.

use super::fault::{FaultReason, lexed, meta_fault};
use super::lexer::{Input, SqlToken, byte_escape, next_token};
use super::rows::DumpValue;
use std::borrow::Cow;

/// Types whose name before a string changes nothing about its text.
const TYPES: &[&str] = &[
    "bool",
    "boolean",
    "bpchar",
    "char",
    "date",
    "inet",
    "int",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
];

/// The fields of a line of COPY. `None` if the line goes on.
pub(super) fn copied_row(line: &[u8]) -> Option<Vec<DumpValue<'_>>> {
    line.split(|byte| *byte == b'\t').map(copied_field).collect()
}

fn copied_field(field: &[u8]) -> Option<DumpValue<'_>> {
    if field == b"\\N" {
        return Some(DumpValue::Null);
    }
    let Some(first) = field.iter().position(|byte| *byte == b'\\') else { return Some(DumpValue::Text(field.into())) };
    let mut value = Vec::with_capacity(field.len());
    value.extend_from_slice(&field[..first]);
    let mut rest = &field[first..];
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' if rest.is_empty() => return None,
            b'\\' => rest = byte_escape(rest, &mut value),
            other => value.push(*other),
        }
    }
    Some(DumpValue::Text(value.into()))
}

/// What follows a row of an INSERT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterRow {
    Row,
    /// ON CONFLICT or RETURNING.
    Tail,
    End,
}

type At<T> = Result<Option<T>, (usize, FaultReason)>;

pub(super) fn read_after_row(input: Input<'_>) -> At<(AfterRow, usize)> {
    let mut at = 0;
    loop {
        let Some((token, end)) = next_token(input, at).map_err(|fault| lexed(fault, at))? else { return Ok(None) };
        let after = match token {
            SqlToken::Comment(_) => {
                at = end;
                continue;
            }
            SqlToken::Symbol(b',') => AfterRow::Row,
            SqlToken::Symbol(b';') => AfterRow::End,
            SqlToken::Word(word) if word.eq_ignore_ascii_case(b"on") || word.eq_ignore_ascii_case(b"returning") => {
                AfterRow::Tail
            }
            SqlToken::End => return Err((end, FaultReason::Truncated)),
            SqlToken::Meta(command) => return Err((end, meta_fault(command))),
            _ => return Err((end, FaultReason::Malformed("INSERT"))),
        };
        return Ok(Some((after, end)));
    }
}

/// The values of a row of an INSERT, the offset of its parenthesis and the one behind it.
pub(super) fn inserted_row(input: Input<'_>) -> At<(Vec<DumpValue<'_>>, usize, usize)> {
    let (mut at, mut begins) = (0, None);
    let (mut fields, mut tokens, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    loop {
        let Some((token, end)) = next_token(input, at).map_err(|fault| lexed(fault, at))? else { return Ok(None) };
        at = end;
        match token {
            SqlToken::Comment(_) => continue,
            SqlToken::End => return Err((end, FaultReason::Truncated)),
            SqlToken::Meta(command) => return Err((end, meta_fault(command))),
            SqlToken::Symbol(b'(') if begins.is_none() => {
                begins = Some(end - 1);
                continue;
            }
            _ if begins.is_none() => return Err((end, FaultReason::Malformed("INSERT"))),
            SqlToken::Symbol(b';') if depth == 0 => return Err((end, FaultReason::Malformed("INSERT"))),
            SqlToken::Symbol(b',') if depth == 0 => {
                fields.push(value(&tokens));
                tokens.clear();
                continue;
            }
            SqlToken::Symbol(b')') if depth == 0 => {
                fields.push(value(&tokens));
                return Ok(Some((fields, begins.unwrap_or_default(), end)));
            }
            SqlToken::Symbol(b'(' | b'[') => depth += 1,
            SqlToken::Symbol(b')' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A value of more tokens is an expression.
        if tokens.len() < 32 {
            tokens.push(token);
        }
    }
}

/// The value of an expression that needs no evaluation.
fn value<'a>(tokens: &[SqlToken<'a>]) -> DumpValue<'a> {
    let (literal, cast) = match tokens {
        [cast, SqlToken::Symbol(b'('), rest @ .., SqlToken::Symbol(b')')] if cast.is_word("cast") => {
            let Some(end) = rest.iter().position(|token| token.is_word("as")) else { return DumpValue::Expression };
            (&rest[..end], &rest[end..end])
        }
        [SqlToken::Symbol(b'('), rest @ .., SqlToken::Symbol(b')')] => (rest, &rest[..0]),
        tokens => {
            let colons = |pair: &[SqlToken<'_>]| pair == [SqlToken::Symbol(b':'), SqlToken::Symbol(b':')];
            tokens.split_at(tokens.windows(2).position(colons).unwrap_or(tokens.len()))
        }
    };
    let is_type = |token: &SqlToken<'_>| {
        matches!(token, SqlToken::Word(_) | SqlToken::Quoted(_) | SqlToken::Number(_))
            || matches!(token, SqlToken::Symbol(b':' | b'(' | b')' | b'[' | b']' | b'.' | b','))
    };
    if !cast.iter().all(is_type) {
        return DumpValue::Expression;
    }
    match literal {
        [SqlToken::Text(text)] => DumpValue::Text(text.clone()),
        [SqlToken::Number(number)] | [SqlToken::Symbol(b'+'), SqlToken::Number(number)] => {
            DumpValue::Text((*number).into())
        }
        [SqlToken::Symbol(b'-'), SqlToken::Number(number)] => DumpValue::Text(Cow::Owned([b"-", *number].concat())),
        [word] if word.is_word("null") => DumpValue::Null,
        [word] if word.is_word("true") => DumpValue::Text(b"t".as_slice().into()),
        [word] if word.is_word("false") => DumpValue::Text(b"f".as_slice().into()),
        [name, .., SqlToken::Text(text)] if TYPES.iter().any(|known| name.is_word(known)) => {
            let words = &literal[1..literal.len() - 1];
            let is_part =
                |token: &SqlToken<'_>| ["with", "without", "time", "zone"].iter().any(|word| token.is_word(word));
            if words.iter().all(is_part) { DumpValue::Text(text.clone()) } else { DumpValue::Expression }
        }
        _ => DumpValue::Expression,
    }
}
