//! What a seed stands for: the cluster, its limits, its demand, its network. Faults are drawn while it runs.

mod kinds;

use tidegate_model::{LimitId, Permits, Subject};
use tidegate_quota::protocol::Key;

use super::random::Random;

pub(super) const MICRO: u64 = 1_000;
pub(super) const MILLI: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// One simulation, fully described.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub(super) nodes: usize,
    pub(super) voters: usize,
    pub(super) limits: Vec<Limit>,
    /// D.
    pub(super) lease: u64,
    pub(super) duration: u64,
    /// Leader fastest, holders slowest.
    pub(super) worst_clocks: bool,
    pub(super) network: Network,
    /// Mean time between faults; `None`: nothing goes wrong.
    pub(super) faults: Option<u64>,
    /// How often a request gives back what it took; how often it asks for two limits.
    pub(super) refunds: f64,
    pub(super) pairs: f64,
    /// How often a thread is set aside between two steps.
    pub(super) slow_threads: f64,
    /// A settled key is forgotten after this long.
    pub(super) kept: u64,
    /// Keys that a node holds at a time.
    pub(super) room: usize,
    pub(super) focus: Focus,
    /// Nobody asks for anything from here on; nothing may be left in the end.
    pub(super) demand_ends: u64,
}

/// Seeds that are after the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Any,
    /// Everything may go wrong.
    Wild,
    /// Nodes that spend as late as they may.
    Stranded,
    /// The document changes all the time.
    Edited,
    /// A node alone for more than an hour.
    Hermit,
    /// 11 to 50 nodes.
    Crowd,
    /// Leaders that have much to apply still.
    Tails,
    /// Token buckets.
    Buckets,
    /// Calendar windows and budgets.
    Dated,
    /// Concurrency.
    Places,
    /// Paid after the fact.
    Promised,
    /// All kinds, and calls with several limits.
    Mixed,
    /// Orders of operators all the time.
    Ordered,
    /// As that, of buckets: maxima and rates.
    Rated,
    /// Costs above half of a limit.
    Costly,
    /// Rate shares.
    Smooth,
    /// As wild, with more keys than nodes may hold.
    Crammed,
}

impl Family {
    #[must_use]
    pub fn of(seed: u64) -> Self {
        match seed % 64 {
            1 => Self::Hermit,
            n if n % 32 == 7 => Self::Smooth,
            n if n % 32 == 16 => Self::Crammed,
            n if n % 4 == 3 => Self::Stranded,
            n if n % 8 == 5 => Self::Edited,
            n if n % 16 == 1 => Self::Costly,
            n if n % 32 == 20 => Self::Rated,
            n if n % 16 == 9 => Self::Crowd,
            n if n % 16 == 10 => Self::Tails,
            n if n % 16 == 2 => Self::Buckets,
            n if n % 16 == 4 => Self::Ordered,
            n if n % 16 == 6 => Self::Dated,
            n if n % 16 == 8 => Self::Mixed,
            n if n % 16 == 12 => Self::Promised,
            n if n % 16 == 14 => Self::Places,
            _ => Self::Wild,
        }
    }

    #[must_use]
    pub fn has(self, seed: u64) -> bool {
        self == Self::Any || self == Self::of(seed)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    All,
    /// See `World::hoard`.
    Hoards,
    /// The document alone changes, all the time.
    Edits,
    /// Orders come and go, and the document changes.
    Orders,
    /// One node is cut off for longer than a reserve lasts.
    Hermit,
    /// See `World::lag_and_lead`.
    Tails,
    /// A node or a voter dies, stops, or is cut off.
    Crashes,
    /// The leader dies.
    Failover,
}

#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) key: Key,
    pub(super) max: Permits,
    pub(super) window: u64,
    /// Demand as a multiple of the maximum.
    pub(super) demand: f64,
    pub(super) bursty: bool,
    pub(super) share: bool,
    pub(super) sort: Sort,
    /// Paid after the fact: a cost is a reservation, and what is settled may be less or more.
    pub(super) promised: bool,
    pub(super) costs: Costs,
    /// How demand is spread over nodes.
    pub(super) spread: Vec<f64>,
}

