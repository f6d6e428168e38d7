//! The leader's side of the log clock: how much time each entry carries. The caller reads its raw clock.
//!
//! ```text
//! entry       e1        e2             e3          each carries dt = time since the stamp before it / (1 + ρ)
//! stamps  ----|---------|--------------|------->   on this leader's raw clock
//!         dt1    dt2          dt3                  the first: since this replica applied the entry before
//! ```
//! A span is used once, whatever becomes of its entry: losing time is safe, counting it twice is not.

use tidegate_model::Nanos;

use crate::guard;
use crate::protocol::log_time;

/// Stamps of one replica. `L` tells one leadership from another.
#[derive(Debug)]
pub struct Stamps<L> {
    /// The leadership that is stamped for, and its last stamp.
    held: Option<(L, Nanos)>,
}

impl<L> Default for Stamps<L> {
    fn default() -> Self {
        Self { held: None }
    }
}

impl<L: PartialEq> Stamps<L> {
    /// The span since the stamp before. At the first of a leadership: since this replica applied the last entry there
    /// is (`applied_at`). A leadership begins when its blank entry is applied: every entry of an earlier one is then
    /// applied here or lost for good.
    pub fn next(&mut self, leadership: L, applied_at: Option<Nanos>, now: Nanos) -> Nanos {
        let since = match &self.held {
            Some((held, stamped)) if *held == leadership || !guard!("new-leadership-counts-from-what-it-applied") => {
                *stamped
            }
            _ if guard!("nothing-known-before-the-first-entry") => applied_at.unwrap_or(now),
            _ => applied_at.unwrap_or_default(),
        };
        if guard!("span-counted-once") || self.held.is_none() {
            self.held = Some((leadership, now));
        }
        log_time(now.saturating_sub(since))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FIRST: u64 = 1;
    const SECOND: u64 = 3;

    /// (leadership, last applied, now, expected dt), in units that ρ leaves whole.
    fn check(steps: &[(u64, Option<u64>, u64, u64)]) {
        let mut stamps = Stamps::default();
        for (leadership, applied_at, now, expected) in steps {
            let dt = stamps.next(*leadership, applied_at.map(|at| Nanos(at * 1001)), Nanos(now * 1001));
            assert_eq!(dt, Nanos(expected * 1000), "at {now}");
        }
    }

    #[test]
    fn a_span_is_used_once_whatever_is_applied_meanwhile() {
        check(&[(FIRST, Some(10), 30, 20), (FIRST, Some(10), 35, 5), (FIRST, Some(36), 37, 2)]);
    }

    #[test]
    fn nothing_is_known_before_the_first_entry() {
        check(&[(FIRST, None, 1000, 0), (FIRST, None, 1001, 1)]);
    }

    #[test]
    fn a_new_leadership_counts_from_what_it_applied_not_from_its_own_old_stamps() {
        // Between the two leaderships another leader's entries carried the time from 20 to 90.
        check(&[(FIRST, Some(10), 20, 10), (SECOND, Some(90), 100, 10)]);
    }

    #[test]
    fn time_never_runs_backwards() {
        check(&[(FIRST, Some(50), 40, 0)]);
    }
}
