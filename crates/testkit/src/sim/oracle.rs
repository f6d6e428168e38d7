//! Who knows everything: each admission in true time, each limit as long as it binds. Judges when the run is over.

use std::collections::BTreeMap;

use tidegate_model::Permits;
use tidegate_quota::protocol::Key;

/// An admission that can be taken back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    key: Key,
    at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Admitted {
    at: u64,
    cost: u64,
    node: usize,
    /// From a partition reserve that its node asked about last at this time; a lease's permit: never too old.
    informed: u64,
}

/// A maximum, and from when to when a window may count on it.
#[derive(Debug, Clone, Copy)]
struct Bound {
    max: u64,
    from: u64,
    until: u64,
    /// When the entry that replaced it was committed.
    replaced: u64,
}

#[derive(Debug, Default)]
struct Counter {
    window: u64,
    /// Of a token bucket, which fills up in `window`.
    burst: Option<u64>,
    bounds: Vec<Bound>,
    admitted: Vec<Admitted>,
    asked: u64,
    refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// How long each decided request waited for it.
    waits: Vec<u32>,
    /// Requests that came earlier are in no figure: the cluster was about to start.
    counted_from: u64,

    counters: BTreeMap<Key, Counter>,
    /// What went wrong while the run went on.
    pub(super) broken: Vec<String>,
}

impl Oracle {
    pub(super) fn counting_from(counted_from: u64) -> Self {
        Self { counted_from, ..Self::default() }
    }

    /// This key is a token bucket of so many, from the beginning to the end.
    pub(super) fn is_bucket(&mut self, key: Key, burst: Permits) {
        self.counters.entry(key).or_default().burst = Some(burst.0);
    }

    /// A maximum is proposed for a key: a raise may bind from this moment.
    pub(super) fn proposed(&mut self, key: Key, max: Permits, window: u64, now: u64) {
        let counter = self.counters.entry(key).or_default();
        counter.window = window;
        counter.bounds.push(Bound { max: max.0, from: now, until: u64::MAX, replaced: u64::MAX });
    }

    /// Its entry is committed: what was in force before ends a lease later.
    pub(super) fn committed(&mut self, key: Key, now: u64, lease: u64) {
        if let Some((_, before)) = self.counters.entry(key).or_default().bounds.split_last_mut() {
            for bound in before {
                if bound.replaced == u64::MAX {
                    (bound.until, bound.replaced) = (now + lease, now);
                }
            }
        }
    }

    pub(super) fn admit(&mut self, key: Key, node: usize, at: u64, cost: Permits, informed: u64) -> Mark {
        let admitted = &mut self.counters.entry(key).or_default().admitted;
        admitted.push(Admitted { at, cost: cost.0, node, informed });
        Mark { key, at: admitted.len() - 1 }
    }

    /// Nobody was admitted with it after all.
    pub(super) fn revoke(&mut self, mark: Mark) {
        if let Some(counter) = self.counters.get_mut(&mark.key) {
            counter.admitted[mark.at].cost = 0;
        }
    }

    /// A request that came at `from` was decided at `now`.
    pub(super) fn decided(&mut self, from: u64, now: u64) {
        if from < self.counted_from {
            return;
        }
        let waited = now.saturating_sub(from);
        self.waits.push(u32::try_from(waited).unwrap_or(u32::MAX));
    }

    /// What so great a share of all requests did not wait longer than.
    pub(super) fn waited(&mut self, share: f64) -> f64 {
        self.waits.sort_unstable();
        let at = (self.waits.len() as f64 * share) as usize;
        self.waits.get(at).copied().map_or(0.0, f64::from)
    }

    pub(super) fn asked(&mut self, key: Key, now: u64) {
        self.counters.entry(key).or_default().asked += u64::from(now >= self.counted_from);
    }

    /// A request that came at `from` was.
    pub(super) fn refused(&mut self, key: Key, from: u64) {
        self.counters.entry(key).or_default().refused += u64::from(from >= self.counted_from);
    }

    pub(super) fn broken(&mut self, what: String) {
        if self.broken.len() < 8 {
            self.broken.push(what);
        }
    }

