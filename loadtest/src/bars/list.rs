//! The cases of `loadtest bars`, and the bars that hold their figures.

use crate::headline::{
    CONNECTION_BYTES_MAX, GROWING, OVERLOAD_GOODPUT_MIN, OVERLOAD_P99_MAX_MS, P99_9_MAX_MS, P99_MAX_MS,
    TWICE_P99_MAX_MS,
};
use std::collections::BTreeMap;

/// A run of the harness that figures are taken from.
pub struct Case {
    /// The beginning of its figures' names.
    pub name: &'static str,
    /// A built-in scenario.
    pub scenario: &'static str,
    /// Further arguments of `loadtest run`.
    pub arguments: &'static [&'static str],
    /// What is measured for its shape right afterwards.
    pub floor: FloorOfCase,
    /// It sends at so many times a figure of the same round.
    pub rate_of: Option<(&'static str, f64)>,
    /// It takes at least this long.
    pub seconds_min: u32,
}

/// Which floors a case is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloorOfCase {
    /// None.
    None,
    /// `loadtest floor --beside`.
    All,
    /// `loadtest floor loop --beside`: the others would take a minute of each round, and no bar needs them.
    Loop,
}

/// Three heartbeats, one every 25 s: they are most of the cost of an idle connection.
const IDLE_SECONDS_MIN: u32 = 75;

const fn case(name: &'static str, scenario: &'static str, arguments: &'static [&'static str]) -> Case {
    Case { name, scenario, arguments, floor: FloorOfCase::None, rate_of: None, seconds_min: 0 }
}

/// Users of their own: those of the other cases are members of more rooms, and each subscription takes memory.
const IDLE: &[&str] = &["--prefix=idle", "--users=1000", "--connections-per-user=15"];

/// Cases in the order of a round; later ones may need figures of earlier ones.
pub const CASES: &[Case] = &[
    Case { floor: FloorOfCase::All, ..case("low rate", "rooms-10", &[]) },
    case("busy", "rooms-10", &["--users=1000", "--rooms=100", "--rate=2000"]),
    case("saturated", "room-1000", &[]),
    Case { floor: FloorOfCase::All, ..case("durable", "durable", &[]) },
    Case { rate_of: Some(("durable/messages per s", 0.5)), ..case("half", "durable", &["--mode=open"]) },
    case("headline", "headline", &[]),
    Case { floor: FloorOfCase::Loop, ..case("headline closed", "headline", &["--mode=closed", "--in-flight=1"]) },
    case("twice", "headline", &["--rate=10000"]),
    case("growing", "headline", &GROWING),
    Case { rate_of: Some(("growing/peak per s", 5.0)), ..case("overload", "overload", &[]) },
    case("1,000 connections", "crowd", &["--users=20"]),
    case("15,000 connections", "crowd", &["--users=300"]),
    case("large room", "room-10000", &["--rate=5"]),
    case("beside large", "small-beside-large", &[]),
    Case { seconds_min: IDLE_SECONDS_MIN, ..case("idle", "idle", IDLE) },
];

/// Figures of one round, by `case/figure`.
pub type Figures = BTreeMap<String, f64>;

pub enum Limit {
    /// The largest that meets the bar.
    AtMost(f64),
    /// The smallest that meets the bar.
    AtLeast(f64),
    /// Equal in the digits that are shown.
    Exactly(f64),
    /// Shown for comparison, without a bar.
    None,
}

/// A figure and its bar.
pub struct Bar {
    /// What people read; with two spaces in front it continues the line above.
    pub what: &'static str,
    /// The figure of a round.
    pub of: fn(&Figures) -> Option<f64>,
    /// The bar.
    pub limit: Limit,
    /// Digits behind the point.
    pub digits: usize,
}

/// A figure of a round, if its case was measured.
pub fn get(figures: &Figures, name: &str) -> Option<f64> {
    figures.get(name).copied()
}

fn quotient(figures: &Figures, upper: &str, lower: &str) -> Option<f64> {
    Some(get(figures, upper)? / get(figures, lower).filter(|lower| *lower > 0.0)?)
}

