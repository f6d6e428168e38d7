//! What is asked: streams of requests, each with a limit of its own, so that many can run at once and be judged apart.
//! Knows no process and no socket; `demand` sends it, `contender` turns it into limits.

use std::time::Duration;

/// Subjects of a Zipf stream.
pub(super) const KEYS: usize = 500;
const ZIPF: f64 = 1.2;
/// Waves: so much of the time, in limits per window, at so long intervals; a trickle between them keeps windows open.
const CREST: (f64, f64, f64, f64) = (0.4, 6.0, 1.1, 0.1);

/// How demand lies over nodes, keys and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One key, all nodes alike.
    Hot,
    /// One key, 80/15/5 over three nodes. The node that founded the cluster, which mostly leads it, has the 5.
    Skew,
    /// One key, all nodes alike, bursts that drift over the windows of whoever counts in fixed ones.
    Waves,
    /// Many keys, all nodes alike; the factor is that of the first key.
    Zipf,
}

/// What a limit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) max: u64,
    pub(super) window: Duration,
    /// Counts each value of `x-key` apart.
    pub(super) keyed: bool,
}

/// Requests that name one path.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) shape: Shape,
    /// Also the path.
    pub(super) rule: Rule,
    /// Demand over the limit, of the first key.
    pub(super) factor: f64,
    /// Instead of what shape and factor say: requests per second altogether.
    pub(super) pace: Option<f64>,
}

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Skew => "skew",
            Self::Waves => "waves",
            Self::Zipf => "zipf",
        }
    }

    /// Of the node at this position among so many.
    pub(super) fn share(self, node: usize, nodes: usize) -> f64 {
        match self {
            Self::Skew => [0.05, 0.80, 0.15].get(node).copied().unwrap_or(0.0),
            Self::Hot | Self::Waves | Self::Zipf => 1.0 / nodes as f64,
        }
    }
}

impl Stream {
    pub(super) fn new(shape: Shape, window: Duration, max: u64, factor: f64) -> Self {
        let name = format!("{}-{}s-{:.0}", shape.name(), window.as_secs(), factor * 100.0);
        Self { shape, rule: Rule { name, max, window, keyed: shape == Shape::Zipf }, factor, pace: None }
    }

    /// So many requests per second, evenly, whatever the limit is.
    pub(super) fn paced(rule: Rule, per_second: f64) -> Self {
        let factor = per_second * rule.window.as_secs_f64() / rule.max.max(1) as f64;
        Self { shape: Shape::Hot, rule, factor, pace: Some(per_second) }
    }

    /// The first window begins full, and no node holds anything yet: it is judged like any other, but neither use, refusals
    /// nor latencies are counted in it.
    pub(super) fn warm_up(&self) -> Duration {
        if self.pace.is_some() { Duration::ZERO } else { self.rule.window }
    }

    /// Demand above the limit: what is admitted is the question, not what is refused.
    pub(super) fn is_above(&self) -> bool {
        self.factor >= 1.0
    }

    /// The most requests per second, over all nodes and keys.
    pub(super) fn peak(&self) -> f64 {
        let per_second = self.rule.max as f64 / self.rule.window.as_secs_f64();
        match (self.pace, self.shape) {
            (Some(pace), _) => pace,
            (None, Shape::Waves) => per_second * CREST.1.max(CREST.3),
            (None, Shape::Zipf) => per_second * self.factor * zipf().last().copied().unwrap_or(1.0),
            (None, Shape::Hot | Shape::Skew) => per_second * self.factor,
        }
    }

    /// Of the peak, so long after the start.
    pub(super) fn level(&self, since: Duration) -> f64 {
        if self.shape != Shape::Waves {
            return 1.0;
        }
        let windows = since.as_secs_f64() / self.rule.window.as_secs_f64();
        let (long, high, apart, trickle) = CREST;
        if windows % apart < long { 1.0 } else { trickle / high }
    }
}

/// Weights of the ranks, summed up.
pub(super) fn zipf() -> Vec<f64> {
    let mut sum = 0.0;
    (1..=KEYS)
        .map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        })
        .collect()
}

/// Streams that run together, and for how long.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) streams: Vec<Stream>,
    pub(super) lasts: Duration,
}

/// What so many nodes are asked.
pub(super) fn cases(nodes: usize, quick: bool) -> Vec<Case> {
    let (second, ten, minute) = (Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60));
    // So that each node's part of the limit is at least a hundred permits.
    let most = 100 * nodes as u64;
    let both = |shape, window, max| [2.0, 0.7].map(|factor| Stream::new(shape, window, max, factor));
    // Demand of a wave: 2.3 limits a window.
    let waves = || Stream::new(Shape::Waves, second, 150, 2.3);
    if quick {
        let mut streams = Vec::new();
        streams.extend(both(Shape::Hot, second, most));
        streams.extend(both(Shape::Skew, second, most));
        streams.push(waves());
        streams.extend(both(Shape::Zipf, second, 50));
        streams.extend(both(Shape::Skew, ten, 1_000));
        return vec![Case { name: "all at once", streams, lasts: ten * 2 }];
    }
    let pair = |shape, small, large| [both(shape, second, small), both(shape, ten, large)].concat();
    let mut apart = vec![
        ("hot", [pair(Shape::Hot, most, 1_500.max(most)), vec![waves()]].concat()),
        ("skew", pair(Shape::Skew, most, 1_500.max(most))),
        ("zipf", pair(Shape::Zipf, 60, 300)),
    ];
    if nodes == 3 {
        apart.push(("a minute", both(Shape::Skew, minute, 6_000).to_vec()));
    }
    // Two cores carry all streams of a few nodes at once.
    if nodes <= 5 {
        let lasts = if nodes == 3 { minute * 2 } else { ten * 4 };
        let streams = apart.into_iter().flat_map(|(_, streams)| streams).collect();
        return vec![Case { name: "all at once", streams, lasts }];
    }
    let case = |(name, streams)| Case { name, streams, lasts: ten * 2 };
    apart.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_stream_is_asked_of_some_node() {
        for shape in [Shape::Hot, Shape::Skew, Shape::Waves, Shape::Zipf] {
            for nodes in [3, 5, 10] {
                let sum: f64 = (0..nodes).map(|node| shape.share(node, nodes)).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{shape:?} over {nodes}: {sum}");
            }
        }
    }

    #[test]
    fn each_stream_of_a_run_has_a_limit_of_its_own() {
        for (nodes, quick) in [(3, true), (3, false), (5, false), (10, false)] {
            let cases = cases(nodes, quick);
            let names: Vec<_> = cases.iter().flat_map(|case| &case.streams).map(|one| &one.rule.name).collect();
            let distinct: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{names:?}");
            // Two windows at least, so that one that began with a full limit is not all there is.
            assert!(cases.iter().all(|case| case.streams.iter().all(|one| case.lasts >= one.rule.window * 2)));
        }
    }

    #[test]
    fn a_waves_mean_is_what_its_factor_says() {
        let stream = Stream::new(Shape::Waves, Duration::from_secs(1), 100, 2.3);
        let steps = 1_100_000;
        let mean = (0..steps).map(|step| stream.level(Duration::from_micros(step * 10))).sum::<f64>() / steps as f64;
        assert!((mean * stream.peak() / 100.0 - stream.factor).abs() < 0.1, "{mean}");
    }
}
