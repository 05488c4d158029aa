//! The legacy database: its tables in three generations, and its rows as the staging tables take them.
//!
//! [`LegacySink`] takes the rows of a dump and gives rows of staging tables back, as lines of COPY. A row with a value
//! that cannot be read is rejected with a reason. Tables that are not imported are counted.
//!
//! Pure: no I/O.

mod tables;
#[cfg(test)]
mod tests;

use crate::import::convert;
use crate::import::dump::{DumpSink, DumpValue, FaultReason, TableName};
use crate::import::staged::{CHUNK_BYTES, DumpCounts, SinkClosed, StagedLines, push_line, push_value};
use std::borrow::Cow;
use std::collections::HashMap;
use tables::{BASE, CONVERSATIONS, MESSAGES_AT, STAGED, StagedTable, ValueKind, staged_of};

pub use tables::table_name;

/// Characters of a value that a reason shows.
const SHOWN_CHARS: usize = 40;
/// Bytes of a text that rows are found by.
const KEY_BYTES_MAX: usize = 500;
/// Texts that can name a file in the metadata of a message.
const FILE_KEYS_MAX: usize = 64;

/// Where a row goes.
enum Route {
    Staged {
        at: usize,
        generation: u8,
        sources: Vec<Vec<usize>>,
        width: usize,
        conversation: Option<usize>,
        metadata: Option<usize>,
    },
    Other(String),
    /// Rows of a table without known columns.
    Unknown {
        at: usize,
        generation: u8,
    },
}

/// Makes staged rows of the rows of a dump.
pub struct LegacySink<F> {
    give: F,
    columns: HashMap<TableName, Vec<String>>,
    route: Route,
    lines: Vec<Vec<u8>>,
    rejected: Vec<u8>,
    mended: Vec<u8>,
    file_refs: Vec<u8>,
    /// What was read so far.
    pub counts: DumpCounts,
}

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> LegacySink<F> {
    /// `give` takes lines. An error of it ends the reading.
    pub fn new(give: F) -> Self {
        Self {
            give,
            columns: HashMap::new(),
            route: Route::Other(String::new()),
            lines: STAGED.iter().map(|_| Vec::new()).collect(),
            rejected: Vec::new(),
            mended: Vec::new(),
            file_refs: Vec::new(),
            counts: DumpCounts::default(),
        }
    }

    /// Gives what is left.
    ///
    /// # Errors
    /// The error of `give`.
    pub fn finish(mut self) -> Result<DumpCounts, SinkClosed> {
        for at in 0..STAGED.len() {
            self.give_staged(at)?;
        }
        self.give_others(0)?;
        Ok(self.counts)
    }

    fn give_staged(&mut self, at: usize) -> Result<(), SinkClosed> {
        let lines = std::mem::take(&mut self.lines[at]);
        if lines.is_empty() {
            return Ok(());
        }
        let table = &STAGED[at];
        let columns = ["src", "line"].into_iter().chain(table.columns.iter().map(|column| column.name)).collect();
        (self.give)(StagedLines { table: table.staging, columns, lines })
    }

    fn give_others(&mut self, least: usize) -> Result<(), SinkClosed> {
        let others: [(&mut Vec<u8>, &'static str, &[&'static str]); 3] = [
            (&mut self.rejected, "quarantine", &["staged", "src", "line", "id", "reason"]),
            (&mut self.mended, "mended", &["staged", "src", "line", "id", "what"]),
            (&mut self.file_refs, "s_file_refs", &["src", "message_id", "key"]),
        ];
        for (lines, table, columns) in others {
            if lines.len() > least {
                let lines = std::mem::take(lines);
                (self.give)(StagedLines { table, columns: columns.to_vec(), lines })?;
            }
        }
        Ok(())
    }
}

fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

/// The text of a field; an error says why there is none.
fn text_of<'f>(field: &'f DumpValue<'_>) -> Result<Option<Cow<'f, str>>, &'static str> {
    match field {
        DumpValue::Null => Ok(None),
        DumpValue::Expression => Err("is computed, and nothing of a dump is executed"),
        DumpValue::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => Err("has a NUL, which no text can have"),
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err("is not UTF-8"),
        },
    }
}

