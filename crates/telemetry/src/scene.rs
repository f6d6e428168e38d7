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
    routes: Box<[Along]>,
    /// By route: of the targets after the first.
    others: Box<[OnceLock<Others>]>,
    limits: Box<[OnceLock<Arc<LimitMeter>>]>,
}

/// The meters of a route and of the upstream it leads to. Side by side: of ten thousand routes none is near in memory.
#[derive(Debug, Default)]
struct Along {
    route: OnceLock<Arc<RouteMeter>>,
    first: OnceLock<Arc<UpstreamMeter>>,
}

type Others = Box<[OnceLock<Arc<UpstreamMeter>>]>;

impl Scene {
    #[must_use]
    pub fn new(telemetry: &Arc<Telemetry>, snapshot: Arc<Snapshot>) -> Arc<Self> {
        let all = || snapshot.router.routes().iter();
        let routes = all().map(|_| Along::default()).collect();
        let others = all().map(|_| OnceLock::new()).collect();
        let limits = snapshot.limits.iter().map(|_| OnceLock::new()).collect();
        Arc::new(Self { telemetry: Arc::clone(telemetry), snapshot, routes, others, limits })
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

    /// Begins to fetch what will be counted when a request of this route is over, for it comes from far away.
    #[inline]
    pub fn expects(&self, route: usize) {
        std::hint::black_box(self.routes.get(route).is_some_and(|along| along.route.get().is_some()));
    }

    pub(crate) fn route_meter(&self, at: usize) -> Option<&RouteMeter> {
        let (along, route) = (self.routes.get(at)?, self.route(at)?);
        Some(along.route.get_or_init(|| self.telemetry.meters.routes.named(&route.id)))
    }

    pub(crate) fn upstream_meter(&self, route: usize, target: usize) -> Option<&UpstreamMeter> {
        let (along, id) = (self.routes.get(route)?, self.upstream(route, target)?);
        let slot = match target.checked_sub(1) {
            None => &along.first,
            Some(other) => self.others.get(route)?.get_or_init(|| self.others(route)).get(other)?,
        };
        Some(slot.get_or_init(|| self.telemetry.meters.upstreams.named(id)))
    }

    #[cold]
    fn others(&self, route: usize) -> Others {
        let all = match self.route(route).map(|route| &route.action) {
            Some(Action::Forward { to, .. }) => to.len(),
            Some(Action::Llm(llm)) => llm.providers.len(),
            Some(Action::Redirect(_) | Action::Respond { .. }) | None => 0,
        };
        (1..all).map(|_| OnceLock::new()).collect()
    }

    pub(crate) fn limit_meter(&self, at: usize) -> Option<&LimitMeter> {
        let (slot, limit) = (self.limits.get(at)?, self.limit(at)?);
        Some(slot.get_or_init(|| self.telemetry.meters.limits.named(&limit.name)))
    }
}
