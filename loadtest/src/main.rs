//! Load test for Veza Chat Server.
#![allow(dead_code)]
mod check;
mod compare;
mod engine;
mod payload;
mod plan;
mod progress;
mod protocol;
mod result;
mod violations;
fn main() -> std::process::ExitCode {
    compare::try_command().unwrap_or(std::process::ExitCode::FAILURE)
}
