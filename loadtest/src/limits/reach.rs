//! Which of the figures that the project wants to reach this run reached: Tidegate's own, on this machine as it was.

use std::time::Duration;

use super::cold::Cold;
use super::costs::Cost;
use super::exact::Row;
use super::failover::Killed;
use crate::decide::{Asked, Decided};
use crate::figure::Figure;
use crate::matrix::report::millis;

/// All that was measured.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) rows: Vec<Row>,
    pub(super) costs: Vec<Cost>,
    pub(super) cold: Vec<Cold>,
    pub(super) killed: Vec<Killed>,
    pub(super) decided: Vec<Decided>,
}

pub(super) const OURS: &str = "tidegate";

impl Measured {
    fn ours(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.contender == OURS)
    }

    /// The fullest window of a contender.
    pub(super) fn worst(&self, contender: &str) -> Option<f64> {
        self.rows.iter().filter(|row| row.contender == contender).map(|row| row.worst).reduce(f64::max)
    }

    /// With demand at twice the limit, and a hundred permits for each node.
    pub(super) fn used(&self, seconds: u64) -> Option<f64> {
        let rows = self.ours().filter(|row| row.stream.rule.window == Duration::from_secs(seconds));
        let rows = rows.filter(|row| fair(row) && !row.stream.rule.keyed && row.stream.factor <= 2.0);
        rows.filter_map(|row| row.utilisation).reduce(f64::min)
    }

    pub(super) fn refused(&self) -> Option<f64> {
        self.ours().filter(|row| fair(row)).filter_map(|row| row.refused).reduce(f64::max)
    }

    fn wait(&self) -> Option<f64> {
        let free = self.costs.iter().find(|cost| cost.contender == OURS)?.free_p99_ms;
        let below = self.ours().filter(|row| fair(row) && row.refused.is_some());
        below.map(|row| millis(row.p99) - free).reduce(f64::max)
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let (least, most) = (Figure::least, Figure::most);
        let percent = |share: Option<f64>| share.map(|share| share * 100.0);
        let cold = self.cold.iter().find(|cold| cold.contender == OURS).map(|cold| millis(cold.p99));
        let decided = |limits| {
            let one = |it: &&Decided| it.limits == limits && it.threads == 1 && it.asked == Asked::Keys;
            self.decided.iter().find(one).map(|decided| decided.nanos)
        };
        let killed = |of: fn(&Killed) -> f64| self.killed.iter().map(of).reduce(f64::max);
        vec![
            most("worst window over the limit", 1.0, "", self.worst(OURS)),
            least("used, demand 2 L, W = 1 s, L/N ≥ 100", 90.0, " %", percent(self.used(1))),
            least("used, demand 2 L, W = 10 s, L/N ≥ 100", 97.0, " %", percent(self.used(10))),
            least("used, demand 2 L, W = 60 s, L/N ≥ 100", 98.0, " %", percent(self.used(60))),
            most("refused, demand 0.7 L, L/N ≥ 100", 0.1, " %", percent(self.refused())),
            most("added p99, demand 0.7 L, L/N ≥ 100", 20.0, " ms", self.wait()),
            most("cold key, p99", 10.0, " ms", cold),
            most("a decision, one limit", 150.0, " ns", decided(1)),
            most("a decision, four limits", 350.0, " ns", decided(4)),
            most("leader killed: grants are back", 2_000.0, " ms", killed(|one| millis(one.grants_back))),
            most("leader killed: false 429, half of L, W = 10 s", 0.0, "", killed(|one| one.ten.refused as f64)),
        ]
    }
}

/// Each node's part of the limit is worth a hundred permits.
fn fair(row: &Row) -> bool {
    row.stream.rule.max >= 100 * row.nodes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_called_reached() {
        assert!(Measured::default().figures().iter().all(|figure| figure.cells()[3].is_empty()));
    }
}
