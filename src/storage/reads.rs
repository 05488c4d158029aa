//! Reads on their way through the I/O shard: the scheduler, the connections that it hands out, and what it refuses.
//!
//! As many workers as connections run reads from the [`ReadQueue`] in its order; a waiting read is a box in a queue and
//! not a task. A read survives a lost connection, because it is tried again. If PostgreSQL allows fewer connections
//! than configured, fewer reads run at once, and the server tries one more connection from time to time.

use super::StorageError;
use super::connect::{Role, Target};
use super::health::StorageHealth;
use super::observe;
use super::read_connection::{self, Failure, Reader};
use super::read_queue::{Bounds, Full, Next, ReadQueue, Shares, Waiting};
use super::readers;
use crate::error::Refusal;
use crate::faults::{stop_process, warn_limited};
use crate::latency::StorageLatencies;
use crate::limits::{READ_DEADLINE_MS, READS_IN_FLIGHT_PER_SHARD, READS_PER_USER_MAX, SEARCH_RUN_MS_MAX};
use crate::mesh::frame::{Answer, Query, ReadRequest, ReadResult};
use crate::mesh::lane::Mesh;
use crate::mesh::overload::{Overload, WaitWindow, Work};
use crate::mesh::read_class::ReadClass;
use deadpool_postgres::Pool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A read is tried on so many connections, with these pauses in between.
const PAUSES_MS: [u64; 3] = [20, 100, 250];
/// How often deadlines and gauges are looked at.
const TEND: Duration = Duration::from_millis(200);
/// How long after PostgreSQL refused another connection the server tries one more.
const GROW_AFTER: Duration = Duration::from_secs(5);

/// The reads of all shards.
pub struct Reads {
    mesh: Arc<Mesh>,
    pool: Pool,
    health: StorageHealth,
    latencies: Arc<StorageLatencies>,
    overload: Arc<Overload>,
    /// How long pages and catching up wait; locked by one thread only.
    waits: Mutex<[WaitWindow; 2]>,
    /// Locked by one thread only, and never across an `await`.
    queue: Mutex<ReadQueue<Box<ReadRequest>>>,
    /// Woken for each read that came in.
    work: Notify,
    connections_max: usize,
    cores: usize,
    grow_at: Mutex<Instant>,
}

