//! Whom this node has seen lately, by name: so that people who look at counters read names, and see who was refused.
//!
//! A counter is noted when a call waits for it, or is refused: what is busy waits now and then, and the hot path notes
//! nothing. Bounded: two generations of names; the older one goes when the younger is full. Names as [`crate::Words`]
//! tells them: no secrets.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_limiter::Key;

/// Names of a generation.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub struct Seen(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Sighting>,
    old: HashMap<Key, Sighting>,
}

/// What is known of a counter here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sighting {
    /// Of the limit.
    pub limit: String,
    /// Of the subject.
    pub words: String,
    /// Since it is known here.
    pub refused: u64,
    pub would_refuse: u64,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Waits,
    Refused,
    WouldRefuse,
}

impl Seen {
    /// `names`: of limit and subject, asked for when the counter is not known.
    pub(crate) fn note(&self, key: Key, fate: Fate, names: impl FnOnce() -> (String, String)) {
        let mut all = self.all();
        let sighting = all.young(key);
        match fate {
            Fate::Waits => {}
            Fate::Refused => sighting.refused = sighting.refused.saturating_add(1),
            Fate::WouldRefuse => sighting.would_refuse = sighting.would_refuse.saturating_add(1),
        }
        if sighting.limit.is_empty() {
            (sighting.limit, sighting.words) = names();
        }
    }

    #[must_use]
    pub fn of(&self, key: Key) -> Option<Sighting> {
        let all = self.all();
        all.young.get(&key).or_else(|| all.old.get(&key)).cloned()
    }

    /// Those that refused most, at most so many.
    #[must_use]
    pub fn refused(&self, most: usize) -> Vec<(Key, Sighting)> {
        let all = self.all();
        let mut refused: Vec<_> = all.young.iter().chain(&all.old).filter(|(_, it)| it.no() > 0).collect();
        refused.sort_by_key(|(key, it)| (std::cmp::Reverse(it.no()), **key));
        refused.into_iter().take(most).map(|(key, it)| (*key, it.clone())).collect()
    }

    fn all(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sighting {
    fn no(&self) -> u64 {
        self.refused.saturating_add(self.would_refuse)
    }
}

impl Generations {
    fn young(&mut self, key: Key) -> &mut Sighting {
        if !self.young.contains_key(&key) {
            if self.young.len() >= MOST {
                self.old = std::mem::take(&mut self.young);
            }
            let known = self.old.remove(&key).unwrap_or_default();
            self.young.insert(key, known);
        }
        self.young.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{LimitId, Subject};

    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_who_comes_again() {
        let seen = Seen::default();
        let key = |subject: u128| Key { limit: LimitId(1), subject: Subject(subject) };
        for n in 0..5 * MOST as u128 {
            seen.note(key(n + 1), Fate::Waits, || ("it".into(), format!("n={n}")));
            if n % 1_000 == 0 {
                seen.note(key(0), Fate::Refused, || ("it".into(), "busy".into()));
            }
            let all = seen.all();
            assert!(all.young.len() <= MOST && all.old.len() <= MOST);
        }
        let busy = seen.of(key(0)).expect("it comes again");
        assert_eq!((busy.refused, busy.words.as_str()), (5 * MOST as u64 / 1_000, "busy"));
        assert_eq!(seen.of(key(1)), None);
        assert_eq!(seen.refused(5).len(), 1);
    }
}
