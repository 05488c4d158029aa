//! Lines of staging tables, and the counts of what was read. All importers end here.

use std::collections::BTreeMap;

/// Bytes of lines that are given at once.
pub(super) const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Bits of a line's number that count within a file.
const LINE_BITS: u32 = 32;

/// Lines for one staging table.
#[derive(Debug)]
pub struct StagedLines {
    /// The table in the schema of the import.
    pub table: &'static str,
    /// Its columns.
    pub columns: Vec<&'static str>,
    /// The lines, in the text format of COPY.
    pub lines: Vec<u8>,
}

/// What takes the lines takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SinkClosed;

/// What was read.
#[derive(Clone, Default, Debug)]
pub struct DumpCounts {
    /// Staged table and generation → rows of the dump.
    pub rows: BTreeMap<(&'static str, u8), u64>,
    /// Rows of tables that are not imported.
    pub other_rows: BTreeMap<String, u64>,
    /// Statements that were left out, by their first words.
    pub ignored: BTreeMap<String, u64>,
    /// Columns of imported tables that are not imported, by table.
    pub other_columns: BTreeMap<String, Vec<String>>,
    /// The files of an export that has several. The numbers of lines name them: [`place_of`].
    pub files: Vec<String>,
}

/// The number of a line that is in one of several files.
pub(super) fn line_in(file: usize, line: u64) -> i64 {
    ((file as i64) << LINE_BITS) | line.min((1 << LINE_BITS) - 1) as i64
}

/// The file and the line that a number of [`line_in`] means.
pub(super) fn place_of(line: u64) -> (usize, u64) {
    ((line >> LINE_BITS) as usize, line & ((1 << LINE_BITS) - 1))
}

/// Appends a value of COPY's text format.
pub(super) fn push_value(line: &mut Vec<u8>, value: Option<&str>) {
    let Some(value) = value else {
        line.extend_from_slice(b"\\N");
        return;
    };
    for byte in value.bytes() {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            other => line.push(other),
        }
    }
}

/// Appends a line of COPY's text format.
pub(super) fn push_line(lines: &mut Vec<u8>, values: &[Option<&str>]) {
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            lines.push(b'\t');
        }
        push_value(lines, *value);
    }
    lines.push(b'\n');
}

/// Rows of staged lines, by table: what tests compare.
#[cfg(test)]
pub(super) type StagedRows = BTreeMap<String, Vec<Vec<String>>>;

/// Adds staged lines to rows.
#[cfg(test)]
pub(super) fn collect_rows(found: &mut StagedRows, staged: StagedLines) {
    let lines = String::from_utf8(staged.lines).unwrap();
    let rows = lines.lines().map(|line| line.split('\t').map(str::to_owned).collect());
    found.entry(staged.table.to_owned()).or_default().extend(rows);
}
