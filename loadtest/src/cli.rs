//! The command line.

use crate::bars::BarsOptions;
use crate::compare::{CompareOptions, insert_server};
use crate::floor::cli::FloorOptions;
use crate::floor::sockets::FloorServerOptions;
use crate::headline::HeadlineOptions;
use crate::hooks::HooksOptions;
use crate::options::RunOptions;
use crate::pages::PagesOptions;
use crate::presence::PresenceOptions;
use crate::report::command::ReportOptions;
use clap::{Parser, Subcommand};
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  loadtest list                                     the built-in scenarios
  loadtest run rooms-10                             start a server, measure, stop it
  loadtest run room-1000 --url http://10.0.0.5:8080 --threads 2 --json big.json
  loadtest run my.toml --set load.rate=500 --set population.rooms.small.size=20

Exit status: 0 no violation, 1 violations found, 2 wrong usage or no connection.";

/// Load test for chat servers: sends on a clock and checks every acknowledgement and delivery.
#[derive(Parser, Debug)]
#[command(name = "loadtest", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a scenario
    Run(Box<RunOptions>),
    /// List the built-in scenarios
    List,
    /// Run a scenario against this server and others in turn
    Compare(Box<CompareOptions>),
    /// The server of `loadtest compare` that INSERTs each message
    #[command(hide = true)]
    PeerTungstenite(insert_server::Options),
    /// Report on and compare results of earlier runs
    Report(ReportOptions),
    /// Measure the limit of this machine for the same work: bare sockets, bare PostgreSQL, and both as a bare loop
    Floor(Box<FloorOptions>),
    /// Measure the figures that this project sets as bars, and print them next to their bars
    Bars(Box<BarsOptions>),
    /// Measure what the project promises: 10,000 connections, 50,000 durable deliveries per second, and an overload
    Headline(Box<HeadlineOptions>),
    /// Measure how long pages of history, look-ups and searches take over a large history
    Pages(Box<PagesOptions>),
    /// Measure what bursts of changes of presence cost, with and without watchers
    Presence(Box<PresenceOptions>),
    /// Measure how long webhooks take, and what a receiver that never answers costs the others
    Hooks(Box<HooksOptions>),
    /// The server process of `floor sockets` and `floor loop`
    #[command(hide = true)]
    FloorServer(FloorServerOptions),
}

/// The arguments of this process. Options without a command are those of `run`.
pub fn arguments() -> Arguments {
    Arguments::parse_from(with_command(std::env::args_os().collect()))
}

fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|first| first.to_str()).unwrap_or("--help");
    if arguments.len() < 2 {
        arguments.push("--help".into());
    } else if first.starts_with("--") && !["--help", "--version"].contains(&first) {
        arguments.insert(1, "run".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Spacing;
    use crate::scenario::{FormatChoice, Mode, Scenario};

    fn run(arguments: &[&str]) -> Result<RunOptions, String> {
        let all = std::iter::once("loadtest").chain(arguments.iter().copied()).map(OsString::from).collect();
        match Arguments::try_parse_from(with_command(all)).map_err(|error| error.to_string())?.command {
            Command::Run(options) => Ok(*options),
            other => Err(format!("{other:?}")),
        }
    }

    fn scenario(arguments: &[&str]) -> Result<Scenario, String> {
        run(arguments)?.scenario().map(|(_, scenario)| scenario)
    }

    #[test]
    fn reads_options_without_a_command_as_those_of_run() {
        let scenario = scenario(&["--users=12", "--rooms", "3", "--rate=200", "--no-checks"]).expect("valid");
        assert_eq!((scenario.population.users, scenario.population.rooms[0].count), (12, 3));
        assert!((scenario.load.rate - 200.0).abs() < f64::EPSILON && !scenario.checks);
        assert!(run(&["list"]).is_err());
        assert_eq!(with_command(vec!["loadtest".into()]), ["loadtest", "--help"]);
    }

    #[test]
    fn every_option_reaches_its_key() {
        let options = [
            "run",
            "rooms-10",
            "--users=40",
            "--connections-per-user=2",
            "--rooms=4",
            "--room-size=5",
            "--mode=closed",
            "--spacing=even",
            "--in-flight=3",
            "--payload-bytes=99",
            "--duration=3s",
            "--ramp=1s",
            "--drain=2s",
            "--seed=9",
            "--format=both",
            "--compression",
            "--set",
            "actions.typing=1.5",
        ];
        let scenario = scenario(&options).expect("valid");
        assert_eq!((scenario.population.connections_per_user, scenario.population.rooms[0].size), (2, 5));
        assert_eq!((scenario.load.mode, scenario.load.spacing), (Mode::Closed, Spacing::Even));
        assert_eq!((scenario.load.in_flight, scenario.load.seed), (3, 9));
        assert_eq!([scenario.load.duration, scenario.load.ramp, scenario.load.drain].map(|d| d.as_secs()), [3, 1, 2]);
        assert_eq!((scenario.format, scenario.compression), (FormatChoice::Both, true));
        assert!((scenario.actions.typing - 1.5).abs() < f64::EPSILON);
    }

    #[test]
    fn wrong_values_are_refused_with_their_option() {
        for wrong in [["--rate", "-1"], ["--payload-bytes", "10"], ["--users", "0"], ["--duration", "soon"]] {
            assert!(scenario(&[&wrong.join("=")]).is_err(), "{wrong:?}");
        }
        for wrong in [["--prefix", "a b"], ["--url", "https://example.org"], ["--server-cores", "x"]] {
            assert!(run(&[&wrong.join("=")]).is_err(), "{wrong:?}");
        }
        assert!(scenario(&["--duration=soon"]).is_err_and(|why| why.contains("--duration soon")));
    }
}
