//! One endpoint's breaker on one node. No clock, no locks, no I/O: the caller brings `now`.
//!
//! ```text
//!            own thresholds, or the cluster's ruling
//!   closed ──────────────────────────────────────────► open
//!     ▲  ▲ a ruling is vetoed by own healthy evidence    │ open_for · 2^round: ours by our clock,
//!     │  └─ until the next failure                       ▼ the cluster's by its leader's
//!   ramp ◄───────────────── good ──────────────────── half-open: one request, of one node if the cluster says so
//!   10 → 25 → 50 %                                       │ bad
//!                                                        └──► open, one round longer
//! ```

use tidegate_policy::Breaker;

use super::ruling::{Evidence, Ruling, Stand};
use super::window::{Counts, Window};

/// What may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    All,
    /// This percentage of its share.
    Share(u32),
    /// One probe.
    One,
    Nothing,
}

/// Whose decision keeps it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Us,
    Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Opened by the cluster, `until` counts only without one.
    Open {
        until: u64,
        by: By,
    },
    HalfOpen {
        by: By,
        taken: bool,
    },
    Ramp {
        since: u64,
    },
}

/// A node that cannot reach its cluster waits so much longer than the cluster would.
const GRACE: u64 = 2_000;
/// Percentages of the ramp, one per third.
const STEPS: [u32; 3] = [10, 25, 50];
const CLUSTER: &str = "the cluster's verdict";
const PROBE: &str = "the probe failed";
/// Calls that are enough to open again during the ramp.
const ENOUGH_ON_THE_RAMP: u32 = 3;

#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    window: Window,
    /// Failures since the last success.
    streak: u32,
    /// Probes that failed since it was well.
    round: u32,
    /// Since when there is trouble, and the successes counted until then.
    suspected: Option<(u64, u64)>,
    ruling: Ruling,
    probed: Option<(u64, bool)>,
    /// Why it was opened last.
    reason: &'static str,
}

impl Circuit {
    pub(crate) fn new(rules: &Breaker, totals: Counts) -> Self {
        Self {
            state: State::Closed,
            window: Window::new(millis(rules.window), totals),
            streak: 0,
            round: 0,
            suspected: None,
            ruling: Ruling::default(),
            probed: None,
            reason: "",
        }
    }

    /// The document says something else now. What is known stays, but the window begins anew.
    pub(crate) fn adopt(&mut self, rules: &Breaker, totals: Counts) {
        self.window = Window::new(millis(rules.window), totals);
    }

    pub(crate) fn pass(&self, rules: &Breaker, now: u64) -> Pass {
        match self.state {
            State::Closed => Pass::All,
            State::Ramp { since } => {
                let ramp = millis(rules.ramp).max(1);
                let third = now.saturating_sub(since).saturating_mul(3) / ramp;
                STEPS.get(usize::try_from(third).unwrap_or(usize::MAX)).map_or(Pass::All, |step| Pass::Share(*step))
            }
            State::HalfOpen { taken: false, .. } => Pass::One,
            State::Open { .. } | State::HalfOpen { taken: true, .. } => Pass::Nothing,
        }
    }

    /// When it may pass again by our own clock; `None`: it passes, or others decide.
    pub(crate) fn open_until(&self) -> Option<u64> {
        match self.state {
            State::Open { until, .. } => Some(until),
            _ => None,
        }
    }

    /// A call went well.
    pub(crate) fn ok(&mut self) {
        self.streak = 0;
    }

    /// A call failed, which `totals` counts already.
    pub(crate) fn failed(&mut self, rules: &Breaker, totals: Counts, now: u64) {
        self.window.look(totals, now);
        self.streak = self.streak.saturating_add(1);
        self.suspect(totals, now);
        if !matches!(self.state, State::Closed | State::Ramp { .. }) {
            return; // A straggler.
        }
        if let Some(why) = self.trips(rules, now) {
            self.open(rules, By::Us, why, now);
        } else if self.ruling.stand != Stand::Closed {
            self.open(rules, By::Cluster, CLUSTER, now); // The veto is over.
        }
    }

