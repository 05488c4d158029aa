//! One turn of a connection: while a protocol reads a batch of bytes, its reports go directly to the connection's
//! [`Flow`] and the thread's [`Recorder`].

use super::flow::{Flight, Flow};
use super::recorder::Recorder;
use crate::protocol::Sink;
use crate::violations::ViolationKind;

/// How long a connection in a closed loop waits after a refusal without `retry_after_ms`.
const REFUSED_PAUSE_MS: u64 = 100;

/// The result of a turn, apart from figures.
#[derive(Debug, Default)]
pub struct Effects {
    /// The connection can publish now.
    pub ready: bool,
    /// Its window may have space.
    pub answered: bool,
    /// Delay of its next attempt to connect, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// How long it must not send, milliseconds.
    pub hold_ms: Option<u64>,
    /// It must be closed, and why.
    pub failed: Option<String>,
}

/// The engine's [`Sink`].
#[derive(Debug)]
pub struct Turn<'a> {
    /// Now.
    pub now_ns: u64,
    /// Deliveries count as those of a slow reader.
    pub slow: bool,
    /// The connection's messages.
    pub flow: &'a mut Flow,
    /// The thread's figures.
    pub recorder: &'a mut Recorder,
    /// The effects of the turn.
    pub effects: Effects,
}

impl Sink for Turn<'_> {
    fn ready(&mut self) {
        self.effects.ready = true;
    }

    fn acked(&mut self, number: u32) -> Option<Flight> {
        let flight = self.flow.finish(number)?;
        self.effects.answered = true;
        self.recorder.acked(flight.room, self.now_ns.saturating_sub(flight.planned_ns));
        Some(flight)
    }

    fn refused(&mut self, number: u32, code: &str, retry_after_ms: Option<u64>) -> Option<Flight> {
        self.recorder.findings.error(code);
        let flight = self.flow.finish(number)?;
        self.effects.answered = true;
        self.effects.hold_ms = Some(retry_after_ms.unwrap_or(REFUSED_PAUSE_MS));
        self.recorder.now.tally.refused += 1;
        Some(flight)
    }

    fn waits(&self, number: u32) -> bool {
        self.flow.waits(number)
    }

    #[inline]
    fn delivered(&mut self, room: u32, planned_ns: u64) {
        self.recorder.delivered(room, self.slow, self.now_ns.saturating_sub(planned_ns));
    }

    fn other_event(&mut self) {
        self.recorder.now.tally.other_events += 1;
    }

    fn operation(&mut self, name: &'static str, started_ns: u64) {
        self.recorder.now.tally.other_commands += 1;
        self.recorder.findings.operation(name, self.now_ns.saturating_sub(started_ns));
    }

    fn error(&mut self, code: &str) {
        self.recorder.findings.error(code);
    }

    fn lagging(&mut self) {
        self.recorder.now.tally.lagging += 1;
    }

    fn reset(&mut self) {
        self.recorder.now.tally.resets += 1;
    }

    fn going_away(&mut self, retry_after_ms: Option<u64>) {
        self.effects.retry_after_ms = retry_after_ms;
    }

    fn violation(&mut self, kind: ViolationKind, describe: impl FnOnce() -> String) {
        self.recorder.findings.violations.note(kind, describe);
    }

    fn fail(&mut self, reason: String) {
        self.effects.failed.get_or_insert(reason);
    }
}
