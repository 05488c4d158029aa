//! Options that several commands share, and those of `loadtest run`.

use crate::plan::Spacing;
use crate::scenario::{FormatChoice, Layers, Mode, Override, Scenario};
use crate::setup::api::Target;
use crate::setup::launch::Launch;
use crate::setup::pin;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value;

const RUN_EXAMPLES: &str = "\
Examples:
  # start a server on this machine for the run; give server and generator their own cores
  loadtest run rooms-10 --server-cores 0 --generator-cores 1

  # 2,000 users in 20 rooms, MessagePack, 500 messages per second for a minute, result also as JSON
  loadtest run --users 2000 --rooms 20 --rate 500 --duration 60s --format msgpack --json result.json

  # find the highest rate that the server sustains
  loadtest run rooms-10 --mode saturate --set load.saturate.rate_start=2000

  # restart (or kill) the server during the run; nothing may be lost, duplicated or reordered
  loadtest run --url http://127.0.0.1:8080 --rate 50 --duration 2m --survive-restarts

  # files: memory of one upload, messages beside eight, downloads beside nginx (apt-get install nginx-light)
  loadtest run uploads --json uploads.json --html uploads.html

  # one server and two nodes with Redis, in turn, at three rates (apt-get install redis-tools)
  loadtest run nodes --set 'nodes.rates=[500, 1500, 2500]' --json nodes.json

By default a user may send 60 messages per minute. The server that a run starts allows more. A server given with --url
needs CHAT_SERVER__LIMITS__MAX_MESSAGES_PER_MINUTE=100000000 for higher rates, and
CHAT_SERVER__LIMITS__MAX_CONNECTIONS_PER_USER=1000 for scenarios with several connections per user.

Exit status: 0 no violation, 1 violations found, or a bar of the scenarios uploads and nodes missed, 2 wrong usage or
no connection.";

/// Options of `loadtest run`.
#[derive(Args, Debug, Clone)]
#[command(after_help = RUN_EXAMPLES, args_override_self = true)]
pub struct RunOptions {
    /// A built-in scenario's name (see `loadtest list`), or a .toml file
    #[arg(default_value = "default")]
    pub scenario: String,

    /// A running server; without it the run starts one
    #[arg(long, value_parser = Target::parse)]
    pub url: Option<Target>,

    /// Only this flood of the scenario crowding; can be repeated. Without it, every flood
    #[arg(long, value_name = "NAME", help_heading = "Scenario")]
    pub flood: Vec<String>,

    #[command(flatten)]
    pub over: Overrides,

    #[command(flatten)]
    pub server: ServerOptions,

    #[command(flatten)]
    pub output: OutputOptions,

    #[command(flatten)]
    pub generator: GeneratorOptions,

    /// Accept lost connections: reconnect, resume, and send unanswered messages again
    #[arg(long, help_heading = "Generator")]
    pub survive_restarts: bool,

    /// Users are named PREFIX-00000, PREFIX-00001, …; a rerun reuses them and their rooms
    #[arg(long, default_value = "loadtest", value_parser = parse_prefix, help_heading = "Generator")]
    pub prefix: String,

    /// The users' password
    #[arg(long, default_value = crate::setup::account::PASSWORD, help_heading = "Generator")]
    pub password: String,

    /// Most concurrent registrations, joins and connections during set-up
    #[arg(long, default_value_t = 32, help_heading = "Generator",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub setup_concurrency: u32,
}

/// Where the load comes from.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Generator")]
pub struct GeneratorOptions {
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Cores for the generator: 1 or 2,3 or 4-7
    #[arg(long = "generator-cores", value_name = "CORES", value_parser = Cores::parse)]
    pub cores: Option<Cores>,
}

/// A list of cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

impl Cores {
    /// Reads a list of cores.
    pub fn parse(text: &str) -> Result<Self, String> {
        pin::parse(text).map(Self)
    }
}

/// The arguments of a `loadtest run` that repeat these options: it keeps the server's data in `data_dir` and writes its
/// result to `result`.
pub fn of_child(generator: &GeneratorOptions, server: &ServerOptions, data_dir: &Path, result: &Path) -> Vec<String> {
    let mut arguments = vec![
        format!("--data-dir={}", data_dir.display()),
        format!("--workers={}", server.workers),
        format!("--threads={}", generator.threads),
        format!("--json={}", result.display()),
    ];
    for (name, cores) in [("server", &server.server_cores), ("generator", &generator.cores)] {
        if let Some(Cores(cores)) = cores {
            let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
            arguments.push(format!("--{name}-cores={}", cores.join(",")));
        }
    }
    if let Some(binary) = &server.server_binary {
        arguments.push(format!("--server-binary={}", binary.display()));
    }
    arguments
}

