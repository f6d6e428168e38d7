//! Who knows everything: each admission in true time, each limit as long as it binds. Judges each kind of limit by its own
//! promise when the run is over; what can be seen only while it runs, where it is seen.

mod buckets;
mod dated;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Permits, Subject};
use tidegate_quota::protocol::{Alert, Key, Opening};

use super::known::Known;
use super::scenario::Sort;

/// An admission that can be taken back, or settled for less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    key: Key,
    at: usize,
}

/// Of keys that several subjects share.
const SHARED: u128 = 1 << 127;

/// What a subject's key was replaced by once, on nodes that were full. It is judged as the subject's all the same.
pub(super) fn shared(key: Key) -> Key {
    Key { subject: Subject(key.subject.0 | SHARED), ..key }
}

fn own(key: Key) -> Key {
    Key { subject: Subject(key.subject.0 & !SHARED), ..key }
}

/// Somebody was admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    pub(super) key: Key,
    pub(super) node: usize,
    pub(super) at: u64,
    pub(super) cost: u64,
    /// From a partition reserve that its node asked about last at this time; a lease's permit: never too old.
    pub(super) informed: u64,
    /// The calendar window that it counts to.
    pub(super) tag: u64,
    /// Of a reservation: when it was settled, if it was.
    pub(super) open_until: u64,
}

impl Admission {
    /// Of permits of a lease, spent at once.
    pub(super) fn of(key: Key, node: usize, at: u64, cost: u64, tag: u64) -> Self {
        Self { key, node, at, cost, informed: u64::MAX, tag, open_until: at }
    }
}

/// A maximum, and from when to when a window may count on it.
#[derive(Debug, Clone, Copy)]
struct Bound {
    max: u64,
    /// Permits that a bucket gets in a window's time.
    rate: u64,
    carry: u64,
    from: u64,
    until: u64,
    /// When the entry that replaced it was committed.
    replaced: u64,
}

/// Permits beyond the maximum, once.
#[derive(Debug, Clone, Copy)]
struct Extra {
    id: u64,
    since: u64,
    until: u64,
    left: u64,
}

#[derive(Debug, Default)]
struct Counter {
    sort: Sort,
    window: u64,
    bounds: Vec<Bound>,
    extras: Vec<Extra>,
    /// True time when the entries were stamped that began the count anew.
    resets: Vec<u64>,
    admitted: Vec<Admission>,
    /// Calendar windows in the order they were opened: its number, and when.
    openings: Vec<(u64, u64)>,
    /// Percent of the budget that was told of, by window.
    told: BTreeSet<(u64, u8)>,
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

