//! What a shard asks of one connection. Every call for a connection that has ended is ignored.

use super::Sockets;
use crate::ids::ConnId;
use crate::net::handle::Handle;
use crate::net::slot::{Life, Receiving};
use crate::net::submit::{Operation, key};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

impl Sockets {
    /// Releases the socket to the caller; `None` when the kernel uses it or the id is invalid.
    pub fn detach(&mut self, conn: ConnId) -> Option<OwnedFd> {
        let slot = self.slot_mut(conn)?;
        if slot.operations() || slot.life != Life::Open || !slot.queue.is_empty() {
            return None;
        }
        let Handle::Descriptor(fd) = slot.handle else { return None };
        slot.handle = Handle::None;
        // SAFETY: the slot owned this descriptor and has just forgotten it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        self.release(conn.slot());
        Some(fd)
    }

    /// The address of the peer, while the socket has one and is not in the ring's table.
    #[must_use]
    pub fn peer_address(&self, conn: ConnId) -> Option<SocketAddr> {
        self.slot(conn)?.handle.stream()?.peer_addr().ok()
    }

    /// Sends small writes at once (`TCP_NODELAY`); before [`Self::keep`].
    pub fn set_nodelay(&self, conn: ConnId) {
        if let Some(stream) = self.slot(conn).and_then(|slot| slot.handle.stream()) {
            let _ = stream.set_nodelay(true); // a socket that is already dead ends by itself
        }
    }

    /// Moves the socket into the ring's table, if that has an entry for it: it takes no descriptor of the process from
    /// now on, and cannot be detached. No operation of it may be under way.
    pub fn keep(&mut self, conn: ConnId) {
        let entry = conn.slot();
        let Some(slot) = self.slot(conn).filter(|slot| self.table.has(entry) && !slot.operations()) else { return };
        let Handle::Descriptor(fd) = slot.handle else { return };
        // The kernel may have no memory for it. Then it stays as it is.
        if self.table.fill(&self.ring, entry, fd).is_ok() {
            self.slots[entry as usize].handle = Handle::Direct(entry);
            // SAFETY: the slot owned this descriptor and has just forgotten it; the table has the socket.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }

    /// Receives once: one [`SocketEvent::Received`], after which the socket may be detached.
    pub fn receive_once(&mut self, conn: ConnId) {
        self.receive(conn, Receiving::Once);
    }

    /// Receives continuously.
    pub fn receive_stream(&mut self, conn: ConnId) {
        self.receive(conn, Receiving::Stream);
    }

    fn receive(&mut self, conn: ConnId, how: Receiving) {
        if let Some(slot) = self.slot_mut(conn).filter(|slot| slot.receiving != Receiving::Refused) {
            slot.receiving = how;
            if !slot.receive_in_kernel {
                self.arm_receive(conn.slot());
            }
        }
    }

    /// Receives nothing any more, also not while the connection ends: the peer's sending is blocked by TCP then. The
    /// peer's end is not noticed either, so the caller must set a deadline for [`Self::abort`].
    pub fn refuse_input(&mut self, conn: ConnId) {
        let Some(slot) = self.slot_mut(conn) else { return };
        slot.receiving = Receiving::Refused;
        if slot.receive_in_kernel {
            self.cancel(Operation::Receive, key(conn));
        }
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn queued_bytes(&self, conn: ConnId) -> usize {
        self.slot(conn).map_or(0, |slot| slot.queued_bytes as usize)
    }

    /// Discards the queue, except the chunks that the kernel is sending or has sent in part.
    pub fn discard_queue(&mut self, conn: ConnId) {
        let Some(slot) = self.slot_mut(conn) else { return };
        let keep = usize::from(slot.sending).max(usize::from(slot.offset > 0));
        slot.queue.truncate(keep);
        slot.queued_bytes = slot.queue.iter().map(|c| c.bytes().len() as u32).sum::<u32>() - slot.offset;
    }

    /// Sends the queue, then closes the server's half and waits for the peer's. The caller must set a deadline for
    /// [`Self::abort`], because the peer may never close its half.
    pub fn finish(&mut self, conn: ConnId) {
        let Some(slot) = self.slot_mut(conn) else { return };
        if slot.life == Life::Open {
            slot.life = Life::Flushing;
            self.mark_dirty(conn.slot());
        }
    }

    /// Ends the connection now and discards its queue.
    pub fn abort(&mut self, conn: ConnId) {
        let Some(slot) = self.slot_mut(conn) else { return };
        if slot.life != Life::Dead {
            slot.life = Life::Dead;
            self.end_operations(conn.slot());
            self.mark_dirty(conn.slot());
        }
    }
}
