//! Counts Ctrl-C. A long task checks the count between its steps, so that it can stop what it started in order.

use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A runtime with this many worker threads, and its count of Ctrl-C. With 0 the calling thread does all the work.
///
/// # Errors
/// When the system has no threads or signals to give.
pub fn interruptible_runtime(workers: usize) -> Result<(Runtime, Interrupts), String> {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build().map_err(|error| format!("cannot start the runtime: {error}"))?;
    let interrupts = Interrupts::listen(&runtime)?;
    Ok((runtime, interrupts))
}

/// How often Ctrl-C was pressed; SIGTERM counts as one.
#[derive(Debug, Clone)]
pub struct Interrupts {
    count: Arc<watch::Receiver<u32>>,
}

impl Interrupts {
    /// Listens from now on.
    fn listen(runtime: &Runtime) -> Result<Self, String> {
        let _inside = runtime.enter();
        let fault = |error: std::io::Error| format!("cannot listen to Ctrl-C: {error}");
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
        let (sender, count) = watch::channel(0);
        runtime.spawn(async move {
            loop {
                let came = tokio::select! {
                    came = interrupt.recv() => came,
                    came = terminate.recv() => came,
                };
                if came.is_none() {
                    return;
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { count: Arc::new(count) })
    }

    /// None, ever.
    #[cfg(test)]
    pub fn never() -> Self {
        Self { count: Arc::new(watch::channel(0).1) }
    }

    /// An error as soon as there was one.
    ///
    /// # Errors
    /// That it was interrupted.
    pub fn check(&self) -> Result<(), String> {
        if self.count() == 0 { Ok(()) } else { Err("interrupted".to_owned()) }
    }

    /// The number of interrupts so far.
    pub fn count(&self) -> u32 {
        *self.count.borrow()
    }

    /// Waits for the first one.
    pub async fn first(&self) {
        self.reached(1).await;
    }

    /// Waits until there were so many.
    pub async fn reached(&self, wanted: u32) {
        let mut count = watch::Receiver::clone(&self.count);
        if count.wait_for(|count| *count >= wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
