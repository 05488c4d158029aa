//! The slab of connections, and one turn of the ring.

mod calls;

use super::buffers::{self, BufferPool, ReceivedBuffer};
use super::chunk::Chunk;
use super::error::NetError;
use super::handle::Handle;
use super::ring::new_ring;
use super::send_time::SendTime;
use super::slot::{Life, Receiving, Slot};
use super::submit::{Operation, VectoredSend, key, target};
use super::table::DirectTable;
use crate::ids::{ConnId, ShardId};
use crate::latency::LatencyHistogram;
use io_uring::{IoUring, cqueue, opcode, squeue::Entry, types};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The ring's clock: the granularity of the shard's timing wheel.
const TICK_MS: u64 = 100;
/// Vectored sends kept for reuse.
const SPARE_SENDS_MAX: usize = 256;

/// An event of a socket.
#[derive(Debug)]
pub enum SocketEvent<B = ReceivedBuffer> {
    /// A new connection. It receives nothing before [`Sockets::receive_once`] or [`Sockets::receive_stream`].
    Accepted(ConnId),
    /// Bytes arrived.
    Received(ConnId, B),
    /// The kernel has accepted everything that was queued.
    Drained(ConnId),
    /// The peer has closed its sending half, but its queue is not empty. Set a deadline for [`Sockets::abort`].
    PeerFinished(ConnId),
    /// The connection has ended; its id is invalid.
    Ended(ConnId),
    /// 100 ms have passed, plus the given delay. Completions in the kernel have waited at least as long. It is the last
    /// event of its turn, so that bytes that arrived count before deadlines do.
    Tick(Duration),
    /// No descriptor was free for a new connection. Accepting continues at a later tick.
    AcceptPaused(i32),
}

/// The sockets of one shard.
pub struct Sockets {
    ring: IoUring,
    shard: ShardId,
    pool: Rc<BufferPool>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    rearm: Vec<u32>,
    completions: Vec<(u64, i32, u32)>,
    spare_sends: Vec<Box<VectoredSend>>,
    listener: Option<TcpListener>,
    accept_in_kernel: bool,
    tick: Box<types::Timespec>,
    tick_in_kernel: bool,
    /// When the tick was submitted, on the wrapping clock.
    tick_since_us: u32,
    doorbell: OwnedFd,
    /// The kernel writes the doorbell's count here.
    doorbell_count: Box<u64>,
    doorbell_in_kernel: bool,
    writes: Arc<LatencyHistogram>,
    started: Instant,
    /// Wrapping microseconds since `started`, read twice per turn: at its beginning, and when its completions are
    /// collected.
    now_us: u32,
    send_time: SendTime,
    open: usize,
    table: DirectTable,
    /// Entries of the table that were emptied, and are still counted: the shard has not seen the ends yet.
    emptied: usize,
    /// Slots whose last operations were cancelled.
    dying: Vec<u32>,
}

impl Sockets {
    /// Sets up the ring of a shard. A write to the eventfd `doorbell` wakes [`Self::turn_or_wait`]. `writes` records
    /// the duration of each send in the kernel. [`Self::keep`] moves sockets into `table`.
    ///
    /// # Errors
    /// [`NetError::Ring`] or [`NetError::Table`] when the kernel refuses.
    pub fn new(
        shard: ShardId,
        doorbell: OwnedFd,
        writes: Arc<LatencyHistogram>,
        table: DirectTable,
    ) -> Result<Self, NetError> {
        let (ring, pool) = new_ring().map_err(NetError::Ring)?;
        table.register(&ring).map_err(NetError::Table)?;
        Ok(Self {
            ring,
            shard,
            pool,
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            rearm: Vec::new(),
            completions: Vec::new(),
            spare_sends: Vec::new(),
            listener: None,
            accept_in_kernel: false,
            tick: Box::new(types::Timespec::new().nsec((TICK_MS * 1_000_000) as u32)),
            tick_in_kernel: false,
            tick_since_us: 0,
            doorbell,
            doorbell_count: Box::new(0),
            doorbell_in_kernel: false,
            writes,
            started: Instant::now(),
            now_us: 0,
            send_time: SendTime::new(),
            open: 0,
            table,
            emptied: 0,
            dying: Vec::new(),
        })
    }

