//! Several runs' figures side by side: each value, its ratio to the first run's, and whether that is better.

use crate::report::figures::{Better, Row, rows};
use crate::report::terminal::{system_line, table, write_machine, write_paragraph, write_table};
use crate::result::RunResult;
use comfy_table::Table;
use std::fmt;

/// Runs in one block of the table, next to the first one; more would not fit into 100 columns.
const OTHERS_MAX: usize = 2;
/// A name in the table's head, characters.
const LABEL_CHARS_MAX: usize = 16;
/// Below this difference nothing is called better or worse: two runs of the same differ by more.
const SAME_WITHIN: f64 = 0.01;

/// Several runs, as they are printed.
#[derive(Debug)]
pub struct SideBySide<'a>(pub &'a [RunResult]);

impl fmt::Display for SideBySide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs: Vec<&RunResult> = self.0.iter().collect();
        for (name, run) in (b'A'..).map(char::from).zip(&runs) {
            writeln!(f, "{name}  {} · {} · {}", run.label, system_line(run), run.started_at)?;
            write_machine(f, "   ", &run.machine)?;
        }
        writeln!(f)?;
        let rows = rows(&runs);
        let others: Vec<usize> = (1..runs.len()).collect();
        for block in others.chunks(OTHERS_MAX) {
            write_table(f, &block_of(&rows, &runs, block))?;
        }
        writeln!(f, "▲ better than {}, ▼ worse; nothing: alike within {:.0} %.", head(0, &runs), SAME_WITHIN * 100.0)?;
        for remark in remarks(&runs).into_iter().chain(doubts(&runs)) {
            write_paragraph(f, "note", &remark)?;
        }
        Ok(())
    }
}

/// Rows under their headings.
pub fn grouped(rows: &[Row]) -> Vec<(&'static str, Vec<&Row>)> {
    let mut groups: Vec<(&'static str, Vec<&Row>)> = Vec::new();
    for row in rows {
        let title = row.figure.group.title();
        match groups.last_mut() {
            Some((last, members)) if *last == title => members.push(row),
            _ => groups.push((title, vec![row])),
        }
    }
    groups
}

fn head(index: usize, runs: &[&RunResult]) -> String {
    let name = char::from(b'A'.saturating_add(u8::try_from(index).unwrap_or(u8::MAX)));
    let label: String = runs[index].label.chars().take(LABEL_CHARS_MAX).collect();
    format!("{name} {label}").trim().to_owned()
}

/// The first run and some others, every group of figures under its heading.
fn block_of(rows: &[Row], runs: &[&RunResult], block: &[usize]) -> Table {
    let mut header = vec![String::new(), head(0, runs)];
    for index in block {
        header.extend([head(*index, runs), String::new()]);
    }
    let mut table = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for (title, group) in grouped(rows) {
        table.add_row([format!("\n{}", title.to_uppercase())]);
        for row in group {
            let value =
                |index: usize| row.values[index].map_or_else(|| "-".to_owned(), |value| row.figure.unit.text(value));
            let ratios = row.ratios();
            let mut cells = vec![row.figure.name.clone(), value(0)];
            for index in block {
                cells.extend([value(*index), verdict_text(row.figure.better, ratios[*index])]);
            }
            table.add_row(cells);
        }
    }
    table
}

fn verdict_text(better: Better, ratio: Option<f64>) -> String {
    let Some(ratio) = ratio else { return String::new() };
    let mark = match verdict(better, ratio) {
        Verdict::Better => "▲",
        Verdict::Worse => "▼",
        Verdict::Alike => " ",
    };
    format!("{} {mark}", crate::report::format::times(ratio))
}

/// How a value compares to the first run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// On the side that one wants.
    Better,
    /// On the other.
    Worse,
    /// Neither, or no side is wanted.
    Alike,
}

/// Judges a ratio to the first run's value.
pub fn verdict(better: Better, ratio: f64) -> Verdict {
    if (ratio - 1.0).abs() <= SAME_WITHIN {
        return Verdict::Alike;
    }
    match better {
        Better::Neither => Verdict::Alike,
        Better::Higher if ratio > 1.0 => Verdict::Better,
        Better::Lower if ratio < 1.0 => Verdict::Better,
        Better::Higher | Better::Lower => Verdict::Worse,
    }
}

/// Why the runs may not be comparable.
pub fn remarks(runs: &[&RunResult]) -> Vec<String> {
    let mut remarks = Vec::new();
    let Some((first, others)) = runs.split_first() else { return remarks };
    let machine = |run: &RunResult| (run.machine.cpu.clone(), run.machine.cores, run.machine.kernel.clone());
    if others.iter().any(|run| machine(run) != machine(first)) {
        remarks.push("the runs are from different machines or kernels: their figures can't be compared".to_owned());
    }
    if others.iter().any(|run| run.scenario != first.scenario) {
        remarks.push("the runs differ in their scenarios or settings".to_owned());
    }
    let durability = |run: &RunResult| run.system.durability.clone();
    if others.iter().any(|run| durability(run) != durability(first)) {
        remarks.push("acknowledgements do not promise the same in all runs".to_owned());
    }
    remarks
}

/// Why one of the runs' figures may not be the server's.
fn doubts(runs: &[&RunResult]) -> Vec<String> {
    let mut remarks = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        if run.violations.total() > 0 {
            remarks.push(format!("{} broke promises: its figures are those of a failed run", head(index, runs)));
        }
        if !run.generator_limits.is_empty() {
            remarks.push(format!("in {} the generator was the limit, not the server", head(index, runs)));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn ratios_and_their_direction_are_shown() {
        let runs = [fixtures::run("old", 2.0), fixtures::run("new", 1.0), fixtures::run("same", 2.0)];
        let text = SideBySide(&runs).to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        }
        let acked = text.lines().find(|line| line.starts_with("acked messages/s")).unwrap();
        assert!(acked.contains("2.00× ▲"), "{acked}");
        assert!(acked.trim_end().ends_with("1.00×"), "{acked}");
        let p99 = text.lines().find(|line| line.starts_with("ack P99 ")).unwrap();
        assert!(p99.contains("0.50× ▲"), "{p99}");
    }

    #[test]
    fn a_higher_latency_is_worse_and_a_bigger_batch_is_neither() {
        assert_eq!(verdict(Better::Lower, 1.2), Verdict::Worse);
        assert_eq!(verdict(Better::Higher, 1.2), Verdict::Better);
        assert_eq!(verdict(Better::Neither, 1.2), Verdict::Alike);
        assert_eq!(verdict(Better::Lower, 1.005), Verdict::Alike);
    }

    #[test]
    fn marks_runs_that_are_not_comparable() {
        let (first, mut other) = (fixtures::run("a", 1.0), fixtures::broken("b"));
        other.machine.cores = 64;
        other.system.durability = "none".to_owned();
        let runs = [&first, &other];
        let remarks = [remarks(&runs), doubts(&runs)].concat().join("\n");
        for expected in
            ["different machines", "scenarios", "promise the same", "B b broke promises", "generator was the limit"]
        {
            assert!(remarks.contains(expected), "{expected} is missing in {remarks}");
        }
        assert!(super::remarks(&[&first, &first]).is_empty());
    }

    #[test]
    fn continues_many_runs_in_another_block() {
        let runs: Vec<RunResult> = (0..6).map(|n| fixtures::run(&format!("run-{n}"), 1.0)).collect();
        let text = SideBySide(&runs).to_string();
        assert!(text.contains("F run-5"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100));
    }
}