/// The bars in the order of the table.
pub const BARS: &[Bar] = &[
    Bar {
        what: "low rate: server CPU per delivery / bare sockets, one send per delivery",
        of: |f| get(f, "low rate/floor sockets"),
        limit: Limit::None,
        digits: 2,
    },
    Bar {
        what: "low rate: server CPU per delivery / bare sockets + bare loader",
        of: |f| get(f, "low rate/floor both"),
        limit: Limit::AtMost(1.3),
        digits: 2,
    },
    Bar {
        what: "room of 1,000, saturated: deliveries per second",
        of: |f| get(f, "saturated/deliveries per s"),
        limit: Limit::AtLeast(2e6),
        digits: 0,
    },
    Bar {
        what: "room of 1,000, saturated: server CPU per delivery, us",
        of: |f| get(f, "saturated/us per delivery"),
        limit: Limit::AtMost(0.6),
        digits: 3,
    },
    Bar {
        what: "durable messages per second, rooms of 10, 32 in flight",
        of: |f| get(f, "durable/messages per s"),
        limit: Limit::AtLeast(100_000.0),
        digits: 0,
    },
    Bar {
        what: "  / bare loader with its best batches",
        of: |f| get(f, "durable/floor best rows"),
        limit: Limit::AtLeast(0.8),
        digits: 2,
    },
    Bar {
        what: "  messages per CPU-second of PostgreSQL / those of the bare loader with its best batches",
        of: |f| get(f, "durable/floor same share"),
        limit: Limit::AtLeast(0.8),
        digits: 2,
    },
    Bar {
        what: "  / bare loop: receives, commits and sends",
        of: |f| get(f, "durable/floor loop"),
        limit: Limit::None,
        digits: 2,
    },
    Bar {
        what: "  / bare loader with the server's batches",
        of: |f| get(f, "durable/floor rows"),
        limit: Limit::None,
        digits: 2,
    },
    Bar {
        what: "half of that rate: ack P50, ms",
        of: |f| get(f, "half/ack p50 ms"),
        limit: Limit::AtMost(2.0),
        digits: 2,
    },
    Bar {
        what: "half of that rate: ack P99, ms",
        of: |f| get(f, "half/ack p99 ms"),
        limit: Limit::AtMost(10.0),
        digits: 2,
    },
    Bar {
        what: "headline, 10,000 connections, 5,000 messages/s: ack P99, ms",
        of: |f| get(f, "headline/ack p99 ms"),
        limit: Limit::AtMost(P99_MAX_MS),
        digits: 2,
    },
    Bar {
        what: "  delivery P99, ms",
        of: |f| get(f, "headline/delivery p99 ms"),
        limit: Limit::AtMost(P99_MAX_MS),
        digits: 2,
    },
    Bar {
        what: "  delivery P99.9, ms",
        of: |f| get(f, "headline/delivery p99.9 ms"),
        limit: Limit::AtMost(P99_9_MAX_MS),
        digits: 2,
    },
    Bar {
        what: "  memory per connection before it sends, server and kernel's sockets, bytes",
        of: |f| get(f, "headline/all bytes per connection"),
        limit: Limit::AtMost(CONNECTION_BYTES_MAX),
        digits: 0,
    },
    Bar {
        what: "10,000 messages/s: delivery P99, ms",
        of: |f| get(f, "twice/delivery p99 ms"),
        limit: Limit::AtMost(TWICE_P99_MAX_MS),
        digits: 2,
    },
    Bar {
        what: "10,000 connections, one message in flight each: messages per second / bare loop",
        of: |f| get(f, "headline closed/floor loop"),
        limit: Limit::AtLeast(0.8),
        digits: 2,
    },
    Bar {
        what: "growing rates: the most that was acknowledged per second",
        of: |f| get(f, "growing/peak per s"),
        limit: Limit::None,
        digits: 0,
    },
    Bar {
        what: "five times that: acknowledged per second / the most",
        of: |f| quotient(f, "overload/messages per s", "growing/peak per s"),
        limit: Limit::AtLeast(OVERLOAD_GOODPUT_MIN),
        digits: 2,
    },
    Bar {
        what: "  ack P99, ms",
        of: |f| get(f, "overload/ack p99 ms"),
        limit: Limit::AtMost(OVERLOAD_P99_MAX_MS),
        digits: 0,
    },
    Bar {
        what: "server CPU per message, 15,000 / 1,000 connections",
        of: |f| quotient(f, "15,000 connections/us per message", "1,000 connections/us per message"),
        limit: Limit::AtMost(1.3),
        digits: 2,
    },
    Bar {
        what: "server CPU per delivery, room of 10,000 / rooms of 10",
        of: |f| quotient(f, "large room/us per delivery", "busy/us per delivery"),
        limit: Limit::AtMost(1.2),
        digits: 2,
    },
    Bar {
        what: "serialisations per event and format",
        of: |f| get(f, "durable/encodings"),
        limit: Limit::Exactly(1.0),
        digits: 2,
    },
    Bar {
        what: "idle connection: bytes of user space",
        of: |f| get(f, "idle/bytes per connection"),
        limit: Limit::AtMost(512.0),
        digits: 0,
    },
    Bar {
        what: "idle connection: CPU per second, us",
        of: |f| get(f, "idle/us per connection and s"),
        limit: Limit::AtMost(0.8),
        digits: 2,
    },
    Bar {
        what: "small room beside a room of 10,000: delivery P99, ms",
        of: |f| get(f, "beside large/small p99 ms"),
        limit: Limit::AtMost(5.0),
        digits: 2,
    },
];
