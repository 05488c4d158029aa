//! One run's summary for people, at most 100 columns wide.
//!
//! The summary omits what did not happen: in a table of zeros a reader overlooks the value that is not zero.

use crate::report::figures::{per_second, switches};
use crate::report::format::{bytes, count, micros, number, percent};
use crate::result::{Latency, Machine, ProcessUsage, RunResult};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt;

/// The width that everything fits into.
const COLUMNS: usize = 100;
/// Above this, in microseconds, the generator's own delays affect the measurement.
const SEND_LAG_P99_MAX_US: u64 = 5_000;

/// A run, as it is printed.
#[derive(Debug)]
pub struct Summary<'a>(pub &'a RunResult);

/// A table without lines: the first column to the left, all others to the right.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The same for documentation too: with `markdown`, the table is one of Markdown.
pub fn table_as(header: &[&str], markdown: bool) -> Table {
    let mut table = table(header);
    if markdown {
        table.load_style(presets::ASCII_MARKDOWN);
        for column in table.column_iter_mut() {
            column.set_padding((1, 1));
        }
    }
    table
}

/// Writes a table and the empty line after it.
pub fn write_table(f: &mut fmt::Formatter<'_>, table: &Table) -> fmt::Result {
    writeln!(f, "{}\n", table.trim_fmt())
}

/// Writes a remark, its further lines below its first.
pub fn write_paragraph(f: &mut fmt::Formatter<'_>, kind: &str, text: &str) -> fmt::Result {
    let indent = " ".repeat(kind.len() + 2);
    let options = textwrap::Options::new(COLUMNS).subsequent_indent(&indent).break_words(false);
    writeln!(f, "{}", textwrap::fill(&format!("{kind}: {text}"), options))
}

/// What latencies count from.
fn counted_from(run: &RunResult) -> &'static str {
    let mode = ["/load/mode", "/mode"].iter().find_map(|path| run.scenario.pointer(path)?.as_str());
    if mode == Some("closed") { "latency from actual send" } else { "latency from planned send" }
}

/// A machine in one line.
pub fn machine_line(machine: &Machine) -> String {
    format!("{} · {}", hardware(machine), software(machine))
}