    /// Starts to accept connections of `listener`.
    pub fn listen(&mut self, listener: TcpListener) {
        self.listener = Some(listener);
        self.arm_accept();
    }

    /// Closes the listening socket: later connections go to other shards or are refused.
    pub fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            if self.accept_in_kernel {
                let entry = opcode::AsyncCancel::new(Operation::Accept.user_data(0, 0))
                    .build()
                    .user_data(Operation::Cancel.user_data(0, 0));
                self.push(&entry);
            }
            drop(listener);
        }
    }

    /// Adds a connected socket, for instance one that another shard accepted.
    pub fn adopt(&mut self, fd: OwnedFd) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::free(0, false));
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.handle = Handle::Descriptor(fd.into_raw_fd());
        entry.life = Life::Open;
        self.open += 1;
        ConnId::new(self.shard, entry.generation, slot)
    }

    /// Number of connections in the slab.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open
    }

    /// Queues bytes for the next turn. Ignored when the connection is ending.
    pub fn send(&mut self, conn: ConnId, chunk: Chunk) {
        let Some(slot) = self.slot_mut(conn) else { return };
        if slot.life != Life::Open {
            return;
        }
        slot.queued_bytes += chunk.bytes().len() as u32;
        slot.queue.push_back(chunk);
        self.mark_dirty(conn.slot());
    }

    /// One turn: submits queued work to the kernel and collects completions, in one system call.
    ///
    /// # Errors
    /// The system's error when the ring itself fails; the shard must stop then.
    pub fn turn(&mut self, events: &mut Vec<SocketEvent>) -> io::Result<()> {
        self.turn_collecting(0, events)
    }

    /// The same, but sleeps until there is a completion, the doorbell rings, or the tick is due.
    ///
    /// # Errors
    /// As for [`Self::turn`].
    pub fn turn_or_wait(&mut self, events: &mut Vec<SocketEvent>) -> io::Result<()> {
        self.turn_collecting(1, events)
    }

    /// How long a send takes in the kernel, lately.
    #[must_use]
    pub fn send_time(&self) -> Duration {
        self.send_time.average()
    }

    fn read_clock(&mut self) {
        self.now_us = self.started.elapsed().as_micros() as u32; // wraps after 71 minutes; differences stay right
    }

    fn turn_collecting(&mut self, at_least: u32, events: &mut Vec<SocketEvent>) -> io::Result<()> {
        self.read_clock();
        let began_us = self.now_us;
        self.table.forget(std::mem::take(&mut self.emptied));
        self.submit_output(events);
        if !self.tick_in_kernel {
            self.tick_in_kernel = true;
            self.tick_since_us = self.now_us;
            let entry = opcode::Timeout::new(&raw const *self.tick).build().user_data(Operation::Tick.user_data(0, 0));
            self.push(&entry);
        }
        if !self.doorbell_in_kernel {
            self.doorbell_in_kernel = true;
            let count = (&raw mut *self.doorbell_count).cast();
            let entry = opcode::Read::new(types::Fd(self.doorbell.as_raw_fd()), count, size_of::<u64>() as u32)
                .build()
                .user_data(Operation::Doorbell.user_data(0, 0));
            self.push(&entry);
        }
        // Do not sleep if a connection ended while output was submitted: its event must not wait.
        self.enter(if events.is_empty() { at_least } else { 0 })?;
        self.read_clock();
        let has_only_sent = at_least == 0 && self.ring.submission().is_empty();
        self.send_time.end_turn(has_only_sent.then(|| self.now_us.wrapping_sub(began_us)));
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.ring.completion().map(|c| (c.user_data(), c.result(), c.flags())));
        let tick_was_in_kernel = self.tick_in_kernel;
        for (user_data, result, flags) in completions.drain(..) {
            self.complete(user_data, result, flags, events);
        }
        self.completions = completions;
        if tick_was_in_kernel && !self.tick_in_kernel {
            self.cancel_again();
            let took = Duration::from_micros(self.now_us.wrapping_sub(self.tick_since_us).into());
            events.push(SocketEvent::Tick(took.saturating_sub(Duration::from_millis(TICK_MS))));
        }
        for slot in std::mem::take(&mut self.rearm) {
            self.arm_receive(slot);
        }
        Ok(())
    }

    fn enter(&mut self, at_least: u32) -> io::Result<()> {
        const GET_EVENTS: u32 = 1; // IORING_ENTER_GETEVENTS, which runs deferred task work (io_uring_enter(2))
        loop {
            let pending = self.ring.submission().len() as u32;
            // SAFETY: no signal mask is passed; every submitted entry refers to memory that lives until its completion.
            let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(pending, at_least, GET_EVENTS, None) };
            match entered.map_err(|e| e.raw_os_error()) {
                Ok(_) => return Ok(()),
                Err(Some(libc::EINTR)) => {}
                // The completion queue is full. Collect it; the entries stay queued for the next turn.
                Err(Some(libc::EBUSY | libc::EAGAIN)) => return Ok(()),
                Err(code) => return Err(io::Error::from_raw_os_error(code.unwrap_or(libc::EIO))),
            }
        }
    }

    fn push(&mut self, entry: &Entry) {
        loop {
            // SAFETY: callers pass entries whose memory and descriptors live until the completion (module invariant).
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            if self.enter(0).is_err() {
                return; // the next turn reports it
            }
        }
    }

    fn complete(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<SocketEvent>) {
        match Operation::of(user_data) {
            Some(Operation::Accept) => self.accepted(result, flags, events),
            Some(Operation::Tick) => {
                self.tick_in_kernel = false;
                if self.listener.is_some() && !self.accept_in_kernel {
                    self.arm_accept();
                }
            }
            Some(Operation::Doorbell) => self.doorbell_in_kernel = false,
            Some(Operation::Receive) => self.received(user_data, result, flags, events),
            Some(Operation::Send) => self.sent(user_data, result, events),
            Some(Operation::End) => self.end_completed(user_data, events),
            Some(Operation::Cancel) | None => {}
        }
    }

    fn accepted(&mut self, result: i32, flags: u32, events: &mut Vec<SocketEvent>) {
        self.accept_in_kernel = cqueue::more(flags);
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            let conn = self.adopt(fd);
            events.push(SocketEvent::Accepted(conn));
        }
        if self.accept_in_kernel || self.listener.is_none() {
            return;
        }
        match -result {
            // Out of descriptors or memory. The tick tries again, because an immediate retry would spin.
            code @ (libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                events.push(SocketEvent::AcceptPaused(code));
            }
            _ => self.arm_accept(),
        }
    }

    fn received(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<SocketEvent>) {
        // Dropping this returns the buffer of the completion to the kernel in every case.
        let buffer =
            cqueue::buffer_select(flags).and_then(|id| self.pool.received(id, usize::try_from(result).unwrap_or(0)));
        let (index, generation) = target(user_data);
        let Some(slot) = self.slots.get_mut(index as usize).filter(|s| s.generation == generation) else { return };
        slot.receive_in_kernel = cqueue::more(flags);
        let conn = ConnId::new(self.shard, generation, index);
        match (result, slot.life) {
            (_, Life::Dead | Life::Free) => self.settle(index, events),
            _ if slot.receiving == Receiving::Refused => {} // what had arrived before the cancellation
            (1.., life) => {
                if slot.receiving == Receiving::Once {
                    slot.receiving = Receiving::Off;
                }
                if !slot.receive_in_kernel && slot.receiving == Receiving::Stream {
                    self.rearm.push(index);
                }
                if let (Some(buffer), Life::Open) = (buffer, life) {
                    events.push(SocketEvent::Received(conn, buffer));
                }
            }
            // The queue still goes out after the peer has closed its half: it may hold an echoed close frame.
            (0, Life::Open | Life::Flushing) if !slot.queue.is_empty() => {
                slot.life = Life::Flushing;
                slot.receiving = Receiving::Off;
                slot.peer_finished = true;
                events.push(SocketEvent::PeerFinished(conn));
                self.mark_dirty(index);
            }
            (0, _) => self.die(index, events),
            (error, _) if error == -libc::ENOBUFS => self.rearm.push(index),
            _ => self.die(index, events),
        }
    }

    fn sent(&mut self, user_data: u64, result: i32, events: &mut Vec<SocketEvent>) {
        let (index, generation) = target(user_data);
        let Some(slot) = self.slots.get_mut(index as usize).filter(|s| s.generation == generation) else { return };
        slot.sending = 0;
        let took_us = self.now_us.wrapping_sub(slot.sending_since_us);
        self.writes.record(Duration::from_micros(took_us.into()), 1);
        if let Some(vectored) = slot.vectored.take()
            && self.spare_sends.len() < SPARE_SENDS_MAX
        {
            self.spare_sends.push(vectored);
        }
        if slot.life == Life::Dead {
            return self.settle(index, events);
        }
        if result < 0 && !matches!(-result, libc::EINTR | libc::EAGAIN) {
            return self.die(index, events);
        }
        let mut sent = result.max(0) as u32;
        slot.queued_bytes -= sent.min(slot.queued_bytes);
        while let Some(front) = slot.queue.front() {
            let rest = front.bytes().len() as u32 - slot.offset;
            if sent < rest {
                slot.offset += sent;
                break;
            }
            sent -= rest;
            slot.offset = 0;
            slot.queue.pop_front();
        }
        if slot.queue.is_empty() {
            slot.queue = VecDeque::new(); // an idle connection keeps no memory for it
            if slot.life == Life::Open {
                events.push(SocketEvent::Drained(ConnId::new(self.shard, generation, index)));
            }
        }
        self.mark_dirty(index);
    }

    /// The peer has closed, or the socket failed: nothing more can be received.
    fn die(&mut self, index: u32, events: &mut Vec<SocketEvent>) {
        self.slots[index as usize].life = Life::Dead;
        self.end_operations(index);
        self.settle(index, events);
    }

    /// Closes the sending half.
    fn shut_output(&mut self, index: u32) {
        match self.slots[index as usize].handle {
            Handle::Direct(entry) => {
                let shutdown = opcode::Shutdown::new(types::Fixed(entry), libc::SHUT_WR).build();
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
        if receives {
            self.cancel(Operation::Receive, (generation, index));
        }
        if sends {
            self.cancel(Operation::Send, (generation, index));
        }
        if receives || sends {
            self.dying.push(index);
        }
    }

    /// Cancels a connection's operation, which then completes.
    fn cancel(&mut self, operation: Operation, (generation, index): (u32, u32)) {
        let cancel = opcode::AsyncCancel::new(operation.user_data(generation, index)).build();
        self.push(&cancel.user_data(Operation::Cancel.user_data(generation, index)));
    }

    /// Cancels once more what the kernel was about to do at the first time, so that it did not find it.
    fn cancel_again(&mut self) {
        for index in std::mem::take(&mut self.dying) {
            if self.slots[index as usize].life == Life::Dead {
                self.end_operations(index);
            }
        }
    }

    /// The sending half is shut down.
    fn end_completed(&mut self, user_data: u64, events: &mut Vec<SocketEvent>) {
        let (index, generation) = target(user_data);
        if let Some(slot) = self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation) {
            slot.shutting = false;
            self.settle(index, events);
        }
    }

    /// Frees a dead slot once the kernel has completed its operations.
    fn settle(&mut self, index: u32, events: &mut Vec<SocketEvent>) {
        let slot = &self.slots[index as usize];
        if slot.life == Life::Dead && !slot.operations() {
            events.push(SocketEvent::Ended(ConnId::new(self.shard, slot.generation, index)));
            self.release(index);
        }
    }

    fn release(&mut self, index: u32) {
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

    fn mark_dirty(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(index);
        }
    }

    fn submit_output(&mut self, events: &mut Vec<SocketEvent>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.slots[index as usize].dirty = false;
            match self.slots[index as usize].life {
                Life::Free | Life::HalfClosed => {}
                Life::Dead => self.settle(index, events),
                Life::Flushing if self.slots[index as usize].all_sent_to_a_finished_peer() => self.die(index, events),
                Life::Open | Life::Flushing => self.submit_send(index),
            }
        }
        // Slots that were marked while submitting belong to the next turn. Keep the allocation in any case.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    fn submit_send(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.sending > 0 {
            return; // its completion marks the slot dirty again
        }
        slot.sending_since_us = self.now_us;
        let handle = slot.handle;
        let Some(front) = slot.queue.front() else {
            if slot.life == Life::Flushing {
                slot.life = Life::HalfClosed;
                self.shut_output(index);
                let slot = &mut self.slots[index as usize];
                if slot.receiving != Receiving::Refused {
                    slot.receiving = Receiving::Stream;
                    if !slot.receive_in_kernel {
                        self.arm_receive(index);
                    }
                }
            }
            return;
        };
        let entry = if slot.queue.len() == 1 {
            slot.sending = 1;
            let rest = front.bytes().get(slot.offset as usize..).unwrap_or_default();
            opcode::Send::new(handle.number(), rest.as_ptr(), rest.len() as u32).flags(libc::MSG_NOSIGNAL).build()
        } else {
            slot.sending = slot.queue.len().min(super::submit::IOVECS_MAX) as u16;
            let mut vectored = self.spare_sends.pop().unwrap_or_else(VectoredSend::boxed);
            let entry = vectored.prepare(handle, &slot.queue, slot.offset as usize);
            slot.vectored = Some(vectored);
            entry
        };
        let user_data = Operation::Send.user_data(slot.generation, index);
        self.send_time.submitted();
        self.push(&entry.flags(handle.flags()).user_data(user_data));
    }

    fn arm_receive(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.receive_in_kernel || matches!(slot.life, Life::Free | Life::Dead) {
            return;
        }
        let (handle, number) = (slot.handle, slot.handle.number());
        let entry = match slot.receiving {
            Receiving::Off | Receiving::Refused => return,
            Receiving::Once => opcode::Recv::new(number, std::ptr::null_mut(), 0)
                .buf_group(buffers::GROUP)
                .build()
                .flags(io_uring::squeue::Flags::BUFFER_SELECT),
            Receiving::Stream => opcode::RecvMulti::new(number, buffers::GROUP).build(),
        };
        slot.receive_in_kernel = true;
        let user_data = Operation::Receive.user_data(slot.generation, index);
        self.push(&entry.flags(handle.flags()).user_data(user_data));
    }

    fn arm_accept(&mut self) {
        if let Some(listener) = &self.listener {
            let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
                .flags(libc::SOCK_CLOEXEC)
                .build()
                .user_data(Operation::Accept.user_data(0, 0));
            self.accept_in_kernel = true;
            self.push(&entry);
        }
    }

    fn slot(&self, conn: ConnId) -> Option<&Slot> {
        let (generation, slot) = key(conn);
        self.slots.get(slot as usize).filter(|s| s.generation == generation && s.life != Life::Free)
    }

    fn slot_mut(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let (generation, slot) = key(conn);
        self.slots.get_mut(slot as usize).filter(|s| s.generation == generation && s.life != Life::Free)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            // A socket of the ring's table goes with the ring.
            if let Handle::Descriptor(fd) = slot.handle {
                slot.handle.stream().map(|stream| stream.shutdown(Shutdown::Both));
                // SAFETY: the slot owns the descriptor. The kernel's operations keep their own reference to the file,
                // and the ring, dropped next, cancels them before its memory goes away.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            // The kernel may still read the buffers of a pending send. Leaking them at the end of the process is safe.
            if slot.sending > 0 {
                std::mem::forget(std::mem::take(&mut slot.queue));
                std::mem::forget(slot.vectored.take());
            }
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
