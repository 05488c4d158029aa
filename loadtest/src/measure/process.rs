//! CPU, memory and context switches of a group of processes, read from `/proc`.
//!
//! A group consists of its root processes and all their descendants, listed again for every sample. So a PostgreSQL
//! backend that starts during the run counts from its first nanosecond. [`Filter`] separates a server from the
//! PostgreSQL that is its child.
//!
//! Invariants:
//! - the totals of a group only grow: the use of a thread or process stays counted after it has ended. With a sum of
//!   the running ones alone, a difference would become negative when a connection's backend ends;
//! - CPU is read in nanoseconds from `schedstat` of every thread, because ticks of 10 ms are too coarse for a second of
//!   a nearly idle server. The use of threads that ended between two samples is added from the process's own tick
//!   count. The use of a whole process between its last sample and its end is lost, so sample often;
//! - memory that processes share is counted once ([`resident`]). A sum over 50 PostgreSQL backends would count one
//!   buffer pool 50 times.

use crate::result::ProcessUsage;
use procfs::process::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How far a process's tick count may run ahead of its threads' nanoseconds before that is more than rounding: user and
/// system time are each cut to whole ticks, at both ends of the interval.
const ROUNDING_TICKS: u64 = 4;

/// Which members of a family of processes belong to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Only the roots: a program that starts the servers it measures is their parent.
    Roots,
    /// All of them.
    All,
    /// All but those with this name and their descendants.
    Except(&'static str),
    /// Those with this name and their descendants.
    Only(&'static str),
}

/// A process as far as the family tree is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    /// Its identifier.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name, cut to 15 bytes by the kernel.
    pub name: String,
}

/// All processes of this machine that can be read.
pub fn all_relatives() -> Vec<Relative> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    processes
        .filter_map(|process| process.ok()?.stat().ok())
        .map(|stat| Relative { pid: stat.pid, parent: stat.ppid, name: stat.comm })
        .collect()
}

/// The members of the family of `roots` that match the filter, ascending.
pub fn members(roots: &[i32], filter: &Filter, all: &[Relative]) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<&Relative>> = BTreeMap::new();
    for relative in all {
        children.entry(relative.parent).or_default().push(relative);
    }
    // (process, whether one of its ancestors or it itself bears the name)
    let mut waiting: Vec<(&Relative, bool)> =
        all.iter().filter(|relative| roots.contains(&relative.pid)).map(|root| (root, false)).collect();
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    while let Some((relative, below)) = waiting.pop() {
        if !seen.insert(relative.pid) {
            continue;
        }
        let named = match filter {
            Filter::Roots | Filter::All => false,
            Filter::Except(name) | Filter::Only(name) => below || relative.name == *name,
        };
        let wanted = match filter {
            Filter::Roots | Filter::All => true,
            Filter::Except(_) => !named,
            Filter::Only(_) => named,
        };
        if wanted {
            found.insert(relative.pid);
        }
        if *filter == Filter::Roots {
            continue;
        }
        waiting.extend(children.get(&relative.pid).into_iter().flatten().map(|child| (*child, named)));
    }
    found.into_iter().collect()
}

/// Identifies a thread or process: the kernel reuses identifiers, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    pid: i32,
    tid: i32,
    started_ticks: u64,
}

/// Counters that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    cpu_ns: u64,
    system_ns: u64,
    voluntary: u64,
    involuntary: u64,
}

impl Counters {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }

    fn add(&mut self, other: &Self) {
        self.cpu_ns += other.cpu_ns;
        self.system_ns += other.system_ns;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
    }
}

/// One thread as `/proc` shows it.
#[derive(Debug, Clone)]
struct ThreadReading {
    life: Life,
    counters: Counters,
}

/// One process as `/proc` shows it.
#[derive(Debug, Clone)]
struct ProcessReading {
    life: Life,
    /// CPU of all its threads, ended ones too, to the tick.
    group_cpu_ns: u64,
    group_system_ns: u64,
    anonymous_bytes: u64,
    file_bytes: u64,
    shared_bytes: u64,
    threads: Vec<ThreadReading>,
}

fn tick_ns() -> u64 {
    1_000_000_000 / procfs::ticks_per_second().max(1)
}

