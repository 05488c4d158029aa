//! `loadtest pages`: how long a page takes over a large history, next to the same statement without the server.
//!
//! 1. A server starts with its private PostgreSQL. Users and rooms are created over its API ([`town`]).
//! 2. The database is filled with a history without gaps, and indexed for the search ([`fill`]). The server restarts.
//! 3. Each kind of page ([`kinds`]) is requested over WebSockets, and its floor directly from PostgreSQL ([`ask`]): the
//!    same questions, in turn, several rounds of each, so that a slow minute of the machine affects both.
//!
//! With `--data-dir` the history stays, and the next measurement begins at step 3.
//!
//! The floor of a look-up or a search is the server's own statement in the server's own transaction. So a ratio near 1
//! means that the server adds nothing, not that the statement is good. The floor of a history page is a plain SELECT of
//! its rows as PostgreSQL's superuser: no row level security, no authors, threads, reactions or mentions.
//!
//! Deliberately absent: writes at the same time. `loadtest run mixed` does both.

mod ask;
mod fill;
mod kinds;
mod report;
mod text;
mod town;

use crate::client::Socket;
use crate::measure::latency::LatencyError;
use crate::measure::pair::{Pair, Used};
use crate::options::{ServerOptions, TableOptions};
use crate::progress;
use crate::report::files::write_json;
use crate::result::{Latency, Machine};
use crate::run::{Interrupts, interruptible_runtime};
use crate::setup::account::{Account, PASSWORD, SETUP_CONCURRENCY, SignIn};
use crate::setup::api::Api;
use crate::setup::launch::{Launch, Server};
use crate::setup::rooms::{self, Preparation};
use ask::{Direct, PageTally, ThroughServer, ask_all};
use chat_server::storage::connect::Target;
use clap::Args;
use fill::{Fill, Filled};
use kinds::{PageKind, Question, Samples};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use report::{Measured, PagesReport};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  # a million messages, every kind, one at a time and eight at once; takes some 15 minutes
  loadtest pages --json pages.json --html pages.html

  # keep the filled database, so that the next measurement begins immediately
  loadtest pages --data-dir /var/tmp/pages
  loadtest pages --data-dir /var/tmp/pages --only search --concurrency 1,4,16

  # a quick look; the table as Markdown
  loadtest pages --messages 50000 --requests 300 --seconds 3 --markdown

Ctrl-C ends the measurement and prints the kinds measured so far.

Exit status: 0 measured, 2 wrong usage or nothing could be measured.";

/// Options of `loadtest pages`.
#[derive(Args, Debug, Clone)]
#[command(after_help = EXAMPLES)]
pub struct PagesOptions {
    /// Messages in the database, 70 in 100 of them in one room
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    messages: u64,
    /// Users who wrote them
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(i64::from(town::USERS_MIN)..=1000))]
    users: u32,
    /// Requests of each kind and concurrency
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    requests: u32,
    /// Concurrent requests; several numbers are measured in turn
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8],
          value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Vec<u32>,
    /// Most seconds for each kind and concurrency, and for its floor; a slow kind gets fewer requests
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Rounds in which server and floor take turns
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only kinds whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Same seed, same history and same questions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write an HTML page with curves
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    table: TableOptions,
    #[command(flatten)]
    server: ServerOptions,
}

/// The database's name in the server's private PostgreSQL.
const DATABASE: &str = "veza_chat";
/// The file next to a filled database by which a later run finds it.
const MARK: &str = "pages.json";
const PREFIX: &str = "pages";
/// One request in this many is sent before the measurement and not counted.
const WARM_UP: usize = 20;

/// A filled database.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    filled: Filled,
    rooms: Vec<i64>,
    users: Vec<i64>,
}

