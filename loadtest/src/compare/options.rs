//! Options of `loadtest compare`, and the servers that it can name.

use super::peers::PeerKind;
use crate::options::{GeneratorOptions, Overrides, ServerOptions};
use clap::{Args, ValueEnum};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  loadtest/peers/install.sh                                          install the peers
  loadtest compare                                                   all that are installed, five rounds of rooms-10
  loadtest compare --scenario durable --peers veza,ejabberd,tungstenite --rounds 3 --duration 10s
  loadtest compare --scenario room-1000 --server-cores 0 --generator-cores 1 --json compare.json --html compare.html

The output names peers that are not installed, with the command that installs them.

Exit status: 0 no violation by Veza Chat Server, 1 violations, 2 wrong usage, or a server that could not be run.
Messages that a peer loses are counted and shown.";

/// Options of `loadtest compare`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct CompareOptions {
    /// Servers in the order of their turns; ratios are to the first
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contestant::ALL)]
    pub peers: Vec<Contestant>,

    /// Turns of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// rooms-10, room-1000, durable, or a .toml file with only rooms and messages, which all servers support
    #[arg(long, default_value = "rooms-10")]
    pub scenario: String,

    #[command(flatten)]
    pub over: Overrides,

    #[command(flatten)]
    pub server: ServerOptions,

    #[command(flatten)]
    pub generator: GeneratorOptions,

    /// Where `install.sh` puts programs newer than this machine's packages; without it target/peers
    #[arg(long, value_name = "DIR", help_heading = "Peers")]
    pub peers_dir: Option<PathBuf>,

    /// Keep the servers' files here; without it they are deleted at the end
    #[arg(long, value_name = "DIR", help_heading = "Peers")]
    pub work_dir: Option<PathBuf>,

    /// Ports for the peers, for example 20000-20099; without it free ports of 20000-29999
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_ports, help_heading = "Peers")]
    pub ports: Option<RangeInclusive<u16>>,

    /// Also write all rounds to this file as JSON, which `loadtest report` reads
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Also write a self-contained HTML page with curves and tables
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,

    /// No progress bars
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
}

/// A server in the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contestant {
    /// Veza Chat Server.
    Veza,
    /// Another.
    Peer(PeerKind),
}

impl Contestant {
    pub(super) const ALL: [Self; 6] = [
        Self::Veza,
        Self::Peer(PeerKind::Uws),
        Self::Peer(PeerKind::Mosquitto),
        Self::Peer(PeerKind::Nats),
        Self::Peer(PeerKind::Ejabberd),
        Self::Peer(PeerKind::Tungstenite),
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Veza => "Veza Chat Server",
            Self::Peer(kind) => kind.title(),
        }
    }
}

impl ValueEnum for Contestant {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::Veza => Some(clap::builder::PossibleValue::new("veza").help("Veza Chat Server")),
            Self::Peer(kind) => kind.to_possible_value(),
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Veza => "veza",
            Self::Peer(kind) => kind.name(),
        })
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let hint = || format!("\"{text}\" is no range of ports; write for example 20000-20099");
    let (first, last) = text.split_once('-').ok_or_else(hint)?;
    let (first, last) = (first.parse().map_err(|_| hint())?, last.parse().map_err(|_| hint())?);
    if first == 0 || first > last { Err(hint()) } else { Ok(first..=last) }
}
