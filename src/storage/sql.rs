//! Glue.
pub mod accounts;
