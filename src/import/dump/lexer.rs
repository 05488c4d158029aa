//! The tokens of SQL as `pg_dump` writes it, and of the commands of psql between them.
//!
//! [`next_token`] is a function of the bytes that are there. It returns `None` if the token could go on in bytes that
//! are not there yet, so the caller can stop at any split and ask again with more.

use std::borrow::Cow;

/// A part of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SqlToken<'a> {
    /// A keyword or an identifier without quotes.
    Word(&'a [u8]),
    /// An identifier in double quotes, without them.
    Quoted(Cow<'a, [u8]>),
    /// The value of a string in any of its forms.
    Text(Cow<'a, [u8]>),
    /// A number without its sign.
    Number(&'a [u8]),
    /// Any other character.
    Symbol(u8),
    /// A comment that ends with its line, without its two hyphens.
    Comment(&'a [u8]),
    /// A command of psql, from its backslash to the end of the line.
    Meta(&'a [u8]),
    /// The end of the input.
    End,
}

impl SqlToken<'_> {
    /// Whether it is this keyword, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// Why there is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LexFault {
    /// A line outside of strings ends with CR LF.
    CarriageReturn,
    /// The input ends inside of a token.
    Truncated,
}

/// What the lexer looks at.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether nothing follows these bytes.
    pub(super) is_last: bool,
    /// Whether a backslash escapes in every string, as before PostgreSQL 9.1.
    pub(super) escapes: bool,
}

/// What is at a place where the input may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peeked {
    Byte(u8),
    Nothing,
}

type Lexed<T> = Result<Option<T>, LexFault>;

impl Input<'_> {
    fn at(&self, index: usize) -> Lexed<u8> {
        match self.bytes.get(index) {
            Some(byte) => Ok(Some(*byte)),
            None if self.is_last => Err(LexFault::Truncated),
            None => Ok(None),
        }
    }

    /// What is at a place where the input may end; `None` if that is not known yet.
    fn peek(&self, index: usize) -> Option<Peeked> {
        match self.bytes.get(index) {
            Some(byte) => Some(Peeked::Byte(*byte)),
            None if self.is_last => Some(Peeked::Nothing),
            None => None,
        }
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// The token that begins at `from` or behind the white space there, and the index behind it.
pub(super) fn next_token(input: Input<'_>, from: usize) -> Lexed<(SqlToken<'_>, usize)> {
    let mut at = from;
    loop {
        let byte = match input.peek(at) {
            None => return Ok(None),
            Some(Peeked::Nothing) => return Ok(Some((SqlToken::End, at))),
            Some(Peeked::Byte(byte)) => byte,
        };
        match byte {
            b'\r' => match input.peek(at + 1) {
                None => return Ok(None),
                Some(Peeked::Byte(b'\n')) => return Err(LexFault::CarriageReturn),
                Some(_) => at += 1,
            },
            b' ' | b'\t' | b'\n' | 0x0b | 0x0c => at += 1,
            b'-' => match input.peek(at + 1) {
                None => return Ok(None),
                Some(Peeked::Byte(b'-')) => return comment(input, at),
                Some(_) => return Ok(Some((SqlToken::Symbol(b'-'), at + 1))),
            },
            b'/' => match input.peek(at + 1) {
                None => return Ok(None),
                Some(Peeked::Byte(b'*')) => match block_comment(input, at + 2)? {
                    Some(end) => at = end,
                    None => return Ok(None),
                },
                Some(_) => return Ok(Some((SqlToken::Symbol(b'/'), at + 1))),
            },
            b'\\' => return meta(input, at),
            b'\'' => return string(input, at + 1, input.escapes),
            b'"' => return quoted(input, at + 1),
            b'$' => return dollar(input, at),
            b'0'..=b'9' | b'.' => return number(input, at),
            _ if is_word_start(byte) => return word(input, at),
            _ => return Ok(Some((SqlToken::Symbol(byte), at + 1))),
        }
    }
}

/// The line from `from` on without its end, and the index of that end.
fn line(input: Input<'_>, from: usize) -> Lexed<(&[u8], usize)> {
    let rest = &input.bytes[from..];
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(length) if rest[..length].ends_with(b"\r") => Err(LexFault::CarriageReturn),
        Some(length) => Ok(Some((&rest[..length], from + length))),
        None if input.is_last => Ok(Some((rest, input.bytes.len()))),
        None => Ok(None),
    }
}

fn comment(input: Input<'_>, at: usize) -> Lexed<(SqlToken<'_>, usize)> {
    Ok(line(input, at + 2)?.map(|(text, end)| (SqlToken::Comment(text), end)))
}

fn meta(input: Input<'_>, at: usize) -> Lexed<(SqlToken<'_>, usize)> {
    Ok(line(input, at)?.map(|(text, end)| (SqlToken::Meta(text), end)))
}

/// The index behind a comment that can contain others.
fn block_comment(input: Input<'_>, mut at: usize) -> Lexed<usize> {
    let mut depth = 1_usize;
    while depth > 0 {
        let Some(byte) = input.at(at)? else { return Ok(None) };
        if byte != b'/' && byte != b'*' {
            at += 1;
            continue;
        }
        let Some(next) = input.at(at + 1)? else { return Ok(None) };
        match (byte, next) {
            (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
            (b'*', b'/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    Ok(Some(at))
}

fn word(input: Input<'_>, at: usize) -> Lexed<(SqlToken<'_>, usize)> {
    let length = input.bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
    let end = at + length;
    let word = &input.bytes[at..end];
    match input.peek(end) {
        None => Ok(None),
        Some(Peeked::Byte(b'\'')) if word.eq_ignore_ascii_case(b"e") => string(input, end + 1, true),
        Some(_) => Ok(Some((SqlToken::Word(word), end))),
    }
}

fn number(input: Input<'_>, at: usize) -> Lexed<(SqlToken<'_>, usize)> {
    let mut end = at;
    loop {
        let (Some(byte), Some(next)) = (input.peek(end), input.peek(end + 1)) else { return Ok(None) };
        let digit_follows = matches!(next, Peeked::Byte(b'0'..=b'9'));
        end += match byte {
            Peeked::Byte(b'0'..=b'9' | b'_') => 1,
            Peeked::Byte(b'.') if end > at || digit_follows => 1,
            Peeked::Byte(b'.') => return Ok(Some((SqlToken::Symbol(b'.'), end + 1))),
            Peeked::Byte(b'e' | b'E') if digit_follows || matches!(next, Peeked::Byte(b'+' | b'-')) => 2,
            _ => return Ok(Some((SqlToken::Number(&input.bytes[at..end]), end))),
        };
    }
}

/// A string from behind its opening quote.
fn string(input: Input<'_>, from: usize, escapes: bool) -> Lexed<(SqlToken<'_>, usize)> {
    let mut at = from;
    let mut is_plain = true;
    loop {
        let skipped = input.bytes.get(at..).unwrap_or_default();
        at += skipped.iter().position(|byte| matches!(byte, b'\'' | b'\\')).unwrap_or(skipped.len());
        match input.at(at)? {
            None => return Ok(None),
            Some(b'\\') if escapes => {
                // The escaped character may be a quote.
                is_plain = false;
                if input.at(at + 1)?.is_none() {
                    return Ok(None);
                }
                at += 2;
            }
            Some(b'\'') => match input.peek(at + 1) {
                None => return Ok(None),
                Some(Peeked::Byte(b'\'')) => (is_plain, at) = (false, at + 2),
                Some(_) => {
                    let inside = &input.bytes[from..at];
                    let value = if is_plain { inside.into() } else { unescaped(inside, escapes).into() };
                    return Ok(Some((SqlToken::Text(value), at + 1)));
                }
            },
            Some(_) => at += 1,
        }
    }
}

fn unescaped(inside: &[u8], escapes: bool) -> Vec<u8> {
    let mut value = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'\'' => {
                // It is doubled.
                value.push(b'\'');
                rest = rest.get(1..).unwrap_or_default();
            }
            b'\\' if escapes => rest = escape(rest, &mut value),
            other => value.push(*other),
        }
    }
    value
}

/// Appends what follows a backslash in a string. Returns what follows that.
fn escape<'a>(rest: &'a [u8], value: &mut Vec<u8>) -> &'a [u8] {
    let Some((first, after)) = rest.split_first() else { return rest };
    let unicode = |digits: usize| {
        let text = std::str::from_utf8(after.get(..digits)?).ok()?;
        Some((char::from_u32(u32::from_str_radix(text, 16).ok()?)?, &after[digits..]))
    };
    let of_unicode = match first {
        b'u' => unicode(4),
        b'U' => unicode(8),
        _ => None,
    };
    if let Some((c, after)) = of_unicode {
        value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        return after;
    }
    byte_escape(rest, value)
}

/// Appends the byte that follows a backslash in a string or in the data of COPY. Returns what follows it.
pub(super) fn byte_escape<'a>(rest: &'a [u8], value: &mut Vec<u8>) -> &'a [u8] {
    let Some((first, after)) = rest.split_first() else { return rest };
    let digits = |most: usize, bytes: &[u8], is_digit: fn(&u8) -> bool| {
        bytes.iter().take(most).take_while(|byte| is_digit(byte)).count()
    };
    let number = |bytes: &[u8], radix: u32| {
        std::str::from_utf8(bytes).ok().and_then(|text| u32::from_str_radix(text, radix).ok()).unwrap_or(0) as u8
    };
    match first {
        b'0'..=b'7' => {
            let length = digits(3, rest, |byte| (b'0'..=b'7').contains(byte));
            value.push(number(&rest[..length], 8));
            &rest[length..]
        }
        b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => {
            let length = digits(2, after, u8::is_ascii_hexdigit);
            value.push(number(&after[..length], 16));
            &after[length..]
        }
        other => {
            value.push(match other {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                other => *other,
            });
            after
        }
    }
}

