//! Scenarios after one kind of limit, or one kind of cost: as wild, stranded or edited ones, with other limits.

use tidegate_model::Permits;

use super::{Costs, Focus, Limit, MILLI, SECOND, Scenario, Sort};
use crate::sim::random::Random;

impl Scenario {
    /// Now as wild, now as stranded, now as edited, with limits of one kind.
    pub(super) fn of_kind(seed: u64, sort: Sort, promised: bool) -> Self {
        let mut scenario = match seed / 16 % 4 {
            0 | 2 => Self::wild(seed),
            1 => Self::stranded(seed),
            _ => Self::edited(seed),
        };
        let mut random = Random::new(seed ^ 0x6B69_6E64);
        let window = match sort {
            Sort::Calendar | Sort::Budget { .. } => 6 * SECOND,
            _ if promised => random.one_of(&[1, 2, 4]) * SECOND,
            _ => scenario.limits[0].window.min(10 * SECOND),
        };
        for limit in &mut scenario.limits {
            (limit.sort, limit.window, limit.share) = (sort, window, sort == Sort::Sliding && limit.share);
            limit.promised = promised;
            if promised {
                limit.costs = random.one_of(&[Costs::Few, Costs::Few, Costs::Large]);
            }
        }
        scenario.network.slow = random.one_of(&[1, 1, 2, 20]) * MILLI;
        let tail = 3 * (window + scenario.lease) + if promised { 12 * window } else { 0 };
        Self { duration: scenario.duration.max(20 * SECOND + tail), ..scenario }
    }

    pub(super) fn dated(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6461_7465);
        let budget = Sort::Budget { carry: random.one_of(&[0, 20, 100]) };
        let sort = if random.chance(0.5) { Sort::Calendar } else { budget };
        Self::of_kind(seed, sort, random.chance(0.3))
    }

    pub(super) fn promised(seed: u64) -> Self {
        let sort = if seed % 32 < 16 { Sort::Sliding } else { Sort::Bucket };
        Self::of_kind(seed, sort, true)
    }

    /// Limits of all kinds, and calls with up to four of them.
    pub(super) fn mixed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6D69_7865);
        let mut scenario = Self::of_kind(seed, Sort::Sliding, false);
        let (nodes, window) = (scenario.nodes, scenario.limits[0].window);
        let sorts =
            [Sort::Sliding, Sort::Bucket, Sort::Places, Sort::Calendar, Sort::Budget { carry: 50 }, Sort::Sliding];
        let first = random.index(sorts.len());
        scenario.limits = (0..4)
            .map(|nth| {
                let sort = sorts[(first + nth) % sorts.len()];
                let dated = matches!(sort, Sort::Calendar | Sort::Budget { .. });
                let window = if dated { 6 * SECOND } else { window.min(4 * SECOND) };
                let limit = Limit::draw(&mut random, nth as u64 + 1, window, nodes);
                Limit { sort, promised: random.chance(0.3), ..limit }
            })
            .collect();
        scenario.pairs = 0.6;
        scenario.duration = scenario.duration.max(100 * SECOND);
        scenario
    }

    /// More keys than a node may hold: all of them come and go, all the time.
    pub(super) fn crammed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6372_616D);
        let mut scenario = Self::wild(seed);
        let (nodes, keys) = (scenario.nodes, random.between(4, 8));
        let sorts = [Sort::Sliding, Sort::Sliding, Sort::Bucket, Sort::Places, Sort::Calendar, Sort::Sliding];
        let first = random.index(sorts.len());
        scenario.limits = (1..=keys)
            .map(|id| {
                let sort = sorts[(first + id as usize) % sorts.len()];
                let window = if sort == Sort::Calendar { 6 } else { random.one_of(&[1, 2, 4]) } * SECOND;
                let demand = random.one_of(&[0.1, 0.5, 1.2]);
                Limit { sort, demand, ..Limit::draw(&mut random, id, window, nodes) }
            })
            .collect();
        scenario.room = random.between(2, keys - 1) as usize;
        // So far away that nobody is promised how long he waits: he may wait for room as well.
        scenario.network.slow = scenario.network.slow.max(3 * MILLI);
        scenario.duration = scenario.duration.max(60 * SECOND);
        scenario
    }

    /// As edited, by orders.
    pub(super) fn ordered(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6F72_6465);
        let sort = random.one_of(&[
            Sort::Sliding,
            Sort::Sliding,
            Sort::Bucket,
            Sort::Places,
            Sort::Calendar,
            Sort::Budget { carry: 50 },
        ]);
        let scenario = Self::of_kind(48, sort, false);
        Self { seed, focus: Focus::Orders, ..scenario }
    }

    /// Of any kind that is spent, some of them paid after the fact: two thirds of a limit are asked for at once.
    pub(super) fn costly(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x636F_7374);
        let sorts = [Sort::Sliding, Sort::Bucket, Sort::Calendar, Sort::Budget { carry: 50 }];
        let mut scenario = Self::of_kind(seed, random.one_of(&sorts), random.chance(0.6));
        scenario.limits.iter_mut().for_each(|limit| limit.costs = Costs::Huge);
        scenario
    }

    /// As wild, stranded or edited, for a shorter time, with one bucket that is full again in a moment.
    pub(super) fn smooth(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x736D_6F6F);
        let mut scenario = Self::of_kind(seed, Sort::Smooth, false);
        if random.chance(0.2) {
            scenario.focus = Focus::Orders;
        }
        scenario.limits.truncate(1);
        let limit = &mut scenario.limits[0];
        limit.window = random.one_of(&[10, 20]) * MILLI;
        limit.max = Permits(random.between(6, 20));
        limit.costs = random.one_of(&[Costs::One, Costs::One, Costs::Huge]);
        limit.demand = random.one_of(&[0.2, 0.8, 1.5]);
        scenario.lease = random.one_of(&[1, 2]) * SECOND;
        Self { duration: 16 * SECOND + 3 * scenario.lease, ..scenario }
    }
}
