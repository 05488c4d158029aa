//! The rounds of a comparison: the servers take turns, each on the same cores under the same load.

use super::adapter::Adapter;
use super::child::directory_for;
use super::codec::{mqtt::Mqtt, nats::Nats, relay::Relay, xmpp::Xmpp};
use super::options::{CompareOptions, Contestant};
use super::peers::{Ground, PeerKind};
use super::places::{Places, Ports};
use crate::options::{OutputOptions, RunOptions};
use crate::report::comparison::SystemRuns;
use crate::result::{RunResult, SystemUnderTest};
use crate::run::{self, Interrupts, PeerRun, interruptible_runtime};
use crate::scenario::{Rooms, Scenario};
use crate::setup::pin;
use serde::Serialize;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A requested server without figures, or without all of them.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// The name of the server.
    pub system: &'static str,
    /// The reason, with instructions.
    pub reason: String,
}

/// What is needed for every turn.
pub struct Rounds<'a> {
    options: &'a CompareOptions,
    name: &'a str,
    scenario: &'a Scenario,
    places: Places,
    ports: Ports,
    work_dir: PathBuf,
    /// Cores for the servers: those of the command line, or all that this program may use.
    server_cores: Vec<usize>,
    /// How many cores servers and generator have together.
    cores: u32,
    runtime: Runtime,
    interrupts: Interrupts,
    _temporary: Option<TempDir>,
}

/// The results of all turns.
pub struct RoundResults {
    /// The servers that were measured, with their rounds.
    pub systems: Vec<SystemRuns>,
    /// Those that failed.
    pub left_out: Vec<LeftOut>,
    /// Whether any failed.
    pub failed: bool,
}

impl<'a> Rounds<'a> {
    /// Prepares the directory, the cores and the signals.
    pub fn prepare(options: &'a CompareOptions, name: &'a str, scenario: &'a Scenario) -> Result<Self, String> {
        let all = pin::current()?;
        let cores = all.len() as u32;
        let server_cores = options.server.server_cores.as_ref().map_or_else(|| all, |cores| cores.0.clone());
        if let Some(cores) = &options.generator.cores {
            pin::pin(&cores.0)?;
        }
        let (work_dir, temporary) = match &options.work_dir {
            Some(directory) => {
                directory_for(directory, None)?;
                (std::path::absolute(directory).map_err(|error| error.to_string())?, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("loadtest-compare-").tempdir();
                let made = made.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
                (made.path().to_owned(), Some(made))
            }
        };
        // Servers that refuse to run as root have their own directories in it.
        std::fs::set_permissions(&work_dir, Permissions::from_mode(0o755))
            .map_err(|error| format!("cannot open {} to the servers' users: {error}", work_dir.display()))?;
        let peers = match &options.peers_dir {
            Some(directory) => directory.clone(),
            None => default_peers()?,
        };
        let peers = std::path::absolute(&peers).map_err(|error| format!("{}: {error}", peers.display()))?;
        let (runtime, interrupts) = interruptible_runtime(1)?;
        Ok(Self {
            options,
            name,
            scenario,
            places: Places::new(std::env::var_os("PATH").as_deref(), peers),
            ports: Ports::new(options.ports.clone()),
            work_dir,
            server_cores,
            cores,
            runtime,
            interrupts,
            _temporary: temporary,
        })
    }

    /// Where to find programs.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// All rounds. A server that fails gets no further turn; Ctrl-C ends after the current turn.
    pub fn run(&mut self, contestants: &[Contestant]) -> RoundResults {
        let mut found = RoundResults { systems: Vec::new(), left_out: Vec::new(), failed: false };
        let mut standing = contestants.to_vec();
        for round in 1..=self.options.rounds {
            for contestant in standing.clone() {
                if self.interrupts.count() > 0 {
                    return found;
                }
                let title = contestant.title();
                if !self.options.quiet {
                    eprintln!("round {round} of {}: {title}", self.options.rounds);
                }
                match self.turn(contestant) {
                    Ok(result) => match found.systems.iter_mut().find(|system| system.system == title) {
                        Some(system) => system.runs.push(result),
                        None => found.systems.push(SystemRuns { system: title.to_owned(), runs: vec![result] }),
                    },
                    Err(_) if self.interrupts.count() > 0 => return found,
                    Err(reason) => {
                        eprintln!("{title} failed in round {round}: {reason}");
                        let reason = format!("failed in round {round}: {reason}");
                        found.left_out.push(LeftOut { system: title, reason });
                        found.failed = true;
                        standing.retain(|other| *other != contestant);
                    }
                }
            }
        }
        found
    }

    fn turn(&mut self, contestant: Contestant) -> Result<RunResult, String> {
        let directory = self.work_dir.join(contestant.to_string());
        directory_for(&directory, None)?;
        let mut result = match contestant {
            Contestant::Veza => self.ours(&directory)?,
            Contestant::Peer(kind) => self.peer(kind, &directory)?,
        };
        contestant.title().clone_into(&mut result.system.name);
        self.name.clone_into(&mut result.label);
        // The generator may already be pinned to some of them.
        result.machine.cores = self.cores;
        Ok(result)
    }

    fn ours(&self, directory: &Path) -> Result<RunResult, String> {
        let mut server = self.options.server.clone();
        server.data_dir.get_or_insert_with(|| directory.to_owned());
        server.server_cores = Some(crate::options::Cores(self.server_cores.clone()));
        let options = RunOptions {
            flood: Vec::new(),
            scenario: self.options.scenario.clone(),
            url: None,
            over: self.options.over.clone(),
            server,
            output: OutputOptions { quiet: self.options.quiet, ..OutputOptions::default() },
            generator: self.options.generator.clone(),
            survive_restarts: false,
            prefix: "compare".to_owned(),
            password: crate::setup::account::PASSWORD.to_owned(),
            setup_concurrency: 32,
        };
        run::run(&options).map(|outcome| outcome.result)
    }

    fn peer(&mut self, kind: PeerKind, directory: &Path) -> Result<RunResult, String> {
        self.ports.release_all();
        let rooms = Rooms::of(self.scenario).rooms.len() as u32;
        let server = kind.start(&mut Ground {
            places: &self.places,
            directory,
            ports: &mut self.ports,
            cores: &self.server_cores,
            workers: self.options.server.workers,
            connections: self.scenario.connections(),
            rooms,
        })?;
        let run = PeerRun {
            name: self.name,
            scenario: self.scenario,
            address: server.address,
            server_pid: server.server_pid(),
            store_pid: server.store_pid(),
            threads: self.options.generator.threads,
            quiet: self.options.quiet,
            system: SystemUnderTest {
                name: kind.title().to_owned(),
                version: server.version.clone(),
                durability: kind.durability().name().to_owned(),
                workers: server.workers,
            },
        };
        let (runtime, interrupts) = (&self.runtime, &self.interrupts);
        let outcome = match kind {
            PeerKind::Uws | PeerKind::Tungstenite => run.run(runtime, interrupts, Adapter::<Relay>::new),
            PeerKind::Mosquitto => run.run(runtime, interrupts, Adapter::<Mqtt>::new),
            PeerKind::Nats => run.run(runtime, interrupts, Adapter::<Nats>::new),
            PeerKind::Ejabberd => run.run(runtime, interrupts, Adapter::<Xmpp>::new),
        };
        let mut result = outcome?.result;
        result.notes.push(kind.remark().to_owned());
        Ok(result)
    }
}

/// `target/peers`, relative to `target/release/loadtest`: the directory of `install.sh`.
fn default_peers() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program's own path: {error}"))?;
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    Ok(target.join("peers"))
}