impl Reads {
    /// Reads over at most `connections_max` connections.
    ///
    /// # Errors
    /// [`StorageError::Pool`].
    pub fn new(
        mesh: Arc<Mesh>,
        target: &Target,
        connections_max: usize,
        health: StorageHealth,
        (latencies, overload): (Arc<StorageLatencies>, Arc<Overload>),
    ) -> Result<Arc<Self>, StorageError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let worth_having = if target.is_local() { Shares::local_connections(cores) } else { usize::MAX };
        let connections_max = connections_max.min(worth_having);
        let pool = target.pool(Role::App, connections_max)?;
        let total = mesh.placement.shards() * READS_IN_FLIGHT_PER_SHARD;
        let bounds = Bounds { per_user: READS_PER_USER_MAX, commanded: total / 4 * 3, total };
        let queue = Mutex::new(ReadQueue::new(Shares::of(connections_max, cores), bounds));
        let grow_at = Mutex::new(Instant::now());
        let work = Notify::new();
        let waits = Mutex::new([WaitWindow::new(Instant::now()), WaitWindow::new(Instant::now())]);
        Ok(Arc::new(Self {
            mesh,
            pool,
            health,
            latencies,
            overload,
            waits,
            queue,
            work,
            connections_max,
            cores,
            grow_at,
        }))
    }

    /// Starts the workers. They end with the runtime.
    pub fn spawn(self: &Arc<Self>) {
        for _ in 0..self.connections_max {
            tokio::spawn(Arc::clone(self).work());
        }
        tokio::spawn(Arc::clone(self).tend());
        tokio::spawn(Arc::clone(self).warm_up());
    }

    /// Opens every connection and runs each kind of read on it once. Otherwise the first clients that connect at the
    /// same moment, and everybody beside them, wait while PostgreSQL starts as many processes, and while each of these
    /// reads the catalogue and compiles the functions: tens of milliseconds of CPU per connection.
    async fn warm_up(self: Arc<Self>) {
        let deadline = || tokio::time::Instant::now() + Duration::from_millis(READ_DEADLINE_MS);
        let mut readers = Vec::new();
        while readers.len() < self.connections_max {
            match Reader::new(&self.pool, &self.health, readers::NOBODY, deadline()).await {
                Ok(reader) => readers.push(reader),
                Err(_) => {
                    // PostgreSQL allows fewer connections: leave the unused ones to accounts and the indexer.
                    drop(readers);
                    self.pool.retain(|_, _| false);
                    return;
                }
            }
        }
        let opened = readers.len();
        drop(readers); // before they are warm, so that early clients do not wait for them
        for _ in 0..opened {
            // The pool returns the connection that was unused for longest, so this goes over all of them.
            let Ok(mut reader) = Reader::new(&self.pool, &self.health, readers::NOBODY, deadline()).await else {
                return;
            };
            for query in readers::of_each_kind() {
                // PostgreSQL refuses most of them, because this user is not a member of anything.
                if let Err(Failure::Lost | Failure::TooManyConnections) = readers::answer(&mut reader, &query).await {
                    return;
                }
            }
        }
    }

    /// Takes a read in, or answers it with what is full.
    pub fn offer(&self, request: Box<ReadRequest>) {
        let waiting = Waiting {
            class: request.query.class(),
            user: request.user,
            commanded: request.query.is_commanded(),
            since: Instant::now(),
            deadline: request.deadline,
            read: request,
        };
        let offered = self.queue().offer(waiting);
        match offered {
            Ok(()) => self.work.notify_one(),
            Err((waiting, full)) => self.reply(&waiting.read, Answer::Refused(Box::new(refusal(full)))),
        }
    }

    fn queue(&self) -> MutexGuard<'_, ReadQueue<Box<ReadRequest>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One worker: runs the next read that may run, answers it, goes on.
    async fn work(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            let (next, is_light, pause_ends) = {
                let mut queue = self.queue();
                (queue.take(now), queue.took_light(now), queue.pause_ends(now))
            };
            match next {
                None => match pause_ends {
                    // Either way there may be something to run.
                    Some(at) => drop(tokio::time::timeout_at(at.into(), self.work.notified()).await),
                    None => self.work.notified().await,
                },
                Some(Next::TooLate(waiting)) => self.refuse_late(&waiting),
                Some(Next::Run(waiting)) => {
                    // The next idle worker checks too: what ended before may have made several reads runnable, and a
                    // pause may end while this worker is busy.
                    self.work.notify_one();
                    let began = Instant::now();
                    let admits = matches!(waiting.read.query, Query::OpenSession { .. });
                    if is_light && !admits {
                        self.observe(&waiting, began);
                    }
                    if admits {
                        self.overload.admissions.begin();
                    }
                    let answer = self.run(&waiting).await;
                    let now = Instant::now();
                    if admits {
                        let answered = matches!(answer, Answer::Session(_));
                        self.overload.admissions.end(answered.then(|| now - began));
                    }
                    self.queue().finish(waiting.class, waiting.user, now - began, now);
                    observe::of_read(&self.mesh.activity, waiting.user, &waiting.read.query, &answer);
                    self.reply(&waiting.read, answer);
                }
            }
        }
    }

    fn waits(&self) -> MutexGuard<'_, [WaitWindow; 2]> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read leaves its queue. Those of heavy users wait on purpose, and admissions wait for the crowd that connects:
    /// neither shows that others have to wait.
    fn observe(&self, waiting: &Waiting<Box<ReadRequest>>, now: Instant) {
        let (index, work) = match waiting.class {
            ReadClass::CatchUp => (0, Work::CatchUp),
            ReadClass::Page => (1, Work::Pages),
            // One or two of these run at once, whatever the load.
            ReadClass::Search | ReadClass::Administration => return,
        };
        let waited = now.saturating_duration_since(waiting.since);
        if let Some(percent) = self.waits()[index].observe(waiting.user, waited, now) {
            self.overload.set(work, percent);
        }
    }

    async fn run(&self, waiting: &Waiting<Box<ReadRequest>>) -> Answer {
        let request = &waiting.read;
        let mut deadline = request.deadline;
        if waiting.class == ReadClass::Search {
            deadline = deadline.min(Instant::now() + Duration::from_millis(SEARCH_RUN_MS_MAX));
        }
        let deadline = tokio::time::Instant::from_std(deadline);
        let attempts = async {
            // A ticket is spent once: after a lost connection nobody knows whether it was.
            let spends = matches!(&request.query, Query::OpenSession { ticket: Some(_), .. });
            for pause_ms in PAUSES_MS.into_iter().map(Some).chain([None]) {
                let attempt = async {
                    let mut reader = Reader::new(&self.pool, &self.health, request.user, deadline).await?;
                    readers::answer(&mut reader, &request.query).await
                };
                match attempt.await {
                    Ok(answer) => return answer,
                    Err(Failure::Refused(refusal)) => return Answer::Refused(Box::new(refusal)),
                    Err(Failure::OutOfTime) => return Answer::Refused(Box::new(read_connection::too_slow())),
                    Err(Failure::Lost) => {}
                    Err(Failure::TooManyConnections) => self.shrink(),
                }
                let Some(pause_ms) = pause_ms.filter(|_| !spends) else { break };
                tokio::time::sleep(Duration::from_millis(rand::random_range(pause_ms / 2..=pause_ms))).await;
            }
            Answer::Refused(Box::new(Refusal::storage_unavailable()))
        };
        match tokio::time::timeout_at(deadline, attempts).await {
            Ok(answer) => answer,
            Err(_) => Answer::Refused(Box::new(read_connection::too_slow())),
        }
    }

    /// PostgreSQL allows no more connections. Runs only as many reads at once as there are connections.
    fn shrink(&self) {
        let open = self.pool.status().size.max(1);
        warn_limited!(
            "PostgreSQL allows no more connections (its max_connections): reading over {open} of {}",
            self.connections_max
        );
        *self.grow_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + GROW_AFTER;
        self.queue().set_shares(Shares::of(open, self.cores));
    }

    /// What time does: deadlines, gauges, another try at a connection.
    async fn tend(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TEND);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = Instant::now();
            for (window, work) in self.waits().iter_mut().zip([Work::CatchUp, Work::Pages]) {
                if let Some(percent) = window.idle(now) {
                    self.overload.set(work, percent);
                }
            }
            let late = self.queue().expire(now);
            for waiting in &late {
                self.refuse_late(waiting);
            }
            if !self.health.has_writers() {
                // The writers connect first; what the readers keep open without need may be what they lack.
                self.pool.retain(|_, _| false);
            }
            self.grow(now);
            let queue = self.queue();
            for class in ReadClass::ALL {
                let (length, oldest) = queue.waiting(class, now);
                self.latencies.queues.reads[class as usize].set(length, oldest);
            }
        }
    }

    fn grow(&self, now: Instant) {
        let mut grow_at = self.grow_at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = self.queue();
        let total = queue.shares().total;
        if total < self.connections_max && now >= *grow_at {
            *grow_at = now + GROW_AFTER / 5;
            queue.set_shares(Shares::of(total + 1, self.cores));
            self.work.notify_one();
        }
    }

    fn refuse_late(&self, waiting: &Waiting<Box<ReadRequest>>) {
        warn_limited!(
            user = waiting.user.0,
            queue = waiting.class.as_str(),
            "a read waited past its deadline and was refused"
        );
        self.reply(&waiting.read, Answer::Refused(Box::new(read_connection::too_slow())));
    }

    fn reply(&self, request: &ReadRequest, answer: Answer) {
        let shard = request.token.shard;
        let result = Box::new(ReadResult { token: request.token, answer });
        if self.mesh.storage(shard).results.try_push(result).is_err() {
            stop_process("a reserved slot for a read's result was taken");
        }
        self.mesh.bell(shard).ring();
    }
}

fn refusal(full: Full) -> Refusal {
    match full {
        Full::User => {
            let most = READS_PER_USER_MAX;
            let message =
                format!("{most} of your reads are waiting already. Wait for their answers before you send more.");
            Refusal::rate_limited(message, "reads_waiting", "user", most as u64, 0).retry_after(1_000)
        }
        Full::Everybody => {
            Refusal::overloaded("reads", ("reads_waiting", "server", READS_IN_FLIGHT_PER_SHARD)).retry_after(1_000)
        }
    }
}
