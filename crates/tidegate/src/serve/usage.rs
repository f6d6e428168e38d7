//! What this node's language models were used, on its way into the cluster's state: every few seconds, in one report after
//! the other. An idle node writes nothing. What was not told when a process is killed is lost: a few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::NodeId;
use tidegate_proxy::Gate;
use tidegate_state::Command;
use tidegate_state::usage::{Amounts, Key, ROWS_OF_REPORT, Report, Row};
use tokio::sync::Mutex;

use super::handover::Ways;

/// Between two reports.
const EVERY: Duration = Duration::from_secs(3);
/// Rows that wait for a leader; what comes beyond them is told without saying of whom.
const MOST_WAITING: usize = 20_000;
/// The last word of a node that stops.
const LAST: Duration = Duration::from_secs(3);

pub(super) struct UsageTold {
    ways: Arc<Ways>,
    node: NodeId,
    gate: Arc<Gate>,
    state: Mutex<State>,
}

struct State {
    life: u128,
    number: u64,
    /// Sent, and maybe in: it goes again, with its number, until the log is known to have it.
    sent: Option<Report>,
    waiting: BTreeMap<(u32, Key), Amounts>,
}

impl UsageTold {
    pub(super) fn start(ways: &Arc<Ways>, node: NodeId, gate: &Arc<Gate>) -> anyhow::Result<Arc<Self>> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|why| anyhow::anyhow!("no randomness from the kernel: {why}"))?;
        let state = State { life: u128::from_le_bytes(random), number: 0, sent: None, waiting: BTreeMap::new() };
        let told = Arc::new(Self { ways: Arc::clone(ways), node, gate: Arc::clone(gate), state: Mutex::new(state) });
        let own = Arc::downgrade(&told);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(own) = own.upgrade() else { return };
                own.tell().await;
            }
        });
        Ok(told)
    }

    /// Before the node stops: all that was counted.
    pub(super) async fn tell_last(&self) {
        if tokio::time::timeout(LAST, self.tell()).await.is_err() {
            tracing::warn!("what was used of language models in the last seconds could not be told, and is lost");
        }
    }

    async fn tell(&self) {
        let mut state = self.state.lock().await;
        state.gather(self.gate.telemetry.take_usage());
        while let Some(report) = state.next(self.node) {
            match self.ways.propose(Command::ReportUsage(report)).await {
                Ok(_) => state.sent = None,
                Err(why) => {
                    tracing::debug!(%why, "usage is not told yet");
                    return;
                }
            }
        }
    }
}

impl State {
    fn gather(&mut self, rows: Vec<Row>) {
        for Row { day, key, amounts } in rows {
            let has_room = self.waiting.len() < MOST_WAITING;
            let at = Some((day, key)).filter(|at| has_room || self.waiting.contains_key(at));
            self.waiting.entry(at.unwrap_or_else(|| (day, Key::other()))).or_default().add(&amounts);
        }
    }

    /// What was sent and is not known to be in, or else the next.
    fn next(&mut self, node: NodeId) -> Option<Report> {
        if self.sent.is_none() && !self.waiting.is_empty() {
            let first = std::iter::from_fn(|| self.waiting.pop_first()).take(ROWS_OF_REPORT);
            let rows = first.map(|((day, key), amounts)| Row { day, key, amounts }).collect();
            self.number += 1;
            self.sent = Some(Report { node, life: self.life, number: self.number, rows });
        }
        self.sent.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_wait_have_a_bound_and_nothing_is_lost() {
        let mut state = State { life: 1, number: 0, sent: None, waiting: BTreeMap::new() };
        let row = |n: usize| {
            let key = Key { consumer: n.to_string(), ..Key::default() };
            Row { day: 1, key, amounts: Amounts { calls: 1, ..Amounts::default() } }
        };
        state.gather((0..MOST_WAITING).map(row).collect());
        state.gather((0..100).map(|n| row(MOST_WAITING - 50 + n)).collect());
        assert_eq!(state.waiting.len(), MOST_WAITING + 1);
        let calls: u64 = state.waiting.values().map(|amounts| amounts.calls).sum();
        assert_eq!(calls, MOST_WAITING as u64 + 100);
    }
}
