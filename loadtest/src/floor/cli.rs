//! `loadtest floor`: its options, its default matrix, and what they measure.

use super::bare_loop::LoopShape;
use super::beside;
use super::frames;
use super::postgres::{PostgresShape, StatementForm, Store};
use super::report::{FloorCases, FloorReport, Ratios};
use super::sockets::{FloorLoad, Sending, Shape};
use crate::plan::Spacing;
use crate::report::files::write_json;
use crate::result::Machine;
use crate::run::{Interrupts, interruptible_runtime};
use crate::setup::pin;
use chat_server::latency::CONVERSATION_COMMITTERS;
use chat_server::wire::Format;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  # the default matrix: rooms of 10 at a low rate, a saturated room of 1,000, PostgreSQL at six batch sizes, and a bare
  # loop that receives, commits and sends
  loadtest floor --json floor.json

  # both ways of sending in 100 rooms of 10, 2,000 messages per second
  loadtest floor sockets --rooms 100 --room-size 10 --rate 2000

  # one saturated room of 10,000, 20 senders with 64 messages in flight each, five rounds, median and spread
  loadtest floor sockets --rooms 1 --room-size 10000 --senders 20 --window 64 --sending coalesced --rounds 5

  # the floor for the shape of a load test's result, and its ratios to that floor
  loadtest floor --beside result.json --rounds 3

  # whether a commit costs more in a long history: 10^5, 10^6 and 10^7 messages in 1,000 rooms
  loadtest floor postgres --history 100000,1000000,10000000 --batch 31,400 --connections 1 --rooms 1000

  # 10,000 connections in rooms of ten, one message in flight each: durable messages per second of a bare loop
  loadtest floor loop --rooms 1000 --room-size 10 --window 1 --sending coalesced

  # only the bare loop, in the shape of a closed-loop result, and the ratio to it
  loadtest floor loop --beside result.json --rounds 3

  # durable rows per second on the disk of the server's data
  loadtest floor postgres --batch 100,1000 --data-dir /var/lib/veza-chat

Ctrl-C ends the current case and prints the earlier ones.

Exit status: 0 measured, 2 wrong usage or not measurable.";

/// Sizes of the committer's batches, from a single message to the largest run.
const BATCHES: [usize; 6] = [1, 32, 100, 500, 1000, 2000];

/// Measure the limit of this machine for the same work: bare sockets, bare PostgreSQL, and both as a bare loop
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct FloorOptions {
    /// What to measure; without it the default matrix
    #[command(subcommand)]
    command: Option<FloorCommand>,

    /// Use the shape of a load test's result, and print its ratios to the floor
    #[arg(long, value_name = "RESULT")]
    beside: Option<PathBuf>,

    #[command(flatten)]
    common: Common,
}

/// Options of all parts of the floor. Not clap's `global`, which would also apply to the other commands.
#[derive(Args, Debug, Clone)]
struct Common {
    /// Seconds to measure each case
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,

    /// Seconds to run each case before measuring
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,

    /// Rounds of all cases; the output has the median and the extremes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Characters of a message's content, which determine the bytes on the wire and in the table; with --beside those
    /// of the result's scenario
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    payload_bytes: u32,

    /// Keep the driver on the last of these cores and the floor's server on the others; with `loop` also PostgreSQL
    #[arg(long, value_name = "CORES", value_parser = parse_cores)]
    cores: Option<Cores>,

    /// Where to create PostgreSQL's directory during the measurement; must be on a disk
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Same seed, same plan of sends
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Also write all rounds to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// No progress bars
    #[arg(long)]
    quiet: bool,
}

/// The parts of the floor.
#[derive(Subcommand, Debug, Clone)]
enum FloorCommand {
    /// A bare epoll loop that sends what it receives to every socket of the room
    Sockets(SocketsOptions),
    /// A bare loader that commits the server's rows with the server's statement
    Postgres(PostgresOptions),
    /// Both in one process: messages are received, committed in batches, and then sent to every socket of the room
    Loop(LoopOptions),
}

/// `loadtest floor sockets`
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
struct SocketsOptions {
    /// How many rooms
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rooms: u32,

    /// Connections in each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    room_size: u32,

    /// Connections of each room that send; without it all
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    senders: Option<u32>,

    /// Messages per second of all senders together, by a plan that does not wait for the server
    #[arg(long, default_value_t = 500.0, conflicts_with = "window")]
    rate: f64,

    /// Instead of a rate: messages that each sender keeps in flight
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: Option<u32>,

