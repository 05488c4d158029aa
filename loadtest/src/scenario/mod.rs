//! Scenarios describe in TOML what a run does. The built-in ones are files in `loadtest/scenarios/`, compiled in. A
//! user's own scenarios are files of the same form. README.md has the table of keys.
//!
//! Values come in layers: the defaults, the file, then the command line, whose options are keys of the file under
//! shorter names.
//!
//! Invariants:
//! - an unknown key is an error that names it and its origin. If a misspelt `rate` were ignored, the run would measure
//!   something else;
//! - every [`Scenario`] has been checked, so no other module checks it again.

mod builtin;
mod check;
mod layers;
mod model;
mod population;

pub use builtin::BUILTIN;
pub use layers::{Layers, Override};
pub use model::{Actions, FormatChoice, Mode, Nodes, PayloadBytes, RoomKind, Saturate, Scenario, UploadPart, Uploads};
pub use population::{RoomPlan, Rooms};