/// The kinds of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Sliding,
    /// The maximum is the burst, and comes back in a window's time.
    Bucket,
    /// A bucket that is full again within 25 ms: shared by rate.
    Smooth,
    /// Calls run for a window's time and more.
    Places,
    /// Minutes of a wall clock that runs ten times as fast as time.
    Calendar,
    /// As that, with so many percent of the maximum carried over at most.
    Budget { carry: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Costs {
    One,
    Few,
    /// Now and then a quarter of the limit.
    Large,
    /// Now and then two thirds of it.
    Huge,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    pub(super) quick: u64,
    pub(super) slow: u64,
    pub(super) loss: f64,
    pub(super) twice: f64,
    pub(super) late: f64,
}

impl Scenario {
    /// The scenario of a seed: most are wild, some are after one thing.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        match Family::of(seed) {
            Family::Hermit => Self::hermit(seed),
            Family::Stranded => Self::stranded(seed),
            Family::Edited => Self::edited(seed),
            Family::Crowd => Self::crowd(seed),
            Family::Tails => Self::tails(seed),
            Family::Buckets => Self::of_kind(seed, Sort::Bucket, false),
            Family::Dated => Self::dated(seed),
            Family::Places => Self::of_kind(seed, Sort::Places, false),
            Family::Promised => Self::promised(seed),
            Family::Mixed => Self::mixed(seed),
            Family::Ordered => Self::ordered(seed),
            Family::Rated => Self { seed, focus: Focus::Orders, ..Self::of_kind(48, Sort::Bucket, false) },
            Family::Costly => Self::costly(seed),
            Family::Smooth => Self::smooth(seed),
            Family::Crammed => Self::crammed(seed),
            Family::Any | Family::Wild => Self::wild(seed),
        }
    }

    /// As wild, with many nodes, and for a shorter time.
    fn crowd(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = random.index(40) + 11;
        let mut scenario = Self::wild(seed);
        let window = random.one_of(&[1, 1, 2]) * SECOND;
        let limits = random.between(1, 2);
        scenario.limits = (0..limits).map(|id| Limit::draw(&mut random, id + 1, window, nodes)).collect();
        scenario.lease = random.one_of(&[1, 2, 4]) * SECOND;
        Self { nodes, duration: 14 * SECOND + 3 * window + 3 * scenario.lease, ..scenario }
    }

    /// Everything may go wrong.
    fn wild(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = random.index(8) + 3;
        let window = random.one_of(&[1, 1, 1, 10, 10, 60]) * SECOND;
        let lease = random.one_of(&[1, 2, 4, 4, 10]) * SECOND;
        let limits = (0..random.between(1, 3)).map(|id| Limit::draw(&mut random, id + 1, window, nodes)).collect();
        let network = Network {
            quick: random.one_of(&[0, 50, 200]) * MICRO,
            slow: random.one_of(&[1, 2, 20, 100]) * MILLI,
            loss: random.one_of(&[0.0, 0.01, 0.1, 0.3]),
            twice: random.one_of(&[0.0, 0.02, 0.2]),
            late: random.one_of(&[0.0, 0.01, 0.1]),
        };
        Self {
            seed,
            nodes,
            voters: random.one_of(&[3, 3, 5]),
            limits,
            lease,
            duration: 18 * SECOND + 3 * window + 4 * lease,
            worst_clocks: random.chance(0.7),
            network,
            faults: Some(random.one_of(&[300, 1_000, 3_000]) * MILLI),
            refunds: random.one_of(&[0.0, 0.05, 0.3]),
            pairs: random.one_of(&[0.0, 0.2]),
            slow_threads: random.one_of(&[0.0, 0.005, 0.05]),
            kept: random.one_of(&[100, 1_000, 10_000]) * MILLI,
            room: usize::MAX,
            focus: Focus::All,
            demand_ends: u64::MAX,
        }
    }

    /// A calm cluster but for nodes that spend their leases as late as they may, while others wait for that very moment.
    fn stranded(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = random.index(3) + 3;
        let (window, lease) = (random.one_of(&[1, 2, 4, 10]) * SECOND, random.one_of(&[1, 2, 4, 10]) * SECOND);
        let limit = Limit {
            key: Key { limit: LimitId(1), subject: Subject(1) },
            max: Permits(random.between(20, 120)),
            window,
            demand: random.one_of(&[0.2, 0.6, 1.0]),
            bursty: false,
            share: false,
            sort: Sort::Sliding,
            promised: false,
            costs: Costs::One,
            spread: vec![1.0; nodes],
        };
        Self {
            limits: vec![limit],
            nodes,
            lease,
            worst_clocks: true,
            duration: 10 * SECOND + 12 * (window + 2 * lease),
            faults: Some(window + 2 * lease),
            focus: Focus::Hoards,
            slow_threads: random.one_of(&[0.0, 0.02]),
            ..Self::quiet(seed, 1, 1.0)
        }
    }

    /// A calm cluster under full load, whose voters write entries long before they apply them, and lead meanwhile.
    fn tails(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut scenario = Self::stranded(seed);
        let limit = &mut scenario.limits[0];
        (limit.window, limit.demand, scenario.lease) = (random.one_of(&[1, 2, 4]) * SECOND, 3.0, SECOND);
        limit.max = Permits(random.between(40, 200));
        Self {
            focus: Focus::Tails,
            faults: Some(random.between(1_500, 3_000) * MILLI),
            duration: 30 * SECOND,
            slow_threads: 0.0,
            ..scenario
        }
    }

    /// A calm cluster under full load whose limits change all the time, and whose nodes may hear of it late.
    fn edited(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut scenario = Self::stranded(seed);
        scenario.lease = random.one_of(&[1, 2]) * SECOND;
        let window = random.one_of(&[1, 4, 10, 10]) * SECOND;
        let limit = &mut scenario.limits[0];
        limit.window = window;
        limit.max = Permits(random.between(40, 240));
        limit.demand = random.one_of(&[0.4, 0.8, 3.0]);
        limit.share = random.chance(0.7);
        limit.bursty = random.chance(0.5);
        let mean = window / 2 + SECOND;
        let duration = 10 * SECOND + 8 * (window + scenario.lease);
        Self { focus: Focus::Edits, faults: Some(mean), duration, ..scenario }
    }

    /// Little happens for more than an hour; then a node that was alone all the time spends its reserve.
    fn hermit(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut scenario = Self::stranded(seed);
        let limit = &mut scenario.limits[0];
        limit.max = Permits(random.between(32, 120));
        limit.share = true;
        (limit.window, limit.demand, scenario.lease) = (SECOND, 0.003, SECOND);
        Self {
            focus: Focus::Hermit,
            faults: Some(20 * SECOND),
            slow_threads: 0.0,
            duration: 4_200 * SECOND,
            ..scenario
        }
    }

    /// A quiet cluster, to measure: one limit of 100 per node and window, demand as a multiple of it.
    #[must_use]
    pub fn quiet(seed: u64, window_s: u64, demand: f64) -> Self {
        let nodes = 3;
        let spread = vec![80.0, 15.0, 5.0];
        let limit = Limit {
            key: Key { limit: LimitId(1), subject: Subject(1) },
            max: Permits(400),
            window: window_s * SECOND,
            demand,
            bursty: false,
            share: false,
            sort: Sort::Sliding,
            promised: false,
            costs: Costs::One,
            spread,
        };
        Self {
            seed,
            nodes,
            voters: 3,
            limits: vec![limit],
            lease: 4 * SECOND,
            duration: 12 * SECOND + 8 * window_s * SECOND,
            worst_clocks: false,
            network: Network { quick: 100 * MICRO, slow: MILLI, loss: 0.0, twice: 0.0, late: 0.0 },
            faults: None,
            refunds: 0.0,
            pairs: 0.0,
            slow_threads: 0.0,
            kept: 10 * SECOND,
            room: usize::MAX,
            focus: Focus::All,
            demand_ends: u64::MAX,
        }
    }

    /// Five nodes, three times the limit spread evenly, so that those who live ask for enough; and every three seconds something goes wrong, to the very end.
    #[must_use]
    pub fn harassed(seed: u64) -> Self {
        let mut quiet = Self::quiet(seed, 1, 3.0);
        quiet.nodes = 5;
        quiet.limits[0].spread = vec![1.0; 5];
        quiet.limits[0].max = Permits(500);
        Self { faults: Some(3 * SECOND), duration: 40 * SECOND, focus: Focus::Crashes, ..quiet }
    }

    /// As quiet at half the limit; the leader is killed now and then, and nothing else.
    #[must_use]
    pub fn bereft(seed: u64, window_s: u64) -> Self {
        let quiet = Self::quiet(seed, window_s, 0.5);
        Self { faults: Some(10 * SECOND), duration: 90 * SECOND, focus: Focus::Failover, ..quiet }
    }

    /// As quiet, with 20 permits a second for so many nodes, round robin.
    #[must_use]
    pub fn scarce(seed: u64, nodes: usize, demand: f64) -> Self {
        let mut quiet = Self::quiet(seed, 1, demand);
        quiet.nodes = nodes;
        quiet.limits[0].spread = vec![1.0; nodes];
        quiet.limits[0].max = Permits(20);
        Self { duration: 40 * SECOND, ..quiet }
    }

    /// Many keys, each of which is asked for so seldom that it is cold each time.
    #[must_use]
    pub fn cold(seed: u64) -> Self {
        let quiet = Self::quiet(seed, 1, 0.0001);
        let limit = &quiet.limits[0];
        let key = |id: u64| Key { limit: LimitId(id), subject: Subject(u128::from(id)) };
        let limits = (1..=100).map(|id| Limit { key: key(id), ..limit.clone() }).collect();
        Self { limits, duration: 120 * SECOND, ..quiet }
    }

    /// As quiet; a key is asked for every half second and forgotten in between.
    #[must_use]
    pub fn forgetful(seed: u64) -> Self {
        let quiet = Self::quiet(seed, 1, 0.0015);
        Self { kept: 100 * MILLI, duration: 120 * SECOND, ..quiet }
    }

    /// As quiet, and the nodes die in the middle of it, all at once.
    #[must_use]
    pub fn deserted(seed: u64) -> Self {
        Self { demand_ends: 8 * SECOND, ..Self::quiet(seed, 1, 1.0) }
    }

    /// From here on nothing new goes wrong.
    pub(super) fn healed_at(&self) -> u64 {
        if self.is_measured() {
            return self.duration;
        }
        let longest = self.longest();
        let patience = if self.limits.iter().any(|limit| limit.promised) { 10 * longest } else { 0 };
        self.duration.saturating_sub(2 * (longest + self.lease) + patience + 6 * SECOND)
    }

    /// Are its figures what it is for?
    pub(super) fn is_measured(&self) -> bool {
        self.faults.is_none() || matches!(self.focus, Focus::Crashes | Focus::Failover)
    }

    pub(super) fn longest(&self) -> u64 {
        self.limits.iter().map(|limit| limit.window).max().unwrap_or(0)
    }

    pub(super) fn has_large_costs(&self) -> bool {
        self.limits.iter().any(|limit| matches!(limit.costs, Costs::Large | Costs::Huge))
    }

    /// May more than half of a limit gather for one who waits?
    pub(super) fn has_huge_costs(&self) -> bool {
        self.limits.iter().any(|limit| limit.costs == Costs::Huge)
    }

    /// Does something go wrong to the very end?
    pub(super) fn is_harassed(&self) -> bool {
        self.faults.is_some() && self.is_measured()
    }

    /// From here on every fault is over and all it charged has drained.
    pub(super) fn serves_again_at(&self) -> u64 {
        match self.faults {
            _ if self.is_measured() => 10 * SECOND,
            None => 10 * SECOND,
            Some(_) => self.duration - (self.duration - self.healed_at()) / 2 + SECOND,
        }
    }

    /// Is there steady demand above this limit, and a limit that leases can serve?
    pub(super) fn must_serve(&self, limit: usize) -> bool {
        let limit = &self.limits[limit];
        let leased = matches!(limit.sort, Sort::Sliding | Sort::Bucket) && !limit.promised;
        let steady = limit.demand >= 2.0 && !limit.bursty && limit.costs == Costs::One && leased;
        steady && self.refunds == 0.0 && limit.max.0 >= 20 * self.nodes as u64
    }
}

