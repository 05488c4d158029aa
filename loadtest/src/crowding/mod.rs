//! `loadtest run crowding`: ordinary users, without and with a flood beside them.
//!
//! 1. A server starts with its shipped limits. One room of ordinary users sends messages on a clock; each of them reads
//!    the history twice a second, and connections open all the time ([`ordinary`]). Others sign in and read over HTTP,
//!    each from an address of its own ([`visitors`]).
//! 2. Beside them runs one phase for each flood ([`flood`]). Over WebSockets, 4 accounts with 5 sockets each keep 256
//!    commands in flight on every socket ([`commands`]). Over HTTP, one address that no ordinary user has sends what
//!    once shut others out ([`requests`], [`slow_bodies`]). `--flood NAME` chooses some of them.
//! 3. The first and the last phase and one after every few floods are quiet.
//! 4. Latencies count from the planned time. The bar: each P99 of every phase is within twice that of the quiet phases
//!    beside it, and no request of an ordinary user is refused ([`report`]).

mod commands;
mod counts;
mod flood;
mod ordinary;
mod report;
mod requests;
mod slow_bodies;
mod visitors;

pub use ordinary::Ordinary;
pub use report::{Seen, Times};
pub use visitors::Visitors;

use crate::options::RunOptions;
use crate::report::files::write_json;
use crate::result::Machine;
use crate::run::{Interrupts, interruptible_runtime};
use crate::scenario::{RoomKind, RoomPlan};
use crate::setup::account::{Account, SETUP_CONCURRENCY, SignIn};
use crate::setup::api::{Api, Target};
use crate::setup::launch::{Launch, Server};
use crate::setup::rooms::{self, Preparation};
use commands::Den;
use flood::{Attack, Cast, Flood};
use futures_util::{StreamExt, TryStreamExt, stream};
use report::{CrowdingReport, Figures, Phase};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::time::Duration;

/// The scenario's name.
pub const NAME: &str = "crowding";
/// Accounts that flood.
const FLOODERS: u32 = 4;
/// Accounts that add a person to groups.
const ADDERS: u32 = 18;
/// Floods between two quiet phases.
const FLOODS_BETWEEN: usize = 4;
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
    let attacks = Attack::named(&options.flood)?;
    raise_files(slow_bodies::SOCKETS as u64 + 1_000)?;
    let machine = Machine::current();
    let (runtime, interrupts) = interruptible_runtime(0)?;
    let mut phases = Vec::new();
    match runtime.block_on(measure(options, &attacks, &interrupts, &mut phases)) {
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

/// Lets this process open as many files as its floods need.
fn raise_files(needed: u64) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if maximum.is_some_and(|maximum| maximum < needed) {
        return Err(format!("{NAME} opens up to {needed} sockets; raise the limit on open files: ulimit -n {needed}"));
    }
    if current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
            .map_err(|error| format!("cannot raise the limit on open files: {error}"))?;
    }
    Ok(())
}

async fn measure(
    options: &RunOptions,
    attacks: &[Attack],
    interrupts: &Interrupts,
    phases: &mut Vec<Phase>,
) -> Result<(), String> {
    let (_, scenario) = options.scenario()?;
    let settings = scenario.server.clone();
    let mut server = Server::start(&Launch { settings, ..options.server.launch() })?;
    let target = server.target().clone();
    let api = Api::new(target.clone()).map_err(|error| error.to_string())?;
    server.ready(&api).await?;
    let users = scenario.population.users;
    let sign_in = SignIn { prefix: options.prefix.clone(), password: options.password.clone() };
    let mut accounts = sign_in_from_everywhere(&sign_in, &target, users + FLOODERS + ADDERS).await?;
    let plan = |name: &str, members: Vec<u32>| RoomPlan {
        class: 0,
        name: format!("{name}-of-{}", members.len()),
        kind: RoomKind::PublicRoom,
        members,
    };
    let flooding = users..users + FLOODERS;
    // The flooders are members of the ordinary room too: what they do to it reaches everybody there.
    let plans = [plan("ordinary", (0..flooding.end).collect()), plan("den", flooding.collect())];
    let how = Preparation { prefix: &options.prefix, concurrency: SETUP_CONCURRENCY, quiet: options.output.quiet };
    let rooms = rooms::prepare(&api, &accounts, &plans, how).await?;
    let [room, den] = rooms.as_slice() else { return Err("two rooms were wanted".to_owned()) };
    let adders = accounts.split_off((users + FLOODERS) as usize);
    let flooders = accounts.split_off(users as usize);
    let den = Den::fill(&target, &flooders, den, room).await?;
    let cast = Arc::new(Cast { target, flooders, adders, victims: accounts, den });
    let visitors = Visitors::new(&cast.target, &cast.victims, &options.password)?;
    let mut room = Ordinary::connect(&cast.target, &cast.victims, visitors, room, scenario.load.rate).await?;
    room.go_on(PAUSE, interrupts).await?; // what is slow for the first time only
    for attack in with_quiet_phases(attacks) {
        let flood = attack.map(|attack| Flood::start(&cast, attack));
        let seen = room.go_on(scenario.load.duration, interrupts).await;
        let asked = flood.map(Flood::stop).transpose()?;
        phases.push(Phase { flood: attack.map(Attack::name), asked, figures: Figures::of(seen?) });
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// `None` is a quiet phase.
fn with_quiet_phases(attacks: &[Attack]) -> Vec<Option<Attack>> {
    let mut phases = vec![None];
    for some in attacks.chunks(FLOODS_BETWEEN) {
        phases.extend(some.iter().copied().map(Some));
        phases.push(None);
    }
    phases
}

/// Signs everybody in, each from an address of its own, as the server's shipped limits demand.
pub async fn sign_in_from_everywhere(sign_in: &SignIn, target: &Target, users: u32) -> Result<Vec<Account>, String> {
    stream::iter(0..users)
        .map(async |user| {
            let api = Api::from_address(target.clone(), Some(visitors::address_of(user)));
            sign_in.enter(&api.map_err(|error| error.to_string())?, user).await
        })
        .buffered(SETUP_CONCURRENCY as usize)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_phase_is_before_and_after_every_few_floods() {
        let attacks: Vec<Attack> = Attack::all().take(5).collect();
        let phases: Vec<bool> = with_quiet_phases(&attacks).iter().map(Option::is_none).collect();
        assert_eq!(phases, [true, false, false, false, false, true, false, true]);
    }
}
