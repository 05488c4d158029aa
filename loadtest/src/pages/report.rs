//! The results of `loadtest pages`, as a table, as Markdown, as JSON and as an HTML page.

use super::fill::Filled;
use crate::report::format::{bytes, count, micros};
use crate::report::html::{Page, PageError};
use crate::report::terminal::{machine_line, table_as};
use crate::result::{Latency, Machine, RESULT_VERSION, RunResult, SystemUnderTest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Version of [`PagesReport`].
pub const VERSION: u32 = 1;

/// Everything measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct PagesReport {
    /// Version of this shape.
    pub version: u32,
    /// What was measured on.
    pub machine: Machine,
    /// What was measured over.
    pub filled: Filled,
    /// Kinds of pages, each concurrency by itself.
    pub kinds: Vec<Measured>,
}

/// One kind with so many requests at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub kind: String,
    /// Concurrent requests.
    pub concurrency: u32,
    /// Through the server.
    pub server: Latency,
    /// Directly of PostgreSQL.
    pub bare: Latency,
    /// Bytes of an answer's data, mean.
    pub bytes: f64,
    /// The server's CPU for a page, microseconds.
    pub server_cpu_us: f64,
    /// PostgreSQL's CPU for a page of the server's, microseconds.
    pub store_cpu_us: f64,
    /// PostgreSQL's CPU for a page of the floor's, microseconds.
    pub bare_store_cpu_us: f64,
    /// What the server refused, by its words.
    pub refused: BTreeMap<String, u64>,
    /// What PostgreSQL refused.
    pub bare_refused: BTreeMap<String, u64>,
}

const HEADER: [&str; 11] = [
    "page",
    "at once",
    "P50",
    "P99",
    "max",
    "CPU server",
    "PostgreSQL",
    "bare P50",
    "bare P99",
    "bare CPU",
    "P50 / bare",
];

impl Measured {
    fn row(&self) -> [String; 11] {
        let ratio = self.server.p50_us as f64 / self.bare.p50_us.max(1) as f64;
        [
            self.kind.clone(),
            self.concurrency.to_string(),
            micros(self.server.p50_us as f64),
            micros(self.server.p99_us as f64),
            micros(self.server.max_us as f64),
            micros(self.server_cpu_us.round()),
            micros(self.store_cpu_us.round()),
            micros(self.bare.p50_us as f64),
            micros(self.bare.p99_us as f64),
            micros(self.bare_store_cpu_us.round()),
            format!("{ratio:.2}"),
        ]
    }

    /// What a reader of its row has to know.
    fn remarks(&self) -> impl Iterator<Item = String> {
        let of = |who: &str, refused: &BTreeMap<String, u64>, asked: u64| {
            let remark = |(words, n): (&String, &u64)| {
                format!("{}, {} at once: {who} refused {n} of {asked}: {words}", self.kind, self.concurrency)
            };
            refused.iter().map(remark).collect::<Vec<_>>()
        };
        let server = of("the server", &self.refused, self.server.count);
        server.into_iter().chain(of("PostgreSQL", &self.bare_refused, self.bare.count))
    }
}

impl PagesReport {
    fn describe(&self) -> String {
        let filled = &self.filled;
        format!(
            "{} messages, {} ({} of it the search), inserted in {:.0} s, indexed in {:.0} s ({:.0} µs a message)",
            count(filled.messages),
            bytes(filled.database_bytes as f64),
            bytes(filled.search_bytes as f64),
            filled.inserting_s,
            filled.indexing_s,
            filled.indexing_us_per_message,
        )
    }

    fn render(&self, markdown: bool) -> String {
        let mut table = table_as(&HEADER, markdown);
        table.add_rows(self.kinds.iter().map(Measured::row));
        let mut text = format!("{}\n{}\n\n{}\n", machine_line(&self.machine), self.describe(), table.trim_fmt());
        for remark in self.kinds.iter().flat_map(Measured::remarks) {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "note: {remark}");
        }
        text
    }

    /// For a terminal.
    pub fn terminal(&self) -> String {
        self.render(false)
    }

    /// For documentation.
    pub fn markdown(&self) -> String {
        self.render(true)
    }

    /// For a browser: the server next to its floor, for each concurrency.
    ///
    /// # Errors
    /// What is wrong with a histogram.
    pub fn page(&self) -> Result<Page, PageError> {
        let mut runs: Vec<RunResult> = Vec::new();
        let mut concurrencies: Vec<u32> = self.kinds.iter().map(|kind| kind.concurrency).collect();
        concurrencies.sort_unstable();
        concurrencies.dedup();
        for concurrency in concurrencies {
            for (who, of) in [("bare", (|kind| &kind.bare) as fn(&Measured) -> &Latency), ("server", |k| &k.server)] {
                let measured = self.kinds.iter().filter(|kind| kind.concurrency == concurrency);
                runs.push(RunResult {
                    version: RESULT_VERSION,
                    label: format!("{who}, {concurrency} at once"),
                    system: SystemUnderTest { name: self.describe(), ..SystemUnderTest::default() },
                    machine: self.machine.clone(),
                    operations: measured.map(|kind| (kind.kind.clone(), of(kind).clone())).collect(),
                    ..RunResult::default()
                });
            }
        }
        Page::of_runs(&runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recorder::histogram;

    fn report() -> PagesReport {
        let latency = |us: u64| {
            let mut values = histogram().unwrap();
            (0..100).for_each(|n| values.record(us + n).unwrap());
            Latency::of(&values).unwrap()
        };
        let measured = |kind: &str, concurrency, us| Measured {
            kind: kind.to_owned(),
            concurrency,
            server: latency(2 * us),
            bare: latency(us),
            bytes: 500.0,
            server_cpu_us: 70.0,
            store_cpu_us: 300.0,
            bare_store_cpu_us: 290.0,
            refused: BTreeMap::from([("storage_unavailable: later".to_owned(), 3)]),
            bare_refused: BTreeMap::new(),
        };
        let filled = Filled {
            messages: 1_000_000,
            users: 40,
            seed: 1,
            inserting_s: 30.0,
            indexing_s: 100.0,
            indexing_us_per_message: 100.0,
            database_bytes: 2 << 30,
            search_bytes: 1 << 30,
        };
        let kinds = vec![measured("history: newest", 1, 1_000), measured("history: newest", 8, 50_000)];
        PagesReport { version: VERSION, machine: Machine::default(), filled, kinds }
    }

    #[test]
    fn writes_numbers_without_locale() {
        let report = report();
        let (terminal, markdown) = (report.terminal(), report.markdown());
        for text in [&terminal, &markdown] {
            for part in ["1,000,000 messages", "history: newest", "2.05 ms", "1.05 ms", "70 µs", "1.95", "3 of 100"] {
                assert!(text.contains(part), "{part} is missing:\n{text}");
            }
        }
        assert!(markdown.contains("| history: newest"), "{markdown}");
        let html = report.page().unwrap().into_html().unwrap();
        assert!(html.contains("bare, 1 at once") && html.contains("server, 8 at once"));
        let json = serde_json::to_string(&report).unwrap();
        let read: PagesReport = serde_json::from_str(&json).unwrap();
        assert_eq!((read.filled, read.kinds.len()), (report.filled, 2));
    }
}