    /// Permits of a key admitted in (from, to].
    pub(super) fn admitted(&self, key: Key, from: u64, to: u64) -> u64 {
        let Some(counter) = self.counters.get(&key) else { return 0 };
        counter.admitted.iter().filter(|a| from < a.at && a.at <= to).map(|a| a.cost).sum()
    }

    /// (asked, refused) over all keys.
    pub(super) fn refusals(&self) -> (u64, u64) {
        self.counters.values().fold((0, 0), |(asked, refused), c| (asked + c.asked, refused + c.refused))
    }

    pub(super) fn admissions(&self) -> u64 {
        self.counters.values().map(|counter| counter.admitted.len() as u64).sum()
    }

    /// Tests every window of every key.
    pub(super) fn judge(&mut self) {
        let mut found = Vec::new();
        for (key, counter) in &mut self.counters {
            counter.admitted.sort_unstable_by_key(|admitted| admitted.at);
            if let Some(burst) = counter.burst {
                found.extend(counter.overdrawn(burst).map(|text| format!("{key:?}: {text}")));
                continue;
            }
            let mut ends: Vec<_> = counter.bounds.iter().map(|bound| (bound.until, bound.replaced)).collect();
            ends.push((0, 0));
            ends.sort_unstable();
            ends.dedup();
            for (at, (from, replaced)) in ends.iter().enumerate() {
                let until = ends.get(at + 1).map_or(u64::MAX, |(end, _)| *end);
                if let Some(text) = counter.worst(*from, until, *replaced) {
                    found.push(format!("{key:?}: {text}"));
                    break;
                }
            }
        }
        for text in found {
            self.broken(text);
        }
    }
}

impl Counter {
    /// The first stretch of time τ that admits more than burst + rate × τ: the bucket as it would be with a true clock, and
    /// with all nodes taking from it in person.
    fn overdrawn(&self, burst: u64) -> Option<String> {
        // In permits × window, so that nothing is rounded.
        let (window, burst) = (u128::from(self.window), u128::from(burst));
        let (mut level, mut before) = (burst * window, 0);
        for admission in &self.admitted {
            level = (level + u128::from(admission.at - before) * burst).min(burst * window);
            before = admission.at;
            match level.checked_sub(u128::from(admission.cost) * window) {
                Some(left) => level = left,
                None => {
                    let (at, there) = (admission.at as f64 / 1e9, level as f64 / window as f64);
                    return Some(format!("{} taken at {at:.6} s from a bucket that holds {there:.3}", admission.cost));
                }
            }
        }
        None
    }

    /// The first window that begins in `from..until` and holds more than any bound allows. A reserve that did not hear of
    /// the lowering at `replaced` since is its own promise: it lasts to its own end.
    fn worst(&self, from: u64, until: u64, replaced: u64) -> Option<String> {
        let counts = |a: &&Admitted| a.informed >= replaced && (from == 0 || a.at > from);
        let admitted: Vec<_> = self.admitted.iter().filter(counts).collect();
        let (mut first, mut sum) = (0, 0);
        for (last, admission) in admitted.iter().enumerate() {
            sum += admission.cost;
            while admitted[first].at + self.window <= admission.at {
                sum -= admitted[first].cost;
                first += 1;
            }
            let begins = admission.at.saturating_sub(self.window).max(from);
            if begins >= until {
                break;
            }
            let allowed = self.allowed(begins, admission.at);
            if sum > allowed {
                let mut nodes = BTreeMap::<usize, u64>::new();
                for a in &admitted[first..=last] {
                    *nodes.entry(a.node).or_default() += a.cost;
                }
                let (at, window) = (admission.at as f64 / 1e9, self.window as f64 / 1e9);
                return Some(format!("{sum} of {allowed} in {window} s to {at:.6} s, by node {nodes:?}"));
            }
        }
        None
    }

    /// The largest maximum that a window (begins, ends] may count on.
    fn allowed(&self, begins: u64, ends: u64) -> u64 {
        let bounds = self.bounds.iter().filter(|bound| bound.from <= ends && bound.until > begins);
        bounds.map(|bound| bound.max).max().unwrap_or(0)
    }
}
