//! `loadtest compare`: the same load, generator, cores and measurement for this server and for others.
//!
//! ```text
//!  round 1: start A, load, stop A; start B, load, stop B; start C, …     round 2: A, B, C, …     → median and spread
//! ```
//!
//! From the inside out: [`codec`] (the protocols of the peers), [`contents`] and [`ledger`] (what they must fulfil),
//! [`adapter`] (both behind the engine's protocol), [`places`], [`child`] and [`postgres`] (programs and processes),
//! [`peers`] (how each server is found, configured and started), [`insert_server`] (the one that is part of this
//! program), [`rounds`].
//!
//! Invariants:
//! - one server runs at a time and stops before the next one starts. Otherwise the work of one would be measured as
//!   part of another;
//! - rounds are interleaved, so that a slow minute of the machine affects all servers;
//! - a peer that is not installed is named in the output. A comparison that omits a rival without a word would look
//!   won.

mod adapter;
pub mod child;
mod codec;
mod contents;
pub mod insert_server;
mod ledger;
mod options;
mod peers;
pub mod places;
pub mod postgres;
mod rounds;

#[cfg(all(test, feature = "test-db"))]
mod peers_answer_tests;

pub use options::CompareOptions;

use crate::report::command::write_page;
use crate::report::comparison::{Comparison, SystemRuns};
use crate::report::files::write_json;
use crate::report::html::Page;
use crate::scenario::{Layers, Scenario};
use options::Contestant;
use places::Places;
use rounds::{LeftOut, Rounds};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The shortest drain at the end of a run with a peer: messages in the queues of a slow server are not lost.
const DRAIN_MIN: Duration = Duration::from_mins(1);

/// The file that `--json` writes.
#[derive(Serialize)]
struct ComparisonFile<'a> {
    systems: &'a [SystemRuns],
    left_out: &'a [LeftOut],
}

/// Compares, prints and writes the results; true when our own server has no violation. The error is for people.
pub fn compare(options: &CompareOptions) -> Result<bool, String> {
    let (name, scenario) = scenario(options)?;
    let mut rounds = Rounds::prepare(options, &name, &scenario)?;
    let (contestants, mut left_out) = installed(options, rounds.places());
    for missing in &left_out {
        eprintln!("{} is left out: {}", missing.system, missing.reason);
    }
    if contestants.is_empty() {
        return Err("none of the servers is installed".to_owned());
    }
    let found = rounds.run(&contestants);
    left_out.extend(found.left_out);
    if found.systems.is_empty() {
        let reasons: Vec<String> = left_out.iter().map(|left| format!("{}: {}", left.system, left.reason)).collect();
        return Err(format!("nothing was measured. {}", reasons.join("; ")));
    }
    print!(
        "{}",
        ComparisonSummary { scenario: &name, systems: &found.systems, contestants: &contestants, left_out: &left_out }
    );
    if let Some(path) = &options.json {
        write_json(path, &ComparisonFile { systems: &found.systems, left_out: &left_out })?;
    }
    if let Some(path) = &options.html {
        write_page(path, Page::of_systems(&found.systems).map_err(|error| error.to_string())?)?;
    }
    if found.failed {
        return Err("not every server could be measured in every round; see above".to_owned());
    }
    let ours = found.systems.iter().filter(|system| system.system == Contestant::Veza.title());
    Ok(ours.flat_map(|system| &system.runs).all(|run| run.violations.total() == 0))
}

/// The contestants that are installed, and those that are not.
fn installed(options: &CompareOptions, places: &Places) -> (Vec<Contestant>, Vec<LeftOut>) {
    let (mut here, mut left_out) = (Vec::new(), Vec::new());
    for contestant in &options.peers {
        let found = match contestant {
            Contestant::Veza => Ok(()),
            Contestant::Peer(kind) => kind.find(places),
        };
        match found {
            Ok(()) if here.contains(contestant) => {}
            Ok(()) => here.push(*contestant),
            Err(missing) => left_out.push(LeftOut { system: contestant.title(), reason: missing.into() }),
        }
    }
    (here, left_out)
}