/// Reads one process; `None` when it has ended.
fn read_process(pid: i32) -> Option<ProcessReading> {
    let tick = tick_ns();
    let process = Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    let status = process.status().ok()?;
    let mut threads = Vec::new();
    for task in process.tasks().ok()? {
        // A thread that ends during the reading counts as ended before it.
        let Ok(task) = task else { continue };
        let (Ok(stat), Ok(status)) = (task.stat(), task.status()) else { continue };
        let ticks_ns = (stat.utime + stat.stime) * tick;
        threads.push(ThreadReading {
            life: Life { pid, tid: task.tid, started_ticks: stat.starttime },
            counters: Counters {
                cpu_ns: task.schedstat().map_or(ticks_ns, |schedstat| schedstat.sum_exec_runtime),
                system_ns: stat.stime * tick,
                voluntary: status.voluntary_ctxt_switches.unwrap_or(0),
                involuntary: status.nonvoluntary_ctxt_switches.unwrap_or(0),
            },
        });
    }
    let bytes = |kib: Option<u64>| kib.unwrap_or(0) * 1024;
    Some(ProcessReading {
        life: Life { pid, tid: pid, started_ticks: stat.starttime },
        group_cpu_ns: (stat.utime + stat.stime) * tick,
        group_system_ns: stat.stime * tick,
        anonymous_bytes: bytes(status.rssanon),
        file_bytes: bytes(status.rssfile),
        shared_bytes: bytes(status.rssshmem),
        threads,
    })
}

/// Resident memory of a group: the private memory of each, and the largest view of the shared memory.
fn resident(readings: &[ProcessReading]) -> u64 {
    let own: u64 = readings.iter().map(|process| process.anonymous_bytes).sum();
    let file = readings.iter().map(|process| process.file_bytes).max().unwrap_or(0);
    let shared = readings.iter().map(|process| process.shared_bytes).max().unwrap_or(0);
    own + file + shared
}

/// What all members used so far, the ended ones included. Pure.
#[derive(Debug, Default)]
struct ProcessTally {
    threads: BTreeMap<Life, Counters>,
    processes: BTreeMap<Life, Counters>,
    total: Counters,
}

impl ProcessTally {
    /// Adds the use of the present members.
    fn update(&mut self, readings: &[ProcessReading]) {
        let slack_ns = ROUNDING_TICKS * tick_ns();
        let mut threads = BTreeMap::new();
        let mut processes = BTreeMap::new();
        for process in readings {
            let mut spent = Counters::default();
            for thread in &process.threads {
                let before = self.threads.get(&thread.life).copied().unwrap_or_default();
                spent.add(&thread.counters.since(&before));
                threads.insert(thread.life, thread.counters);
            }
            let group =
                Counters { cpu_ns: process.group_cpu_ns, system_ns: process.group_system_ns, ..Counters::default() };
            let before = self.processes.get(&process.life).copied().unwrap_or_default();
            let group_spent = group.since(&before);
            if group_spent.cpu_ns > spent.cpu_ns + slack_ns {
                spent.cpu_ns = group_spent.cpu_ns;
                spent.system_ns = spent.system_ns.max(group_spent.system_ns);
            }
            processes.insert(process.life, group);
            self.total.add(&spent);
        }
        self.threads = threads;
        self.processes = processes;
    }
}

/// Measures one group of processes.
#[derive(Debug)]
pub struct ProcessMeter {
    roots: Vec<i32>,
    filter: Filter,
    tally: ProcessTally,
}

impl ProcessMeter {
    /// Measures these processes and their descendants.
    pub fn new(roots: Vec<i32>) -> Self {
        Self::filtered(roots, Filter::All)
    }

    /// Measures those of these processes and their descendants that match the filter.
    pub fn filtered(roots: Vec<i32>, filter: Filter) -> Self {
        Self { roots, filter, tally: ProcessTally::default() }
    }

    /// Measures this program, without what it has started.
    pub fn of_this_program() -> Self {
        // The kernel's identifiers are positive and small.
        Self::filtered(vec![i32::try_from(std::process::id()).unwrap_or(i32::MAX)], Filter::Roots)
    }

    /// Continues with other roots, as after a restart of the server. Totals keep the earlier use.
    pub fn follow(&mut self, roots: Vec<i32>) {
        self.roots = roots;
    }

