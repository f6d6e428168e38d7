//! What goes wrong, and how it heals.

use tidegate_quota::guard;

use super::clock::{HOLDER_FASTEST, HOLDER_SLOWEST, LEADER_SLOWEST, leader_fastest};
use super::scenario::{Focus, MICRO, MILLI, SECOND, Sort};
use super::world::{Event, World};

impl World {
    /// One more fault, until it is time to heal.
    pub(super) fn fault(&mut self) {
        let mean = self.scenario.faults.expect("only then") as f64;
        if self.now >= self.scenario.healed_at() {
            self.heal();
            return;
        }
        let wait = match self.scenario.focus {
            Focus::All | Focus::Edits | Focus::Orders => (self.random.about(mean) as u64).min(30 * SECOND),
            Focus::Hoards | Focus::Tails | Focus::Crashes | Focus::Failover => mean as u64,
            Focus::Hermit => 5_000 * SECOND, // Once.
        };
        let left = self.scenario.healed_at() - self.now;
        self.after(wait.min(left), Event::Fault); // The last one heals.
        let node = self.random.index(self.nodes.len());
        let voter = self.random.index(self.voters.len());
        let fault = self.random.below(18);
        self.trace(|| format!("fault {fault} of node {node} or voter {voter}"));
        match fault {
            _ if self.scenario.focus == Focus::Hoards => self.hoard(node),
            _ if self.scenario.focus == Focus::Failover => self.kill_leader(),
            _ if self.scenario.focus == Focus::Crashes => match fault % 4 {
                0 => self.kill(node),
                1 => self.freeze(node),
                2 => self.cut_off(node),
                _ => self.kill_leader(),
            },
            _ if self.scenario.focus == Focus::Tails => self.lag_and_lead(),
            _ if self.scenario.focus == Focus::Edits => self.edit(),
            _ if self.scenario.focus == Focus::Orders => match fault % 5 {
                0 => self.edit(),
                _ => self.order(),
            },
            _ if self.scenario.focus == Focus::Hermit => self.leave_alone(node),
            0 => self.kill(node),
            1 | 2 => self.freeze(node),
            3 => self.cut_off(node),
            4 | 5 => self.hoard(node),
            6 if self.random.chance(0.4) => self.wipe_voter(voter),
            6 => self.kill_voter(voter),
            7 | 8 => self.answers_leave_leader_dead = true,
            9 => self.freeze_leader(),
            10 => self.suspend_voter(voter),
            11 => self.cut_off_leader(),
            12 if self.random.chance(0.5) => self.lag_and_lead(),
            12 => self.elect(), // Out of the blue: a new leader whose tail is not applied yet.
            13 | 14 => self.edit(),
            15 => self.order(),
            16 => self.set_clock_wrong(voter),
            _ if self.random.chance(0.2) => self.remove(node),
            _ => self.restart_all(),
        }
    }

    fn some_time(&mut self) -> u64 {
        let longest = self.random.one_of(&[20 * MILLI, SECOND, 4 * SECOND, 12 * SECOND]);
        self.random.below(longest)
    }

    fn kill(&mut self, node: usize) {
        if self.nodes[node].up {
            self.nodes[node].die();
            let wait = self.some_time();
            self.after(wait, Event::Restart { node });
        }
    }

    pub(super) fn restart(&mut self, node: usize) {
        self.nodes[node].up = true;
    }

    pub(super) fn suspend(&mut self, node: usize, until: u64) {
        let wakes = self.nodes[node].frozen_until.max(until);
        self.nodes[node].frozen_until = wakes;
        if !guard!("holder-clock-counts-suspend") {
            let now = self.now;
            self.nodes[node].boot.stop(now, wakes);
        }
    }

    /// SIGSTOP and a suspended machine are the same to a holder: its clock goes on.
    fn freeze(&mut self, node: usize) {
        let until = self.now + self.some_time();
        self.suspend(node, until);
    }

    fn cut_off(&mut self, node: usize) {
        self.nodes[node].cut = true;
        let wait = self.some_time();
        self.after(wait, Event::Heal { node });
    }

    /// A node fills up, falls silent, and spends everything about when its lease ends; and just when the ledger no longer
    /// charges what it held, another node takes all it gets.
    fn hoard(&mut self, node: usize) {
        if self.scenario.focus == Focus::Hoards && self.random.chance(0.2) {
            return self.rebirth(node);
        }
        let limit = self.random.index(self.scenario.limits.len());
        let (max, lease) = (self.scenario.limits[limit].max.0, self.scenario.lease);
        let many = u32::try_from(max.min(150)).expect("small");
        let fills = many / self.random.one_of(&[2, 8]) + 1;
        self.after(0, Event::Burst { node, limit, left: fills, every: MILLI });
        let holds = u64::from(fills) * MILLI + self.random.between(1, 60) * MILLI;
        // Now and then D is halved in between: what was leased before is still held for all of it.
        let shorter = self.scenario.focus == Focus::Hoards && self.random.chance(0.4);
        self.shorten(false);
        let (mut silent, mut charged) = (holds, lease);
        if shorter {
            self.after(holds, Event::Shorten);
            silent = holds + self.random.between(40, 300) * MILLI;
            charged = silent - holds + lease / 2;
        }
        let choices =
            if shorter { [(60, 95, lease / 8), (75, 90, MILLI)] } else { [(80, 115, lease / 8), (97, 109, MILLI)] };
        let (from, to, long) = self.random.one_of(&choices);
        let spends = holds + self.random.between(lease * from / 100, lease * to / 100);
        if self.scenario.focus == Focus::Hoards && self.random.chance(0.3) {
            self.at(self.now + holds, Event::Suspend { node, until: self.now + spends });
        }
        let every = (self.random.between(MILLI, long) / u64::from(many)).max(1);
        let (until, cut) = (self.now + spends.max(silent), self.random.chance(0.8));
        self.after(silent, Event::Hush { node, until, cut });
        self.after(spends.max(silent), Event::Burst { node, limit, left: many, every });
        let other = (node + 1) % self.nodes.len();
        let known = self.desk.in_force(limit);
        let window = if known.sort == Sort::Sliding { known.window.0 } else { 0 };
        let late = self.random.below(lease / 25);
        let every = (lease / 100 / u64::from(many)).max(1);
        self.after(holds + charged + window + late, Event::Burst { node: other, limit, left: many, every });
    }

