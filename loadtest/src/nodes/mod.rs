//! `loadtest run nodes`: what a cluster costs, compared with one server.
//!
//! 1. One server starts, and beside it a cluster ([`groups`]): nodes of as many shards each, which share a PostgreSQL
//!    and exchange events through a Redis, both started by this program. The PostgreSQL has the settings of a server's
//!    private one.
//! 2. The users of the rooms sign in on both sides. Connections use the nodes of the cluster in turn, so the members of
//!    every room are on all of them, and all of them write in it. There is no proxy.
//! 3. Both sides take turns with the same load, for every rate and round: a machine that becomes slower affects both.
//!    The idle side keeps running. Every message and delivery is checked as in any other run.
//! 4. CPU is that of the middle of a phase ([`middle`]). The servers report their own and count the messages that they
//!    commit; Redis and PostgreSQL are read from `/proc`.
//! 5. Medians of the rounds are compared with the bars ([`report`]).
//!
//! Invariants: a phase without an event through Redis is an error, because it would measure the polls of PostgreSQL.
//! Every phase and wait is bounded in time.

mod groups;
mod middle;
mod report;

use crate::options::RunOptions;
use crate::progress;
use crate::report::files::write_report;
use crate::result::{Machine, RunResult};
use crate::run::{Interrupts, RoomsRun, check_descriptors, interruptible_runtime};
use crate::scenario::{Nodes, Rooms, Scenario};
use crate::setup::account::{Account, SignIn};
use crate::setup::pin;
use crate::setup::rooms::{self, Preparation};
use groups::{NodeGroup, find_redis};
use indicatif::ProgressBar;
use middle::MiddleUse;
use report::{NodesPhase, NodesReport};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// The scenario's name.
const NAME: &str = "nodes";
/// Between two phases, after the search index has their messages: what has begun ends.
const PAUSE: Duration = Duration::from_secs(2);
/// A load before the first phase of a side: what is slow for the first time only.
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures and prints. Returns whether all bars are met and nothing was violated.
///
/// # Errors
/// What could not be done. What was measured before is printed.
pub fn run(options: &RunOptions, scenario: &Scenario, plan: &Nodes) -> Result<bool, String> {
    if options.url.is_some() {
        return Err(format!("{NAME} starts its own servers: leave --url out"));
    }
    if options.output.hlog.is_some() {
        return Err(format!("{NAME} has no interval log; write --json or --html"));
    }
    let redis = find_redis(std::env::var_os("PATH").as_deref())?;
    check_descriptors(u64::from(scenario.connections()) + u64::from(options.setup_concurrency))?;
    let machine = Machine::current();
    if let Some(cores) = &options.generator.cores {
        pin::pin(&cores.0)?;
    }
    let (runtime, interrupts) = interruptible_runtime(2)?;
    let rates = if plan.rates.is_empty() { vec![scenario.load.rate] } else { plan.rates.clone() };
    let bar = progress::bar(options.output.quiet, rates.len() as u64 * u64::from(plan.rounds) * 2, "measuring nodes");
    let comparison = NodeComparison {
        options,
        scenario,
        plan,
        rooms: Rooms::of(scenario),
        sign_in: SignIn { prefix: options.prefix.clone(), password: options.password.clone() },
        runtime: &runtime,
        interrupts: &interrupts,
    };
    let mut phases = Vec::new();
    let measured = comparison.measure(&redis, &rates, &bar, &mut phases);
    bar.finish_and_clear();
    let report = NodesReport::new(machine, scenario, plan, options.server.workers, &rates, phases);
    print!("{}", report.render());
    write_report(&options.output, NAME, &report, |label| report.page(label))?;
    measured.map(|()| report.is_met())
}

/// One side, with its users and rooms.
struct PreparedGroup {
    group: NodeGroup,
    accounts: Vec<Account>,
    room_ids: Vec<String>,
}

struct NodeComparison<'a> {
    options: &'a RunOptions,
    scenario: &'a Scenario,
    plan: &'a Nodes,
    rooms: Rooms,
    sign_in: SignIn,
    runtime: &'a Runtime,
    interrupts: &'a Interrupts,
}

