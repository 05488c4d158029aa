//! The same workload through adapters against other servers.

mod adapter;
mod child;
mod codec;
mod contents;
mod insert_server;
mod ledger;
mod peers;
mod places;
mod postgres;

#[cfg(test)]
mod peers_answer_tests;

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
enum Command {
    #[command(hide = true)]
    PeerTungstenite(insert_server::Options),
}

/// Temporary dispatch.
pub fn try_command() -> Option<ExitCode> {
    if std::env::args().nth(1).as_deref() != Some("peer-tungstenite") {
        return None;
    }
    let Command::PeerTungstenite(options) = Command::parse();
    Some(match insert_server::serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}
