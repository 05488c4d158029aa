//! A statement up to where its rows begin, or up to its end.
//!
//! A statement ends with the first semicolon outside of parentheses, as for psql. A function whose body is written as
//! statements (`BEGIN ATOMIC … END`) has semicolons inside.

use super::fault::{FaultReason, lexed, meta_fault};
use super::lexer::{Input, SqlToken, next_token};
use super::rows::TableName;

/// Words by which an ignored statement is counted.
const SHOWN_WORDS: usize = 3;
/// Tokens of a statement that is kept.
const TOKENS_MAX: usize = 20_000;
/// Commands of psql that `pg_dump` and `pg_dumpall` write.
const META_OF_DUMPS: &[&[u8]] = &[b"\\connect", b"\\restrict", b"\\unrestrict"];
/// Words that begin a constraint and not a column.
const CONSTRAINTS: &[&str] = &["constraint", "primary", "unique", "check", "foreign", "exclude", "like"];

/// COPY … FROM stdin.
pub(super) struct CopyHead {
    pub(super) table: TableName,
    pub(super) columns: Option<Vec<String>>,
}

/// INSERT INTO … VALUES.
pub(super) struct InsertHead {
    pub(super) table: TableName,
    pub(super) columns: Option<Vec<String>>,
}

pub(super) enum Statement<'a> {
    End,
    Comment(&'a [u8]),
    Encoding(String),
    Escapes(bool),
    Table(TableName, Vec<String>),
    Copy(CopyHead),
    Insert(InsertHead),
    Other(String),
}

type Read<'a> = Result<Option<(Statement<'a>, usize)>, (usize, FaultReason)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum StatementKind {
    Copy,
    Insert,
    CreateTable,
    Set,
    Other,
}

