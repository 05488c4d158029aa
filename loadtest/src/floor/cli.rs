//! `loadtest floor`: its options, its default matrix, and its output.

use super::beside::{self, Ratios};
use super::frames;
use super::postgres::{PostgresFloor, PostgresShape, StatementForm, Store};
use super::sockets::{FloorLoad, Sending, Shape, SocketFloor};
use super::summary::median_and_extremes;
use crate::plan::Spacing;
use crate::report::files::write_json;
use crate::result::Machine;
use crate::run::{Interrupts, interruptible_runtime};
use crate::setup::pin;
use chat_server::latency::CONVERSATION_COMMITTERS;
use chat_server::wire::Format;
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  # the default matrix: rooms of 10 at a low rate, a saturated room of 1,000, and PostgreSQL at six batch sizes
  loadtest floor --json floor.json

  # both ways of sending in 100 rooms of 10, 2,000 messages per second
  loadtest floor sockets --rooms 100 --room-size 10 --rate 2000

  # one saturated room of 10,000, 20 senders with 64 messages in flight each, five rounds, median and spread
  loadtest floor sockets --rooms 1 --room-size 10000 --senders 20 --window 64 --sending coalesced --rounds 5

  # the floor for the shape of a load test's result, and its ratios to that floor
  loadtest floor --beside result.json --rounds 3

  # whether a commit costs more in a long history: 10^5, 10^6 and 10^7 messages in 1,000 rooms
  loadtest floor postgres --history 100000,1000000,10000000 --batch 31,400 --connections 1 --rooms 1000

  # durable rows per second on the disk of the server's data
  loadtest floor postgres --batch 100,1000 --data-dir /var/lib/veza-chat

Ctrl-C ends the current case and prints the earlier ones.

Exit status: 0 measured, 2 wrong usage or not measurable.";

/// Version of [`FloorReport`].
const REPORT_VERSION: u32 = 1;
/// Sizes of the committer's batches, from a single message to the largest run.
const BATCHES: [usize; 6] = [1, 32, 100, 500, 1000, 2000];

/// Measure the limit of this machine: bare sockets and bare PostgreSQL, for the same shape of work
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

    /// Keep the floor's server on the first of these cores and the driver on the second
    #[arg(long, value_name = "CORE,CORE", value_parser = parse_cores)]
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
        }
    }
}

/// The server's core and the driver's.
type Cores = [usize; 2];

fn parse_cores(text: &str) -> Result<Cores, String> {
    <Cores>::try_from(pin::parse(text)?).map_err(|_| format!("\"{text}\" is not two cores; write 0,1"))
}

/// Everything measured, all rounds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FloorReport {
    /// Version of this shape.
    pub version: u32,
    /// What was measured on.
    pub machine: Machine,
    /// Socket floors, round by round.
    pub sockets: Vec<SocketFloor>,
    /// PostgreSQL floors, round by round.
    pub postgres: Vec<PostgresFloor>,
    /// The ratios of a load test's result to the floor, with `--beside`.
    pub ratios: Option<Ratios>,
}

/// Measures, prints and writes.
///
/// # Errors
/// What failed.
pub fn run(options: &FloorOptions) -> Result<(), String> {
    let common = options.common();
    let beside = options.beside.as_deref().map(beside::read).transpose()?;
    let (sockets, postgres) = match &beside {
        Some(result) => beside::cases(result, &templates(common)?)?,
        None => cases(options)?,
    };
    let (_runtime, interrupts) = interruptible_runtime(1)?;
    let store = if postgres.is_empty() { None } else { Some(Store::open(common.data_dir.as_deref())?) };
    let mut report = FloorReport { version: REPORT_VERSION, machine: Machine::current(), ..FloorReport::default() };
    let complete = match rounds(&sockets, &postgres, store.as_ref(), common.rounds, &interrupts, &mut report) {
        Ok(()) => true,
        Err(_) if interrupts.count() > 0 => false,
        Err(reason) => return Err(reason),
    };
    // PostgreSQL stops before anything is printed: a closed pipe must not leave it behind.
    drop(store);
    if report.sockets.is_empty() && report.postgres.is_empty() {
        return Err("interrupted before anything was measured".to_owned());
    }
    print!("{}", render(&report, sockets.len(), postgres.len()));
    if !complete {
        println!("\ninterrupted: the unfinished measurement is left out");
    } else if let Some(result) = &beside {
        let ratios = Ratios::of(result, &report.sockets, &report.postgres);
        print!("\n{ratios}");
        report.ratios = Some(ratios);
    }
    if let Some(path) = &common.json {
        write_json(path, &report)?;
    }
    Ok(())
}

