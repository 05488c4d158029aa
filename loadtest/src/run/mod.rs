//! A run from set-up to result.
//!
//! ```text
//!  server ─▶ users ─▶ rooms ─▶ connections ─▶ load(s) ─▶ drain ─▶ result
//!                                   └──────── Ctrl-C ───────┘▲
//! ```
//!
//! Ctrl-C ends the load and waits for what is in flight. A second Ctrl-C ends immediately, and messages in flight are
//! then no violation. In both cases the run prints what it measured and stops a server that it started.

mod collect;
mod drive;
mod engine;
mod gauge;
mod interrupts;
mod logins;
mod outcome;
mod peer;
mod rooms_run;
mod streams;
mod subprocess;

pub use engine::check_descriptors;
pub use interrupts::{Interrupts, interruptible_runtime};
pub use outcome::Outcome;
pub use peer::PeerRun;
pub use rooms_run::RoomsRun;
pub use subprocess::{PARENT, follow_parent, subprocess};

use crate::options::RunOptions;
use crate::result::Machine;
use crate::scenario::{Rooms, Scenario};
use crate::setup::account::{Account, SignIn};
use crate::setup::api::Api;
use crate::setup::insert;
use crate::setup::launch::{Launch, Server};
use crate::setup::pin;
use crate::setup::rooms::{self, Preparation};
use std::path::PathBuf;
use std::slice::from_ref;
use tokio::runtime::Runtime;

/// The server of a run: the one of `--url`, or one that the run started.
struct ServerUnderTest {
    api: Api,
    data_dir: Option<PathBuf>,
    /// Stopped when the run is over.
    started: Option<Server>,
}

/// Runs the scenario. The error is for people: what failed, where, what to do.
pub fn run(options: &RunOptions) -> Result<Outcome, String> {
    let (name, scenario) = options.scenario()?;
    let sockets = if scenario.logins.is_some() { 0 } else { u64::from(scenario.connections()) };
    check_descriptors(sockets + u64::from(options.setup_concurrency))?;
    // Before this program keeps to some of its cores: the machine has them all.
    let machine = Machine::current();
    if let Some(cores) = &options.generator.cores {
        pin::pin(&cores.0)?;
    }
    let (runtime, interrupts) = interruptible_runtime(2)?;
    let mut outcome = runtime
        .block_on(async {
            tokio::select! {
                prepared = prepare(options, &scenario) => prepared.map(Some),
                () = interrupts.first() => Ok(None),
            }
        })?
        .ok_or("interrupted before anything was measured")
        .map_err(str::to_owned)
        .and_then(|prepared| match prepared {
            Prepared::Rooms(prepared) => measure(options, &scenario, *prepared, &runtime, &interrupts),
            Prepared::Logins(given) => {
                let (server, sign_in) = *given;
                logins::storm(&scenario, &server.api, &sign_in, &runtime, &interrupts, options)
            }
        })?;
    let result = &mut outcome.result;
    result.label = options.output.label.clone().unwrap_or_else(|| name.clone());
    result.machine = machine;
    result.scenario = describe(&name, &scenario, options);
    result.system.workers = options.url.is_none().then_some(options.server.workers);
    Ok(outcome)
}

/// The scenario as it was run, for the result.
fn describe(name: &str, scenario: &Scenario, options: &RunOptions) -> serde_json::Value {
    let mut value = serde_json::to_value(scenario).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("name".to_owned(), name.into());
        map.insert("generator_threads".to_owned(), options.generator.threads.into());
        map.insert("survive_restarts".to_owned(), options.survive_restarts.into());
    }
    value
}

/// The result of the set-up.
enum Prepared {
    /// Rooms with users in them.
    Rooms(Box<PreparedRooms>),
    /// Users only.
    Logins(Box<(ServerUnderTest, SignIn)>),
}

struct PreparedRooms {
    server: ServerUnderTest,
    sign_in: SignIn,
    accounts: Vec<Account>,
    rooms: Rooms,
    room_ids: Vec<String>,
}

async fn prepare(options: &RunOptions, scenario: &Scenario) -> Result<Prepared, String> {
    let server = server(options, scenario).await?;
    let sign_in = SignIn { prefix: options.prefix.clone(), password: options.password.clone() };
    let (concurrency, quiet) = (options.setup_concurrency, options.output.quiet);
    let rooms = Rooms::of(scenario);
    let users = scenario.population.users;
    if let Some(started) = &server.started
        && scenario.logins.is_none()
        && insert::fits(users, &rooms.rooms)
    {
        let (accounts, room_ids) = insert::population(started, &sign_in, users, &rooms.rooms).await?;
        return Ok(Prepared::Rooms(Box::new(PreparedRooms { server, sign_in, accounts, rooms, room_ids })));
    }
    let accounts = sign_in.sign_in_all(from_ref(&server.api), users, concurrency, quiet).await?;
    if scenario.logins.is_some() {
        return Ok(Prepared::Logins(Box::new((server, sign_in))));
    }
    let how = Preparation { prefix: &options.prefix, concurrency, quiet };
    let room_ids = rooms::prepare(&server.api, &accounts, &rooms.rooms, how).await?;
    Ok(Prepared::Rooms(Box::new(PreparedRooms { server, sign_in, accounts, rooms, room_ids })))
}

async fn server(options: &RunOptions, scenario: &Scenario) -> Result<ServerUnderTest, String> {
    if let Some(target) = &options.url {
        let api = Api::new(target.clone()).map_err(|error| error.to_string())?;
        return Ok(ServerUnderTest { api, data_dir: None, started: None });
    }
    let mut settings = scenario.server.clone();
    if scenario.compression {
        settings.insert("features.compression".to_owned(), true.into());
    }
    let mut server = Server::start(&Launch { settings, ..options.server.launch() })?;
    let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
    server.ready(&api).await?;
    Ok(ServerUnderTest { api, data_dir: Some(server.data_dir()), started: Some(server) })
}

fn measure(
    options: &RunOptions,
    scenario: &Scenario,
    prepared: PreparedRooms,
    runtime: &Runtime,
    interrupts: &Interrupts,
) -> Result<Outcome, String> {
    let PreparedRooms { server, sign_in, accounts, rooms, room_ids } = prepared;
    let run = RoomsRun {
        scenario,
        nodes: from_ref(&server.api),
        data_dir: server.data_dir.as_deref(),
        sign_in: &sign_in,
        accounts: &accounts,
        rooms: &rooms,
        room_ids: &room_ids,
        threads: options.generator.threads,
        survive_restarts: options.survive_restarts,
        quiet: options.output.quiet,
    };
    run.run(runtime, interrupts, None)
}