/// Reads a statement, or one comment or command before it. The second value is its length.
pub(super) fn read_statement(input: Input<'_>) -> Read<'_> {
    let mut tokens = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let (mut at, mut depth, mut body, mut before) = (0, 0_usize, 0_usize, String::new());
    let mut kind = None;
    loop {
        let Some((token, end)) = next_token(input, at).map_err(|fault| lexed(fault, at))? else { return Ok(None) };
        let is_start = tokens.is_empty() && words.is_empty();
        let word = match &token {
            SqlToken::Word(word) => String::from_utf8_lossy(word).to_ascii_lowercase(),
            _ => String::new(),
        };
        match &token {
            SqlToken::End if is_start => return Ok(Some((Statement::End, end))),
            SqlToken::End => return Err((at, FaultReason::Truncated)),
            SqlToken::Comment(text) if is_start => return Ok(Some((Statement::Comment(text), end))),
            SqlToken::Comment(_) => {
                at = end;
                continue;
            }
            SqlToken::Meta(command) if is_start && is_of_dumps(command) => {
                return Ok(Some((Statement::Comment(command), end)));
            }
            SqlToken::Meta(command) => return Err((end, meta_fault(command))),
            SqlToken::Symbol(b';') if is_start => return Ok(Some((Statement::Comment(b""), end))),
            SqlToken::Symbol(b'(') => depth += 1,
            SqlToken::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if words.len() < SHOWN_WORDS && !word.is_empty() {
            words.push(word.clone());
        }
        let kind = *kind.get_or_insert_with(|| kind_of(&word));
        let kind =
            if kind == StatementKind::CreateTable && is_other_object(&words) { StatementKind::Other } else { kind };
        if kind == StatementKind::Other && words.first().is_some_and(|first| first == "create") {
            match word.as_str() {
                "atomic" if body == 0 && before == "begin" => body = 1,
                "begin" | "case" if body > 0 => body += 1,
                "end" if body > 0 => body -= 1,
                _ => {}
            }
        }
        if matches!(token, SqlToken::Symbol(b';')) && depth == 0 && body == 0 {
            let statement = complete(kind, &tokens, &words).map_err(|reason| (at, reason))?;
            if matches!(statement, Statement::Copy(_)) {
                return Ok(line_end(input, end)?.map(|end| (statement, end)));
            }
            return Ok(Some((statement, end)));
        }
        if kind == StatementKind::Insert && depth == 0 {
            match word.as_str() {
                "values" if before != "default" => {
                    let head = insert_head(&tokens).map_err(|reason| (at, reason))?;
                    return Ok(Some((Statement::Insert(head), end)));
                }
                "select" | "with" | "table" => return Err((at, FaultReason::ComputedRows("INSERT … SELECT"))),
                _ => {}
            }
        }
        if kind != StatementKind::Other {
            if tokens.len() == TOKENS_MAX {
                return Err((at, FaultReason::TooLong));
            }
            tokens.push(token);
        } else if words.is_empty() {
            // A statement that begins with no word, which counts all the same.
            words.push("?".to_owned());
        }
        before = word;
        at = end;
    }
}

fn is_of_dumps(command: &[u8]) -> bool {
    let name = command.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    META_OF_DUMPS.contains(&name)
}

fn kind_of(first: &str) -> StatementKind {
    match first {
        "copy" => StatementKind::Copy,
        "insert" => StatementKind::Insert,
        "create" => StatementKind::CreateTable,
        "set" => StatementKind::Set,
        _ => StatementKind::Other,
    }
}

/// Whether CREATE makes something else than a table.
fn is_other_object(words: &[String]) -> bool {
    let mut object = words.iter().skip(1);
    let is_table = |word: &String| word == "table";
    match object.next().map(String::as_str) {
        None | Some("table") => false,
        Some("unlogged" | "temporary" | "temp" | "foreign" | "global" | "local") => {
            object.next().is_some_and(|word| !is_table(word))
        }
        Some(_) => true,
    }
}

/// The index behind the line that COPY ends on.
fn line_end(input: Input<'_>, from: usize) -> Result<Option<usize>, (usize, FaultReason)> {
    let rest = &input.bytes[from..];
    let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
        return if input.is_last { Err((from, FaultReason::Truncated)) } else { Ok(None) };
    };
    match rest[..length].trim_ascii_end() {
        b"" if !rest[..length].ends_with(b"\r") => Ok(Some(from + length + 1)),
        b"" => Err((from, FaultReason::CarriageReturn)),
        _ => Err((from, FaultReason::Malformed("COPY"))),
    }
}

fn complete(kind: StatementKind, tokens: &[SqlToken<'_>], words: &[String]) -> Result<Statement<'static>, FaultReason> {
    let other = || Statement::Other(words.join(" ").to_ascii_uppercase());
    match kind {
        StatementKind::Copy => copy_head(tokens).map(Statement::Copy),
        StatementKind::Insert => Err(FaultReason::ComputedRows("INSERT without VALUES")),
        StatementKind::CreateTable => {
            Ok(created(tokens).map_or_else(other, |(name, columns)| Statement::Table(name, columns)))
        }
        StatementKind::Set => Ok(setting(tokens, words).unwrap_or_else(other)),
        StatementKind::Other => match words.first().map(String::as_str) {
            Some("update" | "delete" | "merge" | "truncate") => Err(FaultReason::Change(words[0].to_ascii_uppercase())),
            _ => Ok(other()),
        },
    }
}

/// `SET name = value` or `SET name TO value`, of the settings that change how a dump is read.
fn setting(tokens: &[SqlToken<'_>], words: &[String]) -> Option<Statement<'static>> {
    let value = || match tokens.last()? {
        SqlToken::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        SqlToken::Word(word) => Some(String::from_utf8_lossy(word).into_owned()),
        _ => None,
    };
    match words.get(1).map(String::as_str)? {
        "client_encoding" => value().map(Statement::Encoding),
        "names" => value().map(Statement::Encoding),
        "standard_conforming_strings" => Some(Statement::Escapes(value()?.eq_ignore_ascii_case("off"))),
        _ => None,
    }
}

/// An identifier as PostgreSQL reads it.
fn identifier(token: &SqlToken<'_>) -> Option<String> {
    match token {
        SqlToken::Word(word) => Some(String::from_utf8_lossy(word).to_lowercase()),
        SqlToken::Quoted(name) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    }
}

/// A table's name at the beginning, and what follows it.
fn table_name<'t, 'a>(tokens: &'t [SqlToken<'a>]) -> Option<(TableName, &'t [SqlToken<'a>])> {
    let mut parts = vec![identifier(tokens.first()?)?];
    let mut rest = &tokens[1..];
    while let [SqlToken::Symbol(b'.'), part, after @ ..] = rest {
        parts.push(identifier(part)?);
        rest = after;
    }
    let name = parts.pop()?;
    Some((TableName { schema: parts.pop(), name }, rest))
}

/// A list of columns in parentheses at the beginning, and what follows it.
fn column_list<'t, 'a>(tokens: &'t [SqlToken<'a>]) -> Option<(Option<Vec<String>>, &'t [SqlToken<'a>])> {
    let [SqlToken::Symbol(b'('), rest @ ..] = tokens else { return Some((None, tokens)) };
    let end = rest.iter().position(|token| matches!(token, SqlToken::Symbol(b')')))?;
    let mut columns = Vec::new();
    for part in rest[..end].split(|token| matches!(token, SqlToken::Symbol(b','))) {
        let [name] = part else { return None };
        columns.push(identifier(name)?);
    }
    Some((Some(columns), &rest[end + 1..]))
}

fn copy_head(tokens: &[SqlToken<'_>]) -> Result<CopyHead, FaultReason> {
    let malformed = FaultReason::Malformed("COPY");
    if matches!(tokens.get(1), Some(SqlToken::Symbol(b'('))) {
        return Err(FaultReason::CopyElsewhere);
    }
    let (table, rest) = table_name(&tokens[1..]).ok_or_else(|| malformed.clone())?;
    let (columns, rest) = column_list(rest).ok_or_else(|| malformed.clone())?;
    match rest {
        [from, stdin] if from.is_word("from") && stdin.is_word("stdin") => Ok(CopyHead { table, columns }),
        [from, stdin, ..] if from.is_word("from") && stdin.is_word("stdin") => Err(FaultReason::CopyOptions),
        [way, ..] if way.is_word("from") || way.is_word("to") => Err(FaultReason::CopyElsewhere),
        _ => Err(malformed),
    }
}

fn insert_head(tokens: &[SqlToken<'_>]) -> Result<InsertHead, FaultReason> {
    let malformed = || FaultReason::Malformed("INSERT");
    let [_, into, rest @ ..] = tokens else { return Err(malformed()) };
    if !into.is_word("into") {
        return Err(malformed());
    }
    let (table, mut rest) = table_name(rest).ok_or_else(malformed)?;
    if let [name, _, after @ ..] = rest
        && name.is_word("as")
    {
        rest = after;
    }
    let (columns, rest) = column_list(rest).ok_or_else(malformed)?;
    if rest.first().is_some_and(|token| !token.is_word("overriding")) {
        return Err(malformed());
    }
    Ok(InsertHead { table, columns })
}

/// The name and the columns of CREATE TABLE; `None` if it lists none.
fn created(tokens: &[SqlToken<'_>]) -> Option<(TableName, Vec<String>)> {
    let table = tokens.iter().take(4).position(|token| token.is_word("table"))?;
    let mut rest = &tokens[table + 1..];
    if rest.first().is_some_and(|token| token.is_word("if")) {
        rest = rest.get(3..)?;
    }
    let (name, rest) = table_name(rest)?;
    let [SqlToken::Symbol(b'('), items @ ..] = rest else { return None };
    let (mut columns, mut depth, mut is_start) = (Vec::new(), 0_usize, true);
    for token in items {
        match token {
            SqlToken::Symbol(b'(') => depth += 1,
            SqlToken::Symbol(b')') if depth == 0 => return Some((name, columns)),
            SqlToken::Symbol(b')') => depth -= 1,
            SqlToken::Symbol(b',') if depth == 0 => {
                is_start = true;
                continue;
            }
            _ if is_start => {
                let column = identifier(token)?;
                let is_constraint = matches!(token, SqlToken::Word(_)) && CONSTRAINTS.contains(&column.as_str());
                if !is_constraint {
                    columns.push(column);
                }
            }
            _ => {}
        }
        is_start = false;
    }
    None
}
