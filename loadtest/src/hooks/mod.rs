//! `loadtest hooks`: how long webhooks take, and what one receiver that never answers costs the others.
//!
//! 1. A server starts with webhooks, and receivers start in this process ([`receiver`]).
//! 2. Messages go to one room at an even rate. Some webhooks follow it. The time from the beginning of a send to the
//!    arrival of its request is the latency of a delivery.
//! 3. One more webhook follows the room in every phase. In every other phase its receiver accepts the connection, reads
//!    the request and never answers. The order of the two phases changes from round to round.
//!
//! Each phase begins with a webhook that has not failed yet, since the circuit breaker pauses one that has.

mod receiver;
mod report;

use crate::engine::recorder::histogram;
use crate::options::{ServerOptions, TableOptions};
use crate::progress;
use crate::report::files::write_json;
use crate::result::{Latency, Machine};
use crate::run::{Interrupts, interruptible_runtime};
use crate::scenario::{RoomKind, RoomPlan};
use crate::setup::account::{Account, PASSWORD, SETUP_CONCURRENCY, SignIn};
use crate::setup::api::Api;
use crate::setup::launch::{Launch, Server};
use crate::setup::rooms::{self, Preparation};
use clap::Args;
use receiver::Receivers;
use report::{HooksPhase, HooksReport};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use std::slice::from_ref;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

const EXAMPLES: &str = "\
Examples:
  # 5 webhooks and one more, 20 messages per second; 6 rounds of two phases of 15 s, some three minutes
  loadtest hooks

  # more webhooks on two shards, figures also as JSON
  loadtest hooks --receivers 20 --rate 10 --workers 2 --json hooks.json

Ctrl-C ends the measurement and prints the rounds measured so far.

Exit status: 0 measured, 2 wrong usage, nothing measured, or deliveries are missing.";

/// How long deliveries of a phase may still arrive after its last message.
const PATIENCE: Duration = Duration::from_secs(30);
const PREFIX: &str = "hooks";

/// Options of `loadtest hooks`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct HooksOptions {
    /// Webhooks whose deliveries are measured, all of one room
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    receivers: u32,
    /// Messages per second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Seconds of each phase
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Rounds of two phases
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    table: TableOptions,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Deserialize)]
struct Webhook {
    id: u64,
}

/// A room with its webhooks.
struct Hooked {
    api: Api,
    owner: Account,
    room: String,
    receivers: Receivers,
}

/// Measures and prints.
///
/// # Errors
/// What failed, or that deliveries are missing.
pub fn run(options: &HooksOptions) -> Result<(), String> {
    let machine = Machine::current();
    let (runtime, interrupts) = interruptible_runtime(1)?;
    let mut phases = Vec::new();
    match runtime.block_on(measure(options, &interrupts, &mut phases)) {
        Err(reason) if interrupts.count() == 0 || phases.is_empty() => return Err(reason),
        _ => {}
    }
    let (receivers, rate) = (options.receivers, options.rate);
    let report = HooksReport { version: report::VERSION, machine, receivers, rate, phases };
    print!("{}", report.render(options.table.markdown));
    if interrupts.count() > 0 {
        println!("\ninterrupted: the unfinished phase is left out");
    }
    if let Some(path) = &options.table.json {
        write_json(path, &report)?;
    }
    Ok(())
}

async fn measure(options: &HooksOptions, interrupts: &Interrupts, phases: &mut Vec<HooksPhase>) -> Result<(), String> {
    let mut launch: Launch = options.server.launch();
    launch.settings.insert("features.webhooks".to_owned(), true.into());
    launch.settings.insert("webhooks.allowed_networks".to_owned(), "127.0.0.0/8".into());
    let mut server = Server::start(&launch)?;
    let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
    server.ready(&api).await?;
    let owner = SignIn { prefix: PREFIX.to_owned(), password: PASSWORD.to_owned() }.enter(&api, 0).await?;
    let plan = RoomPlan { class: 0, name: "events".to_owned(), kind: RoomKind::PublicRoom, members: vec![0] };
    let how = Preparation { prefix: PREFIX, concurrency: SETUP_CONCURRENCY, quiet: options.table.quiet };
    let rooms = rooms::prepare(&api, from_ref(&owner), &[plan], how).await?;
    let room = rooms.into_iter().next().ok_or("no room was made")?;
    let receivers = Receivers::start(options.receivers).await?;
    let hooked = Hooked { api, owner, room, receivers };
    for n in 0..options.receivers {
        hooked.create(&hooked.receivers.url(n)).await?;
    }
    let bar = progress::bar(options.table.quiet, u64::from(options.rounds) * 2, "phases");
    for round in 0..options.rounds {
        let hangs_first = round % 2 == 1;
        for hangs in [hangs_first, !hangs_first] {
            interrupts.check()?;
            phases.push(hooked.go_through(options, round, hangs).await?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl Hooked {
    async fn create(&self, url: &str) -> Result<u64, String> {
        let body = json!({"url": url, "conversation_id": &self.room, "events": ["message_created"]});
        let created: Result<Webhook, _> = self.api.post("/webhooks", Some(&self.owner.token), &body).await;
        created.map(|webhook| webhook.id).map_err(|error| format!("cannot create a webhook: {error}"))
    }

    /// Sends messages for a phase, and waits for their deliveries.
    async fn go_through(&self, options: &HooksOptions, round: u32, hangs: bool) -> Result<HooksPhase, String> {
        let other = self.create(&self.receivers.other(hangs)).await?;
        let messages = options.rate * options.seconds;
        let first = self.receivers.begin(messages);
        let mut ticks = interval(Duration::from_secs(1) / options.rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut sends = JoinSet::new();
        for n in 0..messages {
            ticks.tick().await;
            let (api, token) = (self.api.clone(), self.owner.token.clone());
            let message = json!({"conversation_id": self.room, "content": (first + u64::from(n)).to_string()});
            self.receivers.sent(n, Instant::now());
            sends.spawn(async move { api.command::<_, IgnoredAny>(&token, "send_message", message).await });
        }
        while let Some(sent) = sends.join_next().await {
            sent.map_err(|error| error.to_string())?.map_err(|error| format!("a message was not sent: {error}"))?;
        }
        let wanted = u64::from(messages) * u64::from(options.receivers);
        let deadline = Instant::now() + PATIENCE;
        while self.receivers.arrived() < wanted {
            if Instant::now() > deadline {
                return Err(format!("{} of {wanted} deliveries arrived", self.receivers.arrived()));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let path = format!("/webhooks/{other}");
        let deleted = self.api.delete(&path, &self.owner.token).await;
        deleted.map_err(|error| format!("cannot delete a webhook: {error}"))?;
        let mut latencies = histogram()?;
        for latency in self.receivers.end() {
            latencies.saturating_record(latency.as_micros() as u64);
        }
        let latency = Latency::of(&latencies).map_err(|error| error.to_string())?;
        Ok(HooksPhase { round, hangs, latency })
    }
}