/// Measures and prints.
///
/// # Errors
/// What failed.
pub fn run(options: &PagesOptions) -> Result<(), String> {
    let machine = Machine::current();
    let wanted = |kind: &&PageKind| options.only.as_ref().is_none_or(|only| kind.name.contains(only.as_str()));
    let wanted: Vec<&PageKind> = kinds::kinds().filter(wanted).collect();
    if wanted.is_empty() {
        let names: Vec<&str> = kinds::kinds().map(|kind| kind.name).collect();
        return Err(format!("--only: no kind has such a name; there are: {}", names.join(", ")));
    }
    // Askers and their connections share one thread. Otherwise a thread switch would be part of every figure.
    let (runtime, interrupts) = interruptible_runtime(0)?;
    let temporary = match options.server.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(|error| format!("cannot make a temporary directory: {error}"))?),
    };
    let given = options.server.data_dir.as_deref();
    let directory = given.or_else(|| temporary.as_ref().map(tempfile::TempDir::path)).unwrap_or(Path::new("."));
    let mark = runtime.block_on(filled(options, directory, &interrupts))?;
    let mut kinds = Vec::new();
    let complete = runtime.block_on(measure(options, directory, &mark, &wanted, &interrupts, &mut kinds));
    if kinds.is_empty() {
        return complete;
    }
    let report = PagesReport { version: report::VERSION, machine, filled: mark.filled, kinds };
    print!("{}", if options.table.markdown { report.markdown() } else { report.terminal() });
    if interrupts.count() > 0 {
        println!("\ninterrupted: kinds that are missing were not measured");
    }
    if let Some(path) = &options.table.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &options.html {
        crate::report::command::write_page(path, report.page().map_err(|error| error.to_string())?)?;
    }
    if interrupts.count() > 0 { Ok(()) } else { complete }
}

async fn start(options: &PagesOptions, directory: &Path) -> Result<(Server, Api), String> {
    // A client that waits for its turn is idle, not dead.
    let settings = [("server.heartbeat_interval".to_owned(), "1h".into())].into();
    let data_dir = Some(directory.to_owned());
    let mut server = Server::start(&Launch { data_dir, settings, ..options.server.launch() })?;
    let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
    server.ready(&api).await?;
    Ok((server, api))
}

fn sign_in() -> SignIn {
    SignIn { prefix: PREFIX.to_owned(), password: PASSWORD.to_owned() }
}

fn database(server: &Server) -> Target {
    Target::embedded_as_superuser(&server.data_dir().join("postgres"), DATABASE)
}

/// The database, filled now or earlier.
async fn filled(options: &PagesOptions, directory: &Path, interrupts: &Interrupts) -> Result<Mark, String> {
    let path = directory.join(MARK);
    if let Ok(text) = std::fs::read_to_string(&path) {
        let mark: Mark = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let Filled { messages, users, seed, .. } = mark.filled;
        if (messages, users, seed) != (options.messages, options.users, options.seed) {
            return Err(format!(
                "{} was filled with --messages {messages} --users {users} --seed {seed}: say the same, or name another \
                 --data-dir",
                directory.display()
            ));
        }
        return Ok(mark);
    }
    let (server, api) = start(options, directory).await?;
    let accounts = sign_in().sign_in_all(from_ref(&api), options.users, SETUP_CONCURRENCY, options.table.quiet).await?;
    interrupts.check()?;
    let plans = town::rooms(options.users);
    let how = Preparation { prefix: PREFIX, concurrency: SETUP_CONCURRENCY, quiet: options.table.quiet };
    let texts = rooms::prepare(&api, &accounts, &plans, how).await?;
    let number = |text: &String| text.split_once('_').and_then(|(_, number)| number.parse().ok());
    let rooms: Vec<i64> = texts.iter().filter_map(number).collect();
    if rooms.len() != texts.len() {
        return Err(format!("not identifiers of conversations: {texts:?}"));
    }
    let fill = Fill {
        target: &database(&server),
        accounts: &accounts,
        rooms: &rooms,
        owners: &plans.iter().map(|plan| plan.members[0]).collect::<Vec<_>>(),
        messages: options.messages,
        seed: options.seed,
        quiet: options.table.quiet,
    };
    let filled = fill.run(interrupts).await?;
    let mark = Mark { filled, rooms, users: accounts.iter().map(|account| account.id as i64).collect() };
    write_json(&path, &mark)?;
    Ok(mark)
}

