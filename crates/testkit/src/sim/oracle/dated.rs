//! Calendar windows and budgets: the sum of each window's permits, whenever they were spent. No clock is asked.

use std::collections::BTreeMap;

use super::Counter;

impl Counter {
    /// The first window that holds more than its maximum and what the one before left, up to the bound of that.
    pub(super) fn overspent(&self) -> Option<String> {
        if let Some(stray) = self.admitted.iter().find(|a| !self.openings.iter().any(|(number, _)| *number == a.tag)) {
            return (stray.cost > 0).then(|| format!("{stray:?} counts to a window that was never opened"));
        }
        let mut carried = 0;
        for (nth, (number, since)) in self.openings.iter().enumerate() {
            let ends = self.openings.get(nth + 1).map_or(u64::MAX, |(_, next)| *next);
            let bounds = || self.bounds.iter().filter(|bound| bound.from <= ends && bound.replaced >= *since);
            let allowed = bounds().map(|bound| bound.max).max().unwrap_or(0) + carried;
            // A reset begins the window's count anew: before it and after it are two counts.
            let mut parts = BTreeMap::<usize, u64>::new();
            let resets: Vec<_> = self.resets.iter().filter(|at| (since..=&ends).contains(at)).collect();
            for a in self.admitted.iter().filter(|a| a.tag == *number) {
                *parts.entry(resets.partition_point(|reset| **reset < a.at)).or_default() += a.cost;
            }
            let worst = parts.values().copied().max().unwrap_or(0);
            if worst > allowed {
                return Some(format!("{worst} of {allowed} in calendar window {number}, {carried} of it carried over"));
            }
            let last = parts.get(&resets.len()).copied().unwrap_or(0);
            // Of a key that nobody used the ledger remembers nothing: it has left all of its maximum as that is when it is used.
            let used = parts.values().any(|sum| *sum > 0);
            let next = self.openings.get(nth + 2).map_or(u64::MAX, |(_, next)| *next);
            let later = self.bounds.iter().filter(|bound| bound.from <= next && bound.replaced >= *since);
            let most = later.map(|bound| bound.carry).max().unwrap_or(0);
            carried = if used { most.min(allowed - last) } else { most };
        }
        None
    }
}
