//! What a run measures about the machine and about the server, from outside of the load itself.
//!
//! - [`process`]: CPU, memory and context switches of groups of processes;
//! - [`thread`]: CPU of the calling thread;
//! - [`listener`]: which processes those are, found by the port that the server listens on;
//! - [`pair`]: a server and its PostgreSQL together, for measurements that ask and wait;
//! - [`machine`]: what the run took place on;
//! - [`scrape`]: what the server's `/metrics` say, as the difference of two readings;
//! - [`latency`]: histograms as they travel in a result.
//!
//! Invariants: nothing here is on the data path (it is read about once a second by the thread that has nothing else to
//! do), and nothing fails a run: what can't be read is absent from the result, never zero.

pub mod latency;
pub mod listener;
pub mod machine;
pub mod pair;
pub mod process;
pub mod scrape;
pub mod thread;
