//! Whether the kernel gives this process an `io_uring`, and otherwise why not. A start and doctor ask the same.
//!
//! Containers refuse it by default. So a start asks before it does anything else: a server that is refused leaves no
//! trace, and its error names the profile to use.

use super::error::BootError;
use crate::net;
use nix::errno::Errno;
use std::io;

const RING_SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
const ALLOW_RING: &str = "allow the system calls io_uring_setup, io_uring_enter and io_uring_register: in a container \
    with the seccomp profile deploy/seccomp/veza.json (docs/operations.md, \"Containers\"), in a service with \
    SystemCallFilter= (deploy/systemd/chat-server.service)";

/// Sets up a ring, and releases it.
///
/// # Errors
/// [`BootError::NoRing`].
pub(super) fn check() -> Result<(), BootError> {
    net::probe_ring().map_err(|error| explain(ring_switch(), &error))
}

fn ring_switch() -> Option<u32> {
    std::fs::read_to_string(RING_SWITCH).ok()?.trim().parse().ok()
}

/// Distinguishes why there is no ring. `switch` is `kernel.io_uring_disabled`, which kernels before 6.6 do not have.
fn explain(switch: Option<u32>, error: &io::Error) -> BootError {
    let (found, advice) = match (Errno::from_raw(error.raw_os_error().unwrap_or_default()), switch) {
        (Errno::EPERM, Some(2)) => (
            "kernel.io_uring_disabled = 2: the kernel refuses it to everybody".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (Errno::EPERM, Some(1)) => (
            "kernel.io_uring_disabled = 1: the kernel refuses it to this user".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0, or add this user to the group of kernel.io_uring_group",
        ),
        (Errno::EPERM | Errno::EACCES, _) => {
            ("EPERM: a seccomp filter or a security module refuses it".to_owned(), ALLOW_RING)
        }
        (Errno::ENOSYS, _) => {
            ("ENOSYS: a seccomp filter refuses it, or the kernel was built without it".to_owned(), ALLOW_RING)
        }
        (Errno::ENOMEM, _) => (
            "ENOMEM: the limit on locked memory is too small for its queues".to_owned(),
            "raise it (ulimit -l, LimitMEMLOCK=, or --ulimit memlock=-1 for a container)",
        ),
        (Errno::EMFILE | Errno::ENFILE, _) => {
            ("no file descriptor is left".to_owned(), "raise the limit on open files (ulimit -n)")
        }
        _ => (format!("the kernel refuses a ring: {error}"), "update the kernel"),
    };
    BootError::NoRing { found, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_why_there_is_no_ring() {
        let found = |switch, errno: Errno| explain(switch, &io::Error::from_raw_os_error(errno as i32)).to_string();
        assert!(found(Some(2), Errno::EPERM).contains("refuses it to everybody"));
        assert!(found(Some(1), Errno::EPERM).contains("kernel.io_uring_group"));
        for switch in [Some(0), None] {
            assert!(found(switch, Errno::EPERM).contains("seccomp profile deploy/seccomp/veza.json"));
        }
        assert!(found(Some(0), Errno::ENOSYS).contains("seccomp profile deploy/seccomp/veza.json"));
        assert!(found(Some(0), Errno::ENOMEM).contains("ulimit -l"));
        assert!(found(Some(0), Errno::EMFILE).contains("ulimit -n"));
        assert_eq!(found(Some(0), Errno::ENOSYS).matches("; ").count(), 1, "doctor separates the advice there");
    }
}
