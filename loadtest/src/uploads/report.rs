//! The results of `loadtest run uploads`, and whether they meet their bars.

use super::downloads::CONNECTIONS;
use super::flood::Uploaded;
use super::memory::SampledMemory;
use super::transfer::UploadWay;
use crate::crowding::{Seen, Times};
use crate::floor::summary::median;
use crate::report::format::{bytes, micros};
use crate::report::held_bar::{HEADER, HeldBar};
use crate::report::sections::{self, Section};
use crate::result::Machine;
use crate::scenario::{UploadPart, Uploads};
use serde::Serialize;

/// Version of [`UploadsReport`].
const VERSION: u32 = 1;
/// The most that the server may grow by during an upload.
const MEMORY_MAX_BYTES: f64 = 32.0 * 1024.0 * 1024.0;
/// The P99 beside uploads, as a multiple of the quiet one.
const P99_RATIO_MAX: f64 = 2.0;
/// The throughput of a download, as a part of nginx's.
const DOWNLOAD_RATIO_MIN: f64 = 0.8;

/// Everything measured.
#[derive(Serialize)]
pub(super) struct UploadsReport {
    version: u32,
    machine: Machine,
    /// Bytes of each file.
    size_bytes: u64,
    /// Uploads at the same time beside messages.
    at_once: u32,
    /// The pace of each of these; 0: as fast as possible.
    upload_bytes_per_s: u64,
    /// The version of nginx.
    pub(super) nginx: Option<String>,
    pub(super) memory: Vec<MeasuredUpload>,
    pub(super) messages: Vec<MessagePhase>,
    pub(super) downloads: Vec<DownloadRound>,
    bars: Vec<HeldBar>,
}

/// One upload to a fresh server.
#[derive(Serialize)]
pub(super) struct MeasuredUpload {
    pub(super) way: UploadWay,
    pub(super) memory: SampledMemory,
    /// From its beginning until the file was checked.
    pub(super) seconds_until_ready: f64,
    /// Of the upload alone.
    pub(super) bytes_per_s: f64,
}

/// What the ordinary users saw of a phase.
#[derive(Serialize)]
pub(super) struct MessagePhase {
    /// None in a quiet phase.
    uploaded: Option<Uploaded>,
    ack: Times,
    delivery: Times,
    refused: Vec<String>,
}

impl MessagePhase {
    pub(super) fn of(uploaded: Option<Uploaded>, seen: Seen) -> Self {
        let Seen { ack, delivery, refused, .. } = seen;
        Self { uploaded, ack: Times::of(ack), delivery: Times::of(delivery), refused }
    }
}

/// Downloads in turn, bytes per second.
#[derive(Serialize)]
pub(super) struct DownloadRound {
    round: u32,
    connections: u32,
    server: f64,
    nginx: f64,
    /// sendfile(2) in the client's own process.
    bare: f64,
}

impl DownloadRound {
    pub(super) fn of(round: u32, connections: u32, [server, nginx, bare]: [f64; 3]) -> Self {
        Self { round, connections, server, nginx, bare }
    }
}

fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

/// The median P99 of the loaded phases as a multiple of that of the quiet ones: one phase that something else disturbed
/// does not decide.
fn p99_ratio(phases: &[MessagePhase], of: impl Fn(&MessagePhase) -> Times) -> Option<f64> {
    let middle = |is_loaded: bool| {
        let kind = phases.iter().filter(|phase| phase.uploaded.is_some() == is_loaded).map(&of);
        let all: Vec<f64> = kind.filter(|times| times.count > 0).map(|times| times.p99_us).collect();
        (!all.is_empty()).then(|| median(all))
    };
    Some(middle(true)? / middle(false)?.max(1.0))
}

