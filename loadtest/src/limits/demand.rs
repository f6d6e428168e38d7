//! Open-loop demand of many streams at once over several nodes: requests are due at random instants (Poisson), whether or
//! not earlier ones were answered; latencies count from when they were due.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_clock as clock;
use tidegate_model::Nanos;

use super::plan::{Shape, Stream, zipf};
use crate::generator::{Counts, Tally};
use crate::histogram::Histogram;
use crate::http::{Connection, get_request};
use crate::linux;

const PATIENCE: Duration = Duration::from_secs(10);
/// Threads altogether, for streams above their limit and for all others: as many requests may be on their way. Apart, so that
/// those who wait for a permit that is not there delay nobody else.
const CONNECTIONS: [f64; 2] = [210.0, 60.0];

/// A running demand; dropping it ends it.
pub(super) struct Demand {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    pub(super) began: Nanos,
}

struct Shared {
    streams: Vec<Stream>,
    began: Instant,
    stop: AtomicBool,
    nodes: usize,
    /// Two for each node: for streams above their limit, and for all others.
    lanes: Vec<Lane>,
    /// By stream.
    latencies: Vec<Histogram>,
    ranks: Vec<f64>,
    failure: Mutex<Option<String>>,
}

/// One node, and some of the streams.
struct Lane {
    node: usize,
    target: SocketAddr,
    closed: AtomicBool,
    due: Mutex<Agenda>,
    /// By stream, whether it is this lane's or not.
    tallies: Vec<Tally>,
}

/// When each stream's next request is due, and the dice.
struct Agenda {
    next: Vec<Option<Instant>>,
    dice: u64,
}

impl Demand {
    pub(super) fn start(targets: &[SocketAddr], streams: &[Stream]) -> Self {
        let (began, boot) = (Instant::now(), clock::boot());
        let lane = |nth: usize| {
            let (node, above) = (nth / 2, nth.is_multiple_of(2));
            let mut agenda = Agenda { next: Vec::new(), dice: 0x9E37_79B9_7F4A_7C15 ^ ((nth as u64 + 1) << 40) };
            for stream in streams {
                let first = agenda.gap(stream, node, targets.len()).map(|gap| began + gap);
                agenda.next.push(first.filter(|_| stream.is_above() == above));
            }
            let tallies = streams.iter().map(|_| Tally::default()).collect();
            Lane { node, target: targets[node], closed: AtomicBool::new(false), due: Mutex::new(agenda), tallies }
        };
        let shared = Arc::new(Shared {
            streams: streams.to_vec(),
            began,
            stop: AtomicBool::new(false),
            nodes: targets.len(),
            lanes: (0..targets.len() * 2).map(lane).collect(),
            latencies: streams.iter().map(|_| Histogram::default()).collect(),
            ranks: zipf(),
            failure: Mutex::default(),
        });
        let drive = |lane: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().stack_size(128 * 1024).spawn(move || shared.drive(lane)).expect("a thread starts")
        };
        let lanes = connections(streams, targets.len()).into_iter().enumerate();
        let lanes = lanes.flat_map(|(lane, connections)| std::iter::repeat_n(lane, connections));
        let threads = lanes.map(drive).collect();
        Self { shared, threads, began: boot }
    }

    /// Of one stream, over all nodes.
    pub(super) fn counts(&self, stream: usize) -> Counts {
        (0..self.shared.nodes).fold(Counts::default(), |sum, node| sum.plus(self.counts_at(node, stream)))
    }

    pub(super) fn counts_at(&self, node: usize, stream: usize) -> Counts {
        let lanes = self.shared.lanes.iter().filter(|lane| lane.node == node);
        lanes.fold(Counts::default(), |sum, lane| sum.plus(lane.tallies[stream].read()))
    }

    pub(super) fn total(&self) -> Counts {
        (0..self.shared.streams.len()).fold(Counts::default(), |sum, stream| sum.plus(self.counts(stream)))
    }

    pub(super) fn latency(&self, stream: usize, share: f64) -> Duration {
        self.shared.latencies[stream].quantile(share)
    }

    /// The first answer that was none of those a limit gives.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing more is asked of this node.
    pub(super) fn close(&self, node: usize) {
        let lanes = self.shared.lanes.iter().filter(|lane| lane.node == node);
        lanes.for_each(|lane| lane.closed.store(true, Relaxed));
    }

    /// Waits for the requests under way.
    pub(super) fn stop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

/// Of each lane: as many as its part of all that its kind of streams asks for.
fn connections(streams: &[Stream], nodes: usize) -> Vec<usize> {
    let rate = |lane: usize| -> f64 {
        let ours = streams.iter().filter(|stream| stream.is_above() == lane.is_multiple_of(2));
        ours.map(|stream| stream.peak() * stream.shape.share(lane / 2, nodes)).sum()
    };
    let of = |lane: usize| {
        let all: f64 = (0..nodes).map(|node| rate(node * 2 + lane % 2)).sum();
        if rate(lane) == 0.0 { 0 } else { (rate(lane) / all * CONNECTIONS[lane % 2]).ceil() as usize + 2 }
    };
    (0..nodes * 2).map(of).collect()
}

