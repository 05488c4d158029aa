//! Waiting for a doorbell on a tokio thread.

use crate::mesh::doorbell::Doorbell;
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The waiting side of a [`Doorbell`] made for epoll.
pub struct BellWaiter(pipe::Receiver);

impl BellWaiter {
    /// Waits for `bell` from now on; call it inside a runtime.
    ///
    /// # Errors
    /// The system's error when no descriptor is left.
    pub fn new(bell: &Doorbell) -> io::Result<Self> {
        bell.duplicate().and_then(|bell| pipe::Receiver::from_file_unchecked(bell.into())).map(Self)
    }

    /// Returns when the bell has been rung since the last time, and takes the ring. A spurious return is possible and
    /// harmless, because the caller then checks its queues. May be cancelled.
    pub async fn rung(&mut self) {
        // An eventfd gives 8 bytes. Since fewer arrive than requested, tokio knows that nothing is left and waits for
        // the next edge without trying again: one call instead of three per ring.
        let _ = self.0.read(&mut [0; 16]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn every_ring_after_falling_asleep_wakes() {
        let bell = std::sync::Arc::new(Doorbell::for_epoll().unwrap());
        let mut waiter = BellWaiter::new(&bell).unwrap();
        for _ in 0..200 {
            bell.about_to_sleep();
            let ringer = std::sync::Arc::clone(&bell);
            let thread = std::thread::spawn(move || ringer.ring());
            tokio::time::timeout(Duration::from_secs(20), waiter.rung()).await.expect("the ring is heard");
            thread.join().unwrap();
        }
        bell.about_to_sleep();
        let silent = tokio::time::timeout(Duration::from_millis(20), waiter.rung()).await;
        assert!(silent.is_err(), "a ring is taken once");
    }
}