impl UploadsReport {
    pub(super) fn new(machine: Machine, plan: &Uploads) -> Self {
        let Uploads { size_bytes, at_once, bytes_per_s: upload_bytes_per_s, .. } = *plan;
        Self {
            version: VERSION,
            machine,
            size_bytes,
            at_once,
            upload_bytes_per_s,
            nginx: None,
            memory: Vec::new(),
            messages: Vec::new(),
            downloads: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// Compares what was measured with the bars of the chosen parts.
    pub(super) fn hold_to_bars(&mut self, plan: &Uploads) {
        let mut bars = Vec::new();
        let has = |part| plan.parts.contains(&part);
        for way in UploadWay::ALL.into_iter().filter(|_| has(UploadPart::Memory)) {
            let found = self.memory.iter().find(|upload| upload.way == way);
            let growth = found.map(|upload| upload.memory.growth() as f64);
            let what = format!("memory of one upload: {}", way.title());
            bars.push(HeldBar::at_most(what, growth, MEMORY_MAX_BYTES).of_bytes());
        }
        if has(UploadPart::Messages) {
            let (phases, n) = (&self.messages, self.at_once);
            let acks = p99_ratio(phases, |phase| phase.ack);
            let deliveries = p99_ratio(phases, |phase| phase.delivery);
            bars.push(HeldBar::at_most(format!("P99 of acks beside {n} uploads / quiet"), acks, P99_RATIO_MAX));
            bars.push(HeldBar::at_most(
                format!("P99 of deliveries beside {n} uploads / quiet"),
                deliveries,
                P99_RATIO_MAX,
            ));
            let refused = phases.iter().map(|phase| phase.refused.len()).sum::<usize>() as f64;
            let refused = (!phases.is_empty()).then_some(refused);
            bars.push(HeldBar::at_most("requests of ordinary users that were refused".to_owned(), refused, 0.0));
        }
        for connections in CONNECTIONS.into_iter().filter(|_| has(UploadPart::Downloads)) {
            let of = |round: &&DownloadRound| round.connections == connections;
            let ratio = |round: &DownloadRound| round.server / round.nginx.max(1.0);
            let ratios: Vec<f64> = self.downloads.iter().filter(of).map(ratio).collect();
            let middle = (!ratios.is_empty()).then(|| median(ratios));
            let plural = if connections == 1 { "" } else { "s" };
            let what = format!("download / nginx, {connections} connection{plural}");
            bars.push(HeldBar::at_least(what, middle, DOWNLOAD_RATIO_MIN));
        }
        self.bars = bars;
    }

    /// Whether every bar is met.
    pub(super) fn is_met(&self) -> bool {
        self.bars.iter().all(|bar| bar.met)
    }

    fn sections(&self) -> Vec<Section> {
        let size = bytes(self.size_bytes as f64);
        let memory = self.memory.iter().map(|upload| {
            let SampledMemory { before, peak, after } = upload.memory;
            let shown = [before, peak, after].map(|value| bytes(value as f64));
            let mut row = vec![upload.way.title().to_owned()];
            row.extend(shown);
            row.push(bytes(upload.memory.growth() as f64));
            row.push(format!("{:.2} s", upload.seconds_until_ready));
            row.push(rate(upload.bytes_per_s));
            row
        });
        let messages = self.messages.iter().map(|phase| {
            let beside = phase.uploaded.map_or_else(|| "quiet".to_owned(), |_| format!("{} uploads", self.at_once));
            let (ack, delivery) = (phase.ack, phase.delivery);
            let mut row = vec![beside];
            row.extend([ack.p50_us, ack.p99_us, delivery.p50_us, delivery.p99_us].map(micros));
            row.push(format!("{} / {}", ack.count, delivery.count));
            row.push(phase.refused.len().to_string());
            row.push(phase.uploaded.map_or_else(String::new, |up| format!("{} / {}", up.files, rate(up.bytes_per_s))));
            row
        });
        let downloads = self.downloads.iter().map(|round| {
            let mut row = vec![(round.round + 1).to_string(), round.connections.to_string()];
            row.extend([round.server, round.nginx, round.bare].map(rate));
            row.push(format!("{:.2}", round.server / round.nginx.max(1.0)));
            row
        });
        let nginx = self.nginx.as_deref().unwrap_or_default();
        let all = [
            Section {
                title: format!("Memory of the server, one upload of {size}"),
                header: vec!["upload", "before", "peak", "after", "growth", "until ready", "upload rate"],
                rows: memory.collect(),
            },
            Section {
                title: match self.upload_bytes_per_s {
                    0 => "Messages beside uploads".to_owned(),
                    pace => format!("Messages beside uploads of {} each", rate(pace as f64)),
                },
                header: vec![
                    "beside",
                    "ack P50",
                    "P99",
                    "delivery P50",
                    "P99",
                    "acks / deliveries",
                    "refused",
                    "files ready / rate",
                ],
                rows: messages.collect(),
            },
            Section {
                title: format!("Downloads of {size}, nginx {nginx}"),
                header: vec!["round", "connections", "server", "nginx", "bare sendfile", "server / nginx"],
                rows: downloads.collect(),
            },
            Section {
                title: "Bars".to_owned(),
                header: HEADER.to_vec(),
                rows: self.bars.iter().map(HeldBar::row).collect(),
            },
        ];
        all.into_iter().filter(|section| !section.rows.is_empty()).collect()
    }

    /// The different refusals of ordinary users.
    fn refusals(&self) -> Vec<String> {
        let mut all: Vec<&String> = self.messages.iter().flat_map(|phase| &phase.refused).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(|refusal| format!("refused: {refusal}")).collect()
    }

    /// For people.
    pub(super) fn render(&self) -> String {
        sections::text(&self.machine, &self.sections(), &self.refusals())
    }

    /// The same as a page that needs nothing else.
    pub(super) fn page(&self, label: &str) -> String {
        sections::page(label, &self.machine, &self.sections(), &self.refusals())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MIB: u64 = 1024 * 1024;

    fn upload(way: UploadWay, growth: u64) -> MeasuredUpload {
        let memory = SampledMemory { before: 50 * MIB, peak: 50 * MIB + growth, after: 50 * MIB };
        MeasuredUpload { way, memory, seconds_until_ready: 1.0, bytes_per_s: 1e8 }
    }

    fn phase(is_loaded: bool, ack_ms: u64, delivery_ms: u64, refused: &[&str]) -> MessagePhase {
        let uploaded = is_loaded.then_some(Uploaded { files: 3, bytes_per_s: 1e8 });
        let times = |ms| vec![Duration::from_millis(ms); 50];
        let refused = refused.iter().map(|words| (*words).to_owned()).collect();
        let seen = Seen { ack: times(ack_ms), delivery: times(delivery_ms), refused, ..Seen::default() };
        MessagePhase::of(uploaded, seen)
    }

    fn verdicts(report: &UploadsReport) -> Vec<bool> {
        report.bars.iter().map(|bar| bar.met).collect()
    }

    fn measured() -> UploadsReport {
        let mut report = UploadsReport::new(Machine::current(), &Uploads::default());
        report.memory = UploadWay::ALL.map(|way| upload(way, 32 * MIB)).into();
        report.messages = vec![phase(false, 2, 3, &[]), phase(true, 4, 6, &[]), phase(false, 2, 3, &[])];
        report.downloads = vec![
            DownloadRound::of(0, 1, [0.7e9, 1e9, 2e9]),
            DownloadRound::of(0, 4, [0.8e9, 1e9, 2e9]),
            DownloadRound::of(1, 1, [0.9e9, 1e9, 2e9]),
            DownloadRound::of(2, 1, [0.8e9, 1e9, 2e9]),
        ];
        report
    }

    #[test]
    fn figures_at_their_bars_meet_them() {
        let mut report = measured();
        report.hold_to_bars(&Uploads::default());
        assert_eq!(verdicts(&report), [true; 8]);
        assert!(report.is_met());
        let text = report.render();
        assert!(text.contains("32.0 MiB") && !text.contains("NOT MET") && !text.contains("not measured"), "{text}");
    }

    #[test]
    fn each_missed_bar_is_named() {
        let mut report = measured();
        report.memory[1] = upload(UploadWay::OneBody, 32 * MIB + 1);
        report.messages[1] = phase(true, 5, 6, &["overloaded: wait"]);
        report.downloads[1] = DownloadRound::of(0, 4, [0.79e9, 1e9, 2e9]);
        report.hold_to_bars(&Uploads::default());
        assert_eq!(verdicts(&report), [true, false, true, false, true, false, true, false]);
        assert!(!report.is_met());
        let text = report.render();
        assert!(text.contains("P99 of acks beside 8 uploads / quiet") && text.contains("2.50"), "{text}");
        assert!(text.contains("refused: overloaded: wait"), "{text}");
    }

    #[test]
    fn one_disturbed_phase_does_not_decide() {
        let mut report = measured();
        let acks = [(false, 2), (true, 6), (false, 90), (true, 80), (false, 2), (true, 6), (false, 4)];
        report.messages = acks.map(|(is_loaded, ms)| phase(is_loaded, ms, ms, &[])).into();
        report.hold_to_bars(&Uploads::default());
        // 6 ms, of 6, 6 and 80, to 3 ms, between 2 and 4 of 2, 2, 4 and 90.
        assert_eq!(report.bars[3].measured, Some(2.0));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let plan = Uploads { parts: vec![UploadPart::Messages, UploadPart::Downloads], ..Uploads::default() };
        let mut report = UploadsReport::new(Machine::current(), &plan);
        report.hold_to_bars(&plan);
        assert_eq!(verdicts(&report), [false; 5], "no bar of a part that was left out");
        assert!(report.render().contains("not measured"));
    }

    #[test]
    fn a_page_has_the_same_tables_and_escapes_text() {
        let mut report = measured();
        report.messages[1] = phase(true, 5, 6, &["<script>alert(1)</script>"]);
        report.hold_to_bars(&Uploads::default());
        let page = report.page("a <b>");
        assert!(page.contains("<h1>a &lt;b&gt;</h1>") && page.contains("NOT MET") && page.contains("/files/simple"));
        assert!(!page.contains("<script"), "{page}");
    }
}
