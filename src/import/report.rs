//! What an import did, or would do: for people a text, for programs JSON.

use super::options::OldServer;
use super::staged::{DumpCounts, place_of};
use super::{legacy, model};
use crate::storage::import::{PlannedCount, RemarkedRow, TableSums};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Remarks that the text shows of each kind; the file has all.
const SHOWN_REMARKS: usize = 10;

/// The report of an import.
#[derive(Clone, Default, Debug)]
pub struct ImportReport {
    /// What the dump is of.
    pub server: Option<OldServer>,
    /// The name of the old database.
    pub source: String,
    /// Whether nothing was written.
    pub is_dry_run: bool,
    /// What was read.
    pub read: DumpCounts,
    /// What became of the rows.
    pub counts: Vec<PlannedCount>,
    /// Rows and checksums of the server's tables. Empty for a dry run.
    pub tables: Vec<TableSums>,
    /// Rows that were not imported.
    pub rejected: Vec<RemarkedRow>,
    /// Rows that were imported with a change.
    pub changed: Vec<RemarkedRow>,
    /// Files: imported, and sentences about the others.
    pub files: FileCounts,
}

/// What became of files.
#[derive(Clone, Default, Debug)]
pub struct FileCounts {
    /// Files whose content was found and taken.
    pub imported: u64,
    /// Files that an earlier import took.
    pub present: u64,
}

/// One table of the dump.
struct TableLine {
    table: String,
    rows: u64,
    imported: u64,
    present: u64,
    united: u64,
    rejected: u64,
}

impl ImportReport {
    /// What a staged table was called in the dump.
    fn table_name(&self, staged: &str, generation: u8) -> String {
        match self.server {
            None | Some(OldServer::Veza) => legacy::table_name(staged, generation),
            Some(OldServer::Mattermost | OldServer::Slack) => model::table_name(staged),
        }
    }

    /// The file and the line of a row. A dump in one file has no name here.
    fn place(&self, line: u64) -> (Option<&str>, u64) {
        let (file, line) = place_of(line);
        (self.read.files.get(file).map(String::as_str), line)
    }