impl Agenda {
    /// Above 0, below 1.
    fn uniform(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        ((self.dice >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// To the next request at the stream's peak; `None`: this node is asked for none.
    fn gap(&mut self, stream: &Stream, node: usize, nodes: usize) -> Option<Duration> {
        let rate = stream.peak() * stream.shape.share(node, nodes);
        (rate > 0.0).then(|| Duration::from_secs_f64(-self.uniform().ln() / rate))
    }
}

impl Shared {
    fn drive(&self, lane: usize) {
        linux::sleep_exactly_in_this_thread();
        let lane = &self.lanes[lane];
        let mut connection = None;
        while let Some((due, stream, rank)) = self.next(lane) {
            loop {
                let wait = due.saturating_duration_since(Instant::now());
                if self.stop.load(Relaxed) || lane.closed.load(Relaxed) {
                    return;
                }
                if wait.is_zero() {
                    break;
                }
                thread::sleep(wait.min(Duration::from_millis(200)));
            }
            self.ask(lane, &mut connection, due, stream, rank);
        }
    }

    /// The earliest request that is due in this lane, and for which key.
    fn next(&self, lane: &Lane) -> Option<(Instant, usize, usize)> {
        let mut agenda = lane.due.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = agenda.next.iter().enumerate().filter_map(|(stream, due)| Some(((*due)?, stream)));
            let (due, at) = next.min()?;
            let stream = &self.streams[at];
            agenda.next[at] = agenda.gap(stream, lane.node, self.nodes).map(|gap| due + gap);
            // Thinned from the peak to what the stream asks for at this instant.
            if agenda.uniform() > stream.level(due.saturating_duration_since(self.began)) {
                continue;
            }
            let all = self.ranks.last().copied().unwrap_or(1.0);
            let rank = if stream.shape == Shape::Zipf {
                let pick = agenda.uniform() * all;
                self.ranks.partition_point(|sum| *sum < pick)
            } else {
                0
            };
            return Some((due, at, rank));
        }
    }

    fn ask(&self, lane: &Lane, kept: &mut Option<Connection>, due: Instant, stream: usize, rank: usize) {
        let (path, key) = (format!("/{}", self.streams[stream].rule.name), format!("k{rank}"));
        let answer = exchange(kept, lane.target, &get_request("load.test", &path, &[("x-key", &key)]));
        let tally = &lane.tallies[stream];
        let count = match answer {
            Ok(200) => &tally.admitted,
            Ok(429) => &tally.refused,
            Ok(503) => &tally.undecided,
            other => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| match other {
                    Ok(status) => format!("{path} was answered with {status}"),
                    Err(why) => format!("{path}: {why}"),
                });
                &tally.failed
            }
        };
        count.fetch_add(1, Relaxed);
        // What failed says nothing about how long an answer takes.
        if !std::ptr::eq(count, &tally.failed) && due >= self.began + self.streams[stream].warm_up() {
            self.latencies[stream].record(due.elapsed());
        }
    }
}

/// The answer's status, on a connection that is kept.
pub(super) fn exchange(kept: &mut Option<Connection>, to: SocketAddr, request: &[u8]) -> Result<u16, String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(to, PATIENCE).map_err(|why| why.to_string())?,
    };
    let answer = connection.exchange(request).map_err(|broken| broken.why.to_string())?;
    *kept = connection.is_reusable().then_some(connection);
    Ok(answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_nodes_get_more_connections_and_idle_ones_none() {
        let stream = |factor| Stream::new(Shape::Skew, Duration::from_secs(1), 100, factor);
        let lanes = connections(&[stream(2.0), stream(0.7)], 5);
        assert!(lanes[2] > 4 * lanes[4] && lanes[4] > lanes[0] && lanes[0] > 2, "{lanes:?}");
        assert_eq!(lanes[6..], [0; 4]);
        assert_eq!(connections(&[stream(0.7)], 3)[4], 0, "nothing is asked for above its limit");
    }

    #[test]
    fn gaps_are_as_long_as_the_rate_says() {
        let stream = Stream::new(Shape::Skew, Duration::from_secs(1), 1_000, 2.0);
        let mut agenda = Agenda { next: Vec::new(), dice: 7 };
        let mean = |agenda: &mut Agenda, node| {
            let gaps: Option<Duration> = (0..10_000).map(|_| agenda.gap(&stream, node, 3)).sum();
            gaps.map(|sum| sum.as_secs_f64() / 10_000.0)
        };
        let busy = mean(&mut agenda, 1).expect("it is asked");
        assert!((busy * 1_600.0 - 1.0).abs() < 0.05, "{busy}");
        assert_eq!(agenda.gap(&stream, 7, 10), None);
    }
}
