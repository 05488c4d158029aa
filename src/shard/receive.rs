//! From a connection's bytes to its commands.

use super::Shard;
use super::charges::kib;
use super::connections::Client;
use super::world::{Clock, World};
use crate::ids::ConnId;
use crate::latency::LatencyStage;
use crate::wire::command;
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::decoder::DecodeContext;
use crate::wire::ws::peer::{Ending, PeerEvent};
use std::sync::Arc;

/// What follows from one event of the decoder, without a borrow of the session.
enum NextStep {
    Decode,
    Send(Vec<u8>),
    Finish(Option<Vec<u8>>, Ending),
    Close(CloseCode),
}

impl<W: World> Shard<W> {
    /// Bytes arrived.
    pub(super) fn received(&mut self, conn: ConnId, bytes: &mut [u8]) {
        match self.connections.client(conn) {
            Client::Open(..) => self.received_frames(conn, bytes),
            Client::Head(_) => self.received_head(conn, bytes),
            Client::Vacant | Client::Closing { .. } => {}
        }
    }

    fn received_frames(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let now_ms = self.now_ms;
        let Some(session) = self.connections.session_mut(conn) else { return };
        session.last_seen_ms = now_ms;
        session.pinged_at_ms = u64::MAX;
        // Out of the shard while the bytes are decoded: commands need all of it.
        let mut peer = std::mem::take(&mut session.peer);
        let format = session.format;
        let mut inflater = std::mem::take(&mut self.inflater);
        let mut json = std::mem::take(&mut self.json);
        let live = Arc::clone(&self.live);
        let max_message_bytes = live.limits.max_frame_bytes;
        let mut input = bytes;
        let mut ended = None;
        let mut message_until_ms = session.message_until_ms;
        loop {
            let began = self.clock.now();
            let mut context = DecodeContext { max_message_bytes, inflater: &mut inflater };
            let next = match peer.next(&mut input, &mut context) {
                None => break,
                Some(PeerEvent::Alive) => {
                    self.may_control(conn);
                    NextStep::Decode
                }
                Some(PeerEvent::Reply(frame)) => {
                    // RFC 6455 §5.5.3 lets an endpoint answer only the latest of several pings.
                    if self.may_control(conn) { NextStep::Send(frame) } else { NextStep::Decode }
                }
                Some(PeerEvent::Finish(frame, ending)) => NextStep::Finish(frame, ending),
                Some(PeerEvent::Message(kind, _)) if kind != format.message_kind() => {
                    NextStep::Close(CloseCode::Unsupported)
                }
                Some(PeerEvent::Message(_, payload)) => {
                    message_until_ms = u64::MAX;
                    let kib = kib(payload.len());
                    let parsed = command::parse(payload, format, &mut json, &live.limits);
                    let took = self.clock.now().saturating_duration_since(began);
                    self.counters.stages.record(LatencyStage::Decode, took, 1);
                    self.on_command(conn, parsed, kib);
                    NextStep::Decode
                }
            };
            match next {
                NextStep::Decode => {}
                NextStep::Send(frame) if self.reads_its_queue(conn) => self.send_frame(conn, frame),
                NextStep::Send(_) => {
                    ended = Some(CloseCode::TooSlow); // it pings and does not read
                    break;
                }
                NextStep::Close(code) => {
                    ended = Some(code);
                    break;
                }
                NextStep::Finish(frame, ending) => {
                    if let Some(frame) = frame {
                        self.send_frame(conn, frame);
                    }
                    self.inflater = inflater;
                    self.json = json;
                    return self.finish_peer(conn, ending);
                }
            }
            // A command may have closed the connection.
            if self.connections.session(conn).is_none() {
                break;
            }
        }
        self.inflater = inflater;
        self.json = json;
        let Some(session) = self.connections.session_mut(conn) else { return };
        let until_ms = if peer.is_within_message() {
            message_until_ms.min(now_ms + self.settings.message_timeout_ms)
        } else {
            u64::MAX
        };
        session.message_until_ms = until_ms;
        session.peer = peer;
        let is_checked_too_late = until_ms < session.check_at_ms;
        if let Some(code) = ended {
            self.close(conn, code);
        } else if is_checked_too_late {
            self.connections.schedule_session(conn, until_ms, now_ms);
        }
    }
}
