//! How fast a deployment was lately. No clock: the caller brings `now`.

use std::time::Duration;

use tokio::time::Instant;

/// What is older than this weighs little.
const MEMORY: f64 = 10.0;
/// One that nobody asks becomes as good as unknown in so many seconds, about: then it is tried again.
const DOUBT: f64 = 60.0;
/// The least that a new value weighs.
const LEAST: f64 = 0.1;
/// A failure is as bad as an answer that takes so long.
const FAILURE: Duration = Duration::from_secs(10);

/// Averages in which recent values weigh more (EWMA).
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Average,
    token: Average,
    whole: Average,
}

#[derive(Debug, Default)]
struct Average(Option<(f64, Instant)>);

impl Average {
    fn add(&mut self, value: Duration, now: Instant) {
        let value = value.as_secs_f64();
        let value = match self.0 {
            None => value,
            Some((known, at)) => {
                let weight = (1.0 - (-seconds(now, at) / MEMORY).exp()).max(LEAST);
                known + weight * (value - known)
            }
        };
        self.0 = Some((value, now));
    }

    /// What it is taken for now.
    fn now(&self, now: Instant) -> Option<f64> {
        self.0.map(|(value, at)| value * (-seconds(now, at) / DOUBT).exp())
    }

    fn last(&self) -> Option<Duration> {
        self.0.map(|(value, _)| Duration::from_secs_f64(value))
    }
}

fn seconds(now: Instant, at: Instant) -> f64 {
    now.saturating_duration_since(at).as_secs_f64()
}

impl Pace {
    pub(super) fn began(&mut self, after: Duration, now: Instant) {
        self.first.add(after, now);
    }

    pub(super) fn told(&mut self, each: Duration, now: Instant) {
        self.token.add(each, now);
    }

    pub(super) fn answered(&mut self, after: Duration, now: Instant) {
        self.whole.add(after, now);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.first.add(FAILURE, now);
        self.whole.add(FAILURE, now);
    }

    /// Of a call whose answer has about so many tokens.
    pub(super) fn expected(&self, stream: bool, tokens: u64, now: Instant) -> Option<Duration> {
        let streamed = self.first.now(now).map(|first| first + self.token.now(now).unwrap_or(0.0) * tokens as f64);
        let whole = self.whole.now(now);
        let expected = if stream { streamed.or(whole) } else { whole.or(streamed) };
        expected.map(Duration::from_secs_f64)
    }

    /// To the first event, per token, of whole answers.
    pub(super) fn known(&self) -> (Option<Duration>, Option<Duration>, Option<Duration>) {
        (self.first.last(), self.token.last(), self.whole.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn recent_values_weigh_more_and_what_is_not_asked_is_doubted() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.expected(true, 100, now), None);
        pace.began(100 * MS, now);
        pace.told(2 * MS, now);
        assert_eq!(pace.expected(true, 100, now), Some(300 * MS));
        pace.began(1_000 * MS, now + Duration::from_secs(100));
        let later = now + Duration::from_secs(100);
        let first = pace.known().0.expect("known");
        assert!(first > 990 * MS && first <= 1_000 * MS, "{first:?}: what is old weighs little");
        assert!(pace.expected(true, 0, later + Duration::from_secs(300)).expect("known") < 10 * MS);
    }

    #[test]
    fn whole_answers_are_judged_by_whole_answers_and_failures_are_slow() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.answered(500 * MS, now);
        assert_eq!((pace.expected(false, 9, now), pace.expected(true, 9, now)), (Some(500 * MS), Some(500 * MS)));
        pace.began(20 * MS, now);
        assert_eq!((pace.expected(false, 9, now), pace.expected(true, 9, now)), (Some(500 * MS), Some(20 * MS)));
        pace.failed(now + Duration::from_secs(1));
        assert!(pace.expected(true, 9, now + Duration::from_secs(1)).expect("known") > 800 * MS);
    }
}
