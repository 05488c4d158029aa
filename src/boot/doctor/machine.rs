//! The machine: kernel, `io_uring`, limits of the process, addresses, the folder of the server's own files.

use super::diagnosis::Diagnosis;
use super::report::{DoctorReport, blocking, too_slow};
use crate::boot::error::BootError;
use crate::boot::{listen, ring, topology};
use crate::config::Config;
use crate::files::store::folder::free_bytes;
use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What glommio asks for at least.
const LOCKED_BYTES_MIN: u64 = 512 * 1024;

/// Whether the disk of `data_dir` answers.
pub(super) async fn examine(config: &Config, report: &mut DoctorReport) -> bool {
    report.add(&kernel());
    report.add(&blocking("io_uring", "see whether the machine is overloaded", io_uring).await);
    let memory = getrlimit(Resource::RLIMIT_MEMLOCK).map(|(soft, _)| soft);
    report.add(&memory.map_or_else(|error| Diagnosis::error("locked_memory", &error), locked_memory));
    report.add(&open_files(config).unwrap_or_else(|error| Diagnosis::error("open_files", &error)));
    report.add(&address("address", config.server.bind_addr));
    if let Some(internal) = config.server.internal_addr {
        report.add(&address("internal_addr", internal));
    }
    let (data_dir, keep_free) = (config.data_dir.clone(), config.files.keep_free);
    let is_needed = config.features.file_uploads || config.database.url.is_none();
    let advice = "see whether the disk of data_dir answers";
    let folder = data_dir.clone();
    let writable = blocking("data_dir", advice, move || writable(&folder)).await;
    report.add(&writable);
    report.add(&blocking("disk", advice, move || free_space(&data_dir, keep_free, is_needed)).await);
    writable != too_slow("data_dir", advice)
}

fn kernel() -> Diagnosis {
    match topology::check_kernel() {
        Ok(release) => Diagnosis::ok("kernel", format!("Linux {release}")),
        Err(error) => Diagnosis::fault("kernel", error.to_string(), "update the kernel"),
    }
}

fn io_uring() -> Diagnosis {
    ring::check().map_or_else(
        |error| Diagnosis::error("io_uring", &error),
        |()| Diagnosis::ok("io_uring", "the kernel allows it"),
    )
}

fn locked_memory(limit: u64) -> Diagnosis {
    let check = "locked_memory";
    if limit == u64::MAX {
        return Diagnosis::ok(check, "no limit");
    }
    let found = format!("this process may lock {} KiB", limit / 1024);
    if limit >= LOCKED_BYTES_MIN {
        return Diagnosis::ok(check, found);
    }
    Diagnosis::fault(
        check,
        format!("{found}, and a shard needs {} KiB", LOCKED_BYTES_MIN / 1024),
        "raise the limit on locked memory (ulimit -l, LimitMEMLOCK=, or --ulimit memlock=-1 for a container)",
    )
}

fn open_files(config: &Config) -> Result<Diagnosis, BootError> {
    let files = topology::files_max()?;
    let workers = topology::workers(config.server.workers, topology::cores()?.len())?;
    let wanted = config.limits.max_connections;
    let room = topology::room_of(files, wanted, workers, topology::other_connections(config))?;
    Ok(match room.shortage(files, wanted) {
        None if room.entries > 0 => Diagnosis::ok(
            "open_files",
            format!(
                "{files} files, and {workers} rings with tables of {} sockets: enough for {wanted} connections",
                room.entries
            ),
        ),
        None => Diagnosis::ok("open_files", format!("{files} files: enough for {wanted} connections")),
        Some(shortage) => Diagnosis::of_text("open_files", super::diagnosis::Grade::Warning, &shortage),
    })
}

