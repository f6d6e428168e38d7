//! What this node knows of deployments: how fast they were lately, how many calls they have now, and which of them asked to
//! be left alone for a while. Of this node, by the deployments' own names; outlives documents.
//!
//! That one rests is a fact for all nodes: `tidegate` tells it to the others, and them to us.

mod pace;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tidegate_llm::meaning::Error;
use tidegate_upstream::Budget;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::pace::Pace;
use super::trouble::Trouble;

/// Of a throttle that names no time.
const USUAL: Duration = Duration::from_secs(5);
/// Of one that failed several times in a row; doubled each time that it goes on.
const SHAKEN: Duration = Duration::from_secs(2);
const IN_A_ROW: u32 = 3;
const LONGEST: Duration = Duration::from_secs(300);
const LONGEST_SHAKEN: Duration = Duration::from_secs(60);
/// More are not known: a pattern leads to as many models as callers can name.
const MOST: usize = 4_096;
/// Forgotten when there are too many, if nobody asked for it for so long.
const FORGOTTEN: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub struct Fleet {
    by_id: papaya::HashMap<Box<str>, Arc<Known>, RandomState>,
    /// By model.
    budgets: papaya::HashMap<Box<str>, Arc<Budget>, RandomState>,
    news: Notify,
    born: Born,
}

#[derive(Debug)]
struct Born(Instant);

impl Default for Born {
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// One deployment.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: Box<str>,
    state: Mutex<State>,
    in_flight: AtomicU64,
    calls: AtomicU64,
    errors: AtomicU64,
    throttles: AtomicU64,
    /// It rests for a reason that this node found: to be told to others.
    news: AtomicBool,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    rest: Option<(Instant, Why)>,
    /// Failures since the last good answer.
    row: u32,
    touched: Instant,
}

/// Why one rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It said so.
    Throttled,
    /// It failed several times in a row.
    Failing,
}

/// That one rests, as nodes tell each other: for how much longer, since no two clocks agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    pub deployment: String,
    pub left: Duration,
    pub why: Why,
}

/// For people and for metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentFacts {
    pub deployment: String,
    pub rests: Option<(Duration, Why)>,
    pub in_flight: u64,
    pub calls: u64,
    pub errors: u64,
    pub throttles: u64,
    /// From the call to the first event of a stream.
    pub first: Option<Duration>,
    /// From one token to the next.
    pub per_token: Option<Duration>,
    /// A whole answer.
    pub whole: Option<Duration>,
}

impl Fleet {
    pub(super) fn known(&self, id: &str) -> Arc<Known> {
        let map = self.by_id.pin();
        if let Some(known) = map.get(id) {
            return Arc::clone(known);
        }
        if map.len() >= MOST {
            map.retain(|_, known| !known.is_forgotten());
        }
        let known = Arc::new(Known::new(id.into()));
        if map.len() >= MOST {
            return known; // Nobody will remember it.
        }
        Arc::clone(map.get_or_insert(known.id.clone(), known))
    }

    /// The budget of a model's hedges.
    pub(super) fn budget(&self, model: &str) -> Arc<Budget> {
        let map = self.budgets.pin();
        if let Some(budget) = map.get(model) {
            return Arc::clone(budget);
        }
        if map.len() >= MOST {
            map.clear();
        }
        Arc::clone(map.get_or_insert_with(model.into(), Arc::default))
    }

    /// Since this node lives.
    pub(super) fn age(&self) -> Duration {
        self.born.0.elapsed()
    }

    /// A call failed there.
    pub(super) fn failed(&self, known: &Known, trouble: Trouble, error: &Error) {
        if known.failed(trouble, error) {
            self.news.notify_one();
        }
    }

    /// Resolves when there is a rest that other nodes do not know of.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The rests that this node found and did not tell yet.
    pub fn to_tell(&self) -> Vec<Rest> {
        let map = self.by_id.pin();
        let fresh = map.values().filter(|known| known.news.load(Relaxed) && known.news.swap(false, Relaxed));
        fresh.filter_map(|known| known.rest()).collect()
    }