/// Values of the scenario that have their own option.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Scenario")]
pub struct Overrides {
    /// Users
    #[arg(long)]
    users: Option<u32>,
    /// Connections of each user
    #[arg(long)]
    connections_per_user: Option<u32>,
    /// Rooms of the first class
    #[arg(long)]
    rooms: Option<u32>,
    /// Users in each room of the first class; 0: all users, spread evenly
    #[arg(long)]
    room_size: Option<u32>,
    /// open, closed or saturate
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Messages per second of all connections together; 0 sends nothing
    #[arg(long)]
    rate: Option<f64>,
    /// How sends are spaced in time
    #[arg(long, value_enum)]
    spacing: Option<Spacing>,
    /// Most unanswered messages of one connection; further messages wait, and their latency counts from the plan
    #[arg(long, alias = "in-flight-max")]
    in_flight: Option<u32>,
    /// Length of each message's content, characters
    #[arg(long)]
    payload_bytes: Option<i64>,
    /// How long to send: 500ms, 10s, 5m, 1h
    #[arg(long)]
    duration: Option<String>,
    /// How long the rate grows evenly at the beginning
    #[arg(long)]
    ramp: Option<String>,
    /// How long to wait for the last acks and deliveries
    #[arg(long)]
    drain: Option<String>,
    /// Same seed, same plan of sends
    #[arg(long)]
    seed: Option<u32>,
    /// Wire format
    #[arg(long, value_enum)]
    format: Option<FormatChoice>,
    /// Offer permessage-deflate
    #[arg(long)]
    compression: bool,
    /// Do not check the promises of the protocol
    #[arg(long)]
    no_checks: bool,
    /// Any key of the scenario: load.rate=500, population.rooms.small.size=20
    #[arg(long, value_name = "KEY=VALUE", value_parser = Override::parse)]
    set: Vec<Override>,
}

impl Overrides {
    /// All of them, as keys of the file.
    pub fn all(&self) -> Vec<Override> {
        let mut all = Vec::new();
        let mut put = |option: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                let origin = format!("--{option} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                all.push(Override { key: key.to_owned(), value, origin });
            }
        };
        let whole = |number: Option<u32>| number.map(|number| Value::from(i64::from(number)));
        let text = |text: &Option<String>| text.clone().map(Value::from);
        put("users", "population.users", whole(self.users));
        put("connections-per-user", "population.connections_per_user", whole(self.connections_per_user));
        put("rooms", "population.rooms.0.count", whole(self.rooms));
        put("room-size", "population.rooms.0.size", whole(self.room_size));
        put("mode", "load.mode", self.mode.and_then(|mode| Value::try_from(mode).ok()));
        put("rate", "load.rate", self.rate.map(Value::from));
        put("spacing", "load.spacing", self.spacing.and_then(|spacing| Value::try_from(spacing).ok()));
        put("in-flight", "load.in_flight", whole(self.in_flight));
        put("payload-bytes", "load.payload_bytes", self.payload_bytes.map(Value::from));
        put("duration", "load.duration", text(&self.duration));
        put("ramp", "load.ramp", text(&self.ramp));
        put("drain", "load.drain", text(&self.drain));
        put("seed", "load.seed", whole(self.seed));
        put("format", "format", self.format.and_then(|format| Value::try_from(format).ok()));
        put("compression", "compression", self.compression.then_some(Value::from(true)));
        put("no-checks", "checks", self.no_checks.then_some(Value::from(false)));
        all.extend(self.set.iter().cloned());
        all
    }
}

/// The server that is started for a run.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Server started for the run")]
pub struct ServerOptions {
    /// The server program; without it the chat-server next to this program
    #[arg(long, value_name = "FILE")]
    pub server_binary: Option<PathBuf>,
    /// Keep the server's data here; without it they are deleted at the end
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Shards of the server
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Cores for the server and its PostgreSQL: 0 or 0,2
    #[arg(long, value_name = "CORES", value_parser = Cores::parse)]
    pub server_cores: Option<Cores>,
}

impl ServerOptions {
    /// What to start, with the server's own configuration.
    pub fn launch(&self) -> Launch {
        Launch {
            binary: self.server_binary.clone(),
            data_dir: self.data_dir.clone(),
            workers: self.workers,
            cores: self.server_cores.clone().map(|cores| cores.0),
            settings: BTreeMap::new(),
        }
    }
}

/// Where results go.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Also write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write an interval log (.hlog) for the tools of `HdrHistogram`
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Also write an HTML page with curves
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The run's name in reports; without it the scenario's name
    #[arg(long)]
    pub label: Option<String>,
    /// No progress bars
    #[arg(long)]
    pub quiet: bool,
}

/// Where the table of a measurement goes.
#[derive(Args, Debug, Clone)]
pub struct TableOptions {
    /// Also write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print the table as Markdown
    #[arg(long)]
    pub markdown: bool,
    /// No progress bars
    #[arg(long)]
    pub quiet: bool,
}

impl RunOptions {
    /// The scenario's name and the scenario, with the overrides of the command line.
    pub fn scenario(&self) -> Result<(String, Scenario), String> {
        let mut layers = Layers::open(&self.scenario)?;
        for change in self.over.all() {
            layers.set(&change)?;
        }
        let name = layers.name().to_owned();
        Ok((name, layers.scenario()?))
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
