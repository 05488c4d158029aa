//! Load test for Veza Chat Server.
#![allow(dead_code)]
mod check;
mod engine;
mod payload;
mod plan;
mod progress;
mod protocol;
mod result;
mod violations;
fn main() {}
