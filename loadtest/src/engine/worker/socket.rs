//! Reads and writes until the kernel has no further bytes or accepts no further bytes.

use super::opening::explain;
use super::state::{BUFFER_BYTES, Slot, Worker};
use crate::engine::connection::{ConnectionPhase, Lost};
use crate::engine::timer::Wake;
use crate::engine::turn::Effects;
use crate::engine::websocket::{FRAME_BYTES_MAX, Parsed, parse};
use crate::protocol::Protocol;
use std::io::{ErrorKind, Read, Write};

impl<P: Protocol> Worker<P> {
    /// Writes as much as the socket accepts.
    pub(super) fn write(&mut self, slot: usize) {
        let Slot { connection, .. } = &mut self.slots[slot];
        loop {
            let Some(socket) = &mut connection.socket else { return };
            let bytes = connection.peer.out.unwritten();
            if bytes.is_empty() {
                return;
            }
            match socket.write(bytes) {
                Ok(count) if count == bytes.len() => connection.peer.out.advance(count),
                // The rest waits for the next edge.
                Ok(count) => {
                    connection.peer.out.advance(count);
                    return;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let lost = Lost::because(explain(&error));
                    // Bytes of the server may still be unread, and a close frame explains more than a reset.
                    if connection.phase == ConnectionPhase::Opening {
                        self.lose(slot, &lost);
                    } else {
                        connection.peer.out.clear();
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn read(&mut self, slot: usize) {
        loop {
            let Slot { connection, paused, .. } = &mut self.slots[slot];
            let Some(socket) = &mut connection.socket else { return };
            if *paused {
                return;
            }
            let held = connection.partial.len();
            self.buffer[..held].copy_from_slice(&connection.partial);
            let asked = self.buffer.len() - held;
            let count = match socket.read(&mut self.buffer[held..]) {
                Ok(0) => return self.lose(slot, &Lost::because("the connection was closed without a close frame")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return;
                }
                Err(error) => return self.lose(slot, &Lost::because(explain(&error))),
            };
            let now_ns = self.place.clock.now_ns();
            self.recorder.now.tally.received_bytes += count as u64;
            let bytes = &self.buffer[..held + count];
            let digest = connection.digest(&mut self.protocol, &mut self.inflater, &mut self.recorder, now_ns, bytes);
            let rest = &bytes[digest.taken..];
            connection.partial.clear();
            connection.partial.extend_from_slice(rest);
            let needed = match parse(rest) {
                Parsed::Incomplete(needed) if !rest.is_empty() => needed,
                _ => 0,
            };
            if needed >= self.buffer.len() && needed <= FRAME_BYTES_MAX + 16 {
                self.buffer.resize(needed + BUFFER_BYTES, 0);
            }
            if !self.apply(slot, &digest.effects, digest.lost, now_ns) || count < asked {
                return;
            }
        }
    }

    /// Acts on the effects of a batch of bytes; false when the connection has ended.
    pub(super) fn apply(&mut self, slot: usize, effects: &Effects, lost: Option<Lost>, now_ns: u64) -> bool {
        let state = &mut self.slots[slot];
        if let Some(ms) = effects.retry_after_ms {
            state.retry_after_ms = Some(ms);
        }
        if let Some(ms) = effects.hold_ms
            && (!state.closed.is_empty() || self.options.back_off)
        {
            state.held_until_ns = now_ns + ms.saturating_mul(1_000_000);
            self.agenda.add(state.held_until_ns, slot as u32, Wake::Release);
        }
        if let Some((why, since_ns)) = state.behind
            && state.connection.phase == ConnectionPhase::Ready
            && self.protocol.caught_up(&state.connection.peer)
        {
            state.behind = None;
            self.recorder.findings.operation(why, now_ns.saturating_sub(since_ns));
        }
        if let Some(lost) = lost {
            self.lose(slot, &lost);
            return false;
        }
        if effects.ready {
            self.ready(slot);
        } else if effects.answered {
            self.pump(slot);
        }
        self.write(slot);
        true
    }
}