impl NodeComparison<'_> {
    fn measure(
        &self,
        redis: &Path,
        rates: &[f64],
        bar: &ProgressBar,
        phases: &mut Vec<NodesPhase>,
    ) -> Result<(), String> {
        let prepared = self.runtime.block_on(async {
            tokio::select! {
                prepared = self.prepare(redis) => prepared,
                () = self.interrupts.first() => Err("interrupted before anything was measured".to_owned()),
            }
        })?;
        for side in &prepared {
            let length = WARM_UP.min(self.scenario.load.duration);
            self.phase(side, &self.load(rates[0], 0, length))?;
        }
        for (rate, round) in rates.iter().flat_map(|rate| (0..self.plan.rounds).map(move |round| (*rate, round))) {
            for side in &prepared {
                std::thread::sleep(PAUSE);
                self.interrupts.check()?;
                // No round repeats the plan of another, and both sides have the same.
                let (result, middle) = self.phase(side, &self.load(rate, round + 1, self.scenario.load.duration))?;
                phases.push(NodesPhase::of(rate, round, side.group.nodes(), result, middle));
                bar.inc(1);
            }
        }
        Ok(())
    }

    /// The scenario at this rate.
    fn load(&self, rate: f64, round: u32, duration: Duration) -> Scenario {
        let mut scenario = self.scenario.clone();
        scenario.load.rate = rate;
        scenario.load.duration = duration;
        scenario.load.seed = scenario.load.seed.wrapping_add(u64::from(round));
        scenario
    }

    /// One server and the cluster, ready for their load.
    async fn prepare(&self, redis: &Path) -> Result<[PreparedGroup; 2], String> {
        let launch = self.options.server.launch();
        let alone = NodeGroup::alone(&launch, &self.scenario.server).await?;
        let alone = self.fill(alone).await?;
        let cluster = NodeGroup::cluster(&launch, &self.scenario.server, self.plan.count, redis).await?;
        Ok([alone, self.fill(cluster).await?])
    }

    async fn fill(&self, group: NodeGroup) -> Result<PreparedGroup, String> {
        let (concurrency, quiet) = (self.options.setup_concurrency, self.options.output.quiet);
        let users = self.scenario.population.users;
        let accounts = self.sign_in.sign_in_all(group.apis(), users, concurrency, quiet).await?;
        let how = Preparation { prefix: &self.options.prefix, concurrency, quiet };
        let room_ids = rooms::prepare(&group.apis()[0], &accounts, &self.rooms.rooms, how).await?;
        Ok(PreparedGroup { group, accounts, room_ids })
    }

    fn phase(&self, side: &PreparedGroup, scenario: &Scenario) -> Result<(RunResult, MiddleUse), String> {
        let PreparedGroup { group, accounts, room_ids } = side;
        let (announce, begun) = oneshot::channel();
        let middle = self.runtime.spawn(group.meter()?.measure(begun, scenario.load.duration));
        let data_dir = group.store_dir();
        let run = RoomsRun {
            scenario,
            nodes: group.apis(),
            data_dir: Some(&data_dir),
            sign_in: &self.sign_in,
            accounts,
            rooms: &self.rooms,
            room_ids,
            threads: self.options.generator.threads,
            survive_restarts: false,
            quiet: true,
        };
        let result = run.run(self.runtime, self.interrupts, Some(announce)).map(|outcome| outcome.result);
        if result.as_ref().is_ok_and(|result| !result.interrupted) {
            let middle =
                self.runtime.block_on(middle).map_err(|error| format!("the measurement failed: {error}"))??;
            self.runtime.block_on(group.settle())?;
            if group.nodes() > 1 && middle.frames_received == 0 {
                return Err(
                    "the nodes received nothing through Redis, so this would measure the polls of PostgreSQL; \
                            give more messages, with --rate or --duration"
                        .to_owned(),
                );
            }
            return Ok((result?, middle));
        }
        middle.abort();
        Err(result.err().unwrap_or_else(|| "interrupted; the unfinished phase is left out".to_owned()))
    }
}
