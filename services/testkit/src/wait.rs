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

/// As [`until_async`], with a deadline of the caller's that also ends a question without an answer.
pub async fn within<T>(deadline: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + deadline;
    loop {
        if let Ok(Some(answer)) = tokio::time::timeout_at(end, ask()).await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < end, "waited {deadline:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_answer_once_there_is_one() {
        let mut asked = 0;
        let answer = within(Duration::from_secs(5), "three questions", async || {
            asked += 1;
            (asked == 3).then_some("answer")
        });
        assert_eq!(answer.await, "answer");
    }

    #[tokio::test]
    #[should_panic(expected = "the hanging question")]
    async fn a_question_that_hangs_meets_the_deadline() {
        within(Duration::from_millis(30), "the hanging question", async || std::future::pending::<Option<()>>().await)
            .await;
    }
}
