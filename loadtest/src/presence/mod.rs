//! `loadtest presence`: what a crowd costs that connects, reconnects and changes its status at once, while others
//! watch.
//!
//! 1. A server starts. The users of one room, and the watchers, are created over its API.
//! 2. Each watcher asks for the presence of as many members as one connection may watch. From then on it receives their
//!    changes.
//! 3. The crowd goes through its phases ([`PresencePhase`]). A phase ends when no frame has arrived for a while
//!    ([`burst`]). Frames are counted where they arrive; CPU is read before and after.
//! 4. The same burst without a watcher is the floor: it costs the connections, sessions and commands, and the
//!    difference is the cost of the notifications. All numbers of watchers take turns, for several rounds.
//!
//! It checks one promise: a watcher never receives more frames in half a second than the number of users that it
//! watches.

mod burst;
mod phase;
mod report;

use crate::measure::pair::Pair;
use crate::options::{ServerOptions, TableOptions};
use crate::progress;
use crate::report::files::write_json;
use crate::result::Machine;
use crate::run::{Interrupts, interruptible_runtime};
use crate::scenario::{RoomKind, RoomPlan};
use crate::setup::account::{PASSWORD, SETUP_CONCURRENCY, SignIn};
use crate::setup::api::Api;
use crate::setup::launch::Server;
use crate::setup::rooms::{self, Preparation};
use burst::Crowd;
use clap::Args;
use phase::PresencePhase;
use report::{MeasuredPhase, PresenceReport};
use std::slice::from_ref;

const EXAMPLES: &str = "\
Examples:
  # 1,000 users; 0, 1, 10 and 100 watchers; three rounds, some five minutes
  loadtest presence

  # a smaller crowd, two shards, figures also as JSON
  loadtest presence --users 300 --watchers 5 --workers 2 --json presence.json

Ctrl-C ends the measurement and prints the rounds measured so far.

Exit status: 0 measured, 2 wrong usage, nothing measured, or a watcher received too many frames.";

/// Options of `loadtest presence`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct PresenceOptions {
    /// Users whose presence changes, one connection each, all members of one room
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    users: u32,
    /// Connections that watch; several numbers, and none, are measured in turn
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100],
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    watchers: Vec<u32>,
    /// Users that each watcher watches; the server allows 200
    #[arg(long, default_value_t = chat_server::limits::WATCHED_MAX as u32,
          value_parser = clap::value_parser!(u32).range(1..=chat_server::limits::WATCHED_MAX as i64))]
    watched: u32,
    /// Changes of status of each user in one burst
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    toggles: u32,
    /// Rounds; the output has the median and the extremes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    table: TableOptions,
    #[command(flatten)]
    server: ServerOptions,
}

const PREFIX: &str = "presence";

/// Measures and prints.
///
/// # Errors
/// What failed, or that a watcher received too many frames.
pub fn run(options: &PresenceOptions) -> Result<(), String> {
    let machine = Machine::current();
    let (runtime, interrupts) = interruptible_runtime(0)?;
    let mut measured = Vec::new();
    match runtime.block_on(measure(options, &interrupts, &mut measured)) {
        Err(reason) if interrupts.count() == 0 || measured.is_empty() => return Err(reason),
        _ => {}
    }
    let (users, watched, toggles) = (options.users, options.watched.min(options.users), options.toggles);
    let report = PresenceReport { version: report::VERSION, machine, users, watched, toggles, bursts: measured };
    print!("{}", report.render(options.table.markdown));
    if interrupts.count() > 0 {
        println!("\ninterrupted: the unfinished measurement is left out");
    }
    if let Some(path) = &options.table.json {
        write_json(path, &report)?;
    }
    let too_much = report.bursts.iter().find(|burst| burst.most_in_interval > u64::from(watched));
    match too_much {
        Some(burst) => Err(format!(
            "a watcher of {watched} users received {} frames within half a second, when they {}",
            burst.most_in_interval,
            burst.phase.name()
        )),
        None => Ok(()),
    }
}

async fn measure(
    options: &PresenceOptions,
    interrupts: &Interrupts,
    measured: &mut Vec<MeasuredPhase>,
) -> Result<(), String> {
    let mut server = Server::start(&options.server.launch())?;
    let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
    server.ready(&api).await?;
    let most = options.watchers.iter().copied().max().unwrap_or(0);
    let all = options.users + most;
    let sign_in = SignIn { prefix: PREFIX.to_owned(), password: PASSWORD.to_owned() };
    let accounts = sign_in.sign_in_all(from_ref(&api), all, SETUP_CONCURRENCY, options.table.quiet).await?;
    let name = format!("crowd-of-{all}");
    let plan = RoomPlan { class: 0, name, kind: RoomKind::PublicRoom, members: (0..all).collect() };
    let how = Preparation { prefix: PREFIX, concurrency: SETUP_CONCURRENCY, quiet: options.table.quiet };
    rooms::prepare(&api, &accounts, &[plan], how).await?;
    let (crowd, watchers) = accounts.split_at(options.users as usize);
    let mut meters = Pair::find(api.target().resolve()?, &server.data_dir())?;
    let numbers: Vec<u32> = std::iter::once(0).chain(options.watchers.iter().copied()).collect();
    let bar = progress::bar(options.table.quiet, (numbers.len() as u32 * options.rounds).into(), "bursts");
    for round in 0..options.rounds {
        for watching in &numbers {
            let watching = &watchers[..*watching as usize];
            let mut burst = Crowd::gather(api.target(), crowd, watching, options.watched as usize).await?;
            let mut phases = Vec::new();
            for phase in PresencePhase::ALL {
                interrupts.check()?;
                phases.push(burst.go_through(phase, options.toggles, round, &mut meters).await?);
            }
            measured.append(&mut phases);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}
