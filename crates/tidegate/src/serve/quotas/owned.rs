//! Which limit holds for whom people name: the document's, or the same one with a maximum of somebody's own. As calls find it
//! (`proxy/src/limits.rs`): the most specific of those who bring it says which.

use tidegate_policy::{Attached, Limit, Route, Snapshot};
use tidegate_proxy::Words;

/// Its place in the snapshot's list. `key_plan`: the plan that the key has of its own. `None`: nobody who is named brings it, so it
/// is the one that the document lists.
pub(super) fn place(snapshot: &Snapshot, limit: &Limit, words: &Words, key_plan: Option<&str>) -> Option<usize> {
    let tenant = if words.tenant.is_empty() { "default" } else { &words.tenant };
    let is_it = |held: &&Attached| snapshot.limits.get(held.base).is_some_and(|base| base.id == limit.id);
    let found = |list: &[Attached]| list.iter().find(is_it).map(|held| held.limit);
    let consumer = words.consumer.as_deref().and_then(|name| snapshot.consumer(tenant, name));
    let plan = match key_plan {
        Some(name) => snapshot.plans.position(name),
        None => consumer.and_then(|consumer| consumer.limits.plan_at),
    };
    let of_team = || {
        // A team's limits are its consumers'.
        let mut all = snapshot.consumers.iter().filter(|other| other.tenant == tenant);
        let team = words.team.as_ref().filter(|name| !name.is_empty())?;
        all.find(|other| other.team.as_ref() == Some(team)).and_then(|other| found(&other.limits.team))
    };
    let routes = || snapshot.router.routes().iter().filter(|route| *route.tenant == *tenant);
    let named = |route: &Route| {
        let product = words.product.as_deref().filter(|name| !name.is_empty());
        match words.route.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => *route.id == *name,
            None => product.is_some_and(|name| route.limits.product.as_deref() == Some(name)),
        }
    };
    let of_routes = || {
        let offered =
            |route: &Route| found(route.limits.of_plan(plan.or(route.limits.anonymous_plan)).unwrap_or_default());
        let mut chosen = routes().filter(|route| named(route));
        chosen.find_map(|route| offered(route).or_else(|| found(&route.limits.always)))
    };
    // Where no route is named: what holds on any of them and is somebody's own.
    let of_any = || {
        let own = |held: &&Attached| is_it(held) && held.limit != held.base;
        let is_anonymous = consumer.is_none() && key_plan.is_none();
        let mut held = routes().flat_map(|route| {
            let anonymous = route.limits.anonymous.iter().filter(|_| is_anonymous);
            let offered = plan.and_then(|plan| route.limits.of_plan(Some(plan))).unwrap_or_default();
            offered.iter().chain(&route.limits.always).chain(anonymous)
        });
        held.find(own).map(|held| held.limit)
    };
    let own = consumer.and_then(|consumer| found(&consumer.limits.own));
    own.or_else(|| found(&snapshot.plans.get(plan?)?.limits))
        .or_else(|| consumer.and_then(|consumer| found(&consumer.limits.team)))
        .or_else(of_team)
        .or_else(of_routes)
        .or_else(of_any)
}
