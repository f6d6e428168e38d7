//! Calendar windows and budgets: the sum of each window's permits, whenever they were spent. No clock is asked.

use std::collections::BTreeMap;

use super::Counter;

impl Counter {
    /// The first window that holds more than its maximum, what the one before left, up to the bound of that, and what was
    /// granted beyond it and not used up by an earlier one.
    pub(super) fn overspent(&self) -> Option<String> {
        if let Some(stray) = self.admitted.iter().find(|a| !self.openings.iter().any(|(number, _)| *number == a.tag)) {
            return (stray.cost > 0).then(|| format!("{stray:?} counts to a window that was never opened"));
        }
        let (mut carried, mut extras) = (0, self.extras.clone());
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
            let mut over: u64 = parts.values().map(|part| part.saturating_sub(allowed)).sum();
            for extra in extras.iter_mut().filter(|extra| extra.since <= ends && extra.until >= *since) {
                let part = over.min(extra.left);
                (extra.left, over) = (extra.left - part, over - part);
            }
            if over > 0 {
                let worst = parts.values().copied().max().unwrap_or(0);
                return Some(format!("{worst} of {allowed} in calendar window {number}, {carried} of it carried over"));
            }
            let last = parts.get(&resets.len()).copied().unwrap_or(0);
            // Of a key that nobody used the ledger remembers nothing: it has left all of its maximum as that is when it is used.
            let used = parts.values().any(|sum| *sum > 0);
            // Nor of one that was not asked for in a minute that never opened, while there was no leader.
            let follows = self.openings.get(nth + 1).is_none_or(|(next, _)| *next == number + 1);
            let next = self.openings.get(nth + 2).map_or(u64::MAX, |(_, next)| *next);
            let later = self.bounds.iter().filter(|bound| bound.from <= next && bound.replaced >= *since);
            let most = later.map(|bound| bound.carry).max().unwrap_or(0);
            carried = if used && follows { most.min(allowed.saturating_sub(last)) } else { most };
        }
        None
    }
}
