//! The command line.

use crate::api::Target;
use crate::floor::cli::FloorOptions;
use crate::floor::sockets::ServerOptions;
use crate::payload::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use crate::plan::Spacing;
use crate::wire::Format;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  # 50 users in 5 rooms, 100 messages a second for 10 s, against a server on this machine
  loadtest

  # 2,000 users in 20 rooms, MessagePack, 500 messages a second for a minute, result also as JSON
  loadtest --users 2000 --rooms 20 --rate 500 --duration 60s --format msgpack --json result.json

  # the server is restarted (or killed) while this runs; nothing may be lost, doubled or reordered
  loadtest --rate 50 --duration 2m --survive-restarts

Each user may send 60 messages a minute by default: at --rate 100 that takes 100 users or more in runs of a minute and
longer. To measure beyond it, start the server with CHAT_SERVER__LIMITS__MAX_MESSAGES_PER_MINUTE=1000000.

Exit status: 0 no violation, 1 violations found, 2 wrong usage or no connection.";

/// Load test for Veza Chat Server: sends on a clock, and holds every ack and delivery to the protocol's promises.
#[derive(Parser, Debug, Clone)]
#[command(name = "loadtest", version, after_help = EXAMPLES, args_override_self = true)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Something else than a load test
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where the server is
    #[arg(long, default_value = "http://127.0.0.1:8080", value_parser = Target::parse)]
    pub url: Target,

    /// How many users, each with one connection
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,

    /// How many public rooms they are spread over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rooms: u32,

    /// How many rooms each user joins
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rooms_per_user: u32,

    /// Messages per second, all users together; 0 sends nothing
    #[arg(long, default_value_t = 100.0, value_parser = parse_rate)]
    pub rate: f64,

    /// How long to send: 500ms, 10s, 5m, 1h
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,

    /// How sends are spaced in time
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    pub spacing: Spacing,

    /// Length of each message's content, characters
    #[arg(long, default_value_t = 128, value_parser = parse_payload)]
    pub payload_bytes: usize,

    /// Wire format
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,

    /// How many messages of one client may wait for their ack; later ones wait, their latency counts from the plan
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight_max: u32,

    /// Users are called PREFIX-00000, PREFIX-00001, …, rooms PREFIX-room-0, …; a rerun uses them again
    #[arg(long, default_value = "loadtest", value_parser = parse_prefix)]
    pub prefix: String,

    /// The users' password
    #[arg(long, default_value = "load-Test_7-harbour-evening")]
    pub password: String,

    /// Same seed, same plan of sends
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Write the result to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// How long to wait for the last acks and deliveries
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub drain: Duration,

    /// How many registrations, joins and connections to have under way at once during set-up
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub setup_concurrency: u32,

    /// A lost connection is no violation: reconnect, resume, send unanswered messages again
    #[arg(long)]
    pub survive_restarts: bool,

    /// No progress bars
    #[arg(long)]
    pub quiet: bool,
}

/// What the program can do besides.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Measure what this machine can do at all: bare sockets and bare PostgreSQL, for the same shape of work
    Floor(Box<FloorOptions>),
    /// The server process of `floor sockets`
    #[command(hide = true)]
    FloorServer(ServerOptions),
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let hint = || format!("\"{text}\" is not a duration; write 500ms, 10s, 5m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| hint())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(hint()),
    };
    // The header of a content holds planned times up to a day and a bit.
    if seconds > 86_400.0 {
        return Err("longer than a day".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| hint())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("\"{text}\" is not a number"))?;
    if (0.0..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("must be between 0 and 10,000,000".to_owned()) }
}

fn parse_payload(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("\"{text}\" is not a number"))?;
    if (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("must be between {PAYLOAD_BYTES_MIN} (the test's own header) and {PAYLOAD_BYTES_MAX}"))
    }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let fits = (1..=40).contains(&text.len());
    if fits && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 40 of A-Z a-z 0-9 _ -".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_has_the_documented_defaults() {
        let options = Options::try_parse_from(["loadtest"]).expect("defaults are valid");
        assert_eq!((options.users, options.rooms, options.payload_bytes), (50, 5, 128));
        assert_eq!(options.duration, Duration::from_secs(10));
        assert_eq!(options.url.to_string(), "http://127.0.0.1:8080");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "s", "-1s", "5 days", "1.2.3s", "25h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for wrong in [
            ["--rate", "-1"],
            ["--payload-bytes", "10"],
            ["--payload-bytes", "4001"],
            ["--users", "0"],
            ["--prefix", "a b"],
            ["--url", "https://example.org"],
            ["--url", "127.0.0.1:8080"],
        ] {
            assert!(Options::try_parse_from(["loadtest", &wrong.join("=")]).is_err(), "{wrong:?}");
        }
    }
}
