//! What `loadtest floor` has measured: the shape of its file, and its tables.

use super::bare_loop::{LoopFloor, LoopShape};
use super::postgres::{PostgresFloor, PostgresShape};
use super::sockets::{FloorLoad, Sending, Shape, SocketFloor};
use super::summary::median_and_extremes;
use crate::result::Machine;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of [`FloorReport`].
const REPORT_VERSION: u32 = 1;

/// What a round measures, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloorCases {
    /// Socket floors.
    pub sockets: Vec<Shape>,
    /// PostgreSQL floors.
    pub postgres: Vec<PostgresShape>,
    /// Bare loops.
    pub loops: Vec<LoopShape>,
}

impl FloorCases {
    /// Whether all of them can be run.
    ///
    /// # Errors
    /// What is wrong with the first that cannot.
    pub fn validate(&self) -> Result<(), String> {
        self.sockets.iter().try_for_each(Shape::validate)?;
        self.postgres.iter().try_for_each(PostgresShape::validate)?;
        self.loops.iter().try_for_each(LoopShape::validate)
    }
}

/// Everything measured, all rounds.
#[derive(Debug, Serialize, Deserialize)]
pub struct FloorReport {
    /// Version of this shape.
    pub version: u32,
    /// What was measured on.
    pub machine: Machine,
    /// Socket floors, round by round.
    pub sockets: Vec<SocketFloor>,
    /// PostgreSQL floors, round by round.
    pub postgres: Vec<PostgresFloor>,
    /// Bare loops, round by round.
    #[serde(default)]
    pub loops: Vec<LoopFloor>,
    /// The ratios of a load test's result to the floor, with `--beside`.
    pub ratios: Option<Ratios>,
}

impl FloorReport {
    /// Without a measurement.
    pub fn new(machine: Machine) -> Self {
        let (sockets, postgres, loops) = (Vec::new(), Vec::new(), Vec::new());
        Self { version: REPORT_VERSION, machine, sockets, postgres, loops, ratios: None }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.postgres.is_empty() && self.loops.is_empty()
    }

    /// The tables, a row for each case.
    pub fn tables(&self, cases: &FloorCases) -> String {
        let sockets = FloorTable {
            title: "Socket floor: a bare epoll loop, one process, one thread",
            header: &[
                "rooms",
                "load",
                "sending",
                "bytes in/out",
                "deliveries/s",
                "CPU us/delivery",
                "server cores",
                "driver cores",
                "P50 us",
                "P99 us",
            ],
            floors: &self.sockets,
            cases: cases.sockets.len(),
        };
        let postgres = FloorTable {
            title: "PostgreSQL floor: the server's statement, schema and settings",
            header: &[
                "batch",
                "form",
                "connections",
                "rooms",
                "history",
                "rows/s",
                "commits/s",
                "commit P50 us",
                "P99 us",
                "CPU us/row",
                "PostgreSQL cores",
                "loader cores",
            ],
            floors: &self.postgres,
            cases: cases.postgres.len(),
        };
        let loops = FloorTable {
            title: "Bare loop: receives, commits in batches, and sends what is committed",
            header: &[
                "rooms",
                "load",
                "sending",
                "connections",
                "acked/s",
                "deliveries/s",
                "batch",
                "ack P50 us",
                "P99 us",
                "loop cores",
                "loader cores",
                "PostgreSQL cores",
                "driver cores",
            ],
            floors: &self.loops,
            cases: cases.loops.len(),
        };
        let texts = [sockets.text(socket_row), postgres.text(postgres_row), loops.text(loop_row)];
        texts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

/// One figure of the run and its floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What is compared.
    pub what: String,
    /// The run's figure.
    pub run: f64,
    /// The floor's, the median of its rounds.
    pub floor: f64,
    /// The first by the second.
    pub quotient: f64,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// What the run was called.
    pub label: String,
    /// In the order in which they are printed.
    pub ratios: Vec<Ratio>,
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} beside its floor", self.label)?;
        let width = self.ratios.iter().map(|ratio| ratio.what.len()).max().unwrap_or(0);
        for Ratio { what, run, floor, quotient } in &self.ratios {
            let digits = if *floor < 100.0 { 3 } else { 0 };
            writeln!(f, "  {what:<width$} {run:>12.digits$} / {floor:>12.digits$} = {quotient:.2}")?;
        }
        Ok(())
    }
}

/// One table. The floors are those of all rounds.
struct FloorTable<'a, T> {
    title: &'static str,
    header: &'a [&'static str],
    floors: &'a [T],
    cases: usize,
}