/// An identifier from behind its opening quote.
fn quoted(input: Input<'_>, from: usize) -> Lexed<(SqlToken<'_>, usize)> {
    let mut at = from;
    let mut name = Vec::new();
    loop {
        let Some(byte) = input.at(at)? else { return Ok(None) };
        if byte != b'"' {
            name.push(byte);
            at += 1;
            continue;
        }
        match input.peek(at + 1) {
            None => return Ok(None),
            Some(Peeked::Byte(b'"')) => {
                name.push(b'"');
                at += 2;
            }
            Some(_) => return Ok(Some((SqlToken::Quoted(name.into()), at + 1))),
        }
    }
}

/// A string between two equal tags such as `$$` or `$body$`, or the dollar of a parameter.
fn dollar(input: Input<'_>, at: usize) -> Lexed<(SqlToken<'_>, usize)> {
    let mut end = at + 1;
    loop {
        match input.peek(end) {
            None => return Ok(None),
            Some(Peeked::Byte(b'$')) => break,
            Some(Peeked::Byte(byte)) if is_word_start(byte) || (end > at + 1 && byte.is_ascii_digit()) => end += 1,
            Some(_) => return Ok(Some((SqlToken::Symbol(b'$'), at + 1))),
        }
    }
    let tag = &input.bytes[at..=end];
    let inside = &input.bytes[end + 1..];
    match inside.windows(tag.len()).position(|window| window == tag) {
        Some(length) => Ok(Some((SqlToken::Text(inside[..length].into()), end + 1 + length + tag.len()))),
        None if input.is_last => Err(LexFault::Truncated),
        None => Ok(None),
    }
}
