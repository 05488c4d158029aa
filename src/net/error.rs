//! Why the sockets of a shard cannot be set up.

use std::io;

/// The ring could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// `io_uring_setup` was refused.
    #[error(
        "cannot set up io_uring ({0}): Linux 6.1 or newer is needed, and containers must allow io_uring_setup, \
         io_uring_enter and io_uring_register (Docker's default seccomp profile does not; see README.md)"
    )]
    Ring(io::Error),
    /// The ring refused its table of sockets.
    #[error("cannot set up the ring's table of sockets ({0}): lower limits.max_connections, or raise ulimit -n")]
    Table(io::Error),
    /// No descriptor is left for the doorbell.
    #[error("cannot duplicate the doorbell's descriptor: {0}")]
    Doorbell(io::Error),
}
