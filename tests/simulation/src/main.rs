//! Plays histories until one breaks a promise: for nights, and to replay a seed.

use clap::Parser;
use simulation::history::Stage;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Plays seeded histories of shards, a model store and model clients, and checks the server's promises.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  simulation --seeds 1000000          a night on every core\n  simulation --from 4711 \
                        --seeds 1 --trace   replay one seed"
)]
struct Arguments {
    /// How many histories to play.
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Print what the clients send and receive.
    #[arg(long)]
    trace: bool,
    /// Threads; by default one per core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let (next, found, began) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let stage = Stage::default();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds || found.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = arguments.from.wrapping_add(at);
                    if let Err(violation) = stage.play(seed, arguments.trace) {
                        found.store(true, Ordering::Relaxed);
                        eprintln!("\n{violation}\nreplay it with: simulation --from {seed} --seeds 1 --trace");
                    }
                    if at % 1_000 == 999 && std::io::stderr().is_terminal() {
                        let rate = at as f64 / began.elapsed().as_secs_f64();
                        eprint!("\r{} of {} histories, {rate:.0} a second ", at + 1, arguments.seeds);
                        let _ = std::io::stderr().flush();
                    }
                }
            });
        }
    });
    if found.load(Ordering::Relaxed) {
        return ExitCode::FAILURE;
    }
    println!("{} histories in {:.1?}: every promise held", arguments.seeds, began.elapsed());
    ExitCode::SUCCESS
}
