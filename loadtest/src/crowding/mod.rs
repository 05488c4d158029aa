//! `loadtest run crowding`: an ordinary room, without and with a flood beside it.
//!
//! 1. A server starts with its default limits. One room of ordinary users sends messages on a clock; each of them reads
//!    the history twice a second, and connections open all the time ([`ordinary`]).
//! 2. Beside them, in turn, nothing, and one phase for each kind of command that floods: 4 accounts with 5 sockets each
//!    keep 256 commands in flight on every socket ([`flood`]). The last phase is quiet again.
//! 3. Latencies count from the planned time. The bar: P99 of histories, connections and acks of every phase within
//!    twice that of the quiet phases, and no request of an ordinary user refused ([`report`]).
//!
//! The flood runs in a thread of its own, so that its clients delay nobody.

mod flood;
mod ordinary;
mod report;

use crate::options::RunOptions;
use crate::report::files::write_json;
use crate::result::Machine;
use crate::run::{Interrupts, interruptible_runtime};
use crate::scenario::{RoomKind, RoomPlan};
use crate::setup::account::{Account, SETUP_CONCURRENCY, SignIn};
use crate::setup::api::Api;
use crate::setup::launch::{Launch, Server};
use crate::setup::rooms::{self, Preparation};
use flood::{Den, Flood};
use ordinary::Ordinary;
use report::{CrowdingReport, Phase};
use std::time::Duration;

/// The scenario's name.
pub const NAME: &str = "crowding";
/// Accounts that flood.
const FLOODERS: u32 = 4;
/// Between two phases: the queues empty, the budgets stay spent.
const PAUSE: Duration = Duration::from_secs(2);

/// Measures and prints. Returns whether every request of an ordinary user was answered.
///
/// # Errors
/// What could not be done.
pub fn run(options: &RunOptions) -> Result<bool, String> {
    if options.url.is_some() {
        return Err(format!("{NAME} needs a server with known limits: leave --url out"));
    }
    let machine = Machine::current();
    let (runtime, interrupts) = interruptible_runtime(0)?;
    let mut phases = Vec::new();
    match runtime.block_on(measure(options, &interrupts, &mut phases)) {
        Err(reason) if interrupts.count() == 0 || phases.is_empty() => return Err(reason),
        _ => {}
    }
    let report = CrowdingReport { version: report::VERSION, machine, phases };
    print!("{}", report.render());
    if let Some(path) = &options.output.json {
        write_json(path, &report)?;
    }
    Ok(report.refused() == 0)
}

async fn measure(options: &RunOptions, interrupts: &Interrupts, phases: &mut Vec<Phase>) -> Result<(), String> {
    let (_, scenario) = options.scenario()?;
    let settings = scenario.server.clone();
    let mut server = Server::start(&Launch { settings, ..options.server.launch() })?;
    let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
    server.ready(&api).await?;
    let users = scenario.population.users;
    let sign_in = SignIn { prefix: options.prefix.clone(), password: options.password.clone() };
    let accounts = sign_in.sign_in_all(&api, users + FLOODERS, SETUP_CONCURRENCY, options.output.quiet).await?;
    let plan = |name: &str, members: std::ops::Range<u32>| RoomPlan {
        class: 0,
        name: format!("{name}-of-{}", members.len()),
        kind: RoomKind::PublicRoom,
        members: members.collect(),
    };
    let plans = [plan("ordinary", 0..users), plan("den", users..users + FLOODERS)];
    let how = Preparation { prefix: &options.prefix, concurrency: SETUP_CONCURRENCY, quiet: options.output.quiet };
    let rooms = rooms::prepare(&api, &accounts, &plans, how).await?;
    let [room, den] = rooms.as_slice() else { return Err("two rooms were wanted".to_owned()) };
    let (ordinary, flooders): (&[Account], &[Account]) = accounts.split_at(users as usize);
    let den = Den::fill(server.target(), flooders, den).await?;
    let mut room = Ordinary::connect(server.target(), ordinary, room, scenario.load.rate).await?;
    room.go_on(PAUSE, interrupts).await?; // what is slow for the first time only
    let quiet = [None];
    let floods = flood::Kind::ALL.map(Some);
    for kind in quiet.into_iter().chain(floods).chain(quiet) {
        let flood = kind.map(|kind| Flood::start(server.target(), flooders, &den, kind));
        let figures = room.go_on(scenario.load.duration, interrupts).await;
        let flood = flood.map(Flood::stop).transpose()?;
        phases.push(Phase { flood: kind.map(flood::Kind::name), asked: flood, figures: figures? });
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