/// The first of some columns that has a value.
fn first_of<'f>(fields: &'f [DumpValue<'_>], sources: &[usize]) -> Result<Option<Cow<'f, str>>, &'static str> {
    for source in sources {
        if let Some(text) = text_of(&fields[*source])? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Why a row is rejected, or `None` and its values.
struct Converted {
    rejected: Option<String>,
    mended: Vec<String>,
    values: Vec<Option<String>>,
}

fn convert(table: &StagedTable, sources: &[Vec<usize>], fields: &[DumpValue<'_>]) -> Converted {
    let mut row = Converted { rejected: None, mended: Vec::new(), values: Vec::new() };
    for (column, sources) in table.columns.iter().zip(sources) {
        let name = column.from[0];
        let given = match first_of(fields, sources) {
            Ok(given) => given,
            Err(why) => {
                row.rejected.get_or_insert_with(|| format!("its {name} {why}"));
                None
            }
        };
        let value = match column.kind {
            ValueKind::IsPresent => Some(if sources.is_empty() { "f" } else { "t" }.to_owned()),
            ValueKind::CleanDisplay => {
                let texts = sources.iter().filter_map(|source| text_of(&fields[*source]).ok().flatten());
                texts.into_iter().find_map(|text| convert::clean_display(&text)).or_else(|| Some("user".to_owned()))
            }
            _ => given.and_then(|given| converted(column.kind, name, &given, &mut row)),
        };
        row.values.push(value);
    }
    row
}

fn converted(kind: ValueKind, name: &str, given: &str, row: &mut Converted) -> Option<String> {
    let value = match kind {
        ValueKind::Number | ValueKind::OptionalNumber => convert::number(given).map(|number| number.to_string()),
        ValueKind::Time | ValueKind::OptionalTime => convert::timestamp(given),
        ValueKind::Flag => convert::flag(given).map(|flag| if flag { "t" } else { "f" }.to_owned()),
        ValueKind::CleanName => Some(convert::clean_name(given)),
        ValueKind::IsClean => Some(if convert::clean_name(given) == given { "t" } else { "f" }.to_owned()),
        ValueKind::Key if given.len() > KEY_BYTES_MAX => {
            row.rejected.get_or_insert_with(|| format!("its {name} is longer than {KEY_BYTES_MAX} bytes"));
            return None;
        }
        ValueKind::Key | ValueKind::Text | ValueKind::CleanDisplay | ValueKind::IsPresent => Some(given.to_owned()),
    };
    if value.is_none() {
        let what = match kind {
            ValueKind::Number | ValueKind::OptionalNumber => "no whole number",
            ValueKind::Flag => "neither true nor false",
            _ => "no time that can be stored",
        };
        let sentence = format!("its {name} {:?} is {what}", shown(given));
        if matches!(kind, ValueKind::Number | ValueKind::Time) {
            row.rejected.get_or_insert(sentence);
        } else {
            row.mended.push(format!("{sentence}, and was left out"));
        }
    }
    value
}

/// Texts in the metadata of a message that can name its files.
fn file_keys(metadata: &str) -> Vec<String> {
    fn gather(value: &serde_json::Value, is_id: bool, found: &mut Vec<String>) {
        if found.len() >= FILE_KEYS_MAX {
            return;
        }
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    let key = key.to_ascii_lowercase();
                    let names_file = key.contains("file") || key.contains("attachment") || (is_id && key == "id");
                    let is_text = value.is_string() && (key.ends_with("uuid") || key == "url" || key == "path");
                    if names_file || is_text {
                        gather(value, true, found);
                    }
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| gather(value, is_id, found)),
            serde_json::Value::String(text) if is_id => found.push(text.clone()),
            serde_json::Value::Number(number) if is_id => found.push(number.to_string()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_str(metadata) {
        gather(&value, false, &mut found);
    }
    found
}

/// Texts in the content of a message of the type file or image that can name its file: all of it, and its last part.
fn content_keys(values: &[Option<String>]) -> Vec<String> {
    let value = |name: &str| {
        let at = STAGED[MESSAGES_AT].columns.iter().position(|column| column.name == name)?;
        values[at].as_deref()
    };
    let is_file = value("content_type").is_some_and(|kind| matches!(kind, "file" | "image"));
    let Some(content) = value("content").map(str::trim).filter(|content| is_file && content.len() <= KEY_BYTES_MAX)
    else {
        return Vec::new();
    };
    let last = content.rsplit('/').next().unwrap_or_default();
    let mut keys = vec![content.to_owned()];
    if last != content {
        keys.push(last.to_owned());
    }
    // A number would be an id.
    keys.retain(|key| !key.bytes().all(|byte| byte.is_ascii_digit()));
    keys
}

impl<F: FnMut(StagedLines) -> Result<(), SinkClosed>> DumpSink for LegacySink<F> {
    fn table(&mut self, table: &TableName, columns: Vec<String>) {
        self.columns.insert(table.clone(), columns);
    }

    fn begin(&mut self, table: &TableName, columns: Option<Vec<String>>) {
        let Some((at, generation)) = staged_of(&table.name) else {
            self.route = Route::Other(table.name.clone());
            self.counts.other_rows.entry(table.name.clone()).or_default();
            return;
        };
        let by_name = |(known, _): &(&TableName, &Vec<String>)| known.name == table.name;
        let created =
            || self.columns.get(table).or_else(|| self.columns.iter().find(by_name).map(|(_, columns)| columns));
        let Some(columns) = columns.or_else(|| created().cloned()) else {
            self.route = Route::Unknown { at, generation };
            return;
        };
        let place = |name: &str| columns.iter().position(|column| column.eq_ignore_ascii_case(name));
        let staged = &STAGED[at];
        let sources: Vec<Vec<usize>> =
            staged.columns.iter().map(|column| column.from.iter().filter_map(|name| place(name)).collect()).collect();
        let used = |index: usize| sources.iter().any(|sources| sources.contains(&index));
        let unused = columns.iter().enumerate().filter(|(index, name)| !used(*index) && *name != "metadata");
        let unused: Vec<String> = unused.map(|(_, name)| name.clone()).collect();
        if !unused.is_empty() {
            self.counts.other_columns.insert(table.name.clone(), unused);
        }
        self.counts.rows.entry((staged.name, generation)).or_default();
        self.route = Route::Staged {
            at,
            generation,
            width: columns.len(),
            conversation: place("conversation_id").filter(|_| at == MESSAGES_AT && generation == BASE),
            metadata: place("metadata").filter(|_| at == MESSAGES_AT),
            sources,
        };
    }

    fn row(&mut self, line: u64, fields: &[DumpValue<'_>]) -> Result<(), FaultReason> {
        let line = line.to_string();
        let (at, generation, row) = match &self.route {
            Route::Other(table) => {
                *self.counts.other_rows.entry(table.clone()).or_default() += 1;
                return Ok(());
            }
            Route::Unknown { at, generation } => {
                let why = "the dump does not say which columns its table has".to_owned();
                (*at, *generation, Converted { rejected: Some(why), mended: Vec::new(), values: Vec::new() })
            }
            Route::Staged { at, generation, width, .. } if *width != fields.len() => {
                let why = format!("it has {} values, and its table {width} columns", fields.len());
                (*at, *generation, Converted { rejected: Some(why), mended: Vec::new(), values: Vec::new() })
            }
            Route::Staged { at, generation, sources, conversation, metadata, .. } => {
                let is_third = conversation.is_some_and(|index| fields[index] != DumpValue::Null);
                let generation = if is_third { CONVERSATIONS } else { *generation };
                let row = convert(&STAGED[*at], sources, fields);
                if let (MESSAGES_AT, Some(Some(id)), None) = (*at, row.values.first(), &row.rejected) {
                    let metadata = metadata.and_then(|index| text_of(&fields[index]).ok().flatten());
                    let mut keys = metadata.map(|text| file_keys(&text)).unwrap_or_default();
                    keys.extend(content_keys(&row.values));
                    for key in keys {
                        push_line(&mut self.file_refs, &[Some(&generation.to_string()), Some(id), Some(&key)]);
                    }
                }
                (*at, generation, row)
            }
        };
        let (staged, source) = (STAGED[at].name, generation.to_string());
        *self.counts.rows.entry((staged, generation)).or_default() += 1;
        let id = row.values.first().and_then(Option::as_deref);
        for what in &row.mended {
            push_line(&mut self.mended, &[Some(staged), Some(&source), Some(&line), id, Some(what)]);
        }
        if let Some(why) = &row.rejected {
            push_line(&mut self.rejected, &[Some(staged), Some(&source), Some(&line), id, Some(why)]);
        } else {
            let lines = &mut self.lines[at];
            push_value(lines, Some(&source));
            lines.push(b'\t');
            push_value(lines, Some(&line));
            for value in &row.values {
                lines.push(b'\t');
                push_value(lines, value.as_deref());
            }
            lines.push(b'\n');
            if lines.len() > CHUNK_BYTES {
                self.give_staged(at).map_err(|SinkClosed| FaultReason::Stopped)?;
            }
        }
        self.give_others(CHUNK_BYTES).map_err(|SinkClosed| FaultReason::Stopped)
    }

    fn ignored(&mut self, statement: String) {
        *self.counts.ignored.entry(statement).or_default() += 1;
    }
}