    /// A maximum is proposed for a key, and of a bucket a rate: a raise may bind from this moment.
    pub(super) fn proposed(&mut self, known: &Known, max: Permits, rate: u64, now: u64) {
        let counter = self.counters.entry(known.key).or_default();
        (counter.window, counter.sort) = (known.window.0, known.sort);
        let carry = known.carry().0;
        counter.bounds.push(Bound { max: max.0, rate, carry, from: now, until: u64::MAX, replaced: u64::MAX });
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

    pub(super) fn granted(&mut self, key: Key, id: u64, permits: u64, now: u64) {
        let extra = Extra { id, since: now, until: u64::MAX, left: permits };
        self.counters.entry(key).or_default().extras.push(extra);
    }

    /// Orders up to this epoch are in force: of those that are gone nothing can be had any more from `until` on.
    pub(super) fn standing(&mut self, stands: impl Fn(u64) -> bool, epoch: u64, until: u64) {
        for extra in self.counters.values_mut().flat_map(|counter| &mut counter.extras) {
            if extra.id <= epoch && !stands(extra.id) {
                extra.until = extra.until.min(until);
            }
        }
    }

    pub(super) fn reset(&mut self, key: Key, stamped: u64) {
        let counter = self.counters.entry(key).or_default();
        counter.resets.push(stamped);
        counter.told.clear(); // Its thresholds are to be passed again.
    }

    pub(super) fn opened(&mut self, key: Key, opening: &Opening, now: u64) {
        let openings = &mut self.counters.entry(key).or_default().openings;
        if openings.last().is_none_or(|(last, _)| *last < opening.number) {
            openings.push((opening.number, now));
        }
    }

    pub(super) fn told(&mut self, alert: &Alert) {
        let counter = self.counters.entry(alert.key).or_default();
        let higher = counter.told.iter().any(|(window, percent)| *window == alert.window && *percent >= alert.percent);
        counter.told.insert((alert.window, alert.percent));
        if higher {
            self.broken(format!("told twice, or out of order: {alert:?}"));
        }
    }

    /// How long a key's permits are used in.
    pub(super) fn window(&self, key: Key) -> u64 {
        self.counters.get(&key).map_or(0, |counter| counter.window)
    }

    pub(super) fn admit(&mut self, admission: Admission) -> Mark {
        let key = own(admission.key);
        let admitted = &mut self.counters.entry(key).or_default().admitted;
        admitted.push(admission);
        Mark { key, at: admitted.len() - 1 }
    }

    /// Nobody was admitted with it after all.
    pub(super) fn revoke(&mut self, mark: Mark) {
        self.settle(&[mark], 0, 0);
    }

    /// Of these pieces of one reservation so much was used in all.
    pub(super) fn settle(&mut self, marks: &[Mark], mut used: u64, now: u64) {
        for mark in marks {
            if let Some(counter) = self.counters.get_mut(&mark.key) {
                let piece = &mut counter.admitted[mark.at];
                (piece.cost, piece.open_until) = (piece.cost.min(used), now);
                used -= piece.cost;
            }
        }
    }

    /// So many places of a key are in use at `now`.
    pub(super) fn crowd(&mut self, key: Key, at_a_time: u64, whose: &str, now: u64) {
        let Some(counter) = self.counters.get(&key) else { return };
        let most = counter.allowed(now, now);
        if at_a_time > most {
            let at = now as f64 / 1e9;
            self.broken(format!("{key:?}: {at_a_time} places of {most} in use {whose} at {at:.6} s"));
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

    /// What is charged at the most, if what is spent counts from `from` on: in the middle of a run.
    pub(super) fn lately(&self, key: Key, from: u64) -> u64 {
        let Some(counter) = self.counters.get(&key) else { return 0 };
        // Calls run for eight windows at the most.
        let recent = counter.admitted.iter().rev().take_while(|a| from < a.at + 100_000_000_000);
        recent.filter(|a| from < a.at.max(a.open_until)).map(|a| a.cost).sum()
    }

    /// Of the calendar window that is open: since when, and what counts to it.
    pub(super) fn of_window(&self, key: Key) -> Option<(u64, u64)> {
        let counter = self.counters.get(&key)?;
        let (number, since) = counter.openings.last()?;
        let tagged = counter.admitted.iter().rev().take_while(|a| a.at + 60_000_000_000 > *since);
        Some((*since, tagged.filter(|a| a.tag == *number).map(|a| a.cost).sum()))
    }

    pub(super) fn newest_window(&self, key: Key) -> Option<u64> {
        Some(self.counters.get(&key)?.openings.last()?.0)
    }

    /// (asked, refused) over all keys.
    pub(super) fn refusals(&self) -> (u64, u64) {
        self.counters.values().fold((0, 0), |(asked, refused), c| (asked + c.asked, refused + c.refused))
    }

    pub(super) fn admissions(&self) -> u64 {
        self.counters.values().map(|counter| counter.admitted.len() as u64).sum()
    }

    /// Tests every window of every key, every stretch of time of a bucket, every window of the calendar.
    pub(super) fn judge(&mut self) {
        let mut found = Vec::new();
        for (key, counter) in &mut self.counters {
            counter.admitted.sort_by_key(|admitted| admitted.at);
            counter.resets.sort_unstable();
            let complaint = match counter.sort {
                Sort::Sliding => counter.worst_window(),
                Sort::Bucket | Sort::Smooth => counter.overdrawn(),
                Sort::Calendar | Sort::Budget { .. } => counter.overspent(),
                Sort::Places => None, // Told while they are in use.
            };
            found.extend(complaint.map(|text| format!("{key:?}: {text}")));
        }
        for text in found {
            self.broken(text);
        }
    }

    /// After a quiet end: each threshold that the open window has passed was told.
    pub(super) fn judge_alerts(&mut self, known: &Known, percents: &[u8], until: u64) {
        let Some(counter) = self.counters.get(&known.key) else { return };
        let Some((number, since)) = counter.openings.last().copied() else { return };
        let tagged = counter.admitted.iter().filter(|a| a.tag == number && a.open_until <= until);
        let spent: u64 = tagged.map(|a| a.cost).sum();
        let missing: Vec<_> = percents
            .iter()
            .filter(|percent| spent * 100 >= u64::from(**percent) * known.max.0)
            .filter(|percent| !counter.told.contains(&(number, **percent)))
            .collect();
        if since < until && !missing.is_empty() && counter.resets.last().is_none_or(|reset| *reset < since) {
            let text = format!("{:?}: {spent} of {} spent, and not told of {missing:?} %", known.key, known.max);
            self.broken(text);
        }
    }
}

impl Counter {
    /// The largest maximum that a window (begins, ends] may count on.
    fn allowed(&self, begins: u64, ends: u64) -> u64 {
        let bounds = self.bounds.iter().filter(|bound| bound.from <= ends && bound.until > begins);
        bounds.map(|bound| bound.max).max().unwrap_or(0)
    }
}
