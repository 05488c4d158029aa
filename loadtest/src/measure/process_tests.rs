//! The totals of a group grow when processes end and join, and families are separated by name.

use super::*;

fn relative(pid: i32, parent: i32, name: &str) -> Relative {
    Relative { pid, parent, name: name.to_owned() }
}

fn family() -> Vec<Relative> {
    vec![
        relative(1, 0, "init"),
        relative(10, 1, "chat-server"),
        relative(11, 10, "helper"),
        relative(20, 10, "postgres"),
        relative(21, 20, "postgres"),
        relative(22, 20, "archiver"),
        relative(30, 1, "chat-server"),
    ]
}

fn reading(pid: i32, group_cpu_ms: u64, threads: &[(i32, u64)]) -> ProcessReading {
    ProcessReading {
        life: Life { pid, tid: pid, started_ticks: 1 },
        group_cpu_ns: group_cpu_ms * 1_000_000,
        group_system_ns: 0,
        anonymous_bytes: 100,
        file_bytes: 30,
        shared_bytes: 1_000,
        threads: threads
            .iter()
            .map(|&(tid, cpu_ms)| ThreadReading {
                life: Life { pid, tid, started_ticks: 1 },
                counters: Counters { cpu_ns: cpu_ms * 1_000_000, voluntary: cpu_ms, ..Counters::default() },
            })
            .collect(),
    }
}

const MS: u64 = 1_000_000;

#[test]
fn a_server_and_the_postgresql_below_it_are_two_groups() {
    let all = family();
    assert_eq!(members(&[10], &Filter::All, &all), [10, 11, 20, 21, 22]);
    assert_eq!(members(&[10], &Filter::Except("postgres"), &all), [10, 11]);
    assert_eq!(members(&[10], &Filter::Only("postgres"), &all), [20, 21, 22]);
    assert_eq!(members(&[10], &Filter::Roots, &all), [10]);
    assert_eq!(members(&[99], &Filter::All, &all), Vec::<i32>::new());
}

#[test]
fn counts_a_root_below_another_root_once() {
    assert_eq!(members(&[10, 20], &Filter::All, &family()), [10, 11, 20, 21, 22]);
}

#[test]
fn keeps_counting_the_use_of_ended_processes() {
    let mut tally = ProcessTally::default();
    tally.update(&[reading(10, 100, &[(10, 100)]), reading(11, 500, &[(11, 500)])]);
    tally.update(&[reading(10, 110, &[(10, 110)])]);
    assert_eq!(tally.total.cpu_ns, 610 * MS);
}

#[test]
fn counts_a_new_process_from_its_start() {
    let mut tally = ProcessTally::default();
    tally.update(&[reading(10, 100, &[(10, 100)])]);
    tally.update(&[reading(10, 100, &[(10, 100)]), reading(12, 70, &[(12, 70)])]);
    assert_eq!(tally.total.cpu_ns, 170 * MS);
}

#[test]
fn counts_short_lived_threads_from_the_process() {
    let mut tally = ProcessTally::default();
    tally.update(&[reading(10, 100, &[(10, 100)])]);
    tally.update(&[reading(10, 900, &[(10, 110)])]);
    assert_eq!(tally.total.cpu_ns, 900 * MS);
}

#[test]
fn rounding_to_ticks_adds_nothing() {
    let mut tally = ProcessTally::default();
    tally.update(&[reading(10, 100, &[(10, 100)])]);
    tally.update(&[reading(10, 120, &[(10, 101)])]);
    assert_eq!(tally.total.cpu_ns, 101 * MS);
}

#[test]
fn treats_a_reused_pid_as_another_process() {
    let mut tally = ProcessTally::default();
    tally.update(&[reading(10, 500, &[(10, 500)])]);
    let mut next = reading(10, 20, &[(10, 20)]);
    next.life.started_ticks = 2;
    next.threads[0].life.started_ticks = 2;
    tally.update(&[next]);
    assert_eq!(tally.total.cpu_ns, 520 * MS);
}

#[test]
fn shared_memory_counts_once() {
    let readings = [reading(10, 0, &[]), reading(11, 0, &[]), reading(12, 0, &[])];
    assert_eq!(resident(&readings), 3 * 100 + 30 + 1_000);
}

#[test]
fn counts_this_programs_own_work() {
    let mut meter = ProcessMeter::of_this_program();
    let before = meter.sample();
    let worker = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(|| {
            let start = cpu_of_this_thread();
            let mut value = 1_u64;
            while cpu_of_this_thread() < start + 200 * MS {
                for _ in 0..100_000 {
                    value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
            }
        })
        .unwrap();
    worker.join().unwrap();
    let after = meter.sample();
    let spent = after.since(&before);
    // Another test of this program may run a PostgreSQL at the same time.
    assert!(after.processes() >= 1);
    // The worker has ended, so its share is known to the tick only.
    assert!(spent.cpu >= Duration::from_millis(150), "{spent:?}");
    assert!(spent.main_threads_cpu < Duration::from_millis(100), "the worker is no main thread: {spent:?}");
    assert!(after.anonymous_bytes() > 0 && after.rss_bytes() >= after.anonymous_bytes());
    let usage = spent.usage(Work { acked: 10, delivered: 100 }, 7);
    assert!((usage.cpu_us_per_message - usage.cpu_us_per_delivery * 10.0).abs() < 1e-6);
    assert_eq!(usage.rss_before_bytes, 7);
}

#[test]
fn counts_the_main_thread_of_a_process() {
    let mut shell = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let mut meter = ProcessMeter::new(vec![shell.id() as i32]);
    let before = meter.sample();
    let (enough, limit) = (Duration::from_millis(50), Instant::now() + Duration::from_secs(30));
    let mut spent = before.since(&before);
    while spent.main_threads_cpu < enough && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(20));
        spent = meter.sample().since(&before);
    }
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(spent.main_threads_cpu >= enough && spent.cpu >= spent.main_threads_cpu, "{spent:?}");
}

#[test]
fn reports_no_cost_per_message_without_messages() {
    let mut meter = ProcessMeter::of_this_program();
    let sample = meter.sample();
    let usage = sample.since(&sample).usage(Work::default(), 0);
    assert!(usage.cpu_us_per_message.abs() < f64::EPSILON && usage.busiest_thread_cores.abs() < f64::EPSILON);
}

fn cpu_of_this_thread() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse().unwrap()
}
