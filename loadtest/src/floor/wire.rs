//! What both ends of the socket floor agree on.

use serde::{Deserialize, Serialize};

/// Length of the room's number.
pub const GREETING_BYTES: usize = 4;
/// What one call reads at most.
pub const READ_BYTES: usize = 256 * 1024;

/// How the server sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sending {
    /// One write per message and socket, at once.
    PerDelivery,
    /// All messages of a turn for a socket in one write.
    Coalesced,
}