    /// Reads the group as it is now. A group whose processes have all ended keeps its totals.
    pub fn sample(&mut self) -> Sample {
        let at = Instant::now();
        let pids = members(&self.roots, &self.filter, &all_relatives());
        let readings: Vec<ProcessReading> = pids.into_iter().filter_map(read_process).collect();
        self.tally.update(&readings);
        Sample {
            at,
            processes: readings.len(),
            total: self.tally.total,
            rss_bytes: resident(&readings),
            anonymous_bytes: readings.iter().map(|process| process.anonymous_bytes).sum(),
            threads: readings
                .into_iter()
                .flat_map(|process| process.threads)
                .map(|thread| (thread.life, thread.counters.cpu_ns))
                .collect(),
        }
    }
}

/// A group at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    at: Instant,
    processes: usize,
    total: Counters,
    rss_bytes: u64,
    anonymous_bytes: u64,
    threads: BTreeMap<Life, u64>,
}

impl Sample {
    /// How many processes the group has; 0 when none could be read.
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// Resident memory, shared memory counted once.
    pub fn rss_bytes(&self) -> u64 {
        self.rss_bytes
    }

    /// Anonymous memory that is not shared: heap and stacks.
    pub fn anonymous_bytes(&self) -> u64 {
        self.anonymous_bytes
    }

    /// What the group used since an earlier sample of the same meter.
    pub fn since(&self, earlier: &Self) -> Spent {
        let wall = self.at.saturating_duration_since(earlier.at);
        let spent = self.total.since(&earlier.total);
        let since =
            |(life, cpu_ns): (&Life, &u64)| cpu_ns.saturating_sub(earlier.threads.get(life).copied().unwrap_or(0));
        let busiest_thread_cpu = Duration::from_nanos(self.threads.iter().map(since).max().unwrap_or(0));
        let main_threads = self.threads.iter().filter(|(life, _)| life.tid == life.pid);
        Spent {
            wall,
            cpu: Duration::from_nanos(spent.cpu_ns),
            // Rounded ticks may exceed the total use.
            system: Duration::from_nanos(spent.system_ns.min(spent.cpu_ns)),
            voluntary_switches: spent.voluntary,
            involuntary_switches: spent.involuntary,
            busiest_thread_cpu,
            main_threads_cpu: Duration::from_nanos(main_threads.map(since).sum()),
            rss_bytes: self.rss_bytes,
        }
    }
}

/// What a group used between two samples.
#[derive(Debug, Clone)]
pub struct Spent {
    /// The time between them.
    pub wall: Duration,
    /// CPU of all members.
    pub cpu: Duration,
    /// Of it in the kernel.
    pub system: Duration,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Context switches forced on them.
    pub involuntary_switches: u64,
    /// CPU of the busiest thread.
    pub busiest_thread_cpu: Duration,
    /// CPU of the main threads of all processes that run at the later one.
    pub main_threads_cpu: Duration,
    /// Resident memory at the later one.
    pub rss_bytes: u64,
}

/// The work of that time, for CPU per message and delivery.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// Messages acknowledged.
    pub acked: u64,
    /// Deliveries.
    pub delivered: u64,
}

impl Spent {
    /// CPU in cores: 1.0 is a full one.
    pub fn cores(&self) -> f64 {
        per(self.cpu.as_secs_f64(), self.wall.as_secs_f64())
    }

    /// The busiest thread's CPU in cores.
    pub fn busiest_thread_cores(&self) -> f64 {
        per(self.busiest_thread_cpu.as_secs_f64(), self.wall.as_secs_f64())
    }

    /// The form for a result. `rss_before_bytes` is from before the connections were opened.
    pub fn usage(&self, work: Work, rss_before_bytes: u64) -> ProcessUsage {
        let cpu_us = self.cpu.as_secs_f64() * 1e6;
        ProcessUsage {
            cpu_s: self.cpu.as_secs_f64(),
            system_s: self.system.as_secs_f64(),
            cpu_us_per_message: per(cpu_us, work.acked as f64),
            cpu_us_per_delivery: per(cpu_us, work.delivered as f64),
            rss_before_bytes,
            rss_bytes: self.rss_bytes,
            voluntary_switches: self.voluntary_switches,
            involuntary_switches: self.involuntary_switches,
            busiest_thread_cores: self.busiest_thread_cores(),
        }
    }
}

/// A quotient; 0 for no work, because JSON has no infinity.
fn per(amount: f64, count: f64) -> f64 {
    if count > 0.0 { amount / count } else { 0.0 }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
