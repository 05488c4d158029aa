//! Rows: a line of COPY in text format, and the values of an INSERT.

use super::fault::{FaultReason, lexed, meta_fault};
use super::lexer::{Input, Token, byte_escape, next_token};
use super::rows::Field;
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
pub(super) fn copied_row(line: &[u8]) -> Option<Vec<Field<'_>>> {
    line.split(|byte| *byte == b'\t').map(copied_field).collect()
}

fn copied_field(field: &[u8]) -> Option<Field<'_>> {
    if field == b"\\N" {
        return Some(Field::Null);
    }
    let Some(first) = field.iter().position(|byte| *byte == b'\\') else { return Some(Field::Text(field.into())) };
    let mut value = Vec::with_capacity(field.len());
    value.extend_from_slice(&field[..first]);
    let mut rest = &field[first..];
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            value.push(*byte);
        } else if rest.is_empty() {
            return None;
        } else {
            rest = byte_escape(rest, &mut value);
        }
    }
    Some(Field::Text(value.into()))
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
            Token::Comment(_) => {
                at = end;
                continue;
            }
            Token::Symbol(b',') => AfterRow::Row,
            Token::Symbol(b';') => AfterRow::End,
            Token::Word(word) if word.eq_ignore_ascii_case(b"on") || word.eq_ignore_ascii_case(b"returning") => {
                AfterRow::Tail
            }
            Token::End => return Err((end, FaultReason::Truncated)),
            Token::Meta(command) => return Err((end, meta_fault(command))),
            _ => return Err((end, FaultReason::Malformed("INSERT"))),
        };
        return Ok(Some((after, end)));
    }
}

/// The values of a row of an INSERT, the offset of its parenthesis and the one behind it.
pub(super) fn inserted_row(input: Input<'_>) -> At<(Vec<Field<'_>>, usize, usize)> {
    let (mut at, mut begins) = (0, None);
    let (mut fields, mut tokens, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    loop {
        let Some((token, end)) = next_token(input, at).map_err(|fault| lexed(fault, at))? else { return Ok(None) };
        at = end;
        match token {
            Token::Comment(_) => continue,
            Token::End => return Err((end, FaultReason::Truncated)),
            Token::Meta(command) => return Err((end, meta_fault(command))),
            Token::Symbol(b'(') if begins.is_none() => {
                begins = Some(end - 1);
                continue;
            }
            _ if begins.is_none() => return Err((end, FaultReason::Malformed("INSERT"))),
            Token::Symbol(b';') if depth == 0 => return Err((end, FaultReason::Malformed("INSERT"))),
            Token::Symbol(b',') if depth == 0 => {
                fields.push(value(&tokens));
                tokens.clear();
                continue;
            }
            Token::Symbol(b')') if depth == 0 => {
                fields.push(value(&tokens));
                return Ok(Some((fields, begins.unwrap_or_default(), end)));
            }
            Token::Symbol(b'(' | b'[') => depth += 1,
            Token::Symbol(b')' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A value of more tokens is an expression.
        if tokens.len() < 32 {
            tokens.push(token);
        }
    }
}

/// The value of an expression that needs no evaluation.
fn value<'a>(tokens: &[Token<'a>]) -> Field<'a> {
    let is = |token: &Token<'_>, word: &str| matches!(token, Token::Word(w) if w.eq_ignore_ascii_case(word.as_bytes()));
    let (literal, cast) = match tokens {
        [cast, Token::Symbol(b'('), rest @ .., Token::Symbol(b')')] if is(cast, "cast") => {
            let Some(end) = rest.iter().position(|token| is(token, "as")) else { return Field::Expression };
            (&rest[..end], &rest[end..end])
        }
        [Token::Symbol(b'('), rest @ .., Token::Symbol(b')')] => (rest, &rest[..0]),
        tokens => {
            let colons = |pair: &[Token<'_>]| pair == [Token::Symbol(b':'), Token::Symbol(b':')];
            tokens.split_at(tokens.windows(2).position(colons).unwrap_or(tokens.len()))
        }
    };
    let is_type = |token: &Token<'_>| {
        matches!(token, Token::Word(_) | Token::Quoted(_) | Token::Number(_))
            || matches!(token, Token::Symbol(b':' | b'(' | b')' | b'[' | b']' | b'.' | b','))
    };
    if !cast.iter().all(is_type) {
        return Field::Expression;
    }
    match literal {
        [Token::Text(text)] => Field::Text(text.clone()),
        [Token::Number(number)] | [Token::Symbol(b'+'), Token::Number(number)] => Field::Text((*number).into()),
        [Token::Symbol(b'-'), Token::Number(number)] => Field::Text(Cow::Owned([b"-", *number].concat())),
        [word] if is(word, "null") => Field::Null,
        [word] if is(word, "true") => Field::Text(b"t".as_slice().into()),
        [word] if is(word, "false") => Field::Text(b"f".as_slice().into()),
        [name, .., Token::Text(text)] if TYPES.iter().any(|known| is(name, known)) => {
            let words = &literal[1..literal.len() - 1];
            let is_part = |token: &Token<'_>| ["with", "without", "time", "zone"].iter().any(|word| is(token, word));
            if words.iter().all(is_part) { Field::Text(text.clone()) } else { Field::Expression }
        }
        _ => Field::Expression,
    }
}
