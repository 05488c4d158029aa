//! Where this program looks for programs and ports.
//!
//! Programs come from `PATH`, from the `sbin` next to each `bin` in it (Debian installs daemons there, and a user's
//! `PATH` lacks it), and from the directory that `loadtest/peers/install.sh` fills. There are no other places, so an
//! empty `PATH` means an empty machine.

use chat_server::storage::embedded::{debians_programs, holds_programs};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Places {
    directories: Vec<PathBuf>,
    /// The directory that `install.sh` fills: npm packages, and programs of a newer Debian.
    pub peers: PathBuf,
}

impl Places {
    /// The places of a `PATH` and a directory of peers.
    pub fn new(path: Option<&OsStr>, peers: PathBuf) -> Self {
        let mut directories = Vec::new();
        for directory in path.map(std::env::split_paths).into_iter().flatten() {
            if directory.as_os_str().is_empty() {
                continue;
            }
            if directory.ends_with("bin") {
                directories.push(directory.with_file_name("sbin"));
            }
            directories.push(directory);
        }
        Self { directories, peers }
    }

    /// The program called `name`: first the one installed for the comparison, then `PATH`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let newer = self.newer();
        let own = [newer.join("usr/sbin"), newer.join("usr/bin")];
        own.iter().chain(&self.directories).map(|directory| directory.join(name)).find(|path| path.is_file())
    }

    /// Programs and libraries of a newer Debian than this machine's.
    pub fn newer(&self) -> PathBuf {
        self.peers.join("newer")
    }

    /// The directory with `initdb` and `postgres`: in `PATH`, or Debian's newest version when `psql` is in
    /// `PATH`.
    pub fn postgres_programs(&self) -> Option<PathBuf> {
        if let Some(found) = self.directories.iter().find(|directory| holds_programs(directory)) {
            return Some(found.clone());
        }
        self.program("psql")?;
        debians_programs()
    }
}

/// The default range of ports: below those that the kernel assigns to outgoing connections
/// (from 32,768 on), which could occupy a port between the check and the server's start.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// Assigns ports that no program listens on.
#[derive(Clone, Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    /// Where the search begins: at a random port, so that two processes rarely try the same one.
    first: usize,
    given: Vec<u16>,
}

impl Ports {
    /// Ports of the given range, or of an unused one.
    pub fn new(range: Option<RangeInclusive<u16>>) -> Self {
        let range = range.unwrap_or(PORTS);
        let first = rand::random::<u32>() as usize % range.len().max(1);
        Self { range, first, given: Vec::new() }
    }

    /// A port that is free now and was not assigned before.
    ///
    /// # Errors
    /// When none is left.
    pub fn reserve(&mut self) -> Result<u16, String> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let turned = self.range.clone().skip(self.first).chain(self.range.clone().take(self.first));
        let port = turned.filter(|port| !self.given.contains(port)).find(is_free);
        let port =
            port.ok_or_else(|| format!("no port from {} to {} is free", self.range.start(), self.range.end()))?;
        self.given.push(port);
        Ok(port)
    }

    /// Allows assigned ports to be assigned again, because their listeners have closed.
    pub fn release_all(&mut self) {
        self.given.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_no_program_with_an_empty_path() {
        let places = Places::new(Some(OsStr::new("")), PathBuf::from("/nonexistent"));
        assert_eq!(places.program("sh"), None);
        assert_eq!(places.postgres_programs(), None);
        assert_eq!(Places::new(None, PathBuf::from("/nonexistent")).program("sh"), None);
    }

    #[test]
    fn finds_daemons_next_to_bin_and_prefers_installed_peers() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (bin, sbin) = (root.path().join("bin"), root.path().join("sbin"));
        let newer = root.path().join("peers/newer/usr/sbin");
        for directory in [&bin, &sbin, &newer] {
            std::fs::create_dir_all(directory).expect("a directory");
        }
        std::fs::write(sbin.join("daemon"), "").expect("a file");
        let places = Places::new(Some(bin.as_os_str()), root.path().join("peers"));
        assert_eq!(places.program("daemon"), Some(sbin.join("daemon")));
        std::fs::write(newer.join("daemon"), "").expect("a file");
        assert_eq!(places.program("daemon"), Some(newer.join("daemon")));
    }

    #[test]
    fn assigns_each_port_once() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let port = taken.local_addr().expect("an address").port();
        let mut ports = Ports::new(Some(port..=port));
        assert!(ports.reserve().is_err(), "another program listens there");
        drop(taken);
        assert_eq!(ports.reserve(), Ok(port));
        assert!(ports.reserve().is_err());
        ports.release_all();
        assert_eq!(ports.reserve(), Ok(port));
    }
}