/// The scenario, if every server supports it.
fn scenario(options: &CompareOptions) -> Result<(String, Scenario), String> {
    let mut layers = Layers::open(&options.scenario)?;
    for change in options.over.all() {
        layers.set(&change)?;
    }
    let (name, mut scenario) = (layers.name().to_owned(), layers.scenario()?);
    let only_ours = [
        (scenario.logins.is_some(), "log-ins"),
        (scenario.storm.is_some(), "a storm of reconnections"),
        (scenario.slow_readers.is_some(), "slow readers"),
        (scenario.compression, "compression"),
        (scenario.actions != crate::scenario::Actions::default(), "commands other than messages"),
        (!scenario.sends(), "no messages"),
    ];
    match only_ours.iter().find(|(has, _)| *has) {
        Some((_, what)) => Err(format!(
            "scenario {name} has {what}, which not all servers support. Compare rooms-10, room-1000, durable, or a \
             file with only rooms and messages"
        )),
        None => {
            scenario.load.drain = scenario.load.drain.max(DRAIN_MIN);
            Ok((name, scenario))
        }
    }
}

/// What is printed.
struct ComparisonSummary<'a> {
    scenario: &'a str,
    systems: &'a [SystemRuns],
    contestants: &'a [Contestant],
    left_out: &'a [LeftOut],
}

impl fmt::Display for ComparisonSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}, {} systems in turn\n", self.scenario, self.systems.len())?;
        write!(f, "{}", Comparison::new(self.systems))?;
        writeln!(f)?;
        for contestant in self.contestants {
            if let Contestant::Peer(kind) = contestant {
                writeln!(f, "{}: {}.", kind.title(), kind.remark())?;
            }
        }
        for system in self.systems {
            for (kind, found) in system.runs.iter().flat_map(|run| run.violations.iter()) {
                let sample = found.samples.first().map(String::as_str).unwrap_or_default();
                writeln!(f, "{}: {} {}, for example {sample}", system.system, found.count, kind.meaning())?;
            }
        }
        for left in self.left_out {
            writeln!(f, "{} is left out: {}", left.system, left.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::peers::PeerKind;
    use super::*;
    use clap::Parser;
    use std::ffi::OsStr;
    use std::path::PathBuf;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: CompareOptions,
    }

    fn options(arguments: &[&str]) -> Result<CompareOptions, clap::Error> {
        Line::try_parse_from(["compare"].iter().chain(arguments)).map(|line| line.options)
    }

    #[test]
    fn compares_all_servers_with_ours_by_default() {
        let options = options(&[]).expect("valid");
        assert_eq!(options.peers, Contestant::ALL);
        assert_eq!((options.rounds, options.scenario.as_str()), (5, "rooms-10"));
        assert_eq!(
            self::options(&["--peers=nats,veza"]).expect("valid").peers,
            [Contestant::Peer(PeerKind::Nats), Contestant::Veza]
        );
        for wrong in ["--peers=irc", "--ports=5", "--ports=9-8", "--ports=0-5", "--rounds=0"] {
            assert!(self::options(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_missing_peers_with_their_install_commands() {
        let places = Places::new(Some(OsStr::new("")), PathBuf::from("/nonexistent"));
        let (here, left_out) = installed(&options(&[]).expect("valid"), &places);
        assert_eq!(here, [Contestant::Veza]);
        assert_eq!(left_out.len(), 5);
        for left in left_out {
            assert!(left.reason.contains("install"), "{}: {}", left.system, left.reason);
        }
    }

    #[test]
    fn refuses_a_scenario_that_not_all_servers_support() {
        for (name, what) in [("login-storm", "log-ins"), ("reconnect-storm", "storm"), ("idle", "no messages")] {
            let error = scenario(&options(&["--scenario", name]).expect("valid")).expect_err(name);
            assert!(error.contains(what), "{error}");
        }
        for name in ["rooms-10", "room-1000", "durable"] {
            assert!(scenario(&options(&["--scenario", name]).expect("valid")).is_ok(), "{name}");
        }
    }
}
