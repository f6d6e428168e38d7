//! An issuer's keys as this node knows them: fetched by somebody else, kept while the issuer is down, but not for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tidegate_policy::Keys;

use super::keys::{BadKeys, KeySet};

/// Fetches that tokens of unknown keys may cause at once, and how often one more: whoever makes up names of keys must not
/// turn us against the issuer.
const FETCHES: u64 = 3;
const ONE_MORE: Duration = Duration::from_secs(10);

/// No two sets of keys have one.
static EPOCHS: AtomicU64 = AtomicU64::new(1);

pub struct Ring {
    pub source: Arc<Keys>,
    known: ArcSwapOption<(KeySet, u64)>,
    /// Milliseconds of the clock the caller brings; 0: never.
    fetched_at: AtomicU64,
    /// Fetches that ended, well or not.
    rounds: AtomicU64,
    failures: AtomicU64,
    allowance: Mutex<Allowance>,
    trouble: Mutex<Option<String>>,
}

struct Allowance {
    left: u64,
    /// When `left` was right.
    since: u64,
}

/// For metrics and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingFacts {
    pub keys: usize,
    pub rounds: u64,
    pub failures: u64,
    /// Milliseconds since the keys were fetched; `None`: never.
    pub age: Option<u64>,
    /// Why the last fetch failed.
    pub trouble: Option<String>,
}

impl Ring {
    /// # Errors
    /// The document's own keys cannot be used.
    pub fn new(source: &Arc<Keys>) -> Result<Self, BadKeys> {
        let ring = Self {
            source: Arc::clone(source),
            known: ArcSwapOption::empty(),
            fetched_at: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            allowance: Mutex::new(Allowance { left: FETCHES, since: 0 }),
            trouble: Mutex::default(),
        };
        if !matches!(**source, Keys::Url { .. }) {
            ring.known.store(Some(Arc::new((KeySet::read(source)?, epoch()))));
        }
        Ok(ring)
    }

    /// The keys, if they may still be used, and their epoch. `now`: milliseconds that never run backwards.
    #[must_use]
    pub fn keys(&self, now: u64) -> Option<Arc<(KeySet, u64)>> {
        if let Keys::Url { max_stale, .. } = &*self.source {
            let age = now.saturating_sub(self.fetched_at.load(Ordering::Acquire));
            if u128::from(age) > max_stale.as_millis() {
                return None;
            }
        }
        self.known.load_full()
    }

    /// A JWK set was fetched. Keys that are as they were leave remembered tokens remembered.
    ///
    /// # Errors
    /// It cannot be used; what was known stays.
    pub fn fetched(&self, json: &[u8], now: u64) -> Result<(), BadKeys> {
        let set = KeySet::of_set(json).inspect_err(|why| self.failed(why.to_string()))?;
        let same = self.known.load().as_ref().is_some_and(|known| known.0.digest == set.digest);
        if !same {
            self.known.store(Some(Arc::new((set, epoch()))));
        }
        self.fetched_at.store(now.max(1), Ordering::Release);
        *self.trouble() = None;
        self.rounds.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The fetch came to nothing.
    pub fn failed(&self, why: String) {
        *self.trouble() = Some(why);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.rounds.fetch_add(1, Ordering::Release);
    }

    /// Fetches that ended: who waits for one waits for this to change.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// May a token of an unknown key cause a fetch? A yes is used up.
    #[must_use]
    pub fn may_fetch(&self, now: u64) -> bool {
        let every = u64::try_from(ONE_MORE.as_millis()).unwrap_or(u64::MAX);
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let earned = now.saturating_sub(allowance.since) / every;
        if earned > 0 {
            allowance.left = allowance.left.saturating_add(earned).min(FETCHES);
            allowance.since = now - now.saturating_sub(allowance.since) % every;
        }
        let may = allowance.left > 0;
        allowance.left = allowance.left.saturating_sub(1);
        may
    }

    #[must_use]
    pub fn facts(&self, now: u64) -> RingFacts {
        let at = self.fetched_at.load(Ordering::Acquire);
        RingFacts {
            keys: self.known.load().as_ref().map_or(0, |known| known.0.len()),
            rounds: self.rounds(),
            failures: self.failures.load(Ordering::Relaxed),
            age: (at > 0).then(|| now.saturating_sub(at)),
            trouble: self.trouble().clone(),
        }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn epoch() -> u64 {
    EPOCHS.fetch_add(1, Ordering::Relaxed)
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("source", &self.source).finish_non_exhaustive()
    }
}
