//! Listening sockets: one per shard on the same address. The kernel spreads connections over them (`SO_REUSEPORT`). A
//! socket that another process has bound is one for all shards, and each connection goes to the shard that takes it
//! first.
//!
//! Invariant: two processes never share an address. `SO_REUSEPORT` alone would allow that to every process of the same
//! user, and the kernel would spread the clients over both servers. Therefore the first socket binds *and* listens
//! without the option, which the kernel grants to one process only. Afterwards the option is switched on, and the other
//! shards' sockets join. A second server cannot bind at any moment in between.

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections the kernel may complete before they are accepted; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4_096;

/// Opens `count` listening sockets on `address`.
///
/// # Errors
/// The system's error; `AddrInUse` when another process listens there, of any user.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = bound(address, false)?;
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    // Port 0 asks for any free port: the others join the one that the kernel chose.
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut listeners = vec![TcpListener::from(first)];
    while listeners.len() < count {
        let next = bound(address, true)?;
        next.listen(BACKLOG)?;
        listeners.push(next.into());
    }
    Ok(listeners)
}

/// The sockets of `count` shards, all on this one, which another process has bound and keeps: connections that come
/// while no server runs wait in its queue.
///
/// # Errors
/// It is no TCP socket that listens, or the system has no descriptor left.
pub fn share(listener: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let socket = SockRef::from(&listener);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    // The private PostgreSQL and the workers for pictures must not inherit it.
    socket.set_cloexec(true)?;
    // The ring waits for connections by itself; without this it would be told each time that there is none yet.
    socket.set_nonblocking(false)?;
    let mut listeners = vec![listener];
    while listeners.len() < count {
        let next = listeners[0].try_clone()?;
        listeners.push(next);
    }
    Ok(listeners)
}

/// Whether [`bind`] would succeed. Nobody can connect meanwhile.
///
/// # Errors
/// As [`bind`].
pub fn probe_address(address: SocketAddr) -> io::Result<()> {
    bound(address, false).map(drop)
}

fn bound(address: SocketAddr, shares: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier server in TIME_WAIT must not block the address.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::TcpStream;
    use std::sync::Barrier;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn an_address_is_free_unless_somebody_listens_there() {
        let mut listeners = bind(any_port(), 1).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_eq!(probe_address(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        listeners.clear();
        probe_address(address).unwrap();
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
    }

    #[test]
    fn spreads_connections_over_all_sockets_of_one_address() {
        let listeners = bind(any_port(), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let clients: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut accepted = 0;
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap(), address);
            listener.set_nonblocking(true).unwrap();
            let of_this_one = std::iter::from_fn(|| listener.accept().ok()).count();
            assert!(of_this_one > 0, "the kernel gave this socket nothing");
            accepted += of_this_one;
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn refuses_an_address_that_listens_already() {
        let listeners = bind(any_port(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        for taken in [address, everywhere] {
            assert_eq!(bind(taken, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse, "{taken}");
        }
        drop(listeners);
        bind(address, 2).unwrap();
    }

    #[test]
    fn lets_one_of_two_simultaneous_servers_have_the_address() {
        for _ in 0..200 {
            let address = bind(any_port(), 1).unwrap()[0].local_addr().unwrap();
            let start = Barrier::new(2);
            let racers = std::thread::scope(|scope| {
                let race = || {
                    start.wait();
                    bind(address, 2).ok()
                };
                let racers = [scope.spawn(race), scope.spawn(race)];
                racers.map(|racer| racer.join().unwrap())
            });
            let ports: BTreeSet<_> =
                racers.iter().flatten().flatten().map(|l| l.local_addr().unwrap().port()).collect();
            assert!(racers.iter().flatten().count() <= 1, "both listen on {ports:?}");
        }
    }
}
