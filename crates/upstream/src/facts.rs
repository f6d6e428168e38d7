//! What metrics and the admin API may show of an endpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tidegate_policy::UpstreamId;

use crate::live::Live;

/// Gauges and counters of one endpoint; counters grow since the endpoint is known to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFacts {
    pub upstream: UpstreamId,
    pub endpoint: Arc<str>,
    pub in_flight: usize,
    pub open: usize,
    pub idle: usize,
    pub waiting: usize,
    /// Set aside after connections failed in a row.
    pub ejected: bool,
    pub requests: u64,
    pub connects: u64,
    pub connect_failures: u64,
    pub resets: u64,
    pub timeouts: u64,
    /// `closed`, `open`, `half_open` or `ramp`.
    pub breaker: &'static str,
    /// Active checks say that it is sick.
    pub unhealthy: bool,
    /// Times its breaker opened here.
    pub ejections: u64,
    /// Of the cluster's ruling about it.
    pub epoch: u64,
    /// Requests that this node sent it as probes of its breaker.
    pub probes: u64,
    /// Checks of its health sent by this node.
    pub checks: u64,
    pub weight: u32,
    pub drained: bool,
}

impl EndpointFacts {
    pub(crate) fn of(id: &UpstreamId, live: &Live, now: u64) -> Vec<Self> {
        let (view, conditions) = (live.view(), live.ward.conditions());
        let facts = view.members.all.iter().map(|member| {
            let endpoint = &member.endpoint;
            let condition = conditions.get(endpoint.name()).copied().unwrap_or_default();
            Self {
                upstream: Arc::clone(id),
                endpoint: Arc::clone(endpoint.name()),
                in_flight: endpoint.in_flight(),
                open: endpoint.pool.open_now(),
                idle: endpoint.pool.idle_now(),
                waiting: endpoint.pool.waiting.load(Relaxed),
                ejected: endpoint.is_ejected(now),
                requests: endpoint.requests(),
                connects: endpoint.tally.connects.load(Relaxed),
                connect_failures: endpoint.tally.connect_failures.load(Relaxed),
                resets: endpoint.tally.resets.load(Relaxed),
                timeouts: endpoint.tally.timeouts.load(Relaxed),
                breaker: condition.breaker,
                unhealthy: condition.unhealthy,
                ejections: condition.ejections,
                epoch: condition.epoch,
                probes: condition.probes,
                checks: condition.checks,
                weight: member.weight,
                drained: condition.drained,
            }
        });
        facts.collect()
    }
}
