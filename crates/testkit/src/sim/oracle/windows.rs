//! Sliding windows: every one of them, in true time.

use std::collections::{BTreeMap, VecDeque};

use super::{Admission, Counter, Extra};

/// What orders explain of a window that holds more than its maximum: a grant so many permits, once, for as long as a window.
struct Excuses {
    extras: Vec<Extra>,
    drawn: VecDeque<(u64, u64)>,
}

impl Excuses {
    fn rest(&mut self, sum: u64, allowed: u64, at: u64, window: u64) -> u64 {
        self.drawn.retain(|(since, _)| since + window > at);
        let credit: u64 = self.drawn.iter().map(|(_, drawn)| drawn).sum();
        let mut over = sum.saturating_sub(allowed + credit);
        // What was drawn against a lower maximum than a window may count on is a credit for as long as a window, in log time.
        let long = window + window / 8 + 2_000_000_000;
        for extra in self.extras.iter_mut().filter(|e| e.since <= at && at <= e.until.saturating_add(long)) {
            let part = over.min(extra.left);
            if part > 0 {
                extra.left -= part;
                over -= part;
                self.drawn.push_back((at, part));
            }
        }
        over
    }
}

impl Counter {
    /// The first window that holds more than any bound allows. A lowered bound ends: windows that begin later do not count
    /// on it.
    pub(super) fn worst_window(&self) -> Option<String> {
        let mut ends: Vec<_> = self.bounds.iter().map(|bound| (bound.until, bound.replaced)).collect();
        ends.push((0, 0));
        ends.sort_unstable();
        ends.dedup();
        let mut excuses = Excuses { extras: self.extras.clone(), drawn: VecDeque::new() };
        ends.iter().enumerate().find_map(|(at, (from, replaced))| {
            let until = ends.get(at + 1).map_or(u64::MAX, |(end, _)| *end);
            self.worst(*from, until, *replaced, &mut excuses)
        })
    }

    /// The first window that begins in `from..until` and holds more than any bound allows. A reserve that did not hear of
    /// the lowering at `replaced` since is its own promise: it lasts to its own end. What was before a reset and what was
    /// after it are two windows.
    fn worst(&self, from: u64, until: u64, replaced: u64, excuses: &mut Excuses) -> Option<String> {
        let counts = |a: &&Admission| a.informed >= replaced && (from == 0 || a.at > from);
        let admitted: Vec<_> = self.admitted.iter().filter(counts).collect();
        let mut resets = self.resets.iter().copied().peekable();
        let (mut first, mut sum, mut begun_anew) = (0, 0, 0);
        for (last, admission) in admitted.iter().enumerate() {
            sum += admission.cost;
            while let Some(reset) = resets.next_if(|reset| *reset < admission.at) {
                begun_anew = reset;
                excuses.drawn.retain(|(since, _)| *since > reset);
            }
            while admitted[first].at + self.window <= admission.at || admitted[first].at <= begun_anew {
                sum -= admitted[first].cost;
                first += 1;
            }
            let begins = admission.at.saturating_sub(self.window).max(from);
            if begins >= until {
                break;
            }
            let allowed = self.allowed(begins, admission.at);
            if sum > allowed && excuses.rest(sum, allowed, admission.at, self.window) > 0 {
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
}
