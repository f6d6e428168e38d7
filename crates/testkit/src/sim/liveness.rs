//! What nobody may be denied: permits that are free anywhere, after everything has healed; and a place in the queue to who
//! wants much at once. Also what can be judged only while it goes on: places in use.

use tidegate_quota::protocol::Key;

use super::known::{ALERTS, Known};
use super::node::Node;
use super::scenario::{MILLI, SECOND, Sort};
use super::world::World;

/// Who is refused as a matter of course: what two round trips and a recall may take at most.
const PROMPT: u64 = 2 * MILLI;

impl World {
    /// After each place that is taken: so many are in use on live leases, whatever else happens.
    pub(super) fn count_live_places(&mut self, key: Key) {
        let live = |node: &Node| node.live_places(key, node.boot.read(self.now));
        let live = self.nodes.iter().filter(|node| node.up).map(live).sum();
        self.oracle.crowd(key, live, "on live leases", self.now);
    }

    /// After each call that begins: so many run. A call ends with its lease, but in a process that is stopped, which does not
    /// know.
    pub(super) fn count_running_places(&mut self, node: usize) {
        let keys: Vec<_> = self.nodes[node].known.iter().filter(|k| k.sort == Sort::Places).map(|k| k.key).collect();
        for key in keys {
            let awake = self.nodes.iter().filter(|node| node.up && node.frozen_until + MILLI < self.now);
            let running = awake.map(|node| node.running_places(key)).sum();
            self.oracle.crowd(key, running, "by running calls", self.now);
        }
    }

    /// Nothing has gone wrong for a while before `since`, and nobody is far away.
    fn is_calm(&self, since: u64) -> bool {
        if !(0..self.voters.len()).any(|voter| self.leads(voter)) {
            return false;
        }
        let served = self.scenario.serves_again_at() + 2 * SECOND;
        let led = self.leads_since + 3 * SECOND;
        !self.scenario.is_harassed() && since >= served.max(led) && self.scenario.network.slow <= PROMPT
    }

    /// A request that came at `started` was refused because there are no permits. Wrong, if half of them are free, or seven
    /// eighths. Not of one that a process took up before it was stopped, minutes ago.
    pub(super) fn refused_for_want(&mut self, known: Known, cost: u64, started: u64) {
        // Where two thirds gather for one and are kept for another, nothing is free for small ones.
        if !self.is_calm(started) || self.scenario.has_huge_costs() {
            return;
        }
        let long = known.window.0 + known.window.0 / 8 + 500 * MILLI;
        let used = match known.sort {
            Sort::Smooth => return, // Each moment that nobody holds a part of the rate is lost.
            Sort::Sliding | Sort::Bucket => self.oracle.lately(known.key, self.now.saturating_sub(long)),
            Sort::Places => {
                let in_use: u64 =
                    self.nodes.iter().map(|node| node.live_places(known.key, node.boot.read(self.now))).sum();
                in_use + self.oracle.lately(known.key, self.now.saturating_sub(500 * MILLI))
            }
            Sort::Calendar | Sort::Budget { .. } => match self.oracle.of_window(known.key) {
                // What a node that died held is lost for the rest of its window.
                Some((since, used)) if since > self.scenario.serves_again_at() && self.now > since + SECOND / 2 => used,
                _ => return,
            },
        };
        // Of what is reserved as much again may gather for somebody who waits for much.
        let gathers = known.promised || self.scenario.has_large_costs() || self.scenario.pairs > 0.3;
        let part = if gathers { 8 } else { 2 };
        if known.max.0 >= 20 && used + cost <= known.max.0 / part {
            let at = self.now as f64 / 1e9;
            self.oracle.broken(format!(
                "{:?}: {cost} refused at {at:.6} s, while {used} of {} are used",
                known.key, known.max
            ));
        }
    }

    /// Who wanted a third of a limit at once, and came again until he had it, has it.
    pub(super) fn patience_paid(&mut self, limit: usize, since: u64) {
        let waited = self.now - since;
        self.patient.remove(&limit);
        self.judge_patience(limit, waited);
    }

    /// At the end: who still waits?
    pub(super) fn judge_waiting(&mut self) {
        for (limit, since) in std::mem::take(&mut self.patient) {
            self.judge_patience(limit, self.now.saturating_sub(since));
        }
    }

    /// Two windows for calls that run, one for what they spent, and one for who came before.
    fn judge_patience(&mut self, limit: usize, waited: u64) {
        let known = self.desk.in_force(limit);
        if waited > 4 * self.scenario.longest() + 2 * SECOND && self.scenario.network.slow <= PROMPT {
            let seconds = waited as f64 / 1e9;
            self.oracle.broken(format!(
                "{:?} ({:?}): a third of it was waited for {seconds:.3} s or more",
                known.key, known.sort
            ));
        }
    }

    /// At the end: what has passed a threshold of its budget was told.
    pub(super) fn judge_alerts(&mut self) {
        for limit in 0..self.scenario.limits.len() {
            let known = self.desk.in_force(limit);
            if matches!(known.sort, Sort::Budget { .. }) && known.active && !self.scenario.is_harassed() {
                self.oracle.judge_alerts(&known, &ALERTS, self.now.saturating_sub(2 * SECOND));
            }
        }
    }
}
