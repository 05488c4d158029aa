//! Rebuilds the crate when a migration is added or removed: the macros that embed them notice only edits.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
