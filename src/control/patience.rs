//! Patience of the server's own changes: what no client sends again must not be lost to an overload of a few seconds.

use crate::error::{ErrorCode, Refusal};
use std::time::Duration;

/// Submissions, the first one included. With [`PAUSE_MAX`] between them, the last one comes after 20 s at most.
const ATTEMPTS_MAX: u32 = 10;
/// The refusal asks for a longer pause if many clients are refused. There are few changes of the server's own.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// If the refusal names none.
const PAUSE: Duration = Duration::from_millis(500);

/// Submits a change, and again while the server is overloaded.
///
/// # Errors
/// The last refusal.
pub(super) async fn patiently<T, F>(mut submit: impl FnMut() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let mut attempts = 1;
    loop {
        match submit().await {
            Err(refusal) if refusal.code == ErrorCode::Overloaded && attempts < ATTEMPTS_MAX => {
                let pause = refusal.retry_after_ms.map_or(PAUSE, Duration::from_millis);
                tokio::time::sleep(pause.min(PAUSE_MAX)).await;
                attempts += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    async fn submitted(refusals: u32, code: ErrorCode) -> (bool, u32) {
        let count = Cell::new(0);
        let outcome = patiently(|| {
            count.set(count.get() + 1);
            let refused = count.get() <= refusals;
            async move { if refused { Err(Refusal::new(code, "").retry_after(1)) } else { Ok(()) } }
        });
        (outcome.await.is_ok(), count.get())
    }

    #[tokio::test]
    async fn repeats_only_what_an_overload_refuses_and_not_for_ever() {
        assert_eq!(submitted(3, ErrorCode::Overloaded).await, (true, 4));
        assert_eq!(submitted(99, ErrorCode::Overloaded).await, (false, ATTEMPTS_MAX));
        assert_eq!(submitted(1, ErrorCode::NotFound).await, (false, 1));
    }
}
