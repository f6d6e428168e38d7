//! What language models were used, by day: sums that nodes report every few seconds, never a request. Rows and days have a
//! bound; what does not fit is kept in coarser rows, so that sums stay right.
//!
//! A report is known by its process and its number: one that comes twice counts once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, NodeId};

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

/// Days that are kept, the newest included.
pub const DAYS: u32 = 400;
/// Rows of one day; behind them come coarse ones.
pub const ROWS_OF_DAY: usize = 2_000;
/// Coarse rows of one day: by tenant and model.
pub const COARSE_OF_DAY: usize = 100;
/// Rows of all days: beyond it the oldest days become coarse.
pub const ROWS: usize = 60_000;
/// Rows of one report.
pub const ROWS_OF_REPORT: usize = 1_000;
/// Stands for whatever has no row of its own.
pub const OTHER: &str = "other";
/// Processes of one node whose reports may still come.
const LIVES: usize = 4;
const DAY: u64 = 86_400_000;

/// Of whom and what a row tells. Empty: there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub tenant: String,
    pub team: String,
    pub consumer: String,
    pub route: String,
    /// As the document names it.
    pub model: String,
    pub provider: String,
}

/// Sums. Positional: append only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amounts {
    /// For which a provider was asked.
    pub calls: u64,
    /// Of them those that got no answer, or none that is whole.
    pub failed: u64,
    /// Of them those whose tokens are an estimate.
    pub estimated: u64,
    /// Of them those whose price nobody knows.
    pub unpriced: u64,
    pub tokens: Tokens,
    pub cost_nanos: u64,
}

/// By classes that do not overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tokens {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub audio_in: u64,
    pub image_in: u64,
    pub audio_out: u64,
    pub image_out: u64,
}

/// What one process of a node adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub node: NodeId,
    /// The process, drawn when it starts.
    pub life: u128,
    /// Counts the reports of this process, from 1. None is sent before the one before it is known to be in.
    pub number: u64,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Since 1970, UTC.
    pub day: u32,
    pub key: Key,
    pub amounts: Amounts,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    days: BTreeMap<u32, Day>,
    /// The processes of each node that were heard of, the last at the end, and the number of their last report.
    heard: BTreeMap<NodeId, Vec<(u128, u64)>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Day {
    rows: BTreeMap<Key, Amounts>,
    coarse: bool,
}

