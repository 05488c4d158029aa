//! `veza`: the terminal client of Veza Chat Server, for people and for scripts.
//!
//! The modules, from the inside out:
//! - pure, no clock and no I/O: [`text`] (what other people wrote, made harmless), [`render`] (lines for people),
//!   [`paint`], [`address`], [`failure`] (what can go wrong, and the exit status of it), `follow::stream`;
//! - this machine: [`profile`] (who is signed in), [`password`], [`output`], [`clock`];
//! - the server: [`http`], [`session`] (tokens that renew themselves), [`retry`], [`follow`] (the WebSocket);
//! - what the user asks for: [`cli`], [`commands`].
//!
//! Invariants: no text of other people reaches the terminal but through [`text`]; no password comes from the command
//! line; a refresh token is spent once (see [`session`]).
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
