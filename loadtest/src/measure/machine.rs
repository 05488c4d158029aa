//! The machine of a run, for the head of a report: it shows when figures of two machines are compared.

use crate::result::Machine;
use procfs::{Current, LoadAverage, Meminfo};

impl Machine {
    /// This machine, now. Values that cannot be read stay empty.
    pub fn current() -> Self {
        Self {
            cpu: cpu_model(),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
            memory_bytes: Meminfo::current().map_or(0, |memory| memory.mem_total),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map(|release| release.trim().to_owned())
                .unwrap_or_default(),
            os: std::fs::read_to_string("/etc/os-release").ok().and_then(|text| pretty_name(&text)).unwrap_or_default(),
            load_1m: LoadAverage::current().map_or(0.0, |load| f64::from(load.one)),
        }
    }
}

/// The processor's name; some architectures have none in `/proc/cpuinfo`.
fn cpu_model() -> String {
    procfs::CpuInfo::current()
        .ok()
        .and_then(|info| info.model_name(0).map(str::to_owned))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// `PRETTY_NAME` of an os-release(5) file.
fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_distribution_with_and_without_quotes() {
        let quoted = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\n";
        assert_eq!(pretty_name(quoted).as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(pretty_name("PRETTY_NAME=Alpine\n").as_deref(), Some("Alpine"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::current();
        assert!(!machine.cpu.is_empty() && !machine.kernel.is_empty());
        assert!(machine.cores > 0 && machine.memory_bytes > 0);
    }
}
