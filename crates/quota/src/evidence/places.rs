//! The judge of concurrency: at each place taken, those in use against as many as were in force.

use std::collections::BTreeMap;

use tidegate_model::{Incarnation, Nanos};

use super::course::Course;
use super::others::{Judged, ratio};

#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Permits taken (+) or given up (−).
    pub(super) changes: Vec<(Nanos, i128)>,
    /// What each process has in use, by its own records.
    pub(super) open: BTreeMap<Incarnation, i128>,
    pub(super) begun: u64,
}

/// The most places in use at a time. A process that ended without a word gave its own up no earlier than its last record.
pub(super) fn judge(places: Places, last: &BTreeMap<Incarnation, Nanos>, course: &Course) -> Judged {
    let Places { mut changes, open, begun } = places;
    for (incarnation, left) in open.into_iter().filter(|(_, left)| *left > 0) {
        // After its last word: what that may have begun was in use.
        let last = last.get(&incarnation).copied().unwrap_or_default();
        changes.push((last.saturating_add(Nanos(1)), -left));
    }
    changes.sort_unstable(); // Ends first.
    let (mut now, mut worst, mut worst_ratio, mut total) = (0_i128, 0_i128, 0.0_f64, 0_i128);
    for (at, change) in &changes {
        now += change;
        total += change.max(&0);
        worst = worst.max(now);
        if *change > 0 {
            worst_ratio = worst_ratio.max(ratio(u128::try_from(now).unwrap_or(0), u128::from(course.max_at(*at).0)));
        }
    }
    let span = changes.last().map_or(Nanos::ZERO, |(at, _)| at.saturating_sub(changes[0].0));
    let narrow = |number: i128| u128::try_from(number).unwrap_or(0);
    Judged::new(begun, narrow(worst), worst_ratio, narrow(total), span)
}
