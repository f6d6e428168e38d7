//! Deployments that said "not now": until then they are asked last. Of this node; outlives documents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidegate_llm::meaning::{Error, Kind};
use tidegate_policy::Deployment;
use tokio::time::Instant;

use super::choose::Order;

/// Of a throttle that names no time.
const USUAL: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
/// More are not remembered: a pattern leads to as many models as callers can name.
const MOST: usize = 1_024;

/// By provider, then by its name for the model.
type Until = HashMap<String, HashMap<String, Instant>>;

#[derive(Debug, Default)]
pub struct Rests {
    any: AtomicBool,
    until: Mutex<Until>,
}

impl Rests {
    /// A deployment failed: it rests for as long as it says, or a little if it throttles and does not say.
    pub(super) fn note(&self, deployment: &Deployment, asked: &str, error: &Error) {
        let told = error.retry_after.map(Duration::from_millis);
        let throttles = error.kind == Kind::RateLimited;
        let Some(rest) = told.or(throttles.then_some(USUAL)).filter(|rest| !rest.is_zero()) else { return };
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.values().map(HashMap::len).sum::<usize>() >= MOST {
            until.values_mut().for_each(|models| models.retain(|_, end| *end > now));
        }
        if until.values().map(HashMap::len).sum::<usize>() < MOST {
            let models = until.entry(deployment.provider.name.to_string()).or_default();
            models.insert(deployment.model(asked).to_owned(), now + rest.min(LONGEST));
            self.any.store(true, Relaxed);
        }
    }

    /// Those that rest come last, in their order.
    pub(super) fn last<'a>(&self, mut order: Order<'a>, asked: &str) -> Order<'a> {
        if order.len() > 1 && self.any.load(Relaxed) {
            let now = Instant::now();
            let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            let rests = |deployment: &Deployment| {
                let end = until.get(&*deployment.provider.name).and_then(|models| models.get(deployment.model(asked)));
                end.is_some_and(|end| *end > now)
            };
            order.sort_by_key(|deployment| rests(deployment));
        }
        order
    }
}
