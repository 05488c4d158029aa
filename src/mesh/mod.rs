//! Glue.
pub mod counters;
