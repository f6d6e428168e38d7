//! What records of one core share: the policy they are told under, and the meters they move.
//!
//! A record names route, upstream, consumer and limits by their places in that policy. So it holds one reference, which
//! its own core alone counts: with one each, all cores would write to the same few cache lines with every request. And
//! meters are looked up by name once, not with every record.

use std::sync::{Arc, OnceLock};

use tidegate_policy::{Action, Consumer, Limit, Route, Snapshot, UpstreamId};

use crate::Telemetry;
use crate::meters::{LimitMeter, RouteMeter, UpstreamMeter};

/// Made for a core when it first meets a snapshot.
#[derive(Debug)]
pub struct Scene {
    pub(crate) telemetry: Arc<Telemetry>,
    snapshot: Arc<Snapshot>,
    /// By place, filled when first needed.
    routes: Box<[OnceLock<Box<Along>>]>,
    limits: Box<[OnceLock<Arc<LimitMeter>>]>,
}

/// The meters of a route and of the upstreams it leads to.
#[derive(Debug)]
struct Along {
    route: Arc<RouteMeter>,
    targets: Box<[OnceLock<Arc<UpstreamMeter>>]>,
}

impl Scene {
    #[must_use]
    pub fn new(telemetry: &Arc<Telemetry>, snapshot: Arc<Snapshot>) -> Arc<Self> {
        let routes = snapshot.router.routes().iter().map(|_| OnceLock::new()).collect();
        let limits = snapshot.limits.iter().map(|_| OnceLock::new()).collect();
        Arc::new(Self { telemetry: Arc::clone(telemetry), snapshot, routes, limits })
    }

    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    #[must_use]
    pub fn route(&self, at: usize) -> Option<&Arc<Route>> {
        self.snapshot.router.routes().get(at)
    }

    #[must_use]
    pub fn upstream(&self, route: usize, target: usize) -> Option<&UpstreamId> {
        match &self.route(route)?.action {
            Action::Forward { to, .. } => to.get(target).map(|target| &target.upstream.id),
            Action::Llm(llm) => llm.providers.get(target).map(|provider| &provider.upstream.id),
            Action::Redirect(_) | Action::Respond { .. } => None,
        }
    }

    #[must_use]
    pub fn consumer(&self, at: usize) -> Option<&Arc<Consumer>> {
        self.snapshot.consumers.get(at)
    }

    pub(crate) fn limit(&self, at: usize) -> Option<&Arc<Limit>> {
        self.snapshot.limits.get(at)
    }

    fn along(&self, at: usize) -> Option<&Along> {
        let (slot, route) = (self.routes.get(at)?, self.route(at)?);
        Some(slot.get_or_init(|| {
            let targets = match &route.action {
                Action::Forward { to, .. } => to.len(),
                Action::Llm(llm) => llm.providers.len(),
                Action::Redirect(_) | Action::Respond { .. } => 0,
            };
            let targets = (0..targets).map(|_| OnceLock::new()).collect();
            Box::new(Along { route: self.telemetry.meters.routes.named(&route.id), targets })
        }))
    }

    pub(crate) fn route_meter(&self, at: usize) -> Option<&RouteMeter> {
        self.along(at).map(|along| &*along.route)
    }

    pub(crate) fn upstream_meter(&self, route: usize, target: usize) -> Option<&UpstreamMeter> {
        let slot = self.along(route)?.targets.get(target)?;
        let id = self.upstream(route, target)?;
        Some(slot.get_or_init(|| self.telemetry.meters.upstreams.named(id)))
    }

    pub(crate) fn limit_meter(&self, at: usize) -> Option<&LimitMeter> {
        let (slot, limit) = (self.limits.get(at)?, self.limit(at)?);
        Some(slot.get_or_init(|| self.telemetry.meters.limits.named(&limit.name)))
    }
}