    /// How planned sends are spaced in time
    #[arg(long, value_enum, default_value_t = Spacing::Poisson)]
    spacing: Spacing,

    /// How the server sends; without it both ways in turn
    #[arg(long, value_enum)]
    sending: Option<Sending>,

    /// Bytes of a message to the server; without it those of a real frame
    #[arg(long)]
    bytes_in: Option<usize>,

    /// Bytes of a message to each member; without it those of a real frame
    #[arg(long)]
    bytes_out: Option<usize>,

    #[command(flatten)]
    common: Common,
}

/// `loadtest floor loop`
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
struct LoopOptions {
    /// Use the shape of a closed-loop result, and print the ratio of its durable messages to the loop's
    #[arg(long, value_name = "RESULT", conflicts_with_all = SHAPE_OPTIONS)]
    beside: Option<PathBuf>,

    /// Connections that commit, each with a thread and rooms of its own
    #[arg(long, default_value_t = 1)]
    connections: usize,

    #[command(flatten)]
    sockets: SocketsOptions,
}

/// Options that a result replaces.
const SHAPE_OPTIONS: [&str; 10] =
    ["connections", "rooms", "room_size", "senders", "rate", "window", "spacing", "sending", "bytes_in", "bytes_out"];

/// `loadtest floor postgres`
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
struct PostgresOptions {
    /// Connections that commit; the server has two for messages
    #[arg(long, default_value_t = CONVERSATION_COMMITTERS)]
    connections: usize,

    /// Rows of a statement; several sizes are measured in turn
    #[arg(long, value_delimiter = ',', default_values_t = BATCHES)]
    batch: Vec<usize>,

    /// The server's statement: the one for senders that it knows, or the one that looks up everything; several are
    /// measured in turn
    #[arg(long, value_enum, value_delimiter = ',', default_value = "known")]
    form: Vec<StatementForm>,

    /// How many rooms the rows are spread over
    #[arg(long, default_value_t = 100)]
    rooms: usize,

    /// Members of each
    #[arg(long, default_value_t = 10)]
    room_size: usize,

    /// Messages in the tables before; several histories are measured in turn. Inserting 10,000,000 takes minutes
    #[arg(long, value_delimiter = ',', default_value = "0")]
    history: Vec<usize>,

    #[command(flatten)]
    common: Common,
}

impl FloorOptions {
    fn common(&self) -> &Common {
        match &self.command {
            None => &self.common,
            Some(FloorCommand::Sockets(given)) => &given.common,
            Some(FloorCommand::Postgres(given)) => &given.common,
            Some(FloorCommand::Loop(given)) => &given.sockets.common,
        }
    }

    /// The result whose shape is measured.
    fn beside(&self) -> Option<&Path> {
        match &self.command {
            Some(FloorCommand::Loop(given)) => given.beside.as_deref(),
            _ => self.beside.as_deref(),
        }
    }
}

impl SocketsOptions {
    /// The shapes for a template that has everything else.
    fn shapes(&self, template: &Shape) -> Vec<Shape> {
        let load = self.window.map_or(FloorLoad::Open { rate: self.rate }, |window| FloorLoad::Closed { window });
        let ways = self.sending.map_or(vec![Sending::PerDelivery, Sending::Coalesced], |sending| vec![sending]);
        let shape = |sending| Shape {
            rooms: self.rooms,
            room_size: self.room_size,
            senders_per_room: self.senders.unwrap_or(self.room_size),
            load,
            even: self.spacing == Spacing::Even,
            bytes_in: self.bytes_in.unwrap_or(template.bytes_in),
            bytes_out: self.bytes_out.unwrap_or(template.bytes_out),
            sending,
            ..template.clone()
        };
        ways.into_iter().map(shape).collect()
    }
}

/// The server's cores and, last, the driver's.
type Cores = Vec<usize>;

fn parse_cores(text: &str) -> Result<Cores, String> {
    let cores = pin::parse(text)?;
    if cores.len() < 2 {
        return Err(format!("\"{text}\" is one core; write 0,1 for one of the server and one of the driver"));
    }
    Ok(cores)
}

