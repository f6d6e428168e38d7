//! Budgets that pass a threshold: a line in the log, a metric, and webhooks, by the node that leads the quota group.
//!
//! The quota log keeps an alert from the entry that passed the threshold to one that says it was told. So an alert whose leader
//! dies is told by the next one, maybe again: under the same id.

mod webhook;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_cluster::Cluster;
use tidegate_model::Nanos;
use tidegate_proxy::Gate;
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Alert, Note, Untold};
use tidegate_telemetry::{Kind, Sample};
use tokio::task::JoinSet;

use self::webhook::Sender;
use super::quotas::Quotas;

/// How often is looked for alerts that nobody has told of yet.
const LOOK: Duration = Duration::from_millis(250);
/// A receiver that has not taken an alert by then is not sent it any more (log time).
const GIVEN_UP: Nanos = Nanos::from_secs(24 * 3_600);

/// How often each limit passed each threshold.
type Passed = Mutex<BTreeMap<(String, u8), u64>>;

pub(super) struct Alerts {
    cluster: Cluster,
    gate: Arc<Gate>,
    quotas: Arc<Quotas>,
    passed: Arc<Passed>,
    sender: Arc<Sender>,
}

impl Alerts {
    pub(super) fn new(cluster: &Cluster, gate: &Arc<Gate>, quotas: &Arc<Quotas>) -> Self {
        let passed = Arc::<Passed>::default();
        let shown = Arc::clone(&passed);
        let help = "Times that a key of this budget passed this percentage of it, told by the quota leader of the time";
        gate.telemetry.register("budget_alerts", help, Kind::Counter, move || samples(&shown));
        let sender = Sender::new(Arc::clone(gate));
        Self { cluster: cluster.clone(), gate: Arc::clone(gate), quotas: Arc::clone(quotas), passed, sender }
    }

    pub(super) async fn tell_forever(self) {
        // By number: logged, and on their way to webhooks or to the log as told.
        let mut in_hand: HashSet<u64> = HashSet::new();
        let mut sending: JoinSet<u64> = JoinSet::new();
        let mut told = Vec::new();
        loop {
            tokio::select! {
                alert = self.cluster.alerted() => {
                    if !self.cluster.read_ledger(Ledger::keeps_alerts) {
                        let (sender, told) = (Arc::clone(&self.sender), self.tell(alert, 0));
                        tokio::spawn(async move { sender.send(&told.await, || true).await });
                    }
                }
                Some(sent) = sending.join_next() => told.extend(sent.ok()),
                () = tokio::time::sleep(LOOK) => {}
            }
            while let Some(sent) = sending.try_join_next() {
                told.extend(sent.ok());
            }
            if !self.cluster.leads_quota() {
                // The next leader begins anew with all that was not told.
                (in_hand, told) = (HashSet::new(), Vec::new());
                sending.abort_all();
                continue;
            }
            self.keep().await;
            if !told.is_empty() && self.quotas.log_note(Note::Told(told.clone())).await.is_ok() {
                told.drain(..).for_each(|number| _ = in_hand.remove(&number));
            }
            let untold: Vec<Untold> = self.cluster.read_ledger(|ledger| ledger.untold().copied().collect());
            for untold in untold {
                if in_hand.insert(untold.number) {
                    self.begin(untold, &mut sending);
                }
            }
        }
    }

    /// From the first leader on that all live nodes understand, alerts are kept.
    async fn keep(&self) {
        let wanted = self.cluster.read_ledger(|ledger| {
            let is_budget = |policy: &tidegate_quota::protocol::Policy| {
                matches!(&policy.kind, tidegate_policy::Kind::Budget(budget) if !budget.alerts.is_empty())
            };
            !ledger.keeps_alerts() && ledger.policies().any(is_budget)
        });
        if wanted {
            let _later = self.quotas.log_note(Note::KeepAlerts).await;
        }
    }

    fn begin(&self, untold: Untold, sending: &mut JoinSet<u64>) {
        let Untold { number, alert, passed } = untold;
        let (sender, told, cluster) = (Arc::clone(&self.sender), self.tell(alert, number), self.cluster.clone());
        sending.spawn(async move {
            let goes_on = || cluster.read_ledger(Ledger::clock) < passed.saturating_add(GIVEN_UP);
            sender.send(&told.await, goes_on).await;
            number
        });
    }

    /// Counts it, and once it is known whom it is about logs it; then it is for webhooks.
    fn tell(&self, alert: Alert, number: u64) -> impl Future<Output = webhook::Told> + Send + use<> {
        let Alert { key, window, percent, spent, max } = alert;
        let (name, quotas) = (self.name(&alert), Arc::clone(&self.quotas));
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner).entry((name.clone(), percent)).or_default() += 1;
        async move {
            let (words, id) = (quotas.words_of(key).await, id(&alert, number));
            let subject = format!("{:032x}", key.subject.0);
            tracing::warn!(
                limit = %name, %words, %subject, percent, %spent, %max, window, %id,
                "a budget has passed a threshold"
            );
            let body = serde_json::json!({
                "id": id,
                "type": "budget_threshold",
                "limit": name,
                "words": words,
                "subject": subject,
                "percent": percent,
                "spent": spent.0,
                "max": max.0,
                // A period is named by its first minute.
                "period_start_unix": window.saturating_mul(60),
            });
            webhook::Told { id, body: body.to_string() }
        }
    }

    fn name(&self, alert: &Alert) -> String {
        let snapshot = self.gate.snapshot.load();
        let limit = snapshot.limits.iter().find(|limit| limit.id == alert.key.limit);
        limit.map_or_else(|| alert.key.limit.to_string(), |limit| limit.name.clone())
    }
}

/// The same for everybody who tells of it.
fn id(alert: &Alert, number: u64) -> String {
    let Alert { key, window, percent, .. } = alert;
    format!("{}-{:032x}-{window}-{percent}-{number}", key.limit, key.subject.0)
}

fn samples(passed: &Passed) -> Vec<Sample> {
    let passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = |((limit, percent), count): (&(String, u8), &u64)| {
        super::gauges::labelled(&[("limit", limit), ("percent", &percent.to_string())], *count)
    };
    passed.iter().map(sample).collect()
}