/// Measures all cases in turn, as often as asked.
fn rounds(
    sockets: &[Shape],
    postgres: &[PostgresShape],
    store: Option<&Store>,
    rounds: u32,
    interrupts: &Interrupts,
    report: &mut FloorReport,
) -> Result<(), String> {
    for _ in 0..rounds {
        for shape in sockets {
            interrupts.check()?;
            report.sockets.push(super::sockets::measure(shape, interrupts)?);
        }
        for shape in postgres {
            interrupts.check()?;
            if let Some(store) = store {
                report.postgres.push(store.measure(shape, interrupts)?);
            }
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
        cores: common.cores,
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

fn cases(options: &FloorOptions) -> Result<(Vec<Shape>, Vec<PostgresShape>), String> {
    let (shape, postgres) = templates(options.common())?;
    let found = match &options.command {
        None => (
            vec![
                shape.clone(),
                Shape {
                    rooms: 1,
                    room_size: 1000,
                    load: FloorLoad::Closed { window: 64 },
                    sending: Sending::Coalesced,
                    ..shape
                },
            ],
            BATCHES.iter().map(|batch| PostgresShape { batch: *batch, ..postgres.clone() }).collect(),
        ),
        Some(FloorCommand::Sockets(given)) => {
            let load = given.window.map_or(FloorLoad::Open { rate: given.rate }, |window| FloorLoad::Closed { window });
            let ways = given.sending.map_or(vec![Sending::PerDelivery, Sending::Coalesced], |sending| vec![sending]);
            let shapes = ways.into_iter().map(|sending| Shape {
                rooms: given.rooms,
                room_size: given.room_size,
                senders_per_room: given.senders.unwrap_or(given.room_size),
                load,
                even: given.spacing == Spacing::Even,
                bytes_in: given.bytes_in.unwrap_or(shape.bytes_in),
                bytes_out: given.bytes_out.unwrap_or(shape.bytes_out),
                sending,
                ..shape.clone()
            });
            (shapes.collect(), Vec::new())
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
            (Vec::new(), shapes)
        }
    };
    // A fault in the last case is reported before the first one runs.
    found.0.iter().try_for_each(Shape::validate)?;
    found.1.iter().try_for_each(PostgresShape::validate)?;
    Ok(found)
}

/// A figure over the rounds: the median, and the extremes when there are several.
fn figure<T>(rounds: &[&T], digits: usize, of: impl Fn(&T) -> f64) -> String {
    let figures: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
    let [middle, low, high] = median_and_extremes(&figures);
    if rounds.len() > 1 {
        format!("{middle:.digits$} ({low:.digits$}-{high:.digits$})")
    } else {
        format!("{middle:.digits$}")
    }
}

fn render(report: &FloorReport, socket_cases: usize, postgres_cases: usize) -> String {
    // Writing into a String cannot fail.
    let mut text = String::new();
    let mut table = new_table(&[
        "rooms",
        "load",
        "sending",
        "bytes in/out",
        "deliveries/s",
        "CPU us/delivery",
        "server cores",
        "driver cores",
        "P50 us",
        "P99 us",
    ]);
    for case in 0..socket_cases {
        let rounds: Vec<&SocketFloor> = report.sockets.iter().skip(case).step_by(socket_cases).collect();
        let Some(shape) = rounds.first().map(|round| &round.shape) else { continue };
        table.add_row([
            format!("{} x {}", shape.rooms, shape.room_size),
            match shape.load {
                FloorLoad::Open { rate } => format!("{rate:.0} msg/s"),
                FloorLoad::Closed { window } => format!("{} x window {window}", shape.senders_per_room * shape.rooms),
            },
            match shape.sending {
                Sending::PerDelivery => "per delivery".to_owned(),
                Sending::Coalesced => "coalesced".to_owned(),
            },
            format!("{}/{}", shape.bytes_in, shape.bytes_out),
            figure(&rounds, 0, |round| round.deliveries_per_s),
            figure(&rounds, 3, |round| round.server_cpu_us_per_delivery),
            figure(&rounds, 2, |round| round.server_cores),
            figure(&rounds, 2, |round| round.driver_cores),
            figure(&rounds, 0, |round| round.delivery.p50_us as f64),
            figure(&rounds, 0, |round| round.delivery.p99_us as f64),
        ]);
    }
    if socket_cases > 0 {
        let _ = write!(text, "Socket floor: a bare epoll loop, one process, one thread\n{}\n", table.trim_fmt());
    }
    let mut table = new_table(&[
        "batch",
        "form",
        "connections",
        "rooms",
        "history",
        "rows/s",
        "commits/s",
        "commit P50 us",
        "P99 us",
        "CPU us/row",
        "PostgreSQL cores",
        "loader cores",
    ]);
    for case in 0..postgres_cases {
        let rounds: Vec<&PostgresFloor> = report.postgres.iter().skip(case).step_by(postgres_cases).collect();
        let Some(shape) = rounds.first().map(|round| &round.shape) else { continue };
        table.add_row([
            shape.batch.to_string(),
            format!("{:?}", shape.form).to_lowercase(),
            shape.connections.to_string(),
            format!("{} x {}", shape.rooms, shape.room_size),
            shape.history.to_string(),
            figure(&rounds, 0, |round| round.rows_per_s),
            figure(&rounds, 1, |round| round.commits_per_s),
            figure(&rounds, 0, |round| round.commit.p50_us as f64),
            figure(&rounds, 0, |round| round.commit.p99_us as f64),
            figure(&rounds, 1, |round| round.postgres_cpu_us_per_row),
            figure(&rounds, 2, |round| round.postgres_cores),
            figure(&rounds, 2, |round| round.loader_cores),
        ]);
    }
    if postgres_cases > 0 {
        let gap = if socket_cases == 0 { "" } else { "\n" };
        let _ =
            write!(text, "{gap}PostgreSQL floor: the server's statement, schema and settings\n{}\n", table.trim_fmt());
    }
    text
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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
    fn the_default_matrix_is_one_delivery_per_send_one_saturated_room_and_postgres() {
        let (sockets, postgres) = cases(&parse(&[]).unwrap()).unwrap();
        assert_eq!(sockets.iter().map(|s| s.sending).collect::<Vec<_>>(), [Sending::PerDelivery, Sending::Coalesced]);
        assert_eq!(sockets.iter().map(|s| (s.rooms, s.room_size)).collect::<Vec<_>>(), [(100, 10), (1, 1000)]);
        assert_eq!(postgres.iter().map(|p| p.batch).collect::<Vec<_>>(), BATCHES);
    }

    #[test]
    fn derives_bytes_from_the_payload_unless_they_are_given() {
        let of = |arguments: &[&str]| {
            let (sockets, _) = cases(&parse(arguments).unwrap()).unwrap();
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

    #[test]
    fn several_rounds_give_median_and_extremes() {
        assert_eq!(figure(&[&3.0, &1.0, &2.5], 1, |f| *f), "2.5 (1.0-3.0)");
        assert_eq!(figure(&[&3.0], 2, |f| *f), "3.00");
    }
}
