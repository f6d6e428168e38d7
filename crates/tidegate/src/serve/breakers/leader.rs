//! What the control leader does about sick endpoints: keeps the judge, asks around for it, writes its verdicts.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_cluster::ProposeError;
use tidegate_model::NodeId;
use tidegate_policy::Upstream;
use tidegate_state::endpoints as ruled;
use tidegate_state::{Command, RequestId};
use tidegate_upstream::breaker::judge::{Act, Judge, Timing};
use tidegate_upstream::breaker::ruling::{Place, Verdict, What};

use super::words::{Message, Reply, command, place_of, ruling_of};
use super::{Breakers, MOST, PATIENCE, TICK};

/// A node that does not answer in this time is not waited for.
const POLL: Duration = Duration::from_millis(150);

impl Breakers {
    pub(super) async fn lead(self: Arc<Self>) {
        loop {
            let leads = self.cluster.leads_control();
            let idle = {
                let mut judge = self.judge();
                match (&mut *judge, leads) {
                    (None, true) => {
                        let mut new = Judge::default();
                        self.inform(&mut new);
                        *judge = Some(new);
                    }
                    (Some(_), false) => *judge = None,
                    _ => {}
                }
                judge.as_ref().is_none_or(Judge::is_idle)
            };
            if !idle {
                self.judge_once().await;
            }
            let pause = if idle { 4 * TICK } else { TICK };
            tokio::select! {
                () = self.judge_now.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn judge_once(&self) {
        let look = self.begun.fetch_add(1, Relaxed) + 1;
        self.look().await;
        self.looks.send_replace(look);
    }

    async fn look(&self) {
        let Some(live) = self.cluster.live_nodes(PATIENCE).await else { return };
        let ids: Vec<u64> = live.iter().map(|node| node.0).collect();
        self.rule(self.unchecked()).await;
        loop {
            let acts = {
                let mut judge = self.judge();
                let Some(judge) = &mut *judge else { return };
                let snapshot = self.gate.snapshot.load();
                judge.step(&ids, &|place, round| timing(&snapshot.upstreams, place, round), self.now())
            };
            let mut again = false;
            for act in acts {
                match act {
                    Act::Poll(places) => {
                        self.poll(&live, places).await;
                        again = true;
                    }
                    Act::Rule(verdicts) => self.rule(verdicts).await,
                }
            }
            if !again {
                return;
            }
        }
    }

    async fn poll(&self, live: &[NodeId], places: Vec<Place>) {
        let answers = self.ask_all(live, &Message::Poll(places.clone()), POLL).await;
        if let Some(judge) = &mut *self.judge() {
            for (node, reply) in answers {
                if let Reply::Evidence(evidence) = reply {
                    judge.hear(node.0, evidence, self.now());
                }
            }
            judge.polled(&places);
        }
    }

    /// Found sick once, and checked by nobody any more: the document says so.
    fn unchecked(&self) -> Vec<Verdict> {
        let snapshot = self.gate.snapshot.load();
        let checked = |name: &str| snapshot.upstreams.iter().any(|up| *up.id == *name && up.health.is_some());
        self.cluster.read(|state| {
            let sick =
                state.endpoints.rulings().filter(|(place, ruling)| ruling.unhealthy && !checked(&place.upstream));
            let well = |(place, ruling): (&ruled::Place, &ruled::Ruling)| Verdict {
                place: place_of(place),
                replaces: ruling.epoch,
                what: What::Healthy,
            };
            sick.take(MOST).map(well).collect()
        })
    }

    async fn rule(&self, verdicts: Vec<Verdict>) {
        if verdicts.is_empty() {
            return;
        }
        for verdict in &verdicts {
            let (upstream, endpoint) = (&verdict.place.upstream, &verdict.place.endpoint);
            tracing::warn!(upstream, endpoint, verdict = ?verdict.what, "the cluster rules");
        }
        let command = Command::JudgeEndpoints(verdicts.into_iter().map(command).collect());
        let mut id = [0; 16];
        if getrandom::fill(&mut id).is_err() {
            return;
        }
        let request = RequestId(u128::from_le_bytes(id));
        if let Err(why) = self.cluster.propose_as(request, command, Duration::from_secs(2)).await {
            match why {
                // Nodes of an older release are there: each decides for itself until they are gone.
                ProposeError::TooNew { .. } => tracing::debug!(%why, "no verdict about endpoints"),
                _ => tracing::warn!(%why, "a verdict about endpoints is not in the log"),
            }
        }
    }

    pub(super) fn inform(&self, judge: &mut Judge) {
        let now = self.now();
        let all = self.cluster.read(|state| {
            let ruled = state.endpoints.rulings().map(|(place, ruling)| (place_of(place), ruling_of(ruling)));
            ruled.collect::<Vec<_>>()
        });
        judge.all_ruled(&all, now);
    }
}

/// How long things take for a place; `None`: the document has no breaker for it.
fn timing(upstreams: &[Arc<Upstream>], place: &Place, round: u32) -> Option<Timing> {
    let upstream = upstreams.iter().find(|upstream| *upstream.id == *place.upstream)?;
    let rules = upstream.breaker.as_ref()?;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let open_for = rules.open_for.saturating_mul(1 << round.min(20)).min(rules.longest_open);
    let longest = upstream.timeouts.connect + upstream.timeouts.first_byte + Duration::from_secs(1);
    Some(Timing {
        open_for: millis(open_for),
        probe_for: millis(longest.min(Duration::from_secs(60))),
        relapse: millis(rules.ramp + rules.window + rules.longest_open),
    })
}
