//! Scenarios: what a run does, as TOML. Built-in ones are files in `loadtest/scenarios/`, compiled in; anybody's own
//! are files of the same form. README.md has the table of keys.
//!
//! Values come in layers: the defaults below, the file, then the command line, whose options are nothing but keys of
//! the file under shorter names.
//!
//! Invariants:
//! - an unknown key is an error that names it and where it came from: a misspelt `rate` that is silently ignored would
//!   measure something else than people believe;
//! - a [`Scenario`] that exists has been checked, so no other module checks again.

mod builtin;
mod check;
mod layers;
mod model;
mod population;

pub use builtin::BUILTIN;
pub use layers::{Layers, Override};
pub use model::{Actions, FormatChoice, Mode, PayloadBytes, RoomKind, Saturate, Scenario};
pub use population::{RoomPlan, Rooms};