    fn lines(&self) -> Vec<TableLine> {
        let mut rejected: BTreeMap<(&str, u8), u64> = BTreeMap::new();
        for row in &self.rejected {
            *rejected.entry((&row.staged, row.generation)).or_default() += 1;
        }
        let line = |((staged, generation), rows): (&(&'static str, u8), &u64)| {
            let counts = self.counts.iter().find(|count| count.staged == *staged && count.generation == *generation);
            TableLine {
                table: self.table_name(staged, *generation),
                rows: *rows,
                imported: counts.map_or(0, |counts| counts.imported),
                present: counts.map_or(0, |counts| counts.present),
                united: counts.map_or(0, |counts| counts.united),
                rejected: rejected.get(&(*staged, *generation)).copied().unwrap_or(0),
            }
        };
        let mut lines: Vec<TableLine> = Vec::new();
        for next in self.read.rows.iter().map(line) {
            // Two generations share the table `messages`.
            match lines.iter_mut().find(|line| line.table == next.table) {
                Some(line) => {
                    line.rows += next.rows;
                    line.imported += next.imported;
                    line.present += next.present;
                    line.united += next.united;
                    line.rejected += next.rejected;
                }
                None => lines.push(next),
            }
        }
        lines
    }

    /// Rows that were, or would be, written.
    #[must_use]
    pub fn imported(&self) -> u64 {
        self.counts.iter().map(|count| count.imported).sum()
    }

    /// Tables whose rows are not those of the plan.
    #[must_use]
    pub fn differing_tables(&self) -> Vec<&str> {
        self.tables.iter().filter(|sums| sums.planned != sums.written).map(|sums| sums.table.as_str()).collect()
    }

    /// The counts alone.
    #[must_use]
    pub fn summary(&self) -> Value {
        let tables: Vec<Value> = self
            .lines()
            .iter()
            .map(|line| {
                json!({"table": line.table, "rows": line.rows, "imported": line.imported, "present": line.present,
                    "united": line.united, "rejected": line.rejected})
            })
            .collect();
        json!({"source": self.source, "tables": tables, "rejected": self.rejected.len(),
            "changed": self.changed.len(), "files": self.files.imported})
    }

    /// Everything.
    #[must_use]
    pub fn json(&self) -> Value {
        let remarks = |rows: &[RemarkedRow], name: &str| -> Vec<Value> {
            let remark = |row: &RemarkedRow| {
                let (file, line) = self.place(row.line);
                let mut remark = json!({"table": self.table_name(&row.staged, row.generation), "line": line,
                    "id": row.id, name: row.remark});
                if let Some(file) = file {
                    remark["file"] = file.into();
                }
                remark
            };
            rows.iter().map(remark).collect()
        };
        let sums: Vec<Value> = self
            .tables
            .iter()
            .map(|sums| {
                json!({"table": sums.table, "expected": {"rows": sums.planned.0, "checksum": sums.planned.1},
                    "found": {"rows": sums.written.0, "checksum": sums.written.1},
                    "equal": sums.planned == sums.written})
            })
            .collect();
        let mut report = self.summary();
        report["dry_run"] = self.is_dry_run.into();
        report["checksums"] = sums.into();
        report["not_imported"] = json!({"tables": self.read.other_rows, "columns": self.read.other_columns,
            "statements": self.read.ignored});
        report["files"] = json!({"imported": self.files.imported, "present": self.files.present});
        report["rejected"] = remarks(&self.rejected, "reason").into();
        report["changed"] = remarks(&self.changed, "change").into();
        report
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "table of the dump",
            "rows",
            if self.is_dry_run { "to import" } else { "imported" },
            "present",
            "united",
            "rejected"
        );
        for line in self.lines() {
            let _ = writeln!(
                text,
                "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10}",
                line.table, line.rows, line.imported, line.present, line.united, line.rejected
            );
        }
        if !self.tables.is_empty() {
            let _ = writeln!(text, "\n{:<28} {:>10} {:>22}  verified", "table of the server", "rows", "checksum");
            for sums in &self.tables {
                let verdict = if sums.planned == sums.written { "yes" } else { "NO" };
                let _ = writeln!(text, "{:<28} {:>10} {:>22}  {verdict}", sums.table, sums.written.0, sums.written.1);
            }
        }
        let others = self.read.other_rows.iter().filter(|(_, rows)| **rows > 0);
        let others: Vec<String> = others.map(|(table, rows)| format!("{table} ({rows} rows)")).collect();
        if !others.is_empty() {
            let _ = writeln!(text, "\nNot imported: {}.", others.join(", "));
        }
        if self.files.imported + self.files.present > 0 {
            let _ = writeln!(text, "\nFiles: {} imported, {} present.", self.files.imported, self.files.present);
        }
        self.remarks_text(&mut text, "Rejected", &self.rejected);
        self.remarks_text(&mut text, "Changed", &self.changed);
        text
    }

    /// How many remarks there are, and the first of them.
    fn remarks_text(&self, text: &mut String, title: &str, rows: &[RemarkedRow]) {
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{title}: {} rows", rows.len());
        for row in rows.iter().take(SHOWN_REMARKS) {
            let table = self.table_name(&row.staged, row.generation);
            let id = row.id.as_deref().unwrap_or("without id");
            let place = match self.place(row.line) {
                (Some(file), line) => format!("{file}, line or item {line}"),
                (None, line) => format!("line {line}"),
            };
            let _ = writeln!(text, "  {place}: {table} {id}: {}", row.remark);
        }
        if rows.len() > SHOWN_REMARKS {
            let _ = writeln!(text, "  … and {} more, in the file of --report", rows.len() - SHOWN_REMARKS);
        }
    }
}