    /// Time passed. `live`: the cluster is there to decide.
    pub(crate) fn tick(&mut self, rules: &Breaker, totals: Counts, live: bool, now: u64) {
        self.window.look(totals, now);
        let calm = self.streak == 0 && self.ruling.stand == Stand::Closed && self.state == State::Closed;
        if calm && self.suspected.is_some_and(|(since, _)| now >= since + 2 * millis(rules.window)) {
            self.suspected = None;
        }
        match self.state {
            State::Closed => {
                if let Some(why) = self.trips(rules, now) {
                    self.suspect(totals, now);
                    self.open(rules, By::Us, why, now);
                }
            }
            State::Open { until, by } if now >= until && (by == By::Us || !live) => {
                self.state = State::HalfOpen { by: By::Us, taken: false };
            }
            State::HalfOpen { by: By::Cluster, taken } if !live => match self.probed.take() {
                Some((_, true)) => self.ramp(totals, now),
                _ => self.state = State::HalfOpen { by: By::Us, taken },
            },
            State::Ramp { since } if now >= since + millis(rules.ramp) => {
                self.state = State::Closed;
                self.round = 0;
            }
            State::Open { .. } | State::HalfOpen { .. } | State::Ramp { .. } => {}
        }
    }

    /// There is trouble with it somewhere: what goes well from now on is evidence against.
    pub(crate) fn suspect(&mut self, totals: Counts, now: u64) {
        self.suspected.get_or_insert((now, totals.ok));
    }

    /// What the cluster holds, as often as one likes.
    pub(crate) fn rule(&mut self, rules: &Breaker, ruling: Ruling, me: u64, totals: Counts, now: u64) {
        if ruling.epoch <= self.ruling.epoch {
            return;
        }
        let vetoed = self.vetoes(totals);
        self.ruling = ruling;
        self.probed = None;
        match ruling.stand {
            Stand::Open { .. } | Stand::HalfOpen { .. } if vetoed => {}
            Stand::HalfOpen { round, node } if node == me => {
                self.round = round;
                self.state = State::HalfOpen { by: By::Cluster, taken: false };
            }
            Stand::Open { round } | Stand::HalfOpen { round, .. } => {
                self.round = round;
                self.open(rules, By::Cluster, CLUSTER, now);
            }
            Stand::Closed => {
                let by_cluster =
                    matches!(self.state, State::Open { by: By::Cluster, .. } | State::HalfOpen { by: By::Cluster, .. });
                if by_cluster {
                    self.ramp(totals, now);
                }
            }
        }
    }

    /// The probe goes out; false: somebody else's did.
    pub(crate) fn take_probe(&mut self) -> bool {
        let State::HalfOpen { by, taken: false } = self.state else { return false };
        self.state = State::HalfOpen { by, taken: true };
        true
    }

    /// How the probe went; `None`: it said nothing (its client left), another may go.
    pub(crate) fn probe_ended(&mut self, rules: &Breaker, good: Option<bool>, totals: Counts, now: u64) {
        let State::HalfOpen { by, taken: true } = self.state else { return };
        match (by, good) {
            (_, None) => self.state = State::HalfOpen { by, taken: false },
            (By::Us, Some(true)) => self.ramp(totals, now),
            (By::Us, Some(false)) => {
                self.round = self.round.saturating_add(1);
                self.open(rules, By::Us, PROBE, now);
            }
            (By::Cluster, Some(good)) => {
                self.probed = Some((self.ruling.epoch, good));
                if !good {
                    self.open(rules, By::Cluster, PROBE, now);
                }
            }
        }
    }

    /// Is there anything others should hear?
    pub(crate) fn is_troubled(&self) -> bool {
        self.suspected.is_some() || self.state != State::Closed || self.ruling.stand != Stand::Closed
    }

