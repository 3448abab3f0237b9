//! Pauses between attempts to connect.

use std::time::Duration;

/// The first pause is up to this long.
const FIRST: Duration = Duration::from_millis(50);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from a twentieth of a second to two seconds, without end, each pause between half and all of it: a fleet
/// that lost its server at one moment does not come back at one moment.
#[derive(Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = (FIRST * 2u32.pow(self.attempts.min(10))).min(LONGEST);
        self.attempts += 1;
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}
