//! What language models were used since somebody last asked: sums by whom, where and which. Bounded; each thread has a
//! lane of its own, so that calls do not fight over it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

use foldhash::fast::FixedState;
use tidegate_state::usage::{Amounts, Key, Row, Tokens};

use crate::meter::Laned;
use crate::record::Record;
use crate::spoken::{Cost, Spoken};

/// Rows of one lane; what has none is told by tenant and model.
const MOST: usize = 2_048;
const NANOS_OF_DAY: u64 = 86_400_000_000_000;

#[derive(Debug, Default)]
pub(crate) struct Used {
    lanes: Laned<Mutex<Lane>>,
}

/// By a hash of the key, so that nothing is allocated for a key that is known.
#[derive(Debug, Default)]
struct Lane {
    rows: HashMap<u64, Vec<Row>, FixedState>,
    count: usize,
}

/// As [`Key`], borrowed.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
struct Names<'a> {
    day: u32,
    tenant: &'a str,
    team: &'a str,
    consumer: &'a str,
    route: &'a str,
    model: &'a str,
    provider: &'a str,
}

impl Used {
    /// `now`: wall clock, nanoseconds.
    pub(crate) fn count(&self, record: &Record, spoken: &Spoken, now: u64) {
        // Nobody was asked: a limit said no, or the call was wrong.
        let Some(provider) = &spoken.provider else { return };
        let route = record.route.and_then(|at| record.scene.route(at));
        let consumer = record.consumer.and_then(|at| record.scene.consumer(at));
        let tenant = consumer.map(|it| it.tenant.as_str()).or_else(|| route.map(|it| &*it.tenant));
        let names = Names {
            day: u32::try_from(now / NANOS_OF_DAY).unwrap_or(u32::MAX),
            tenant: tenant.unwrap_or_default(),
            team: consumer.and_then(|it| it.team.as_deref()).unwrap_or_default(),
            consumer: consumer.map(|it| it.name.as_str()).unwrap_or_default(),
            route: route.map(|it| &*it.id).unwrap_or_default(),
            model: &spoken.model,
            provider,
        };
        let amounts = amounts(record, spoken);
        self.lanes.mine().lock().unwrap_or_else(PoisonError::into_inner).add(names, &amounts);
    }

    /// All of it, each key once, and nothing is left.
    pub(crate) fn take(&self) -> Vec<Row> {
        let mut sums: BTreeMap<(u32, Key), Amounts> = BTreeMap::new();
        for lane in self.lanes.each() {
            let lane = std::mem::take(&mut *lane.lock().unwrap_or_else(PoisonError::into_inner));
            for Row { day, key, amounts } in lane.rows.into_values().flatten() {
                sums.entry((day, key)).or_default().add(&amounts);
            }
        }
        sums.into_iter().map(|((day, key), amounts)| Row { day, key, amounts }).collect()
    }
}

fn amounts(record: &Record, spoken: &Spoken) -> Amounts {
    let of = spoken.tokens;
    let tokens = Tokens {
        input: of.input,
        cache_read: of.cache_read,
        cache_write: of.cache_write,
        output: of.output,
        reasoning: of.reasoning,
        audio_in: of.audio_in,
        image_in: of.image_in,
        audio_out: of.audio_out,
        image_out: of.image_out,
    };
    Amounts {
        calls: 1,
        failed: u64::from(record.status == 0 || record.status >= 400 || record.cut.is_some()),
        estimated: u64::from(spoken.estimated),
        unpriced: u64::from(spoken.cost == Cost::Unpriced),
        tokens,
        cost_nanos: spoken.cost.nanos(),
    }
}

impl Lane {
    fn add(&mut self, names: Names<'_>, amounts: &Amounts) {
        let coarse = Names { team: "other", consumer: "other", route: "other", provider: "other", ..names };
        let nothing = Names { tenant: "other", model: "other", ..coarse };
        for (names, most) in [(names, MOST), (coarse, MOST + MOST / 4), (nothing, usize::MAX)] {
            let hash = FixedState::default().hash_one(names);
            let same = self.rows.get_mut(&hash).and_then(|rows| rows.iter_mut().find(|row| names.is(row)));
            if let Some(row) = same {
                return row.amounts.add(amounts);
            }
            if self.count < most {
                self.count += 1;
                let row = Row { day: names.day, key: names.key(), amounts: *amounts };
                return self.rows.entry(hash).or_default().push(row);
            }
        }
    }
}

impl Names<'_> {
    fn is(&self, row: &Row) -> bool {
        let Row { day, key: Key { tenant, team, consumer, route, model, provider }, .. } = row;
        let own = (self.day, self.tenant, self.team, self.consumer, self.route, self.model, self.provider);
        own == (*day, tenant, team, consumer, route, model, provider)
    }

    fn key(&self) -> Key {
        Key {
            tenant: self.tenant.to_owned(),
            team: self.team.to_owned(),
            consumer: self.consumer.to_owned(),
            route: self.route.to_owned(),
            model: self.model.to_owned(),
            provider: self.provider.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(consumer: &str) -> Names<'_> {
        Names { day: 1, tenant: "t", team: "", consumer, route: "r", model: "m", provider: "p" }
    }

    #[test]
    fn what_has_no_row_is_told_by_tenant_and_model_and_nothing_is_lost() {
        let used = Used::default();
        let amounts = Amounts { calls: 1, cost_nanos: 7, ..Amounts::default() };
        for n in 0..MOST + 100 {
            used.lanes.mine().lock().unwrap().add(names(&n.to_string()), &amounts);
            used.lanes.mine().lock().unwrap().add(names("0"), &amounts);
        }
        let rows = used.take();
        assert_eq!(rows.len(), MOST + 1);
        assert_eq!(rows.iter().map(|row| row.amounts.cost_nanos).sum::<u64>(), 7 * 2 * (MOST as u64 + 100));
        let other = rows.iter().find(|row| row.key.consumer == "other").expect("a coarse row");
        assert_eq!((other.amounts.calls, other.key.tenant.as_str(), other.key.model.as_str()), (100, "t", "m"));
        assert!(used.take().is_empty());
    }
}
