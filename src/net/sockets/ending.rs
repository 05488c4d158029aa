//! How connections end: their last operations, and the release of their slots.
//!
//! A descriptor of the process is shut down with a system call, which completes its operations. A socket of the ring's
//! table has no descriptor. Its receive and its send are cancelled by their `user_data`, which has the connection's
//! generation. (To cancel by the entry, the kernel would look at every receive of the ring.) Its sending half is shut
//! down by an operation, which names the entry, so the slot waits for it.

use super::{SocketEvent, Sockets};
use crate::ids::ConnId;
use crate::net::handle::Handle;
use crate::net::slot::{Life, Slot};
use crate::net::submit::{Operation, target};
use crate::net::table::DirectTable;
use io_uring::opcode;
use io_uring::types::Fixed;
use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd};

impl Sockets {
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

    /// The peer has closed, or the socket failed: nothing more can be received.
    pub(super) fn die(&mut self, index: u32, events: &mut Vec<SocketEvent>) {
        self.slots[index as usize].life = Life::Dead;
        self.end_operations(index);
        self.settle(index, events);
    }

    /// Closes the sending half.
    pub(super) fn shut_output(&mut self, index: u32) {
        match self.slots[index as usize].handle {
            Handle::Direct(entry) => {
                let shutdown = opcode::Shutdown::new(Fixed(entry), libc::SHUT_WR).build();
                let slot = &mut self.slots[index as usize];
                slot.shutting = true;
                let user_data = Operation::End.user_data(slot.generation, index);
                self.push(&shutdown.user_data(user_data));
            }
            // An error means that the peer was faster.
            handle => drop(handle.stream().map(|stream| stream.shutdown(Shutdown::Write))),
        }
    }

    /// Makes the kernel complete what a dead connection has there.
    fn end_operations(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let (generation, receives, sends) = (slot.generation, slot.receive_in_kernel, slot.sending > 0);
        if let Some(stream) = slot.handle.stream() {
            let _ = stream.shutdown(Shutdown::Both); // ENOTCONN: the peer was faster
            return;
        }
        for operation in [receives.then_some(Operation::Receive), sends.then_some(Operation::Send)] {
            let Some(operation) = operation else { continue };
            let cancel = opcode::AsyncCancel::new(operation.user_data(generation, index)).build();
            self.push(&cancel.user_data(Operation::Cancel.user_data(generation, index)));
        }
        if receives || sends {
            self.dying.push(index);
        }
    }

    /// Cancels once more what the kernel was about to do at the first time, so that it did not find it.
    pub(super) fn cancel_again(&mut self) {
        for index in std::mem::take(&mut self.dying) {
            if self.slots[index as usize].life == Life::Dead {
                self.end_operations(index);
            }
        }
    }

    /// The sending half is shut down.
    pub(super) fn end_completed(&mut self, user_data: u64, events: &mut Vec<SocketEvent>) {
        let (index, generation) = target(user_data);
        if let Some(slot) = self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation) {
            slot.shutting = false;
            self.settle(index, events);
        }
    }

    /// Frees a dead slot once the kernel has completed its operations.
    pub(super) fn settle(&mut self, index: u32, events: &mut Vec<SocketEvent>) {
        let slot = &self.slots[index as usize];
        if slot.life == Life::Dead && !slot.operations() {
            events.push(SocketEvent::Ended(ConnId::new(self.shard, slot.generation, index)));
            self.release(index);
        }
    }

    pub(super) fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        match std::mem::replace(&mut slot.handle, Handle::None) {
            // SAFETY: the slot owned the descriptor, no operation of it is in the kernel, and it was just forgotten.
            Handle::Descriptor(fd) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
            Handle::Direct(entry) => {
                // Refused only for a number beyond the table.
                let emptied = DirectTable::empty(&self.ring, entry);
                self.emptied += 1;
                debug_assert!(emptied.is_ok(), "{emptied:?}");
            }
            Handle::None => {}
        }
        *slot = Slot::free(slot.generation.wrapping_add(1) & 0x00ff_ffff, slot.dirty);
        self.free.push(index);
        self.open -= 1;
    }
}
