//! What a run measures of the machine and of the server, from outside of the load itself.
//!
//! - [`process`]: CPU, memory and context switches of groups of processes;
//! - [`thread`]: CPU of the calling thread;
//! - [`listener`]: the processes of the server, found by the port that it listens on;
//! - [`pair`]: a server and its PostgreSQL together, for measurements that send one command at a time;
//! - [`machine`]: the machine of the run;
//! - [`scrape`]: the server's `/metrics`, as the difference of two readings;
//! - [`latency`]: histograms as results store them.
//!
//! Invariants: nothing here is on the data path (an otherwise idle thread reads it about once a second), and nothing
//! fails a run. What cannot be read is absent from the result, never zero.

pub mod latency;
pub mod listener;
pub mod machine;
pub mod pair;
pub mod process;
pub mod scrape;
pub mod thread;
