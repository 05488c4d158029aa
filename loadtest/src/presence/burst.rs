//! One burst: a crowd, its watchers, and what each phase cost.
//!
//! The crowd follows a plan that spreads its changes evenly over a time. A change that is late, because the machine is
//! busy, happens immediately. The result has the real duration.

use super::phase::PresencePhase;
use super::report::MeasuredPhase;
use crate::client::{ReceivedFrame, Socket};
use crate::measure::pair::Pair;
use crate::setup::account::Account;
use crate::setup::api::Target;
use futures_util::future::join_all;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often the server sends changes.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// A phase ends when all users have acted and no frame has arrived for this long.
const QUIET: Duration = Duration::from_millis(1_200);
/// Longest wait for the last frame of a phase.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// Whom the n-th watcher watches: each the next ones, in a circle.
fn watched(n: usize, each: usize, crowd: usize) -> impl Iterator<Item = usize> {
    (0..each.min(crowd)).map(move |k| (n * each + k) % crowd)
}

/// The most of these moments, in ascending order, that lie within any interval of this length.
fn most_within(moments: &[Instant], length: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in moments.iter().enumerate() {
        while at.duration_since(moments[first]) >= length {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// When a watcher's frames arrived.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

struct Watcher {
    arrivals: Arrivals,
    task: JoinHandle<()>,
}

impl Watcher {
    async fn start(target: &Target, account: &Account, ids: &[u64]) -> Result<Self, String> {
        let mut socket = Socket::open(target, &account.token).await?;
        socket.ask("get_presence", &json!({ "user_ids": ids })).await?.outcome?;
        let arrivals = Arrivals::default();
        let noted = Arc::clone(&arrivals);
        let task = tokio::spawn(async move {
            while socket.next(|frame| (frame.kind == "presence").then_some(())).await.is_ok() {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        });
        Ok(Self { arrivals, task })
    }

    fn last(&self) -> Option<Instant> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A crowd, before anybody has connected, and its watchers.
pub struct Crowd<'a> {
    target: &'a Target,
    accounts: &'a [Account],
    there: Vec<Option<Socket>>,
    watchers: Vec<Watcher>,
}

impl<'a> Crowd<'a> {
    /// Connects the watchers, each of whom asks for `each` of the crowd.
    ///
    /// # Errors
    /// What failed.
    pub async fn gather(
        target: &'a Target,
        accounts: &'a [Account],
        watching: &[Account],
        each: usize,
    ) -> Result<Self, String> {
        let mut watchers = Vec::new();
        for (n, account) in watching.iter().enumerate() {
            let ids: Vec<u64> = watched(n, each, accounts.len()).map(|user| accounts[user].id).collect();
            watchers.push(Watcher::start(target, account, &ids).await?);
        }
        // Frames that an earlier crowd caused.
        tokio::time::sleep(QUIET).await;
        for watcher in &watchers {
            watcher.take();
        }
        Ok(Self { target, accounts, there: accounts.iter().map(|_| None).collect(), watchers })
    }

    /// Lets the crowd go through a phase and measures it.
    ///
    /// # Errors
    /// A connection that broke.
    pub async fn go_through(
        &mut self,
        phase: PresencePhase,
        toggles: u32,
        round: u32,
        meters: &mut Pair,
    ) -> Result<MeasuredPhase, String> {
        let before = meters.sample();
        let began = Instant::now();
        let count = self.there.len() as u32;
        let (target, accounts) = (self.target, self.accounts);
        // A burst must not end with the status that an earlier one left: the server does not send an unchanged status.
        let texts: Vec<String> = (0..toggles).map(|n| format!("{round}.{}.{n}", self.watchers.len())).collect();
        let acts = self.there.iter_mut().zip(accounts).enumerate().map(async |(n, (socket, account))| {
            tokio::time::sleep_until((began + phase.spread() * n as u32 / count).into()).await;
            act(phase, socket, target, account, &texts).await
        });
        for acted in join_all(acts).await {
            acted?;
        }
        let acted = Instant::now();
        let deadline = acted + QUIET_MAX;
        loop {
            let last = self.watchers.iter().filter_map(Watcher::last).max().map_or(acted, |last| last.max(acted));
            if last.elapsed() >= QUIET || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(INTERVAL / 10).await;
        }
        let used = meters.since(&before);
        let arrivals: Vec<Vec<Instant>> = self.watchers.iter().map(Watcher::take).collect();
        let last = arrivals.iter().filter_map(|arrivals| arrivals.last()).max();
        Ok(MeasuredPhase {
            round,
            watchers: self.watchers.len() as u32,
            phase,
            changes: u64::from(count) * phase.changes(toggles),
            acting_s: acted.duration_since(began).as_secs_f64(),
            last_frame_s: last.map(|last| last.duration_since(began).as_secs_f64()),
            frames: arrivals.iter().map(|arrivals| arrivals.len() as u64).sum(),
            frames_most: arrivals.iter().map(|arrivals| arrivals.len() as u64).max().unwrap_or(0),
            most_in_interval: arrivals.iter().map(|a| most_within(a, INTERVAL) as u64).max().unwrap_or(0),
            server_cpu_us: used.server_us,
            store_cpu_us: used.store_us,
        })
    }
}

async fn act(
    phase: PresencePhase,
    socket: &mut Option<Socket>,
    target: &Target,
    account: &Account,
    texts: &[String],
) -> Result<(), String> {
    match phase {
        PresencePhase::Come => *socket = Some(Socket::open(target, &account.token).await?),
        PresencePhase::Leave | PresencePhase::Blink => {
            if let Some(socket) = socket.take() {
                socket.close().await;
            }
            if phase == PresencePhase::Blink {
                *socket = Some(Socket::open(target, &account.token).await?);
            }
        }
        PresencePhase::Toggle => {
            let Some(socket) = socket else { return Err("a user has no connection to change the status with".into()) };
            let mut asked = 0;
            for (n, text) in texts.iter().enumerate() {
                let status = ["away", "busy"][n % 2];
                asked = socket.send("set_presence", &json!({ "status": status, "status_text": text })).await?;
            }
            let reply =
                |frame: &ReceivedFrame<'_>| (frame.id == Some(asked)).then(|| (frame.kind == "ack", frame.words()));
            let (acknowledged, words) = socket.next(reply).await?;
            if !acknowledged {
                return Err(format!("set_presence was refused: {words}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_share_the_crowd_evenly() {
        let mut times = [0; 10];
        for n in 0..5 {
            for user in watched(n, 4, 10) {
                times[user] += 1;
            }
        }
        assert_eq!(times, [2; 10]);
        assert_eq!(watched(1, 200, 3).collect::<Vec<_>>(), [2, 0, 1], "no user twice");
    }

    #[test]
    fn the_fullest_interval_is_found_wherever_it_begins() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let moments = [at(0), at(400), at(450), at(899), at(900), at(2_000)];
        assert_eq!(
            most_within(&moments, INTERVAL),
            3,
            "400, 450, 899; the next is half a second after the first of them"
        );
        assert_eq!(most_within(&moments[5..], INTERVAL), 1);
        assert_eq!(most_within(&[], INTERVAL), 0);
    }
}