    /// A process takes all it can and dies, and another one starts in its place at once; then everybody asks.
    fn rebirth(&mut self, node: usize) {
        self.trace(|| format!("rebirth of node {node}"));
        let many = u32::try_from(self.scenario.limits[0].max.0.min(150)).expect("small");
        self.nodes[node].die();
        self.restart(node);
        // All in one wave: taken from one grant, and dead before a report tells of it.
        self.after(MILLI, Event::Burst { node, limit: 0, left: many, every: 1 });
        let dies = MILLI + self.random.between(4, 15) * MILLI;
        let every = 200 * MICRO;
        self.after(dies, Event::Crash { node });
        for other in [node, (node + 1) % self.nodes.len()] {
            self.after(dies + 30 * MILLI, Event::Burst { node: other, limit: 0, left: many, every });
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        self.nodes[node].die();
        self.restart(node);
    }

    fn leave_alone(&mut self, node: usize) {
        self.nodes[node].cut = true;
        let wait = self.random.between(3_500, 3_900) * SECOND;
        let window = self.desk.in_force(0).window.0;
        for other in 0..self.nodes.len() {
            self.after(wait, Event::Burst { node: other, limit: 0, left: 400, every: window / 200 });
        }
        self.after(wait + 3 * window, Event::Heal { node });
    }

    pub(super) fn hush(&mut self, node: usize, until: u64, cut: bool) {
        self.nodes[node].quiet_until = until;
        if cut {
            self.nodes[node].cut = true;
            self.at(until + self.scenario.lease / 3, Event::Heal { node });
        }
    }

    pub(super) fn rejoin(&mut self, node: usize) {
        self.nodes[node].die();
        self.nodes[node].joined += 1;
        self.nodes[node].up = true;
    }

    fn kill_leader(&mut self) {
        if let Some(leader) = self.leader() {
            self.kill_voter(leader);
        }
    }

    fn freeze_leader(&mut self) {
        if let Some(leader) = self.leader() {
            let until = self.now + self.some_time();
            self.voters[leader].frozen_until = until;
        }
    }

    fn suspend_voter(&mut self, voter: usize) {
        let (now, until) = (self.now, self.now + self.some_time());
        if self.voters[voter].frozen_until <= now {
            self.voters[voter].frozen_until = until;
            self.voters[voter].raw.stop(now, until);
        }
    }

    /// A voter writes what comes and applies none of it; then it leads, with all of that still to apply.
    fn lag_and_lead(&mut self) {
        let voter = self.random.index(self.voters.len());
        if self.leader() == Some(voter) {
            return;
        }
        let leads = self.now + self.random.between(200, 1_200) * MILLI;
        let applies = leads + self.random.one_of(&[5, 100, 500]) * MILLI;
        self.voters[voter].lags_until = self.voters[voter].lags_until.max(applies);
        self.at(leads, Event::Lead { voter });
        self.at(applies, Event::Apply { voter });
    }

    fn cut_off_leader(&mut self) {
        if let Some(voter) = self.leader() {
            self.voters[voter].cut = true;
            let wait = self.some_time();
            self.after(wait, Event::HealVoter { voter });
        }
    }

    fn restart_all(&mut self) {
        for voter in 0..self.voters.len() {
            self.kill_voter(voter);
        }
    }

    pub(super) fn slew(&mut self) {
        let wait = self.random.between(200, 3_000) * MILLI;
        self.after(wait, Event::Slew);
        if self.scenario.worst_clocks {
            return;
        }
        let now = self.now;
        let node = self.random.index(self.nodes.len());
        let rate = self.random.between(HOLDER_SLOWEST, HOLDER_FASTEST);
        self.nodes[node].boot.slew(now, rate);
        self.look_at_calls(node);
        let voter = self.random.index(self.voters.len());
        if self.voters[voter].frozen_until <= now {
            let rate = self.random.between(LEADER_SLOWEST, leader_fastest());
            self.voters[voter].raw.slew(now, rate);
        }
    }

    /// Everything comes back; then the cluster has to serve again.
    fn heal(&mut self) {
        self.answers_leave_leader_dead = false;
        self.trace(|| "heals".into());
        for node in 0..self.nodes.len() {
            let state = &mut self.nodes[node];
            (state.cut, state.quiet_until) = (false, 0);
            state.frozen_until = state.frozen_until.min(self.now);
            state.up = true;
            self.look_at_calls(node);
        }
        for voter in 0..self.voters.len() {
            self.voters[voter].cut = false;
            self.set_clock_right(voter);
            if !self.voters[voter].up {
                self.after(0, Event::RestartVoter { voter });
            }
        }
        let network = &mut self.scenario.network;
        (network.loss, network.late, network.twice) = (0.0, 0.0, 0.0);
        self.scenario.slow_threads = 0.0;
        self.restore_document();
    }
}
