//! Waiting for a condition instead of sleeping.

use std::time::{Duration, Instant};

/// How long a test waits for something that should take milliseconds, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks every few milliseconds until there is an answer; panics after [`PATIENCE`] with what was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let (caller, what, deadline) = (std::panic::Location::caller(), what.to_owned(), Instant::now() + PATIENCE);
    async move {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what} (asked at {caller})");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// As [`until`], where asking is itself a wait.
#[track_caller]
pub fn until_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let (caller, what, deadline) = (std::panic::Location::caller(), what.to_owned(), Instant::now() + PATIENCE);
    async move {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what} (asked at {caller})");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