/// Measures, prints and writes.
///
/// # Errors
/// What failed.
pub fn run(options: &FloorOptions) -> Result<(), String> {
    let common = options.common();
    let beside = options.beside().map(beside::read).transpose()?;
    let mut cases = match &beside {
        Some(result) => beside::cases(result, &templates(common)?)?,
        None => cases(options)?,
    };
    if beside.is_some() && matches!(options.command, Some(FloorCommand::Loop(_))) {
        if cases.loops.is_empty() {
            return Err("the result is not of a closed loop; only --mode=closed has a counterpart here".to_owned());
        }
        cases = FloorCases { loops: cases.loops, ..FloorCases::default() };
    }
    let (_runtime, interrupts) = interruptible_runtime(1)?;
    let needs_store = !cases.postgres.is_empty() || !cases.loops.is_empty();
    let store = if needs_store { Some(Store::open(common.data_dir.as_deref())?) } else { None };
    let mut report = FloorReport::new(Machine::current());
    let complete = match rounds(&cases, store.as_ref(), common.rounds, &interrupts, &mut report) {
        Ok(()) => true,
        Err(_) if interrupts.count() > 0 => false,
        Err(reason) => return Err(reason),
    };
    // PostgreSQL stops before anything is printed: a closed pipe must not leave it behind.
    drop(store);
    if report.is_empty() {
        return Err("interrupted before anything was measured".to_owned());
    }
    print!("{}", report.tables(&cases));
    if !complete {
        println!("\ninterrupted: the unfinished measurement is left out");
    } else if let Some(result) = &beside {
        let ratios = Ratios::of(result, &report);
        print!("\n{ratios}");
        report.ratios = Some(ratios);
    }
    if let Some(path) = &common.json {
        write_json(path, &report)?;
    }
    Ok(())
}

/// Measures all cases in turn, as often as asked. Without a store there are only sockets.
fn rounds(
    cases: &FloorCases,
    store: Option<&Store>,
    rounds: u32,
    interrupts: &Interrupts,
    report: &mut FloorReport,
) -> Result<(), String> {
    for _ in 0..rounds {
        for shape in &cases.sockets {
            interrupts.check()?;
            report.sockets.push(super::sockets::measure(shape, interrupts)?);
        }
        let Some(store) = store else { continue };
        for shape in &cases.postgres {
            interrupts.check()?;
            report.postgres.push(store.measure(shape, interrupts)?);
        }
        for shape in &cases.loops {
            interrupts.check()?;
            report.loops.push(store.measure_loop(shape, interrupts)?);
        }
    }
    Ok(())
}

/// A case of each kind with everything that is not about its shape.
fn templates(common: &Common) -> Result<(Shape, PostgresShape), String> {
    let frame = frames::measure(common.payload_bytes as usize, Format::Json)?;
    let sockets = Shape {
        rooms: 100,
        room_size: 10,
        senders_per_room: 10,
        load: FloorLoad::Open { rate: 500.0 },
        even: false,
        bytes_in: frame.to_server,
        bytes_out: frame.to_member,
        sending: Sending::PerDelivery,
        warm_up_s: common.warm_up,
        seconds: common.seconds,
        seed: common.seed,
        cores: common.cores.clone(),
        quiet: common.quiet,
    };
    let postgres = PostgresShape {
        form: StatementForm::Known,
        connections: CONVERSATION_COMMITTERS,
        batch: 1,
        rooms: 100,
        room_size: 10,
        content_bytes: common.payload_bytes as usize,
        history: 0,
        warm_up_s: common.warm_up,
        seconds: common.seconds,
        quiet: common.quiet,
    };
    Ok((sockets, postgres))
}