/// The machine in one line.
fn hardware(machine: &Machine) -> String {
    let cores = format!("{} core{}", machine.cores, if machine.cores == 1 { "" } else { "s" });
    let parts = [machine.cpu.clone(), cores, bytes(machine.memory_bytes as f64)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// What runs on it, and how busy it was when the run began.
fn software(machine: &Machine) -> String {
    let kernel = if machine.kernel.is_empty() { String::new() } else { format!("Linux {}", machine.kernel) };
    let parts = [machine.os.clone(), kernel, format!("load {:.2}", machine.load_1m)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// Writes a machine in lines of an indentation: its hardware, then its software.
pub fn write_machine(f: &mut fmt::Formatter<'_>, indent: &str, machine: &Machine) -> fmt::Result {
    writeln!(f, "{indent}{}", hardware(machine))?;
    writeln!(f, "{indent}{}", software(machine))
}

/// The tested system in one line.
pub fn system_line(run: &RunResult) -> String {
    let system = &run.system;
    let line = [system.name.as_str(), system.version.as_str()].join(" ").trim().to_owned();
    let mut facts = Vec::new();
    if !system.durability.is_empty() {
        facts.push(format!("acks promise: {}", system.durability));
    }
    if let Some(workers) = system.workers {
        facts.push(format!("{workers} worker{}", if workers == 1 { "" } else { "s" }));
    }
    if facts.is_empty() { line } else { format!("{line} ({})", facts.join(", ")) }
}

/// What a reader of the figures has to know, in full sentences.
pub fn notes(run: &RunResult) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(limited) = run.errors.get("rate_limited") {
        notes.push(format!(
            "{} messages were refused as rate_limited: by default a user may send 60 a minute. Use more users, or \
             start the server with CHAT_SERVER__LIMITS__MAX_MESSAGES_PER_MINUTE=1000000",
            count(*limited)
        ));
    }
    if run.counts.unsent > 0 {
        notes.push(format!(
            "{} planned messages were never sent: the limit of messages in flight or a lost connection delayed them. \
             Latencies are those of the others",
            count(run.counts.unsent)
        ));
    }
    if run.generator_limits.is_empty() && run.send_lag.p99_us > SEND_LAG_P99_MAX_US {
        notes.push(format!(
            "1 in 100 sends left {} or more after its planned time although no window delayed it: this machine is too \
             busy for the load, and latencies include that",
            micros(run.send_lag.p99_us as f64)
        ));
    }
    if run.interrupted {
        notes.push("interrupted: the figures are of the time before that".to_owned());
    }
    notes.extend(run.notes.iter().cloned());
    notes
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.0;
        writeln!(f, "{} · {} · {:.1} s", run.label, system_line(run), run.seconds)?;
        write_machine(f, "", &run.machine)?;
        let counts = &run.counts;
        let (connections, users, rooms) = (count(counts.connections), count(counts.users), count(counts.rooms));
        writeln!(f, "{connections} connections of {users} users in {rooms} rooms")?;
        writeln!(f)?;
        write_counts(f, run)?;
        write_latencies(f, run)?;
        write_usage(f, run)?;
        write_server_side(f, run)?;
        write_saturation(f, run)?;
        for limit in &run.generator_limits {
            write_paragraph(f, "limit", limit)?;
        }
        for note in notes(run) {
            write_paragraph(f, "note", &note)?;
        }
        write_violations(f, run)
    }
}

fn write_counts(f: &mut fmt::Formatter<'_>, run: &RunResult) -> fmt::Result {
    let counts = &run.counts;
    let mut rates = table(&["", "total", "per second"]);
    // Totals include what arrived after the end of sending; rates do not.
    let window = run.window();
    let all = [
        ("sent", counts.sent, Some(window.sent)),
        ("acked", counts.acked, Some(window.acked)),
        ("delivered", counts.delivered, Some(window.delivered)),
        ("other commands", counts.other_commands, Some(window.other_commands)),
        ("other events", counts.other_events, Some(window.other_events)),
        ("refused", counts.refused, None),
        ("held back", counts.held_back, None),
        ("never sent", counts.unsent, None),
        ("sent again", counts.resent, None),
        ("connections lost", counts.lost, None),
        ("restored", counts.restored, None),
        ("lagging notices", counts.lagging, None),
        ("resets", counts.resets, None),
    ];
    for (index, (what, total, in_window)) in all.into_iter().enumerate() {
        if total > 0 || index < 3 {
            let rate = in_window.map_or_else(String::new, |count| number(per_second(run, count)));
            rates.add_row([what.to_owned(), count(total), rate]);
        }
    }
    for (code, total) in &run.errors {
        rates.add_row([format!("error {code}"), count(*total), String::new()]);
    }
    write_table(f, &rates)
}

fn write_latencies(f: &mut fmt::Formatter<'_>, run: &RunResult) -> fmt::Result {
    let mut latencies = table(&[counted_from(run), "P50", "P90", "P99", "P99.9", "max", "values"]);
    let mut add = |what: String, latency: &Latency| {
        if latency.count == 0 {
            return;
        }
        let times = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p99_9_us, latency.max_us];
        let times = times.map(|us| micros(us as f64));
        latencies.add_row(std::iter::once(what).chain(times).chain([count(latency.count)]));
    };
    add("ack".to_owned(), &run.ack);
    add("delivery".to_owned(), &run.delivery);
    for class in &run.classes {
        let size = count(class.room_size.into());
        add(format!("  ack, {} ({size})", class.name), &class.ack);
        add(format!("  delivery, {} ({size})", class.name), &class.delivery);
    }
    for (name, latency) in &run.operations {
        add(name.replace('_', " "), latency);
    }
    add("written (own lag)".to_owned(), &run.send_lag);
    if latencies.row_count() == 0 {
        return Ok(());
    }
    write_table(f, &latencies)
}

fn write_usage(f: &mut fmt::Formatter<'_>, run: &RunResult) -> fmt::Result {
    let parties = [("server", &run.usage.server), ("store", &run.usage.store), ("generator", &run.usage.generator)];
    let mut cpu =
        table(&["CPU", "cores", "per message", "per delivery", "kernel", "top thread", "switches/s", "memory"]);
    for (who, usage) in parties {
        if let Some(usage) = usage {
            cpu.add_row(usage_row(run, who, usage));
        }
    }
    if cpu.row_count() == 0 {
        return Ok(());
    }
    writeln!(f, "{}", cpu.trim_fmt())?;
    if let Some(per_connection) = run.usage.server_bytes_per_connection {
        let text = bytes(per_connection);
        let kernel = run.usage.kernel_bytes_per_connection;
        let kernel = kernel.map(|kernel| format!(" The kernel uses {} for this end.", bytes(kernel)));
        writeln!(f, "The server uses {text} of its own memory per connection.{}", kernel.unwrap_or_default())?;
    }
    writeln!(f)
}

fn usage_row(run: &RunResult, who: &str, usage: &ProcessUsage) -> [String; 8] {
    let shared = |us: f64, over: u64| if over > 0 { micros(us) } else { "-".to_owned() };
    let cores = if run.seconds > 0.0 { usage.cpu_s / run.seconds } else { 0.0 };
    let kernel = if usage.cpu_s > 0.0 { usage.system_s / usage.cpu_s } else { 0.0 };
    [
        who.to_owned(),
        format!("{cores:.2}"),
        shared(usage.cpu_us_per_message, run.window().acked),
        shared(usage.cpu_us_per_delivery, run.window().delivered),
        percent(kernel),
        format!("{:.2}", usage.busiest_thread_cores),
        number(per_second(run, switches(usage)).round()),
        bytes(usage.rss_bytes as f64),
    ]
}

fn write_server_side(f: &mut fmt::Formatter<'_>, run: &RunResult) -> fmt::Result {
    let Some(server) = &run.server else { return Ok(()) };
    let mut commits = table(&["commits", "mean", "P50", "P90", "P99", "P99.9"]);
    let mut add = |what: &str, figures: &std::collections::BTreeMap<String, f64>, text: fn(f64) -> String| {
        if !figures.is_empty() {
            let values = ["mean", "p50", "p90", "p99", "p99_9"];
            let values = values.map(|name| figures.get(name).map_or_else(|| "-".to_owned(), |value| text(*value)));
            commits.add_row(std::iter::once(what.to_owned()).chain(values));
        }
    };
    add("mutations in one", &server.batch_size, number);
    add("duration", &server.commit_us, micros);
    if commits.row_count() > 0 {
        writeln!(f, "{}", commits.trim_fmt())?;
        let (batches, mutations) = (count(server.batches), count(server.batched_mutations));
        writeln!(f, "{batches} commits with {mutations} mutations.")?;
        if let Some(encodes) = server.encodes_per_event {
            writeln!(f, "Encodings per event and format: {encodes:.2}.")?;
        }
        writeln!(f)?;
    }
    let mut stages = table(&["stage", "count", "P50 ≤", "P99 ≤"]);
    for stage in server.stages.iter().filter(|stage| stage.count > 0) {
        let name = stage.name.replace('_', " ");
        stages.add_row([name, count(stage.count), micros(stage.p50_us), micros(stage.p99_us)]);
    }
    if stages.row_count() == 0 {
        return Ok(());
    }
    write_table(f, &stages)
}

fn write_saturation(f: &mut fmt::Formatter<'_>, run: &RunResult) -> fmt::Result {
    let Some(saturation) = &run.saturation else { return Ok(()) };
    let mut steps = table(&["planned/s", "acked/s", "ack P50", "ack P99", "sustained"]);
    if let Some(column) = steps.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for step in &saturation.steps {
        steps.add_row([
            number(step.planned_per_s),
            number(step.acked_per_s),
            micros(step.ack_p50_us as f64),
            micros(step.ack_p99_us as f64),
            if step.held { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    writeln!(f, "{}", steps.trim_fmt())?;
    write!(f, "Highest sustained rate: {} messages/s", number(saturation.sustained_per_s))?;
    if !saturation.broke.is_empty() {
        write!(f, "; above it, {}", saturation.broke)?;
    }
    writeln!(f, "\n")
}

fn write_violations(f: &mut fmt::Formatter<'_>, run: &RunResult) -> fmt::Result {
    let total = run.violations.total();
    if total == 0 {
        return writeln!(f, "{}", console::style("no violations").green());
    }
    writeln!(f, "{}", console::style(format!("{} VIOLATIONS", count(total))).red().bold())?;
    for (kind, found) in run.violations.iter() {
        writeln!(f, "  {:>8}  {}", count(found.count), kind.meaning())?;
        for sample in &found.samples {
            writeln!(f, "            {sample}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn summary(run: &RunResult) -> String {
        Summary(run).to_string()
    }

    #[test]
    fn summarises_a_clean_run_in_100_columns() {
        let text = summary(&fixtures::run("rooms-10", 1.0));
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        }
        for expected in
            ["no violations", "2,000", "20,000", "812 B", "P99.9", "mutations in one", "commit queue", "log in"]
        {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert!(!text.contains("refused"), "what did not happen is not mentioned");
    }

    #[test]
    fn shows_violations_limits_and_steps_of_a_broken_run() {
        let text = summary(&fixtures::broken("rooms-10"));
        for expected in [
            "3 VIOLATIONS",
            "sequence numbers skipped",
            "room_7: subscriber 12",
            "limit: the generator's thread used 97 %",
            "MAX_MESSAGES_PER_MINUTE",
            "40 planned messages were never sent",
            "interrupted",
            "Highest sustained rate: 4,000 messages/s; above it, acked fell",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }

    #[test]
    fn shows_no_plan_for_a_closed_loop() {
        let mut run = fixtures::run("durable", 1.0);
        run.scenario = serde_json::json!({"load": {"mode": "closed"}});
        assert!(summary(&run).contains("latency from actual send"));
    }

    #[test]
    fn summarises_an_empty_result() {
        assert!(summary(&RunResult::default()).contains("no violations"));
    }
}
