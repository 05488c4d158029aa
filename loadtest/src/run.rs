//! A run from sign-in to result.
//!
//! ```text
//!  Waiting ──all connected──▶ Running ──duration over, Ctrl-C──▶ Draining ──settled, --drain over, Ctrl-C──▶ Done
//! ```
//!
//! The phase is the only thing the run tells its clients; they tell it only through counters and checkers. A second
//! Ctrl-C ends the drain at once, and then what is still under way is not held against the server.

use crate::account::{Account, SignIn};
use crate::api::Api;
use crate::checker::{ClientIndex, RoomChecker};
use crate::client::Client;
use crate::options::Options;
use crate::payload::{PayloadFormat, RunId};
use crate::plan::{Plan, PlanOptions};
use crate::report::Report;
use crate::socket::Connector;
use crate::stats::{Stats, lock};
use crate::{progress, setup};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Descriptors needed beside the clients' sockets.
const SPARE_DESCRIPTORS: u64 = 128;
/// From the last connection to the first planned send.
const HEAD_START: Duration = Duration::from_millis(100);
/// Between two looks at whether everything has arrived.
const SETTLE_POLL: Duration = Duration::from_millis(50);
/// How long clients may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the run is.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// Clients connect.
    Waiting,
    /// Clients send by the plan.
    Running {
        /// What planned times count from.
        epoch: Instant,
    },
    /// Nothing new is sent; last acks and deliveries come in.
    Draining {
        /// What planned times count from.
        epoch: Instant,
        /// Where the plan was cut, nanoseconds since the epoch.
        end_ns: u64,
    },
    /// Clients close.
    Done,
}

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    /// HTTP calls.
    pub api: Api,
    /// To log in again when a token expires.
    pub sign_in: SignIn,
    /// Opens connections.
    pub connector: Connector,
    /// What is measured.
    pub stats: Stats,
    /// One checker a room, by index. Each has its own lock: rooms do not wait for each other.
    pub checkers: Vec<Mutex<RoomChecker>>,
    /// The rooms' identifiers, by index.
    pub room_ids: Vec<String>,
    /// The rooms' indices, by identifier.
    pub room_index: HashMap<String, u32>,
    /// Contents of this run.
    pub payload: PayloadFormat,
    /// Most unanswered messages of one client.
    pub in_flight_max: usize,
    /// A lost connection is no violation.
    pub survive_restarts: bool,
    /// Where the run is.
    pub phase: watch::Sender<Phase>,
}

/// Runs the scenario. The error is for people: what failed, where, what to do.
pub async fn run(options: &Options) -> Result<Report, String> {
    check_descriptors(u64::from(options.users) + u64::from(options.setup_concurrency))?;
    let api = Api::new(options.url.clone()).map_err(|error| error.to_string())?;
    let sign_in = SignIn { prefix: options.prefix.clone(), password: options.password.clone() };
    let accounts = sign_in.enter_all(&api, options.users, options.setup_concurrency, options.quiet).await?;
    let room_ids = setup::rooms(&api, &accounts, options).await?;

    let shared = Arc::new(Shared {
        connector: Connector::new(api.target(), options.format, options.users)?,
        api,
        sign_in,
        stats: Stats::new()?,
        checkers: room_ids.iter().map(|id| Mutex::new(RoomChecker::new(id))).collect(),
        room_index: room_ids.iter().cloned().zip(0..).collect(),
        room_ids,
        // Fresh in every run, whatever the seed: a server remembers client message ids.
        payload: PayloadFormat { run: RunId(rand::random()), bytes: options.payload_bytes },
        in_flight_max: options.in_flight_max as usize,
        survive_restarts: options.survive_restarts,
        phase: watch::Sender::new(Phase::Waiting),
    });
    let mut clients = connect_all(&shared, accounts, options).await?;

    let epoch = Instant::now() + HEAD_START;
    shared.phase.send_replace(Phase::Running { epoch });
    let mut interrupts = Interrupts::new()?;
    let interrupted = send_phase(&shared, epoch, options, &mut interrupts).await;
    let sent_for = epoch.elapsed().min(options.duration);
    let end_ns = u64::try_from(sent_for.as_nanos()).unwrap_or(u64::MAX);
    shared.phase.send_replace(Phase::Draining { epoch, end_ns });
    let complete = drain(&shared, options.drain, &mut interrupts).await;
    let lasted = epoch.elapsed();
    shared.phase.send_replace(Phase::Done);

    let goodbye = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
        clients.shutdown().await;
    }

    let mut violations = shared.stats.violations();
    for checker in &shared.checkers {
        let checker = std::mem::replace(&mut *lock(checker), RoomChecker::new(""));
        violations.merge(checker.finish(complete));
    }
    Report::new(&shared.stats, violations, options, sent_for, lasted, interrupted)
}

