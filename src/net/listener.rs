//! Listening sockets: one per shard on the same address, the kernel spreads connections over them (`SO_REUSEPORT`).

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections the kernel may complete before they are accepted; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4_096;

/// Binds a listening socket that other shards can bind beside.
///
/// # Errors
/// The system's error when the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_cloexec(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
