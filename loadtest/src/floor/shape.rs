//! The shapes of the work: what clients give the socket floor and the bare loop, and what the PostgreSQL floor commits.

use super::loader::StatementForm;
use super::wire::{HEADER_BYTES, Sending};
use serde::{Deserialize, Serialize};

const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Refused above this: the server's own largest batch.
const BATCH_MAX: usize = chat_server::limits::BATCH_ROWS_MAX;

/// Refused above this: it would take hours, and hundreds of GB.
const HISTORY_MAX: usize = 1_000_000_000;

/// When messages are sent.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FloorLoad {
    /// By a plan that does not depend on the server.
    Open {
        /// Messages per second, all senders together.
        rate: f64,
    },
    /// Each sender keeps a number of messages in flight.
    Closed {
        /// Messages in flight per sender.
        window: u32,
    },
}

/// The shape of the work.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// The number of rooms.
    pub rooms: u32,
    /// Connections in each.
    pub room_size: u32,
    /// Connections of each that send.
    pub senders_per_room: u32,
    /// The load: when they send.
    pub load: FloorLoad,
    /// With an open load: as from many people, or at equal distances.
    pub even: bool,
    /// Bytes of a message to the server.
    pub bytes_in: usize,
    /// Bytes of a message to each member.
    pub bytes_out: usize,
    /// How the server sends.
    pub sending: Sending,
    /// Sent but not measured, seconds.
    pub warm_up_s: f64,
    /// Measured, seconds.
    pub seconds: f64,
    /// Same seed, same plan.
    pub seed: u64,
    /// The server's cores and, last, the driver's; otherwise the scheduler decides.
    pub cores: Option<Vec<usize>>,
    /// No progress bar.
    #[serde(skip)]
    pub quiet: bool,
}

impl Shape {
    /// Whether it can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        if self.rooms == 0 || self.room_size == 0 {
            return Err("there must be a room with a member".to_owned());
        }
        if self.senders_per_room == 0 || self.senders_per_room > self.room_size {
            return Err(format!("1 to {} of a room's {} members can send", self.room_size, self.room_size));
        }
        for bytes in [self.bytes_in, self.bytes_out] {
            if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&bytes) {
                return Err(format!("a message has {HEADER_BYTES} to {MESSAGE_BYTES_MAX} bytes, not {bytes}"));
            }
        }
        match self.load {
            FloorLoad::Open { rate } if !(rate > 0.0 && rate <= 10_000_000.0) => {
                return Err("the rate must be above 0 and at most 10,000,000 a second".to_owned());
            }
            FloorLoad::Closed { window } if !(1..=65_536).contains(&window) => {
                return Err("the window must be between 1 and 65,536".to_owned());
            }
            _ => {}
        }
        let in_range = |seconds: f64| (0.0..=3600.0).contains(&seconds);
        if !in_range(self.warm_up_s) || !in_range(self.seconds) || self.seconds == 0.0 {
            return Err("the measurement must last more than 0 and at most 3600 seconds".to_owned());
        }
        Ok(())
    }

    /// Connections of all rooms together.
    pub fn connections(&self) -> usize {
        self.rooms as usize * self.room_size as usize
    }

    /// The cores of the server, and the core of the driver, when they have their own.
    pub fn separate_cores(&self) -> Option<(&[usize], usize)> {
        self.cores.as_deref()?.split_last().map(|(driver, server)| (server, *driver))
    }
}

/// The shape of the work of the PostgreSQL floor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PostgresShape {
    /// The statement.
    #[serde(default)]
    pub form: StatementForm,
    /// Connections that commit; the server has [`chat_server::latency::CONVERSATION_COMMITTERS`] for messages.
    pub connections: usize,
    /// Rows of a statement.
    pub batch: usize,
    /// Rooms, over all connections.
    pub rooms: usize,
    /// Members of a room; all of them send in turn.
    pub room_size: usize,
    /// Characters of a message's content.
    pub content_bytes: usize,
    /// Messages in the tables before, over all rooms.
    #[serde(default)]
    pub history: usize,
    /// Committed but not measured, seconds.
    pub warm_up_s: f64,
    /// Measured, seconds.
    pub seconds: f64,
    /// No progress bar.
    #[serde(skip)]
    pub quiet: bool,
}

impl PostgresShape {
    /// Whether it can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("connections", self.connections, 64),
            ("rows of a batch", self.batch, BATCH_MAX),
            ("rooms", self.rooms, 100_000),
            ("members of a room", self.room_size, 10_000),
            ("characters of a content", self.content_bytes, 16_384),
        ];
        if self.history > 0 && !(self.rooms..=HISTORY_MAX).contains(&self.history) {
            let rooms = self.rooms;
            return Err(format!(
                "a history of {rooms} rooms must have {rooms} to {HISTORY_MAX} messages, not {}",
                self.history
            ));
        }
        for (what, value, max) in bounds {
            if !(1..=max).contains(&value) {
                return Err(format!("the number of {what} must be between 1 and {max}, not {value}"));
            }
        }
        if self.rooms < self.connections {
            return Err(
                "each connection commits to its own rooms: give at least as many rooms as connections".to_owned()
            );
        }
        let in_range = |seconds: f64| (0.0..=3600.0).contains(&seconds);
        if !in_range(self.warm_up_s) || !in_range(self.seconds) || self.seconds == 0.0 {
            return Err("the measurement must last more than 0 and at most 3600 seconds".to_owned());
        }
        Ok(())
    }
}
