//! How many requests may run at an upstream: learnt, not configured.
//!
//! Beyond what an upstream can work on at once, more concurrency adds waiting and no answers: times grow in proportion. So
//! the limit follows the ratio of the time answers *usually* take, the base, to the time they take now, as the gradient
//! controllers of Netflix and Envoy do, plus some room to find out whether more would do. What is different here:
//!
//! - Times are compared as means of logarithms. One slow answer among a hundred moves them little, a service that is twice
//!   as slow by a factor of two, and the spread says how much of a difference is noise.
//! - The base is measured, not remembered: every so often, while the limit is in use, it is halved for one window, and again
//!   as long as that makes answers faster. So it neither drifts up under load that lasts nor stays down when the service
//!   itself has become slower. Probes of all nodes fall together (by `now`, which is wall time for them): one alone would
//!   measure the others' load.
//! - When a fall of the limit did not make answers faster, they are slow for reasons of their own: the base moves up.
//! - Failures (timeouts, answers that say "overloaded") shrink the limit by half of their share.

use std::time::Duration;

/// Answers may take so much longer than the base before the limit falls.
const TOLERANCE: f64 = 1.03;
/// Windows with fewer answers say nothing.
const FEWEST: u32 = 10;
const SHORTEST: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(1);
/// Between two probes, at least; and so many times what a probe takes.
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBE_COST: u32 = 40;
/// A logarithm: what counts as faster, noise aside.
const FASTER: f64 = 0.14;
/// Half of the concurrency, about half of the time: all of it still waits for the same workers. Less than that, and the knee
/// lies between the two.
const HALF: f64 = 0.55;
/// A fall to this share of the limit should have made answers faster.
const FALL: f64 = 0.6;
const FIRST: f64 = 16.0;
/// So many windows in a row without a sign of too much, and the limit rises faster.
const SURE: u32 = 3;

/// What happened since the limit was last looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Answers to requests that began within the window.
    pub answers: u32,
    /// Of the natural logarithms of the seconds they took.
    pub sum: f64,
    pub squares: f64,
    /// Timeouts and answers that say "overloaded".
    pub failures: u32,
    /// Most that ran at once.
    pub peak: u32,
    /// Somebody found no room.
    pub full: bool,
    /// How long the window was.
    pub span: Duration,
}

impl Seen {
    fn mean(&self) -> f64 {
        self.sum / f64::from(self.answers.max(1))
    }

    /// The standard error of the mean.
    fn error(&self) -> f64 {
        let n = f64::from(self.answers.max(1));
        let mean = self.sum / n;
        ((self.squares / n - mean * mean).max(0.0) / n).sqrt()
    }

    fn lost(&self) -> f64 {
        let all = self.answers.saturating_add(self.failures);
        if all == 0 { 0.0 } else { f64::from(self.failures) / f64::from(all) }
    }

    /// Is that enough to judge by?
    #[must_use]
    pub fn is_enough(&self, limit: u32) -> bool {
        let seen = self.answers.saturating_add(self.failures);
        let want = limit.saturating_mul(2).clamp(2 * FEWEST, 300);
        (seen >= want && self.span >= SHORTEST) || (seen >= FEWEST && self.span >= LONG)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing has been too much yet: the limit doubles while it is in use.
    Rising,
    Steady,
    Probing(Probe),
}

/// The limit is lowered to see how fast answers are then.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probe {
    /// Before the probe, and how long answers took with it.
    limit: f64,
    took: f64,
    /// The same before the last halving.
    above: f64,
    took_above: f64,
    began: Duration,
    was_rising: bool,
}

/// The controller of one upstream's limit.
#[derive(Debug)]
pub struct Learner {
    min: f64,
    max: f64,
    limit: f64,
    /// Logarithm of the time that answers take when nothing waits.
    base: Option<f64>,
    /// The standard error of the base.
    doubt: f64,
    phase: Phase,
    /// Limit and times when the limit began to fall.
    falling: Option<(f64, f64)>,
    /// Windows in a row in which the limit was in use and not too much.
    streak: u32,
    probe_at: Duration,
    probes: u64,
    /// The window before was in use up to the limit: this one did not begin with an idle upstream, whose first answers are
    /// faster than those that follow.
    was_full: bool,
}

impl Learner {
    #[must_use]
    pub fn new(min: u32, max: u32) -> Self {
        let (min, max) = bounds(min, max);
        Self {
            min,
            max,
            limit: FIRST.clamp(min, max),
            base: None,
            doubt: 0.0,
            phase: Phase::Rising,
            falling: None,
            streak: 0,
            probe_at: Duration::ZERO,
            probes: 0,
            was_full: false,
        }
    }

    /// The document has other bounds now; what was learnt stays.
    pub fn bound(&mut self, min: u32, max: u32) -> u32 {
        (self.min, self.max) = bounds(min, max);
        self.set(self.limit)
    }

    #[must_use]
    pub fn limit(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by two u32 above 0")]
        let limit = self.limit as u32;
        limit
    }

    /// How long answers take when nothing waits, as far as that is known.
    #[must_use]
    pub fn base(&self) -> Option<Duration> {
        self.base.map(|base| Duration::try_from_secs_f64(base.exp()).unwrap_or_default())
    }