impl Amounts {
    pub fn add(&mut self, other: &Self) {
        let Self { calls, failed, estimated, unpriced, tokens, cost_nanos } = self;
        let pairs = [
            (calls, other.calls),
            (failed, other.failed),
            (estimated, other.estimated),
            (unpriced, other.unpriced),
            (cost_nanos, other.cost_nanos),
            (&mut tokens.input, other.tokens.input),
            (&mut tokens.cache_read, other.tokens.cache_read),
            (&mut tokens.cache_write, other.tokens.cache_write),
            (&mut tokens.output, other.tokens.output),
            (&mut tokens.reasoning, other.tokens.reasoning),
            (&mut tokens.audio_in, other.tokens.audio_in),
            (&mut tokens.image_in, other.tokens.image_in),
            (&mut tokens.audio_out, other.tokens.audio_out),
            (&mut tokens.image_out, other.tokens.image_out),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Key {
    /// By tenant and model only.
    #[must_use]
    pub fn coarse(&self) -> Self {
        let other = || OTHER.to_owned();
        let (tenant, model) = (self.tenant.clone(), self.model.clone());
        Self { tenant, model, team: other(), consumer: other(), route: other(), provider: other() }
    }

    #[must_use]
    pub fn other() -> Self {
        Self { tenant: OTHER.into(), model: OTHER.into(), ..Self::default().coarse() }
    }

    fn is_sane(&self) -> bool {
        let Self { tenant, team, consumer, route, model, provider } = self;
        [tenant, team, consumer, route, model, provider].into_iter().all(|text| text.len() <= MAX_NAME)
    }
}

impl Usage {
    /// All rows, the oldest day first.
    pub fn rows(&self) -> impl Iterator<Item = (u32, &Key, &Amounts)> {
        self.days.iter().flat_map(|(day, of)| of.rows.iter().map(|(key, amounts)| (*day, key, amounts)))
    }

    /// Days whose rows tell tenant and model only.
    pub fn coarse_days(&self) -> impl Iterator<Item = u32> {
        self.days.iter().filter(|(_, of)| of.coarse).map(|(day, _)| *day)
    }

    pub(crate) fn report(&mut self, report: &Report, at: Millis) -> (Outcome, Vec<Change>) {
        let Report { node, life, number, rows } = report;
        if rows.len() > ROWS_OF_REPORT {
            return (Outcome::TooLarge { limit: ROWS_OF_REPORT as u64 }, Vec::new());
        }
        if !self.is_new(*node, *life, *number) {
            return (Outcome::Done, Vec::new());
        }
        let today = u32::try_from(at.0 / DAY).unwrap_or(u32::MAX);
        for Row { day, key, amounts } in rows {
            // A node whose clock runs ahead, or stood still for a year, reports of today.
            let known = (today.saturating_sub(DAYS - 1)..=today).contains(day);
            self.add(if known { *day } else { today }, key, amounts);
        }
        self.days.retain(|day, _| day.saturating_add(DAYS) > today);
        self.fit();
        (Outcome::Done, Vec::new())
    }

    /// The node has left for good.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
    }

    fn is_new(&mut self, node: NodeId, life: u128, number: u64) -> bool {
        let lives = self.heard.entry(node).or_default();
        if let Some((_, last)) = lives.iter_mut().find(|(known, _)| *known == life) {
            let new = *last < number;
            *last = number.max(*last);
            return new;
        }
        if lives.len() >= LIVES {
            lives.remove(0);
        }
        lives.push((life, number));
        true
    }

    fn add(&mut self, day: u32, key: &Key, amounts: &Amounts) {
        let day = self.days.entry(day).or_default();
        let key = if key.is_sane() && !day.coarse { key.clone() } else { key.coarse() };
        let sane = if key.is_sane() { key } else { Key::other() };
        let room = |most: usize, key: Key| {
            let fits = day.rows.len() < most || day.rows.contains_key(&key);
            fits.then_some(key)
        };
        let most = if day.coarse { COARSE_OF_DAY } else { ROWS_OF_DAY };
        let coarse = sane.coarse();
        let key = room(most, sane).or_else(|| room(ROWS_OF_DAY + COARSE_OF_DAY, coarse).filter(|_| !day.coarse));
        day.rows.entry(key.unwrap_or_else(Key::other)).or_default().add(amounts);
    }

    /// The oldest days lose their detail until all rows fit. The newest never does.
    fn fit(&mut self) {
        let mut rows: usize = self.days.values().map(|day| day.rows.len()).sum();
        let newest = self.days.keys().next_back().copied();
        let fine: Vec<u32> = self.days.iter().filter(|(_, of)| !of.coarse).map(|(day, _)| *day).collect();
        for day in fine {
            if rows <= ROWS || Some(day) == newest {
                return;
            }
            let Some(of) = self.days.get_mut(&day) else { continue };
            let fine = std::mem::take(&mut of.rows);
            of.coarse = true;
            rows -= fine.len();
            fine.iter().for_each(|(key, amounts)| self.add(day, key, amounts));
            rows += self.days.get(&day).map_or(0, |of| of.rows.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u32 = 20_000;

    fn at(day: u32) -> Millis {
        Millis(u64::from(day) * DAY + 5)
    }

    fn key(consumer: usize) -> Key {
        Key { tenant: "t".into(), consumer: consumer.to_string(), model: "m".into(), ..Key::default() }
    }

    fn row(day: u32, consumer: usize, cost_nanos: u64) -> Row {
        Row { day, key: key(consumer), amounts: Amounts { calls: 1, cost_nanos, ..Amounts::default() } }
    }

    fn report(life: u128, number: u64, rows: Vec<Row>) -> Report {
        Report { node: NodeId(1), life, number, rows }
    }

    fn cost(usage: &Usage) -> u64 {
        usage.rows().map(|(_, _, amounts)| amounts.cost_nanos).sum()
    }

    #[test]
    fn a_report_counts_once_however_often_it_comes_and_processes_count_apart() {
        let mut usage = Usage::default();
        for (life, number) in [(7, 1), (7, 1), (7, 2), (7, 1), (8, 1), (7, 2), (8, 1), (7, 3)] {
            usage.report(&report(life, number, vec![row(TODAY, 1, 10)]), at(TODAY));
        }
        assert_eq!(cost(&usage), 40);
        for life in 100..200 {
            usage.report(&report(life, 1, vec![row(TODAY, 1, 10)]), at(TODAY));
        }
        assert_eq!(usage.heard[&NodeId(1)].len(), LIVES);
    }

    #[test]
    fn what_does_not_fit_into_a_day_is_kept_by_tenant_and_model_and_nothing_is_lost() {
        let mut usage = Usage::default();
        let many: Vec<Row> = (0..ROWS_OF_DAY + 500).map(|consumer| row(TODAY, consumer, 3)).collect();
        for (number, rows) in many.chunks(ROWS_OF_REPORT).enumerate() {
            usage.report(&report(1, number as u64 + 1, rows.to_vec()), at(TODAY));
        }
        assert_eq!(usage.rows().count(), ROWS_OF_DAY + 1);
        assert_eq!(cost(&usage), 3 * (ROWS_OF_DAY as u64 + 500));
        let other = usage.rows().find(|(_, key, _)| key.consumer == OTHER).expect("a coarse row");
        assert_eq!((other.1.model.as_str(), other.2.calls), ("m", 500));
        let long = Key { model: "x".repeat(MAX_NAME + 1), ..key(1) };
        let amounts = Amounts { cost_nanos: 1, ..Amounts::default() };
        usage.report(&report(2, 1, vec![Row { day: TODAY, key: long, amounts }]), at(TODAY));
        assert!(usage.rows().any(|(_, key, _)| key.model == OTHER));
        assert_eq!(
            usage.report(&report(3, 1, vec![row(1, 1, 1); ROWS_OF_REPORT + 1]), at(TODAY)).0,
            Outcome::TooLarge { limit: ROWS_OF_REPORT as u64 }
        );
    }

    #[test]
    fn rows_and_days_have_a_bound_and_sums_of_kept_days_stay() {
        let mut usage = Usage::default();
        let mut number = 0;
        for day in TODAY - 60..=TODAY {
            for rows in (0..1_500).map(|consumer| row(day, consumer, 1)).collect::<Vec<_>>().chunks(500) {
                number += 1;
                usage.report(&report(1, number, rows.to_vec()), at(day));
            }
        }
        assert!(usage.rows().count() <= ROWS, "{}", usage.rows().count());
        assert_eq!(cost(&usage), 61 * 1_500);
        let coarse: Vec<u32> = usage.coarse_days().collect();
        assert_eq!(coarse.first(), Some(&(TODAY - 60)), "the oldest first");
        assert!(!coarse.contains(&TODAY));
        usage.report(&report(1, number + 1, vec![row(TODAY + DAYS - 30, 1, 1)]), at(TODAY + DAYS - 30));
        assert_eq!(usage.rows().map(|(day, ..)| day).min(), Some(TODAY - 29), "older ones are gone");
    }

    #[test]
    fn a_clock_that_is_wrong_reports_of_today() {
        let mut usage = Usage::default();
        usage.report(&report(1, 1, vec![row(TODAY + 9_000, 1, 1), row(3, 1, 1)]), at(TODAY));
        assert_eq!(usage.rows().map(|(day, _, amounts)| (day, amounts.calls)).collect::<Vec<_>>(), [(TODAY, 2)]);
    }
}
