//! What both ends of the socket floor agree on.

use serde::{Deserialize, Serialize};

/// Length of the room's number.
pub const GREETING_BYTES: usize = 4;
/// Planned time and sender, at the beginning of each message.
pub const HEADER_BYTES: usize = 8 + 4;
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

impl Sending {
    /// The name as an argument of the server process.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerDelivery => "per-delivery",
            Self::Coalesced => "coalesced",
        }
    }
}

/// A message's header.
pub fn write_header(planned_ns: u64, sender: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&planned_ns.to_le_bytes());
    header[8..].copy_from_slice(&sender.to_le_bytes());
    header
}

/// The planned time and the sender of a message.
pub fn read_header(header: [u8; HEADER_BYTES]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = header;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]))
}
