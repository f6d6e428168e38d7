//! Budgets that pass a threshold: a line in the log and a metric, on the node that leads the quota group. The ledger tells
//! of each threshold once in a period.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_cluster::Cluster;
use tidegate_proxy::Gate;
use tidegate_quota::protocol::Alert;
use tidegate_telemetry::{Kind, Sample};

/// How often each limit passed each threshold.
type Passed = Arc<Mutex<BTreeMap<(String, u8), u64>>>;

pub(super) async fn tell_forever(cluster: Cluster, gate: Arc<Gate>) {
    let passed = Passed::default();
    let shown = Arc::clone(&passed);
    let help = "Times that a key of this budget passed this percentage of it, told by the quota leader of the time";
    gate.telemetry.register("budget_alerts", help, Kind::Counter, move || samples(&shown));
    loop {
        let Alert { key, window, percent, spent, max } = cluster.alerted().await;
        let snapshot = gate.snapshot.load();
        let limit = snapshot.limits.iter().find(|limit| limit.id == key.limit);
        let name = limit.map_or_else(|| key.limit.to_string(), |limit| limit.name.clone());
        let subject = format!("{:032x}", key.subject.0);
        tracing::warn!(limit = %name, %subject, percent, %spent, %max, window, "a budget has passed a threshold");
        let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
        *passed.entry((name, percent)).or_default() += 1;
    }
}

fn samples(passed: &Passed) -> Vec<Sample> {
    let passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = |((limit, percent), count): (&(String, u8), &u64)| {
        super::gauges::labelled(&[("limit", limit), ("percent", &percent.to_string())], *count)
    };
    passed.iter().map(sample).collect()
}
