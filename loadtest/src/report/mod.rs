//! Shows results: for people in a terminal and in a browser, for tools as an interval log, and side by side.
//!
//! - [`format`] writes numbers; [`figures`] names every figure of a run once, with its unit and its better direction;
//! - [`terminal`] is one run's summary, [`side_by_side`] the figures of several runs, [`comparison`] the medians of
//!   several systems;
//! - [`curve`] derives bounded curves from histograms, [`html`] puts everything on one page, [`hlog`] writes the format
//!   of `HdrHistogram`'s own tools;
//! - [`sections`] shows reports of a few tables, and [`held_bar`] figures next to their bars;
//! - [`files`] reads results back; [`command`] is `loadtest report`.
//!
//! Invariants: nothing here measures or judges, so a file always shows the same. Every table takes its figures from
//! [`figures`], so terminal and page cannot disagree on what a figure is.

pub mod command;
pub mod comparison;
pub mod curve;
pub mod figures;
pub mod files;
pub mod format;
pub mod held_bar;
pub mod hlog;
pub mod html;
pub mod sections;
pub mod side_by_side;
pub mod terminal;

#[cfg(test)]
mod fixtures;
