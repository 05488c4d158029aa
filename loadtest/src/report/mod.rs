//! How results are shown: for people in a terminal and in a browser, for tools as an interval log, beside each other.
//!
//! - [`format`] writes numbers, [`figures`] names every figure of a run once, with its unit and which way is better;
//! - [`terminal`] is one run's summary, [`side_by_side`] several runs' figures, [`comparison`] several systems'
//!   medians;
//! - [`curve`] takes bounded curves from histograms, [`html`] puts everything on one page, [`hlog`] writes what
//!   `HdrHistogram`'s own tools read;
//! - [`files`] reads results back, [`command`] is `loadtest report`.
//!
//! Invariants: nothing here measures or judges, so a file shows the same whenever it is looked at; and every table
//! takes its figures from [`figures`], so that terminal and page can't disagree on what a figure is.

pub mod command;
pub mod comparison;
pub mod curve;
pub mod figures;
pub mod files;
pub mod format;
pub mod hlog;
pub mod html;
pub mod side_by_side;
pub mod terminal;

#[cfg(test)]
mod fixtures;
