//! Glue.
pub mod accounts;
pub mod sql;
