//! Load-testing harness.
fn main() {}
