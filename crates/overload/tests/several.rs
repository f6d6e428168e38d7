//! Several nodes before one upstream, each with a learner of its own that knows nothing of the others. Time is simulated; every
//! run is the same.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tidegate_overload::{Learner, Seen};

/// Microseconds an answer takes once a worker has it.
const TAKES: u64 = 50_000;
const SECOND: u64 = 1_000_000;

struct Node {
    learner: Learner,
    running: u32,
    seen: Seen,
    full: bool,
    epoch: u64,
    opened: u64,
    answers: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    node: usize,
    began: u64,
    epoch: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Comes { node: usize },
    Answered(Call),
}

/// What is asked of one node: requests a second, from which second on.
#[derive(Debug, Clone, Copy)]
struct Asked {
    rate: f64,
    from: u64,
}

struct Run {
    /// Answers a second, by node.
    goodput: Vec<f64>,
    /// Mean time of an answer in microseconds.
    took: f64,
    limits: Vec<u32>,
}

struct Dice(u64);

impl Dice {
    fn exponential(&mut self, mean: f64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = ((self.0 >> 11) as f64) / ((1_u64 << 53) as f64);
        (-(1.0 - unit).ln() * mean) as u64
    }
}

impl Node {
    fn new() -> Self {
        let (seen, learner) = (Seen::default(), Learner::new(1, 10_000));
        Self { learner, running: 0, seen, full: false, epoch: 0, opened: 0, answers: 0 }
    }

    /// Is there room for one more?
    fn takes_in(&mut self) -> bool {
        if self.running >= self.learner.limit() {
            self.full = true;
            return false;
        }
        self.running += 1;
        self.seen.peak = self.seen.peak.max(self.running);
        true
    }

    fn answered(&mut self, call: Call, now: u64) {
        self.running -= 1;
        let time = (now - call.began).max(1) as f64 / 1e6;
        if call.epoch == self.epoch {
            self.seen.answers += 1;
            self.seen.sum += time.ln();
            self.seen.squares += time.ln() * time.ln();
        }
        (self.seen.span, self.seen.full) = (Duration::from_micros(now - self.opened), self.full);
        if self.seen.is_enough(self.learner.limit()) {
            self.learner.learn(&self.seen, Duration::from_micros(now));
            self.seen = Seen { peak: self.running, ..Seen::default() };
            (self.full, self.opened, self.epoch) = (false, now, self.epoch + 1);
        }
    }
}

/// So many workers, first come first served; the first `warm` seconds are not judged.
fn run(workers: usize, asked: &[Asked], seconds: u64, warm: u64, seed: u64) -> Run {
    let mut dice = Dice(seed);
    let mut nodes: Vec<Node> = asked.iter().map(|_| Node::new()).collect();
    let first = asked.iter().enumerate().map(|(node, asked)| Reverse((asked.from * SECOND, Event::Comes { node })));
    let mut events: BinaryHeap<_> = first.collect();
    let (mut busy, mut waiting, mut took) = (0, VecDeque::new(), 0.0);
    while let Some(Reverse((now, event))) = events.pop() {
        if now > seconds * SECOND {
            break;
        }
        match event {
            Event::Comes { node } => {
                let next = now + dice.exponential(1e6 / asked[node].rate);
                events.push(Reverse((next, Event::Comes { node })));
                if !nodes[node].takes_in() {
                    continue;
                }
                let call = Call { node, began: now, epoch: nodes[node].epoch };
                if busy < workers {
                    busy += 1;
                    events.push(Reverse((now + TAKES, Event::Answered(call))));
                } else {
                    waiting.push_back(call);
                }
            }
            Event::Answered(call) => {
                match waiting.pop_front() {
                    Some(next) => events.push(Reverse((now + TAKES, Event::Answered(next)))),
                    None => busy -= 1,
                }
                if now > warm * SECOND {
                    nodes[call.node].answers += 1;
                    took += (now - call.began) as f64;
                }
                nodes[call.node].answered(call, now);
            }
        }
    }
    let all: u64 = nodes.iter().map(|node| node.answers).sum();
    let judged = (seconds - warm) as f64;
    Run {
        goodput: nodes.iter().map(|node| node.answers as f64 / judged).collect(),
        took: took / all.max(1) as f64,
        limits: nodes.iter().map(|node| node.learner.limit()).collect(),
    }
}

fn told(run: &Run) -> String {
    format!("{:?} a second, {:.0} µs, limits {:?}", run.goodput, run.took, run.limits)
}

#[test]
fn three_nodes_keep_one_upstream_busy_and_share_it() {
    for (workers, seed) in [(8, 1), (16, 2), (64, 3), (300, 4)] {
        let peak = workers as f64 * 20.0;
        let run = run(workers, &[Asked { rate: peak, from: 0 }; 3], 120, 30, seed);
        let all: f64 = run.goodput.iter().sum();
        println!("{workers}: {}", told(&run));
        assert!(all >= 0.9 * peak, "{workers} workers, {peak} at best: {}", told(&run));
        assert!(run.took <= 2.0 * TAKES as f64, "{workers} workers: {}", told(&run));
        for one in &run.goodput {
            assert!((0.7..1.4).contains(&(one * 3.0 / all)), "{workers} workers: {}", told(&run));
        }
    }
}

#[test]
fn a_node_that_comes_later_gets_its_share_too() {
    let peak = 64.0 * 20.0;
    let late = [Asked { rate: peak, from: 0 }, Asked { rate: peak, from: 0 }, Asked { rate: peak, from: 60 }];
    let run = run(64, &late, 300, 180, 5);
    let all: f64 = run.goodput.iter().sum();
    println!("{}", told(&run));
    assert!(all >= 0.9 * peak && run.took <= 2.0 * TAKES as f64, "{}", told(&run));
    assert!(run.goodput[2] >= 0.15 * all, "{}", told(&run));
}

#[test]
fn what_one_node_does_not_need_is_the_others() {
    let peak = 32.0 * 20.0;
    let uneven =
        [Asked { rate: 2.0 * peak, from: 0 }, Asked { rate: 0.1 * peak, from: 0 }, Asked { rate: peak, from: 0 }];
    let run = run(32, &uneven, 120, 30, 6);
    let all: f64 = run.goodput.iter().sum();
    println!("{}", told(&run));
    assert!(all >= 0.9 * peak && run.took <= 2.0 * TAKES as f64, "{}", told(&run));
    assert!(run.goodput[1] >= 0.095 * peak, "who asks for little has it: {}", told(&run));
}