impl Limit {
    fn draw(random: &mut Random, id: u64, window: u64, nodes: usize) -> Self {
        let per_node = random.one_of(&[2, 10, 40]);
        let max = (per_node * nodes as u64).min(if window > SECOND { 200 } else { 120 });
        let spread = match random.below(3) {
            0 => vec![1.0; nodes],
            1 => [80.0, 15.0, 5.0].into_iter().cycle().take(nodes).collect(),
            _ => (0..nodes).map(|_| random.unit() + 0.01).collect(),
        };
        Self {
            key: Key { limit: LimitId(id), subject: Subject(u128::from(id) << 64) },
            max: Permits(max),
            window,
            demand: random.one_of(&[0.3, 0.8, 1.2, 2.0, 4.0]),
            bursty: random.chance(0.4),
            share: random.chance(0.4),
            sort: Sort::Sliding,
            promised: false,
            costs: random.one_of(&[Costs::One, Costs::One, Costs::Few, Costs::Large]),
            spread,
        }
    }

    pub(super) fn cost(&self, random: &mut Random) -> u64 {
        match self.costs {
            Costs::One => 1,
            Costs::Few => random.between(1, 4),
            Costs::Large if random.chance(0.03) => (self.max.0 / 4).max(1),
            Costs::Huge if random.chance(0.02) => (self.max.0 * 2 / 3).max(1),
            Costs::Large | Costs::Huge => 1,
        }
    }

    /// Requests per nanosecond over all nodes.
    pub(super) fn rate(&self) -> f64 {
        let cost = match self.costs {
            Costs::One => 1.0,
            Costs::Few => 2.5,
            Costs::Large => 0.97 + 0.03 * self.max.0 as f64 / 4.0,
            Costs::Huge => 0.98 + 0.02 * self.max.0 as f64 * 2.0 / 3.0,
        };
        self.demand * self.max.0 as f64 / cost / self.window as f64
    }
}
