//! What the meters stand at, for whoever tells it elsewhere than on the metrics page.

use std::sync::atomic::Ordering::Relaxed;

use crate::Telemetry;
use crate::meter::Laned;
use crate::meters::{CLASSES, METHODS, NO_ROUTE, RouteLane};
use crate::spoken::ModelLane;

/// Sums over all calls of one language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSums {
    pub cost_nanos: u64,
    pub fallbacks: u64,
    pub cache_hits: u64,
    pub saved_tokens: u64,
}

impl Telemetry {
    /// Requests by route, method and class of the answer, where there were any.
    pub fn each_route(&self, mut visit: impl FnMut(&str, &'static str, &'static str, u64)) {
        let mut route = |name: &str, lanes: &Laned<RouteLane>| {
            for (m, method) in METHODS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let count = lanes.sum(|lane| lane.requests[m][c].load(Relaxed));
                    if count > 0 {
                        visit(name, method, class, count);
                    }
                }
            }
        };
        route(NO_ROUTE, self.meters.unrouted());
        self.meters.routes.each(route);
    }

    /// Language models that were called.
    pub fn each_model(&self, mut visit: impl FnMut(&str, ModelSums)) {
        self.meters.models.each(|model, lanes| {
            let sum = |of: fn(&ModelLane) -> u64| lanes.sum(of);
            visit(
                model,
                ModelSums {
                    cost_nanos: sum(|lane| lane.cost_nanos.load(Relaxed)),
                    fallbacks: sum(|lane| lane.fallbacks.load(Relaxed)),
                    cache_hits: sum(|lane| lane.hits.load(Relaxed)),
                    saved_tokens: sum(|lane| lane.saved.load(Relaxed)),
                },
            );
        });
    }
}
