//! Moments in four bytes, for what there are very many of.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Where moments are counted from.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Their unit.
const TENTH: Duration = Duration::from_millis(100);

/// When something happened, in tenths of a second: good enough to see that it is long ago. They last for 13 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u32);

impl Moment {
    /// The moment of an instant.
    pub(crate) fn of(instant: Instant) -> Self {
        let since = instant.saturating_duration_since(*BEGAN);
        let tenths = since.as_secs() * 10 + u64::from(since.subsec_millis() / 100);
        Self(u32::try_from(tenths).unwrap_or(u32::MAX))
    }

    /// How long it is before `now`, give or take a tenth of a second.
    pub(crate) fn ago(self, now: Instant) -> Duration {
        TENTH * Self::of(now).0.saturating_sub(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_long_ago_it_was() {
        let now = Instant::now();
        let (then, later) = (Moment::of(now), now + Duration::from_millis(86_400_250));
        let ago = then.ago(later);
        assert!((86_400_200..=86_400_300).contains(&ago.as_millis()), "{ago:?}");
        assert_eq!(Moment::of(later).ago(now), Duration::ZERO, "what came later is not long ago");
    }
}