/// Connects every client and lets it take part at once, so that the first stay alive while the last connect.
async fn connect_all(shared: &Arc<Shared>, accounts: Vec<Account>, options: &Options) -> Result<JoinSet<()>, String> {
    let bar = progress::bar(options.quiet, u64::from(options.users), "connecting");
    let plan = (options.rate > 0.0).then_some(PlanOptions {
        rate: options.rate,
        clients: options.users,
        duration: options.duration,
        spacing: options.spacing,
        seed: options.seed,
    });
    let mut clients = JoinSet::new();
    let mut connecting = stream::iter(accounts.into_iter().zip(0..))
        .map(|(account, user)| {
            let rooms = setup::rooms_of(user, options.rooms, options.rooms_per_user);
            let plan = plan.map(|plan| Plan::new(plan, user));
            Client::connect(Arc::clone(shared), ClientIndex(user), account, rooms, plan)
        })
        .buffer_unordered(options.setup_concurrency as usize);
    while let Some(client) = connecting.try_next().await? {
        bar.inc(1);
        clients.spawn(client.run());
    }
    bar.finish_and_clear();
    Ok(clients)
}

/// Waits for the end of the plan; true when Ctrl-C came first.
async fn send_phase(shared: &Shared, epoch: Instant, options: &Options, interrupts: &mut Interrupts) -> bool {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let bar = progress::run_bar(options.quiet, millis(options.duration));
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let end = tokio::time::sleep_until(epoch + options.duration);
    tokio::pin!(end);
    let interrupted = loop {
        tokio::select! {
            () = &mut end => break false,
            () = interrupts.next() => break true,
            _ = tick.tick() => {
                let counters = &shared.stats.counters;
                bar.set_position(millis(epoch.elapsed()));
                bar.set_message(format!(
                    "sent {} acked {} delivered {}",
                    counters.sent.load(Ordering::Relaxed),
                    counters.acked.load(Ordering::Relaxed),
                    counters.delivered.load(Ordering::Relaxed),
                ));
            }
        }
    };
    bar.finish_and_clear();
    interrupted
}

/// Waits until everything has arrived or patience ends; false when Ctrl-C cut it short.
async fn drain(shared: &Shared, patience: Duration, interrupts: &mut Interrupts) -> bool {
    let settle = async {
        // Clients take note of the phase, and write what was still due, within a tick.
        tokio::time::sleep(SETTLE_POLL).await;
        while !shared.checkers.iter().all(|checker| lock(checker).settled()) {
            tokio::time::sleep(SETTLE_POLL).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(patience, settle) => true,
        () = interrupts.next() => false,
    }
}

/// Ctrl-C, each once.
struct Interrupts {
    signal: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> Result<Self, String> {
        let kind = tokio::signal::unix::SignalKind::interrupt();
        let signal = tokio::signal::unix::signal(kind).map_err(|error| format!("cannot listen to Ctrl-C: {error}"))?;
        Ok(Self { signal })
    }

    async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Refuses a run that would fail halfway for lack of file descriptors.
fn check_descriptors(sockets: u64) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<u64>().ok());
    let needed = sockets + SPARE_DESCRIPTORS;
    match soft {
        Some(soft) if soft < needed => Err(format!(
            "this run needs {needed} open files, the limit is {soft}: raise it with ulimit -n {needed}, or lower --users"
        )),
        _ => Ok(()),
    }
}
