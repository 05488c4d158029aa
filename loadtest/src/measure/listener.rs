//! Finds the processes whose CPU counts: those that listen on the tested port, and those that they store in.
//!
//! The inode of a socket in `/proc/net/tcp` is looked up among the open files of `/proc/PID/fd`. Only root and the
//! owner of a process may read the latter, so "no process listens here" and "the listener belongs to another user" are
//! different results. If they were one, a run against a foreign server would have no CPU figures and say nothing about
//! it.

use crate::measure::process::{Filter, ProcessMeter, all_relatives, members};
use procfs::process::FDTarget;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The name of PostgreSQL's processes.
const POSTGRES: &str = "postgres";

/// Why a server's processes were not found.
#[derive(Debug, Error)]
pub enum ListenerError {
    /// The address is another machine's.
    #[error("{0} is not an address of this machine, so the server's CPU and memory can't be measured")]
    Elsewhere(SocketAddr),
    /// No process listens there.
    #[error("no process of this machine listens on {0}")]
    Nobody(SocketAddr),
    /// A process listens there, but its owner hides which one.
    #[error("the process that listens on {0} belongs to another user: run as root or as that user to measure its CPU")]
    Hidden(SocketAddr),
    /// The table of sockets can't be read.
    #[error("cannot read /proc/net/tcp: {0}")]
    Table(#[from] procfs::ProcError),
}

/// The processes that listen on an address of this machine: several when they share the socket, without those that are
/// descendants of another of them.
pub fn listening_on(address: SocketAddr) -> Result<Vec<i32>, ListenerError> {
    if !is_local(address.ip()) {
        return Err(ListenerError::Elsewhere(address));
    }
    let mut entries = procfs::net::tcp()?;
    // Without IPv6 the table is missing.
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    let inodes: BTreeSet<u64> = entries
        .into_iter()
        .filter(|entry| entry.state == procfs::net::TcpState::Listen && serves(entry.local_address, address))
        .map(|entry| entry.inode)
        .collect();
    if inodes.is_empty() {
        return Err(ListenerError::Nobody(address));
    }
    let owners: Vec<i32> = procfs::process::all_processes()?
        .filter_map(Result::ok)
        .filter(|process| {
            process.fd().is_ok_and(|files| {
                files.filter_map(Result::ok).any(|file| match file.target {
                    FDTarget::Socket(inode) => inodes.contains(&inode),
                    _ => false,
                })
            })
        })
        .map(|process| process.pid)
        .collect();
    if owners.is_empty() {
        return Err(ListenerError::Hidden(address));
    }
    let all = all_relatives();
    let is_below_another = |pid: &i32| {
        owners.iter().any(|other| other != pid && members(&[*other], &Filter::All, &all).binary_search(pid).is_ok())
    };
    Ok(owners.iter().copied().filter(|pid| !is_below_another(pid)).collect())
}

/// Whether connections to `target` end at a socket that is bound to `bound`.
fn serves(bound: SocketAddr, target: SocketAddr) -> bool {
    let same = || bound.ip().to_canonical() == target.ip().to_canonical();
    bound.port() == target.port() && (bound.ip().to_canonical().is_unspecified() || same())
}

/// Whether an address is one of this machine: one can bind to no other.
fn is_local(ip: IpAddr) -> bool {
    let ip = if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Measures a server without the PostgreSQL that it may have as its child.
pub fn server_meter(server: Vec<i32>) -> ProcessMeter {
    ProcessMeter::filtered(server, Filter::Except(POSTGRES))
}

/// Measures the PostgreSQL a server stores in: the one in `<data_dir>/postgres`, which may be an older server's child
/// that this one adopted, otherwise the processes of that name below the server. `None` when there is neither.
pub fn store_meter(server: &[i32], data_dir: Option<&Path>) -> Option<ProcessMeter> {
    if let Some(postmaster) = data_dir.and_then(postmaster_of) {
        return Some(ProcessMeter::new(vec![postmaster]));
    }
    let below = members(server, &Filter::Only(POSTGRES), &all_relatives());
    (!below.is_empty()).then(|| ProcessMeter::filtered(server.to_vec(), Filter::Only(POSTGRES)))
}

/// The postmaster that runs on a server's data directory.
fn postmaster_of(data_dir: &Path) -> Option<i32> {
    let directory = data_dir.join("postgres");
    let pid = pid_in(&std::fs::read_to_string(directory.join("postmaster.pid")).ok()?, &directory)?;
    // A file that a crash left behind may name a process of another user.
    all_relatives().into_iter().find(|relative| relative.pid == pid && relative.name == POSTGRES).map(|found| found.pid)
}

/// The first line of a `postmaster.pid`, when its second names this directory.
fn pid_in(text: &str, directory: &Path) -> Option<i32> {
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
    let named = lines.next()?.trim();
    // A server gives its private PostgreSQL the directory as an open file.
    let own = |rest: &str| PathBuf::from(format!("/proc/{pid}/{rest}"));
    let named = named.strip_prefix("/proc/self/").map_or_else(|| PathBuf::from(named), own);
    let same = named == directory || named.canonicalize().ok()? == directory.canonicalize().ok()?;
    same.then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn finds_the_listening_process_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening_on(listener.local_addr().unwrap()).unwrap();
        assert_eq!(found, [i32::try_from(std::process::id()).unwrap()]);
    }

    #[test]
    fn distinguishes_a_free_port_from_another_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(listening_on(free), Err(ListenerError::Nobody(_))));
        // TEST-NET-1 (RFC 5737) has no hosts.
        assert!(matches!(listening_on(address("192.0.2.1:80")), Err(ListenerError::Elsewhere(_))));
    }

    #[test]
    fn matches_a_wildcard_listener_to_every_address() {
        for (bound, target, serves_it) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.2:80", "127.0.0.1:80", false),
            ("0.0.0.0:81", "127.0.0.1:80", false),
        ] {
            assert_eq!(serves(address(bound), address(target)), serves_it, "{bound} for {target}");
        }
    }

    #[test]
    fn trusts_a_postmaster_only_for_its_own_directory() {
        let directory = Path::new("/data/postgres");
        assert_eq!(pid_in("123\n/data/postgres\n1700000000\n", directory), Some(123));
        assert_eq!(pid_in("123\n/elsewhere\n", directory), None);
        assert_eq!(pid_in("-123\n/data/postgres\n", directory), None);
        assert_eq!(pid_in("", directory), None);
    }

    #[test]
    fn finds_a_postmaster_that_has_its_directory_as_an_open_file() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = std::fs::File::open(data.path()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let text = format!("{pid}\n/proc/self/fd/{}\n", open.as_raw_fd());
        assert_eq!(pid_in(&text, data.path()), Some(pid));
        assert_eq!(pid_in(&text, other.path()), None);
    }

    #[test]
    fn ignores_a_pid_file_that_a_crash_left() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("postgres");
        std::fs::create_dir(&directory).unwrap();
        // This test's own process lives, but is not PostgreSQL.
        let text = format!("{}\n{}\n", std::process::id(), directory.display());
        std::fs::write(directory.join("postmaster.pid"), text).unwrap();
        assert!(store_meter(&[], Some(data.path())).is_none());
    }
}