    /// Times the limit was lowered to measure.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// A window is over that is enough to judge by. `now`: wall time. Returns the limit from here on.
    pub fn learn(&mut self, seen: &Seen, now: Duration) -> u32 {
        if let Phase::Probing(probe) = self.phase {
            return self.probed(seen, probe, now);
        }
        if seen.answers < FEWEST {
            return self.steer(seen, 1.0); // What failed is all there is to judge by.
        }
        let took = seen.mean();
        let lasts = std::mem::replace(&mut self.was_full, seen.full) && seen.full;
        let first = self.probes == 0 && seen.full;
        let base = self.base.unwrap_or_else(|| self.base_is(took, seen.error()));
        if lasts && self.limit > self.min && now >= self.probe_at {
            return self.probe(took, now);
        }
        if first {
            return self.limit(); // Nothing is known of what is too much before the first probe.
        }
        let base = self.settle(seen, base, took);
        let ratio = (base + TOLERANCE.ln() + self.noise(seen) - took).exp().clamp(0.5, 1.0);
        self.steer(seen, ratio)
    }

    /// Moves the base where there is reason to.
    fn settle(&mut self, seen: &Seen, base: f64, took: f64) -> f64 {
        let quiet = !seen.full && f64::from(seen.peak) <= self.limit / 4.0;
        let mut base = base;
        if quiet || took + self.noise(seen) < base {
            base = self.base_is(base + 0.1 * (took - base), 0.9 * self.doubt + 0.1 * seen.error());
        }
        if let Some((_, before)) = self.falling.filter(|(limit, _)| self.limit < FALL * limit) {
            self.falling = Some((self.limit, took));
            if before - took <= FASTER + seen.error() {
                base = self.base_is(took, seen.error());
                self.falling = None;
            }
        }
        base
    }

    fn base_is(&mut self, base: f64, doubt: f64) -> f64 {
        (self.base, self.doubt) = (Some(base), doubt);
        base
    }

    /// By so much the times of this window and the base may differ for no reason.
    fn noise(&self, seen: &Seen) -> f64 {
        seen.error().hypot(self.doubt)
    }

    fn steer(&mut self, seen: &Seen, ratio: f64) -> u32 {
        let keep = ratio * (1.0 - seen.lost() / 2.0);
        let calm = keep >= 1.0;
        if calm {
            self.falling = None;
        } else {
            self.phase = Phase::Steady;
            if self.falling.is_none() && seen.answers >= FEWEST {
                self.falling = Some((self.limit, seen.mean()));
            }
        }
        self.streak = if calm && seen.full { self.streak.saturating_add(1) } else { 0 };
        let in_use = f64::from(seen.peak).min(self.limit);
        let next = match (seen.full, calm) {
            (true, true) if self.phase == Phase::Rising => self.limit * 2.0,
            (true, _) => self.limit * keep + self.further(),
            (false, false) if in_use > self.limit / 2.0 => (in_use * keep + room(in_use)).min(self.limit),
            (false, _) => self.limit,
        };
        self.set(next)
    }

    /// By so much the limit rises: the longer nothing speaks against it, the more.
    fn further(&self) -> f64 {
        let doublings = self.streak.saturating_sub(SURE).min(5);
        (room(self.limit) * f64::from(1_u32 << doublings)).min(self.limit / 4.0).max(room(self.limit))
    }

    fn probe(&mut self, took: f64, now: Duration) -> u32 {
        self.probes += 1;
        let was_rising = self.phase == Phase::Rising;
        self.streak = 0;
        let (limit, above) = (self.limit, self.limit);
        self.phase = Phase::Probing(Probe { limit, took, above, took_above: took, began: now, was_rising });
        self.set(self.limit / 2.0)
    }

    /// A window with the lowered limit is over: on downwards while that helps.
    fn probed(&mut self, seen: &Seen, probe: Probe, now: Duration) -> u32 {
        let took = if seen.answers < FEWEST { probe.took_above } else { seen.mean() };
        let fall = probe.took_above - took;
        let faster = fall > FASTER + seen.error();
        if fall + seen.error() > HALF && seen.full && self.limit > self.min {
            self.phase = Phase::Probing(Probe { above: self.limit, took_above: took, ..probe });
            return self.set(self.limit / 2.0);
        }
        let cost = now.saturating_sub(probe.began).max(SHORTEST) * PROBE_COST;
        self.probe_at = next_beat(now, cost);
        let base = took.min(probe.took_above);
        self.base_is(base, seen.error());
        self.falling = None;
        if !faster && probe.above >= probe.limit {
            self.phase = if probe.was_rising { Phase::Rising } else { Phase::Steady };
            return self.set(probe.limit + room(probe.limit));
        }
        // More was too much. What was worked on at once there: times grow in proportion to what waits.
        self.phase = Phase::Steady;
        let least = if faster { self.limit } else { probe.above };
        let enough = (probe.limit * (base - probe.took).exp()).max(least);
        self.set((enough * TOLERANCE + room(enough)).min(probe.limit))
    }

    fn set(&mut self, limit: f64) -> u32 {
        self.limit = limit.clamp(self.min, self.max);
        self.limit()
    }
}

/// To find out whether more would do.
fn room(limit: f64) -> f64 {
    (limit.sqrt() / 6.0).max(0.5)
}

fn bounds(min: u32, max: u32) -> (f64, f64) {
    let min = min.max(1);
    (f64::from(min), f64::from(max.max(min)))
}

/// The first multiple of `every` (rounded up to a power of two times the usual) after `now`: the same one for all nodes.
fn next_beat(now: Duration, every: Duration) -> Duration {
    let mut beat = PROBE_EVERY;
    while beat < every && beat < Duration::from_secs(3_600) {
        beat *= 2;
    }
    let (now, beat) = (now.as_millis(), beat.as_millis());
    Duration::from_millis(u64::try_from((now / beat + 1) * beat).unwrap_or(u64::MAX))
}