impl<T> FloorTable<'_, T> {
    fn text(&self, row: impl Fn(&[&T]) -> Vec<String>) -> Option<String> {
        if self.cases == 0 {
            return None;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(self.header.iter().copied());
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for case in 0..self.cases {
            let rounds: Vec<&T> = self.floors.iter().skip(case).step_by(self.cases).collect();
            if !rounds.is_empty() {
                table.add_row(row(&rounds));
            }
        }
        Some(format!("{}\n{}\n", self.title, table.trim_fmt()))
    }
}

fn socket_row(rounds: &[&SocketFloor]) -> Vec<String> {
    let shape = &rounds[0].shape;
    let mut row = clients(shape);
    row.extend([
        format!("{}/{}", shape.bytes_in, shape.bytes_out),
        figure(rounds, 0, |round| round.deliveries_per_s),
        figure(rounds, 3, |round| round.server_cpu_us_per_delivery),
        figure(rounds, 2, |round| round.server_cores),
        figure(rounds, 2, |round| round.driver_cores),
        figure(rounds, 0, |round| round.delivery.p50_us as f64),
        figure(rounds, 0, |round| round.delivery.p99_us as f64),
    ]);
    row
}

fn postgres_row(rounds: &[&PostgresFloor]) -> Vec<String> {
    let shape = &rounds[0].shape;
    vec![
        shape.batch.to_string(),
        format!("{:?}", shape.form).to_lowercase(),
        shape.connections.to_string(),
        format!("{} x {}", shape.rooms, shape.room_size),
        shape.history.to_string(),
        figure(rounds, 0, |round| round.rows_per_s),
        figure(rounds, 1, |round| round.commits_per_s),
        figure(rounds, 0, |round| round.commit.p50_us as f64),
        figure(rounds, 0, |round| round.commit.p99_us as f64),
        figure(rounds, 1, |round| round.postgres_cpu_us_per_row),
        figure(rounds, 2, |round| round.postgres_cores),
        figure(rounds, 2, |round| round.loader_cores),
    ]
}

fn loop_row(rounds: &[&LoopFloor]) -> Vec<String> {
    let shape = &rounds[0].shape;
    let mut row = clients(&shape.sockets);
    row.extend([
        shape.connections.to_string(),
        figure(rounds, 0, |round| round.acked_per_s),
        figure(rounds, 0, |round| round.deliveries_per_s),
        figure(rounds, 0, |round| round.batch_mean),
        figure(rounds, 0, |round| round.ack.p50_us as f64),
        figure(rounds, 0, |round| round.ack.p99_us as f64),
        figure(rounds, 2, |round| round.loop_cores),
        figure(rounds, 2, |round| round.loader_cores),
        figure(rounds, 2, |round| round.postgres_cores),
        figure(rounds, 2, |round| round.driver_cores),
    ]);
    row
}

/// Rooms, load, and how the server sends.
fn clients(shape: &Shape) -> Vec<String> {
    vec![
        format!("{} x {}", shape.rooms, shape.room_size),
        match shape.load {
            FloorLoad::Open { rate } => format!("{rate:.0} msg/s"),
            FloorLoad::Closed { window } => format!("{} x window {window}", shape.senders_per_room * shape.rooms),
        },
        match shape.sending {
            Sending::PerDelivery => "per delivery".to_owned(),
            Sending::Coalesced => "coalesced".to_owned(),
        },
    ]
}

/// A figure over the rounds: the median, and the extremes when there are several.
fn figure<T>(rounds: &[&T], digits: usize, of: impl Fn(&T) -> f64) -> String {
    let figures: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
    let [middle, low, high] = median_and_extremes(&figures);
    if rounds.len() > 1 {
        format!("{middle:.digits$} ({low:.digits$}-{high:.digits$})")
    } else {
        format!("{middle:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_rounds_give_median_and_extremes() {
        assert_eq!(figure(&[&3.0, &1.0, &2.5], 1, |f| *f), "2.5 (1.0-3.0)");
        assert_eq!(figure(&[&3.0], 2, |f| *f), "3.00");
    }

    #[test]
    fn a_table_has_the_rounds_of_each_case_in_its_row() {
        let section =
            FloorTable { title: "title", header: &["a", "b"], floors: &[1.0, 10.0, 3.0, 30.0, 2.0], cases: 2 };
        let text = section.text(|rounds| vec!["x".to_owned(), figure(rounds, 0, |f| *f)]).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["x", "2", "(1-3)"], ["x", "20", "(10-30)"]], "{text}");
        assert!(FloorTable { cases: 0, ..section }.text(|_| Vec::new()).is_none());
    }
}
