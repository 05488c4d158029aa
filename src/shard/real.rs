//! The world of a running server: `io_uring` sockets, the mesh, the system's clock.

use super::world::{Clock, Transport, World};
use crate::ids::ConnId;
use crate::mesh::port::MeshPort;
use crate::net::{Chunk, ReceivedBuffer, Sockets};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The real world.
pub struct Real;

impl World for Real {
    type Socket = OwnedFd;
    type Sockets = Sockets;
    type Lanes = MeshPort;
    type Clock = SystemClock;
}

/// The system's clocks and the thread's random numbers.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn utc(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn random(&mut self) -> u64 {
        rand::random()
    }
}

impl Transport for Sockets {
    type Socket = OwnedFd;
    type Buffer = ReceivedBuffer;

    fn adopt(&mut self, socket: OwnedFd) -> ConnId {
        Sockets::adopt(self, socket)
    }

    fn detach(&mut self, conn: ConnId) -> Option<OwnedFd> {
        Sockets::detach(self, conn)
    }

    fn open_connections(&self) -> usize {
        Sockets::open_connections(self)
    }

    fn peer_address(&self, conn: ConnId) -> Option<SocketAddr> {
        Sockets::peer_address(self, conn)
    }

    fn set_nodelay(&self, conn: ConnId) {
        Sockets::set_nodelay(self, conn);
    }

    fn keep(&mut self, conn: ConnId) {
        Sockets::keep(self, conn);
    }

    fn receive_once(&mut self, conn: ConnId) {
        Sockets::receive_once(self, conn);
    }

    fn receive_stream(&mut self, conn: ConnId) {
        Sockets::receive_stream(self, conn);
    }

    fn refuse_input(&mut self, conn: ConnId) {
        Sockets::refuse_input(self, conn);
    }

    #[inline]
    fn queued_bytes(&self, conn: ConnId) -> usize {
        Sockets::queued_bytes(self, conn)
    }

    #[inline]
    fn send_time(&self) -> Duration {
        Sockets::send_time(self)
    }

    #[inline]
    fn send(&mut self, conn: ConnId, chunk: Chunk) {
        Sockets::send(self, conn, chunk);
    }

    fn discard_queue(&mut self, conn: ConnId) {
        Sockets::discard_queue(self, conn);
    }

    fn finish(&mut self, conn: ConnId) {
        Sockets::finish(self, conn);
    }

    fn abort(&mut self, conn: ConnId) {
        Sockets::abort(self, conn);
    }

    fn stop_listening(&mut self) {
        Sockets::stop_listening(self);
    }
}
