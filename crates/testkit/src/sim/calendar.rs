//! Calendar windows: voters with wall clocks of their own, some of them wrong; and the leader, who opens the next window when
//! it has begun by the shipped rules.

use tidegate_model::Millis;
use tidegate_quota::calendar::{Ahead, agreed, ahead_of_majority};
use tidegate_quota::protocol::{Command, Opening};

use super::scenario::{MILLI, SECOND};
use super::world::{Event, World};

/// The wall clock at the beginning of time, in milliseconds.
const BEGINS: u64 = 1_700_000_000_000;
/// It goes so much faster than time, so that a minute is six seconds.
const FASTER: u64 = 10;
/// Right clocks are this far from the truth at most.
pub(super) const RIGHT: u64 = 300;
/// How much too early a window may open: what clocks may be apart, and one of them from the truth.
const EARLY: u64 = 1_000 + RIGHT;

/// What a right clock says.
pub(super) fn wall(now: u64) -> Millis {
    Millis(BEGINS + now / MILLI * FASTER)
}

impl World {
    fn wall_of(&self, voter: usize, now: u64) -> Millis {
        Millis(wall(now).0.saturating_add_signed(self.voters[voter].wall_is_off))
    }

    /// Every voter that believes to lead looks for windows that have begun, and asks the others what time it is.
    pub(super) fn turn_calendar(&mut self) {
        self.after(100 * MILLI, Event::TurnCalendar);
        for voter in 0..self.voters.len() {
            if !self.leads(voter) {
                continue;
            }
            let asked = self.wall_of(voter, self.now);
            let (mut ahead, mut known_at) = (vec![Ahead::NOT], self.now);
            for other in (0..self.voters.len()).filter(|other| *other != voter) {
                if self.voters[voter].cut || !self.is_reachable(other) || self.random.chance(self.scenario.network.loss)
                {
                    continue;
                }
                let network = self.scenario.network;
                let looked = self.now + self.random.between(network.quick, network.slow.max(network.quick));
                let back = looked + self.random.between(network.quick, network.slow.max(network.quick));
                ahead.push(Ahead::of(self.wall_of(other, looked), asked, self.wall_of(voter, back)));
                known_at = known_at.max(back);
            }
            self.trace(|| format!("voter {voter} is told it is ahead by {ahead:?}"));
            if let Some(wrong) = ahead_of_majority(&ahead, self.voters.len()) {
                let life = self.voters[voter].life;
                self.at(known_at, Event::OpenWindows { voter, life, asked, wrong });
            }
        }
    }

    pub(super) fn open_windows(&mut self, voter: usize, asked: Millis, wrong: i64) {
        let at = agreed(asked, self.wall_of(voter, self.now), wrong);
        let due = self.voters[voter].ledger.due_windows(at);
        if !due.is_empty() {
            self.propose(voter, Command::OpenWindows(due));
        }
    }

    /// A voter applied this before any other did. It was stamped at `stamped`.
    pub(super) fn opened(&mut self, openings: &[Opening], stamped: u64) {
        for opening in openings {
            let truth = wall(stamped).0;
            if opening.span.start.0 > truth + EARLY {
                let early = opening.span.start.0 - truth;
                self.oracle.broken(format!("{opening:?} is opened {early} ms before it begins"));
            }
            if let Some(key) = self.desk.key_of(opening.limit) {
                self.oracle.opened(key, opening, self.now);
            }
        }
    }

    /// One voter's wall clock is set wrong, by seconds or by days; never so many that the wrong ones are a majority.
    pub(super) fn set_clock_wrong(&mut self, voter: usize) {
        let wrong = self.voters.iter().filter(|voter| voter.wall_is_off.unsigned_abs() > RIGHT).count();
        if 2 * (wrong + 1) >= self.voters.len() {
            return;
        }
        let off = i64::try_from(self.random.one_of(&[2_000, 30_000, 90_000, 86_400_000_u64])).expect("a day");
        self.voters[voter].wall_is_off = if self.random.chance(0.5) { off } else { -off };
        let wait = self.random.below(12 * SECOND);
        self.after(wait, Event::SetClockRight { voter });
    }

    pub(super) fn set_clock_right(&mut self, voter: usize) {
        let off = i64::try_from(self.random.below(2 * RIGHT)).expect("small");
        self.voters[voter].wall_is_off = off - i64::try_from(RIGHT).expect("small");
    }

    /// At the end: the window that has begun is open, if anybody leads.
    pub(super) fn judge_calendar(&mut self) {
        if !(0..self.voters.len()).any(|voter| self.leads(voter)) {
            return;
        }
        let truth = wall(self.now).0;
        for limit in 0..self.scenario.limits.len() {
            let known = self.desk.in_force(limit);
            if !known.is_dated() || !known.active || self.scenario.network.slow > 20 * MILLI {
                continue;
            }
            let open = self.oracle.newest_window(known.key).unwrap_or(0);
            // A look each 100 ms, two round trips and a commit, at ten times the speed of time.
            if (open + 1) * 60_000 + 20_000 < truth {
                self.oracle.broken(format!("{:?}: window {open} is open at {truth}", known.key));
            }
        }
    }
}
