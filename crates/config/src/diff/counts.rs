//! What a change does to counters.

use std::collections::BTreeMap;

use super::{Change, Counters, Verb};
use crate::compile::limit_id;
use crate::document::{Document, LimitRef, LimitRule, ScopePart};

/// `None`: it touches no counter.
pub(super) fn effect(change: &Change, old: &Document, new: &Document) -> Option<Counters> {
    match (change.family, change.field.as_str()) {
        ("limits", _) => Some(limit(change, old, new)),
        ("consumers", "team") => counts_by(new, &ScopePart::Team).then_some(Counters::Elsewhere),
        ("consumers" | "routes", "end_user") => counts_by(new, &ScopePart::EndUser).then_some(Counters::Elsewhere),
        ("products", "routes") => counts_by(new, &ScopePart::Product).then_some(Counters::Elsewhere),
        ("consumers" | "tenants", "plan" | "anonymous_plan") => Some(plan(change, old, new)),
        ("products" | "routes", field) if field == "weights" || field.starts_with("weights.") => Some(Counters::Kept),
        ("tenants" | "teams" | "consumers" | "plans" | "products", "limits" | "plans" | "") => maxima(change, old, new),
        _ => None,
    }
}

fn limit(change: &Change, old: &Document, new: &Document) -> Counters {
    let find = |document: &'_ Document| document.limits.iter().find(|limit| limit.name == change.name).cloned();
    match change.verb {
        Verb::Added => Counters::StartsEmpty,
        Verb::Removed => Counters::Drains,
        Verb::Changed => match (find(old), find(new)) {
            (Some(old), Some(new)) if same_limit(&old, &new) => Counters::Kept,
            _ => Counters::StartsEmpty,
        },
    }
}

/// By what makes a limit what it is, as nodes reckon it: its kind with its window or calendar, what its cost is taken from, and
/// its scope. A bucket that becomes smooth is another limit.
fn same_limit(old: &LimitRule, new: &LimitRule) -> bool {
    limit_id(old).is_some_and(|id| limit_id(new) == Some(id))
}

fn counts_by(document: &Document, part: &ScopePart) -> bool {
    document.limits.iter().any(|limit| limit.per.contains(part))
}

/// A plan's limits count on as they did; those with the plan's own maximum are the plan's.
fn plan(change: &Change, old: &Document, new: &Document) -> Counters {
    let owns = |document: &Document, plan: Option<&serde_json::Value>| {
        let plan = plan.and_then(serde_json::Value::as_str);
        let lists = document.plans.iter().filter(|known| Some(known.name.as_str()) == plan).map(|plan| &plan.limits);
        let offers = document.products.iter().flat_map(|product| &product.plans);
        let offers = offers.filter(|offer| Some(offer.plan.as_str()) == plan).map(|offer| &offer.limits);
        lists.chain(offers).flatten().any(|limit| limit.max().is_some())
    };
    if owns(old, change.from.as_ref()) || owns(new, change.to.as_ref()) {
        Counters::StartsEmpty
    } else {
        Counters::Kept
    }
}

/// A maximum of one's own has a count of its own: it comes and goes with it, and outlives its changes.
fn maxima(change: &Change, old: &Document, new: &Document) -> Option<Counters> {
    let (old, new) = (owned(old, change), owned(new, change));
    let (came, went) = (new.keys().any(|of| !old.contains_key(of)), old.keys().any(|of| !new.contains_key(of)));
    match (came, went) {
        (true, _) => Some(Counters::StartsEmpty),
        (false, true) => Some(Counters::Drains),
        (false, false) => (change.verb == Verb::Changed).then_some(Counters::Kept),
    }
}

/// The maxima of their own of the object that changed; a product's by plan.
fn owned(document: &Document, change: &Change) -> BTreeMap<(String, String), u64> {
    let name = change.name.as_str();
    let mut owned = BTreeMap::new();
    let mut list = |of: &str, limits: &[LimitRef]| {
        let own = limits.iter().filter_map(|limit| Some(((of.to_owned(), limit.name().to_owned()), limit.max()?)));
        owned.extend(own);
    };
    match change.family {
        "tenants" => document.tenants.iter().filter(|t| t.name == name).for_each(|t| list("", &t.limits)),
        "teams" => {
            let teams = document.teams.iter().filter(|t| super::in_tenant(&t.tenant, &t.name) == name);
            teams.for_each(|t| list("", &t.limits));
        }
        "consumers" => {
            let consumers = document.consumers.iter().filter(|c| super::in_tenant(&c.tenant, &c.name) == name);
            consumers.for_each(|c| list("", &c.limits));
        }
        "plans" => document.plans.iter().filter(|p| p.name == name).for_each(|p| list("", &p.limits)),
        _ => {
            let offers = document.products.iter().filter(|p| p.name == name).flat_map(|p| &p.plans);
            offers.for_each(|offer| list(&offer.plan, &offer.limits));
        }
    }
    owned
}
