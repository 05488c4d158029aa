//! The process as a whole: its version, its memory, its CPU and its open files.

use super::families::{family, sample};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::proto::{MetricFamily, MetricType};
use std::fs;

/// Values that cannot be read are left out.
pub(super) fn families() -> Vec<MetricFamily> {
    let version = sample(&[("version", env!("CARGO_PKG_VERSION"))], MetricType::GAUGE, 1.0);
    let build = family("chat_server_build_info", "The running version, as a label.", MetricType::GAUGE, vec![version]);
    let mut families = vec![build];
    let mut add = |name, help, kind, value: Option<f64>| {
        families.extend(value.map(|value| family(name, help, kind, vec![sample(&[], kind, value)])));
    };
    add(
        "process_resident_memory_bytes",
        "Memory in RAM.",
        MetricType::GAUGE,
        fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)),
    );
    let cpu = getrusage(UsageWho::RUSAGE_SELF).ok();
    let cpu = cpu.map(|usage| (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6);
    add("process_cpu_seconds_total", "CPU time of all threads, user and system.", MetricType::COUNTER, cpu);
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    add("process_open_fds", "Open file descriptors.", MetricType::GAUGE, open);
    let most = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64);
    add("process_max_fds", "File descriptors that the process may have open.", MetricType::GAUGE, most);
    families
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}