    pub(crate) fn evidence(&self, rules: &Breaker, totals: Counts, now: u64) -> Evidence {
        let seen = self.window.sum(now);
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Evidence {
            ok: small(seen.ok),
            failed: small(seen.failed),
            slow: small(seen.slow),
            streak: self.streak,
            alone: self.alone(rules, now),
            opened: matches!(self.state, State::Open { .. } | State::HalfOpen { .. }),
            ok_since: small(self.ok_since(totals)),
            vetoes: self.ruling.stand != Stand::Closed && self.state == State::Closed,
            busy: 0,
            probing: matches!(self.state, State::HalfOpen { taken: true, .. }),
            probed: self.probed,
            healthy: None,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
            State::Ramp { .. } => "ramp",
        }
    }

    pub(crate) fn streak(&self) -> u32 {
        self.streak
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// How many failures in a row it takes from where it is; `None`: it is not closed.
    pub(crate) fn trips_after(&self, rules: &Breaker, now: u64) -> Option<u32> {
        matches!(self.state, State::Closed | State::Ramp { .. }).then(|| self.alone(rules, now))
    }

    /// Why it was opened last.
    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }

    fn ok_since(&self, totals: Counts) -> u64 {
        self.suspected.map_or(0, |(_, ok)| totals.ok.saturating_sub(ok))
    }

    /// Own healthy evidence: it went well since there is trouble, and nothing failed after.
    fn vetoes(&self, totals: Counts) -> bool {
        let asked = matches!(self.state, State::Closed | State::Ramp { .. });
        asked && self.streak == 0 && self.ok_since(totals) > 0
    }

    fn open(&mut self, rules: &Breaker, by: By, reason: &'static str, now: u64) {
        self.reason = reason;
        let grace = if by == By::Cluster { GRACE } else { 0 };
        self.state = State::Open { until: now + pause(rules, self.round) + grace, by };
    }

    fn ramp(&mut self, totals: Counts, now: u64) {
        self.window.clear(totals);
        self.streak = 0;
        self.suspected = None;
        self.probed = None;
        self.state = State::Ramp { since: now };
    }

    /// Why it ought to open.
    fn trips(&self, rules: &Breaker, now: u64) -> Option<&'static str> {
        let seen = self.window.sum(now);
        let min = match self.state {
            State::Ramp { .. } => rules.min_requests.min(ENOUGH_ON_THE_RAMP),
            _ => rules.min_requests,
        };
        let enough = seen.all() >= u64::from(min.max(1));
        let over = |part: u64, ratio: f64| part > 0 && share(part, seen.all()) >= ratio;
        if rules.consecutive.is_some_and(|most| self.streak >= most) {
            return Some("failures in a row");
        }
        if enough && over(seen.failed, rules.error_ratio) {
            return Some("share of failures");
        }
        let slow = rules.slow.as_ref().is_some_and(|slow| over(seen.slow, slow.ratio));
        (enough && slow).then_some("share of slow answers")
    }

    /// How long a streak of failures it takes to open it from here, nothing going well in between.
    fn alone(&self, rules: &Breaker, now: u64) -> u32 {
        let seen = self.window.sum(now);
        let before = seen.failed.saturating_sub(u64::from(self.streak));
        let least = u64::from(rules.min_requests).saturating_sub(seen.ok + before).max(1);
        #[expect(clippy::cast_precision_loss, reason = "counts of one window are far below 2^52")]
        let (ok, failed) = (seen.ok as f64, before as f64);
        let by_ratio = if rules.error_ratio < 1.0 {
            ((rules.error_ratio * (ok + failed) - failed) / (1.0 - rules.error_ratio)).max(0.0).ceil()
        } else if seen.ok == 0 {
            0.0
        } else {
            f64::from(u32::MAX)
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let by_ratio = (by_ratio as u32).max(u32::try_from(least).unwrap_or(u32::MAX));
        rules.consecutive.map_or(by_ratio, |most| by_ratio.min(most))
    }
}

/// How long it stays open after so many failed probes.
pub(crate) fn pause(rules: &Breaker, round: u32) -> u64 {
    let longest = millis(rules.longest_open.max(rules.open_for));
    millis(rules.open_for).saturating_mul(1 << round.min(20)).min(longest)
}

#[expect(clippy::cast_precision_loss, reason = "counts of one window are far below 2^52")]
fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests;
