//! The server's port: bound for all shards at once, or refused with the name of the process that has it.

use super::error::BootError;
use crate::net;
use listenfd::ListenFd;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A killed server's port is free only when the kernel has released its ring, which takes a moment.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(20);
/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The public port: the socket that the service manager hands over (`LISTEN_FDS`, `sd_listen_fds(3)`), or sockets of
/// our own on `address`. Returns the address, too.
pub(super) fn public(address: SocketAddr, workers: usize) -> Result<(Vec<TcpListener>, SocketAddr), BootError> {
    let mut handed = ListenFd::from_env();
    let count = handed.len();
    if count == 0 {
        return Ok((listen(address, workers)?, address));
    }
    let refused = |reason: String| {
        BootError::Configuration(format!(
            "the service manager hands over {count} sockets (LISTEN_FDS): {reason}. Let its unit have one \
             ListenStream= with the address of the public port"
        ))
    };
    if count > 1 {
        return Err(refused("one is expected".to_owned()));
    }
    let listener = handed.take_tcp_listener(0);
    let listener = listener.and_then(|listener| listener.ok_or_else(|| io::ErrorKind::NotFound.into()));
    let shared = listener.and_then(|listener| Ok((listener.local_addr()?, net::share(listener, workers)?)));
    let (address, listeners) = shared.map_err(|error| refused(format!("it is no listening TCP socket: {error}")))?;
    tracing::info!("using the socket of the service manager, on {address}");
    Ok((listeners, address))
}

/// Listens on `address` with one socket for each of `workers` shards.
pub(super) fn listen(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BootError> {
    let began = Instant::now();
    loop {
        match net::bind(address, workers) {
            Ok(listeners) => return Ok(listeners),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < PATIENCE => {
                std::thread::sleep(RETRY);
            }
            Err(error) => return Err(refused(address, error)),
        }
    }
}

/// Whether a server could listen on `address` now. It listens for nobody.
pub(super) fn probe(address: SocketAddr) -> Result<(), BootError> {
    net::probe_address(address).map_err(|error| refused(address, error))
}

fn refused(address: SocketAddr, source: io::Error) -> BootError {
    if source.kind() != io::ErrorKind::AddrInUse {
        return BootError::Listen { address, source };
    }
    let owner = owner_of(address.port()).unwrap_or_else(|| "a process of another user".to_owned());
    BootError::PortTaken { address, owner }
}

/// The process that listens on `port`, as `name (process number)`; `None` if its descriptors cannot be read.
pub(super) fn owner_of(port: u16) -> Option<String> {
    let sockets: Vec<PathBuf> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, port)).collect::<Vec<_>>())
        .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
        .collect();
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    let mut processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let owner = processes.find(|process| holds_one(*process, &sockets))?;
    let name = std::fs::read_to_string(format!("/proc/{owner}/comm")).unwrap_or_default();
    Some(format!("{} (process {owner})", name.trim()))
}

/// The socket's inode, when this line of `/proc/net/tcp` is a socket that listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTENING && u16::from_str_radix(local_port, 16) == Ok(port)).then(|| inode.parse().ok()).flatten()
}

fn holds_one(process: u32, sockets: &[PathBuf]) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|link| sockets.contains(&link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_process_that_has_the_port() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(taken.local_addr().unwrap(), 2).unwrap_err().to_string();
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        let expected = format!("{} (process {})", me.trim(), std::process::id());
        assert!(error.contains(&expected) && error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
    }

    #[test]
    fn reads_only_listening_sockets_of_the_port() {
        let line = |state: &str| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000  0 4711 1 0 100"
            )
        };
        assert_eq!(listening_inode(&line("0A"), 8080), Some(4711));
        assert_eq!(listening_inode(&line("01"), 8080), None);
        assert_eq!(listening_inode(&line("0A"), 8081), None);
        assert_eq!(
            listening_inode("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt", 8080),
            None
        );
    }
}