fn address(check: &'static str, address: SocketAddr) -> Diagnosis {
    match listen::probe(address) {
        Ok(()) => Diagnosis::ok(check, format!("{address} is free")),
        Err(BootError::PortTaken { address, owner }) if is_a_server(&owner) => Diagnosis::warning(
            check,
            format!("{owner} listens on {address} already"),
            "nothing if this is the server that you examine; otherwise stop it, or set server.bind_addr",
        ),
        Err(error) => Diagnosis::error(check, &error),
    }
}

/// Whether `owner` of an address is another process of this program.
fn is_a_server(owner: &str) -> bool {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    owner.split_once(" (").is_some_and(|(owner, _)| owner == name.trim())
}

/// Whether the server can write to `data_dir`, or make it. The file of this check has no name, so it goes by itself.
fn writable(data_dir: &Path) -> Diagnosis {
    let check = "data_dir";
    let (existing, is_made) = nearest(data_dir);
    let wrote = tempfile::tempfile_in(&existing)
        .and_then(|mut file| file.write_all(&[0; 4096]).map(|()| file))
        .and_then(|file| file.sync_all());
    match (wrote, is_made) {
        (Ok(()), true) => Diagnosis::ok(check, format!("{} is writable", data_dir.display())),
        (Ok(()), false) => {
            Diagnosis::ok(check, format!("{} does not exist yet; the server makes it at its start", data_dir.display()))
        }
        (Err(error), _) => Diagnosis::fault(
            check,
            format!("cannot write to {}: {error}", existing.display()),
            "let this user write there, or set data_dir to another folder",
        ),
    }
}

/// The folder, or the nearest one above it that exists; and whether it is the folder itself.
fn nearest(folder: &Path) -> (PathBuf, bool) {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let existing = absolute.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    (existing.to_owned(), existing == absolute)
}

fn free_space(data_dir: &Path, keep_free: u64, is_needed: bool) -> Diagnosis {
    let existing = nearest(data_dir).0;
    match File::open(&existing).and_then(|folder| free_bytes(&folder)) {
        Ok(free) => space(free, keep_free, is_needed),
        Err(error) => unreadable(&existing, &error),
    }
}

fn unreadable(folder: &Path, error: &io::Error) -> Diagnosis {
    Diagnosis::fault("disk", format!("cannot open {}: {error}", folder.display()), "let this user read it")
}

/// `is_needed`: whether files or PostgreSQL are on this disk.
fn space(free: u64, keep_free: u64, is_needed: bool) -> Diagnosis {
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let found =
        format!("{} MiB are free on the disk of data_dir, and files.keep_free is {} MiB", mib(free), mib(keep_free));
    let advice = "free some space, or move data_dir to a larger disk";
    if !is_needed {
        return Diagnosis::ok("disk", found);
    }
    if free < keep_free {
        return Diagnosis::fault("disk", format!("{found}, so uploads are refused"), advice);
    }
    if free / 2 < keep_free {
        return Diagnosis::warning("disk", found, advice);
    }
    Diagnosis::ok("disk", found)
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::Grade;
    use super::*;

    #[test]
    fn compares_the_limit_on_locked_memory() {
        assert_eq!(locked_memory(64 * 1024).severity, Grade::Fault);
        assert_eq!(locked_memory(LOCKED_BYTES_MIN).severity, Grade::Ok);
        assert_eq!(locked_memory(u64::MAX).found, "no limit");
    }

    #[test]
    fn compares_the_free_space_with_what_uploads_leave_free() {
        let gib = 1 << 30;
        assert_eq!(space(gib - 1, gib, true).severity, Grade::Fault);
        assert_eq!(space(gib, gib, true).severity, Grade::Warning);
        assert_eq!(space(2 * gib, gib, true).severity, Grade::Ok);
        assert_eq!(space(0, gib, false).severity, Grade::Ok);
    }

    #[test]
    fn a_data_dir_that_is_missing_is_judged_by_the_folder_above_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let finding = writable(&data_dir);
        assert!(finding.severity == Grade::Ok && finding.found.contains("does not exist yet"), "{finding}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(writable(&file.join("data")).severity, Grade::Fault);
    }
}