    /// What another node found. Nothing of it is told on.
    pub fn hear(&self, rests: Vec<Rest>) {
        for Rest { deployment, left, why } in rests.into_iter().take(MOST) {
            if deployment.len() <= 1_024 {
                self.known(&deployment).rests(left, why);
            }
        }
    }

    /// All deployments that were asked, or that rest.
    #[must_use]
    pub fn facts(&self) -> Vec<DeploymentFacts> {
        self.by_id.pin().values().map(|known| known.facts()).collect()
    }
}

impl State {
    fn well(&mut self) {
        self.row = 0;
        // It was asked although it rested, and is well again.
        self.rest.take_if(|(_, why)| *why == Why::Failing);
    }
}

impl Known {
    fn new(id: Box<str>) -> Self {
        let state = State { pace: Pace::default(), rest: None, row: 0, touched: Instant::now() };
        Self {
            id,
            state: Mutex::new(state),
            in_flight: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            throttles: AtomicU64::new(0),
            news: AtomicBool::new(false),
        }
    }

    pub(super) fn is_resting(&self) -> bool {
        self.state().rest.is_some_and(|(until, _)| until > Instant::now())
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// How long a call of this kind takes, as far as it is known.
    pub(super) fn expected(&self, stream: bool, tokens: u64) -> Option<Duration> {
        self.state().pace.expected(stream, tokens, Instant::now())
    }

    /// A call goes there.
    pub(super) fn begin(self: &Arc<Self>) -> Going {
        self.calls.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        let began = Instant::now();
        self.state().touched = began;
        Going { known: Arc::clone(self), began, first: None }
    }

    /// True: it rests now, for a reason that others should know.
    fn failed(&self, trouble: Trouble, error: &Error) -> bool {
        self.errors.fetch_add(1, Relaxed);
        let told = error.retry_after.map(Duration::from_millis);
        let mut state = self.state();
        if !matches!(trouble, Trouble::Context | Trouble::Filtered) {
            state.row = state.row.saturating_add(1);
            state.pace.failed(Instant::now());
        }
        let rest = match trouble {
            Trouble::Throttled => {
                self.throttles.fetch_add(1, Relaxed);
                Some((told.unwrap_or(USUAL), Why::Throttled))
            }
            Trouble::Context | Trouble::Filtered => None,
            _ if told.is_some() => told.map(|told| (told, Why::Throttled)),
            _ if state.row >= IN_A_ROW => {
                let doubled = SHAKEN.saturating_mul(1 << (state.row - IN_A_ROW).min(5));
                Some((doubled.min(LONGEST_SHAKEN), Why::Failing))
            }
            _ => None,
        };
        drop(state);
        let Some((left, why)) = rest.filter(|(left, _)| !left.is_zero()) else { return false };
        let is_new = self.rests(left, why);
        self.news.fetch_or(is_new, Relaxed);
        is_new
    }

    /// True: longer than was known, by more than a moment.
    fn rests(&self, left: Duration, why: Why) -> bool {
        let until = Instant::now() + left.min(LONGEST);
        let mut state = self.state();
        let known = state.rest.map(|(until, _)| until);
        let longer = known.is_none_or(|known| until > known + Duration::from_millis(250));
        if longer {
            state.rest = Some((until, why));
        }
        longer
    }

    fn rest(&self) -> Option<Rest> {
        let (until, why) = self.state().rest?;
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(Rest { deployment: self.id.to_string(), left, why })
    }

    fn is_forgotten(&self) -> bool {
        self.in_flight() == 0 && self.state().touched.elapsed() > FORGOTTEN && !self.is_resting()
    }

    fn facts(&self) -> DeploymentFacts {
        let rests = self.rest().map(|rest| (rest.left, rest.why));
        let (first, per_token, whole) = self.state().pace.known();
        DeploymentFacts {
            deployment: self.id.to_string(),
            rests,
            in_flight: self.in_flight(),
            calls: self.calls.load(Relaxed),
            errors: self.errors.load(Relaxed),
            throttles: self.throttles.load(Relaxed),
            first,
            per_token,
            whole,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call on its way; its drop ends it.
#[derive(Debug)]
pub(super) struct Going {
    known: Arc<Known>,
    began: Instant,
    first: Option<Instant>,
}

impl Going {
    /// The same call, in other hands.
    pub(super) fn again(&self) -> Self {
        self.known.in_flight.fetch_add(1, Relaxed);
        Self { known: Arc::clone(&self.known), began: self.began, first: self.first }
    }

    /// The stream began.
    pub(super) fn first(&mut self) {
        let now = Instant::now();
        self.first = Some(now);
        let mut state = self.known.state();
        state.pace.began(now - self.began, now);
        state.well();
    }

    /// A whole answer came.
    pub(super) fn whole(&self) {
        let now = Instant::now();
        let mut state = self.known.state();
        state.pace.answered(now - self.began, now);
        state.well();
    }

    /// The stream is over, and had so many tokens.
    pub(super) fn told(&self, tokens: u64) {
        let now = Instant::now();
        if let Some(first) = self.first.filter(|_| tokens > 1) {
            let each = (now - first).div_f64(tokens as f64);
            self.known.state().pace.told(each, now);
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.known.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_llm::meaning::Kind;

    use super::*;

    fn throttled(retry_after: Option<u64>) -> Error {
        Error { retry_after, ..Error::new(Kind::RateLimited, "slow down") }
    }

    #[tokio::test]
    async fn a_throttle_rests_as_long_as_it_says_and_is_told_once() {
        let fleet = Fleet::default();
        let known = fleet.known("one/m");
        fleet.failed(&known, Trouble::Throttled, &throttled(Some(400)));
        assert!(known.is_resting());
        let told = fleet.to_tell();
        assert_eq!((told.len(), told[0].why), (1, Why::Throttled));
        assert!(told[0].left <= Duration::from_millis(400) && told[0].left > Duration::from_millis(200), "{told:?}");
        assert!(fleet.to_tell().is_empty());
        let other = Fleet::default();
        other.hear(told);
        assert!(other.known("one/m").is_resting() && other.to_tell().is_empty(), "it is not told on");
        tokio::time::sleep(Duration::from_millis(401)).await;
        assert!(!known.is_resting() && !other.known("one/m").is_resting());
    }

    #[tokio::test]
    async fn who_fails_in_a_row_rests_longer_and_longer_until_it_answers() {
        let fleet = Fleet::default();
        let known = fleet.known("one/m");
        let error = Error::new(Kind::Server, "oops");
        for _ in 0..2 {
            fleet.failed(&known, Trouble::Server, &error);
        }
        assert!(!known.is_resting(), "two failures are nothing");
        fleet.failed(&known, Trouble::Server, &error);
        assert!(known.rest().is_some_and(|rest| rest.left <= SHAKEN && rest.left > SHAKEN / 2));
        fleet.failed(&known, Trouble::Server, &error);
        assert!(known.rest().is_some_and(|rest| rest.left <= 2 * SHAKEN && rest.left > SHAKEN));
        known.begin().whole();
        assert!(!known.is_resting());
        fleet.failed(&known, Trouble::Context, &error);
        assert!(!known.is_resting(), "a call too long for it is not its fault");
    }

    #[tokio::test]
    async fn more_than_so_many_are_served_and_not_remembered() {
        let fleet = Fleet::default();
        for i in 0..MOST {
            fleet.known(&i.to_string());
        }
        fleet.failed(&fleet.known("more"), Trouble::Throttled, &throttled(Some(9_000)));
        assert!(!fleet.known("more").is_resting());
        assert_eq!(fleet.facts().len(), MOST);
        fleet.failed(&fleet.known("1"), Trouble::Throttled, &throttled(Some(9_000)));
        assert!(fleet.known("1").is_resting());
    }
}
