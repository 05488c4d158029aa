//! `veza`: the terminal client of Veza Chat Server, for people and for scripts.
//!
//! The modules, from the inside out:
//! - pure, without clock and I/O: [`text`] (sanitizes other people's text), [`render`] (output for people), [`paint`],
//!   [`address`], [`failure`] (failures and their exit status), `follow::stream`;
//! - this machine: [`profile`] (saved sessions), [`password`], [`output`], [`clock`];
//! - the server: [`http`], [`session`] (renews its tokens), [`retry`], [`follow`] (the WebSocket);
//! - the user: [`cli`], [`commands`].
//!
//! Invariants: other people's text reaches the terminal only through [`text`]; a password never comes from the command
//! line; a refresh token is used once (see [`session`]).
//!
//! Exit status: 0 done, 1 refused by the server, 2 wrong usage, 3 not signed in, 4 server unreachable.

mod address;
mod cli;
mod clock;
mod commands;
mod failure;
mod follow;
mod http;
mod output;
mod paint;
mod password;
mod profile;
mod proof;
mod render;
mod retry;
mod session;
mod text;

use clap::Parser;
use failure::Failure;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap ends the process with 2 on wrong usage.
    let arguments = cli::Arguments::parse();
    let output = Output::new(arguments.global.json, arguments.global.color);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(|error| Failure::Usage(format!("no runtime: {error}")))
        .and_then(|runtime| runtime.block_on(commands::run(arguments, output)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.status())
        }
    }
}
