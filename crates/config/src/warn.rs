//! What is served and yet looks like a slip: things nobody uses, counts that cannot tell anybody apart.

use std::collections::HashSet;

use crate::compile::{Report, references};
use crate::document::{AuthKind, Document, HeaderChanges, RouteRule, ScopePart};
use crate::path::Path;
use crate::problem::Problem;
use crate::source::Locations;

/// Warnings of a document that compiles.
#[must_use]
pub fn warnings(document: &Document, locations: &Locations) -> Vec<Problem> {
    let report = Report::new(locations);
    let upstreams = document.routes.iter().flat_map(|route| route.to.iter().map(|target| target.upstream.as_str()));
    let fallbacks = document.upstreams.iter().filter_map(|u| u.breaker.as_ref()?.fallback.as_deref());
    let upstreams = upstreams.chain(fallbacks);
    unused("upstreams", document.upstreams.iter().map(|u| &u.name), &upstreams.collect(), &report);
    let plans = document.consumers.iter().filter_map(|consumer| consumer.plan.as_deref());
    unused("plans", document.plans.iter().map(|p| &p.name), &plans.collect(), &report);
    let limits = document.routes.iter().flat_map(|route| &route.limits);
    let limits = limits.chain(document.plans.iter().flat_map(|plan| &plan.limits)).map(String::as_str);
    unused("limits", document.limits.iter().map(|l| &l.name), &limits.collect(), &report);
    let secrets = document.routes.iter().flat_map(secrets);
    unused("secrets", document.secrets.iter().map(|s| &s.name), &secrets.collect(), &report);
    anonymous(document, &report);
    report.finish().err().unwrap_or_default()
}

fn unused<'d>(
    family: &'static str,
    names: impl Iterator<Item = &'d String>,
    used: &HashSet<&str>,
    report: &Report<'_>,
) {
    let list = Path::Root.field(family);
    for (i, _) in names.enumerate().filter(|(_, name)| !used.contains(name.as_str())) {
        report.warning(&list.item(i), "nothing uses this", "remove it, or name it where it is meant to hold");
    }
}

fn secrets(route: &RouteRule) -> Vec<&str> {
    let Some(HeaderChanges { set, add, remove: _ }) = &route.request_headers else { return Vec::new() };
    set.values().chain(add.values()).flat_map(|text| references(text)).collect()
}

/// A limit per key on a route that asks for none counts all callers as one.
fn anonymous(document: &Document, report: &Report<'_>) {
    let personal = |name: &String| {
        let limit = document.limits.iter().find(|limit| limit.name == *name);
        limit.is_some_and(|limit| limit.per.iter().any(|part| matches!(part, ScopePart::Key | ScopePart::Consumer)))
    };
    let list = Path::Root.field("routes");
    for (i, route) in document.routes.iter().enumerate().filter(|(_, route)| !route.auth.contains(&AuthKind::Key)) {
        for (j, name) in route.limits.iter().enumerate().filter(|(_, name)| personal(name)) {
            let reason = format!("`{name}` counts per key or consumer, but this route asks for no key");
            report.warning(&list.item(i).field("limits").item(j), reason, "add `auth: [key]`");
        }
    }
}