fn cases(options: &FloorOptions) -> Result<FloorCases, String> {
    let (shape, postgres) = templates(options.common())?;
    let content_bytes = postgres.content_bytes;
    let found = match &options.command {
        None => {
            let closed =
                |window| Shape { load: FloorLoad::Closed { window }, sending: Sending::Coalesced, ..shape.clone() };
            FloorCases {
                sockets: vec![shape.clone(), Shape { rooms: 1, room_size: 1000, ..closed(64) }],
                postgres: BATCHES.iter().map(|batch| PostgresShape { batch: *batch, ..postgres.clone() }).collect(),
                loops: vec![LoopShape { sockets: closed(1), connections: 1, content_bytes }],
            }
        }
        Some(FloorCommand::Sockets(given)) => FloorCases { sockets: given.shapes(&shape), ..FloorCases::default() },
        Some(FloorCommand::Loop(given)) => {
            let of = |sockets| LoopShape { sockets, connections: given.connections, content_bytes };
            let loops = given.sockets.shapes(&shape).into_iter().map(of).collect();
            FloorCases { loops, ..FloorCases::default() }
        }
        Some(FloorCommand::Postgres(given)) => {
            let shape = PostgresShape {
                connections: given.connections,
                rooms: given.rooms,
                room_size: given.room_size,
                ..postgres
            };
            let mut shapes = Vec::new();
            for history in &given.history {
                for batch in &given.batch {
                    let of_form = |form: &StatementForm| PostgresShape {
                        history: *history,
                        batch: *batch,
                        form: *form,
                        ..shape.clone()
                    };
                    shapes.extend(given.form.iter().map(of_form));
                }
            }
            FloorCases { postgres: shapes, ..FloorCases::default() }
        }
    };
    // A fault in the last case is reported before the first one runs.
    found.validate()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        floor: FloorOptions,
    }

    fn parse(arguments: &[&str]) -> Result<FloorOptions, String> {
        let arguments = std::iter::once("floor").chain(arguments.iter().copied());
        Program::try_parse_from(arguments).map(|program| program.floor).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_matrix_is_one_delivery_per_send_one_saturated_room_postgres_and_a_loop() {
        let FloorCases { sockets, postgres, loops } = cases(&parse(&[]).unwrap()).unwrap();
        assert_eq!(sockets.iter().map(|s| s.sending).collect::<Vec<_>>(), [Sending::PerDelivery, Sending::Coalesced]);
        assert_eq!(sockets.iter().map(|s| (s.rooms, s.room_size)).collect::<Vec<_>>(), [(100, 10), (1, 1000)]);
        assert_eq!(postgres.iter().map(|p| p.batch).collect::<Vec<_>>(), BATCHES);
        let [LoopShape { sockets, connections: 1, content_bytes: 128 }] = loops.as_slice() else { panic!("{loops:?}") };
        assert_eq!((sockets.rooms, sockets.room_size, sockets.load), (100, 10, FloorLoad::Closed { window: 1 }));
    }

    #[test]
    fn a_loop_has_the_shape_of_its_sockets_and_the_content_of_its_rows() {
        let of = |command| {
            let options = [command, "--rooms=7", "--room-size=4", "--senders=3", "--window=5", "--payload-bytes=60"];
            cases(&parse(&options).unwrap()).unwrap()
        };
        let (sockets, loops) = (of("sockets").sockets, of("loop").loops);
        assert_eq!(loops.iter().map(|l| l.sockets.clone()).collect::<Vec<_>>(), sockets);
        assert!(loops.iter().all(|l| l.content_bytes == 60 && l.sockets.senders_per_room == 3), "{loops:?}");
        assert!(parse(&["loop", "--beside=result.json", "--quiet", "--seconds=2"]).is_ok());
        assert!(parse(&["loop", "--beside=result.json", "--rooms=7"]).is_err());
    }

    #[test]
    fn the_last_core_is_the_drivers() {
        let cores = |list: &str| cases(&parse(&["sockets", "--cores", list]).unwrap()).unwrap().sockets[0].clone();
        assert_eq!(cores("0,1").separate_cores(), Some((&[0][..], 1)));
        assert_eq!(cores("0,2,1").separate_cores(), Some((&[0, 2][..], 1)));
    }

    #[test]
    fn derives_bytes_from_the_payload_unless_they_are_given() {
        let of = |arguments: &[&str]| {
            let sockets = cases(&parse(arguments).unwrap()).unwrap().sockets;
            (sockets[0].bytes_in, sockets[0].bytes_out)
        };
        let (bytes_in, bytes_out) = of(&["sockets"]);
        assert_eq!(of(&["sockets", "--payload-bytes", "228"]), (bytes_in + 100, bytes_out + 100));
        assert_eq!(of(&["sockets", "--bytes-in", "64", "--bytes-out", "32"]), (64, 32));
    }

    #[test]
    fn refuses_impossible_options_before_running() {
        for wrong in [
            &["sockets", "--senders", "11"][..],
            &["sockets", "--bytes-in", "4"],
            &["sockets", "--rate", "0"],
            &["sockets", "--seconds", "0"],
            &["postgres", "--batch", "32,100000"],
            &["postgres", "--connections", "3", "--rooms", "2"],
            &["loop", "--senders", "11"],
            &["loop", "--connections", "3", "--rooms", "2"],
            &["loop", "--rooms", "1", "--room-size", "20000"],
        ] {
            assert!(cases(&parse(wrong).unwrap()).is_err(), "{wrong:?}");
        }
        for wrong in [
            &["sockets", "--rate", "5", "--window", "5"][..],
            &["--cores", "0"],
            &["--cores", "0,x,1"],
            &["--rounds", "0"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