async fn measure(
    options: &PagesOptions,
    directory: &Path,
    mark: &Mark,
    wanted: &[&PageKind],
    interrupts: &Interrupts,
    measured: &mut Vec<Measured>,
) -> Result<(), String> {
    let (server, api) = start(options, directory).await?;
    let target = database(&server);
    let superuser = target.connect_as_login().await.map_err(|error| error.to_string())?;
    let samples = Samples::read(&superuser, &mark.rooms, &mark.users).await?;
    let mut readers: Vec<Account> = Vec::new();
    for index in [town::READER, town::AWAY, town::STRANGER] {
        readers.push(sign_in().login(&api, sign_in().username(index)).await?);
    }
    let address = api.target().resolve()?;
    let mut meters = Pair::find(address, &server.data_dir())?;
    let most = options.concurrency.iter().copied().max().unwrap_or(1);
    let (mut through_server, mut direct) = (Vec::new(), Vec::new());
    let users: Vec<i64> = readers.iter().map(|account| account.id as i64).collect();
    for _ in 0..most {
        let mut sockets = Vec::new();
        for account in &readers {
            sockets.push(Socket::open(api.target(), &account.token).await?);
        }
        through_server.push(ThroughServer { sockets });
        direct.push(Direct::connect(&target, mark.rooms[town::LARGE], &users).await?);
    }
    let bar = progress::bar(options.table.quiet, (wanted.len() * options.concurrency.len()) as u64, "kinds of pages");
    for (index, kind) in wanted.iter().enumerate() {
        let mut random = SmallRng::seed_from_u64(options.seed.wrapping_add(index as u64));
        let mut questions: Vec<Question> = (0..options.requests).map(|_| (kind.ask)(&samples, &mut random)).collect();
        if kind.second_page {
            questions = second_pages(&mut through_server[0], questions, options.seconds).await?;
        }
        for concurrency in &options.concurrency {
            interrupts.check()?;
            let askers = (&mut through_server[..*concurrency as usize], &mut direct[..*concurrency as usize]);
            let figures = compare(options, askers, &questions, &mut meters, interrupts).await?;
            measured.extend(figures.measured(kind.name, *concurrency).map_err(|error| error.to_string())?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Requests the first pages and derives the questions for the following ones, where there are any.
async fn second_pages(asker: &mut ThroughServer, first: Vec<Question>, seconds: u32) -> Result<Vec<Question>, String> {
    let until = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut cursors: HashMap<String, Option<serde_json::Value>> = HashMap::new();
    let mut second = Vec::new();
    for question in first {
        let key = question.data.to_string();
        if !cursors.contains_key(&key) && Instant::now() < until {
            let reply = asker.sockets[question.user as usize].ask(question.command, &question.data).await?;
            let page: Option<serde_json::Value> = reply.outcome.ok().and_then(|d| serde_json::from_str(d.get()).ok());
            cursors.insert(
                key.clone(),
                page.and_then(|mut page| page.get_mut("next_cursor").map(serde_json::Value::take)),
            );
        }
        if let Some(Some(cursor)) = cursors.get(&key) {
            second.push(kinds::next_page(question, cursor.clone()));
        }
    }
    Ok(second)
}

/// The result of one kind with one number of concurrent requests.
struct KindFigures {
    server: PageTally,
    bare: PageTally,
    used: Used,
    bare_used: Used,
}

impl KindFigures {
    /// `None` when the history has nothing of this kind.
    fn measured(self, kind: &str, concurrency: u32) -> Result<Option<Measured>, LatencyError> {
        let (pages, bare_pages) = (self.server.took.len(), self.bare.took.len());
        if pages == 0 || bare_pages == 0 {
            return Ok(None);
        }
        Ok(Some(Measured {
            kind: kind.to_owned(),
            concurrency,
            server: Latency::of(&self.server.took)?,
            bare: Latency::of(&self.bare.took)?,
            bytes: self.server.bytes as f64 / pages as f64,
            server_cpu_us: self.used.server_us / pages as f64,
            store_cpu_us: self.used.store_us / pages as f64,
            bare_store_cpu_us: self.bare_used.store_us / bare_pages as f64,
            refused: self.server.refused,
            bare_refused: self.bare.refused,
        }))
    }
}

/// Server and floor in turn; the one that begins changes from round to round.
async fn compare(
    options: &PagesOptions,
    (server, direct): (&mut [ThroughServer], &mut [Direct]),
    questions: &[Question],
    meters: &mut Pair,
    interrupts: &Interrupts,
) -> Result<KindFigures, String> {
    let slice = Duration::from_secs(u64::from(options.seconds)) / options.rounds;
    let in_time = || Instant::now() + slice;
    let warm_up = &questions[..(questions.len() / WARM_UP).min(questions.len())];
    ask_all(server, warm_up, in_time()).await?;
    ask_all(direct, warm_up, in_time()).await?;
    let (used, bare_used) = (Used::default(), Used::default());
    let mut figures = KindFigures { server: PageTally::new()?, bare: PageTally::new()?, used, bare_used };
    for (round, part) in questions.chunks(questions.len().div_ceil(options.rounds as usize).max(1)).enumerate() {
        for turn in 0..2 {
            interrupts.check()?;
            let before = meters.sample();
            if (round + turn) % 2 == 0 {
                figures.server.add(ask_all(server, part, in_time()).await?)?;
                figures.used.add(meters.since(&before));
            } else {
                figures.bare.add(ask_all(direct, part, in_time()).await?)?;
                figures.bare_used.add(meters.since(&before));
            }
        }
    }
    Ok(figures)
}
