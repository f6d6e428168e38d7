//! What is served and yet looks like a slip: things nobody uses, counts that cannot tell anybody apart.

use std::collections::HashSet;

use crate::compile::{Report, references};
use crate::document::{AuthKind, Document, HeaderChanges, LimitRef, ProviderRule, RouteRule, ScopePart, WebhookRule};
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
    let providers = document.models.iter().flat_map(|model| &model.deployments).map(|to| to.provider.as_str());
    let natives = document.routes.iter().filter_map(|route| route.llm.as_ref()).flat_map(|llm| &llm.native);
    let providers = providers.chain(natives.map(String::as_str));
    unused("providers", document.providers.iter().map(|p| &p.name), &providers.collect(), &report);
    let models = document.routes.iter().filter_map(|route| route.llm.as_ref()).flat_map(|llm| &llm.models);
    unused("models", document.models.iter().map(|m| &m.name), &models.map(String::as_str).collect(), &report);
    unused("limits", document.limits.iter().map(|l| &l.name), &limits(document), &report);
    let redis = document.cache.iter().filter_map(|cache| Some(cache.redis.as_ref()?.url.as_str())).flat_map(references);
    let shared = document.issuers.iter().filter_map(|issuer| issuer.secret.as_deref()).flat_map(references);
    let webhooks = document.alerts.iter().flat_map(|alerts| &alerts.webhooks);
    let webhooks = webhooks.flat_map(|webhook| references(&webhook.url).into_iter().chain(key(webhook)));
    let external = document.acme.iter().filter_map(|acme| acme.external_account.as_ref());
    let external = external.flat_map(|external| references(&external.hmac));
    let keys = document.providers.iter().flat_map(ProviderRule::proofs).flat_map(references);
    let secrets =
        document.routes.iter().flat_map(secrets).chain(redis).chain(shared).chain(webhooks).chain(keys).chain(external);
    unused("secrets", document.secrets.iter().map(|s| &s.name), &secrets.collect(), &report);
    plans(document, &report);
    issuers(document, &report);
    dear(document, &report);
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

fn key(webhook: &WebhookRule) -> Vec<&str> {
    webhook.secret.as_deref().map(references).unwrap_or_default()
}

/// Limits that somebody brings.
fn limits(document: &Document) -> HashSet<&str> {
    let names = document.routes.iter().map(|route| &route.limits);
    let names = names.chain(document.products.iter().map(|product| &product.limits));
    let offers = document.products.iter().flat_map(|product| &product.plans).map(|offer| &offer.limits);
    let lists = document.plans.iter().map(|plan| &plan.limits).chain(offers);
    let lists = lists.chain(document.tenants.iter().map(|tenant| &tenant.limits));
    let lists = lists.chain(document.teams.iter().map(|team| &team.limits));
    let lists = lists.chain(document.consumers.iter().map(|consumer| &consumer.limits));
    names.flatten().map(String::as_str).chain(lists.flatten().map(LimitRef::name)).collect()
}

/// A plan may be meant for keys only, which are not in the document.
fn plans(document: &Document, report: &Report<'_>) {
    let used = document.consumers.iter().filter_map(|consumer| consumer.plan.as_deref());
    let tenants = document.tenants.iter();
    let used = used.chain(
        tenants.flat_map(|tenant| [tenant.plan.as_deref(), tenant.anonymous_plan.as_deref()].into_iter().flatten()),
    );
    let used: HashSet<&str> = used.collect();
    let list = Path::Root.field("plans");
    for (i, _) in document.plans.iter().enumerate().filter(|(_, plan)| !used.contains(plan.name.as_str())) {
        let reason = "no consumer and no tenant is on it";
        report.warning(&list.item(i), reason, "remove it, unless keys have it (`tidegate key create --plan`)");
    }
}

/// Issuers that no route asks for, and those whose tokens for others are taken as ours.
fn issuers(document: &Document, report: &Report<'_>) {
    let kinds: Vec<&AuthKind> = document.routes.iter().flat_map(|route| &route.auth).collect();
    let used = |name: &str| {
        kinds.iter().any(|kind| matches!(kind, AuthKind::Jwt(of) if of.as_deref().is_none_or(|of| of == name)))
    };
    let list = Path::Root.field("issuers");
    for (i, issuer) in document.issuers.iter().enumerate() {
        let item = list.item(i);
        if !used(&issuer.name) {
            report.warning(&item, "nothing uses this", "remove it, or name it in a route: `auth: [\"jwt:NAME\"]`");
        }
        if issuer.audiences.is_empty() {
            let hint = "name what your tokens are for: `audiences: [orders]`";
            report.warning(&item, "tokens that it made for others are accepted as well", hint);
        }
        let url = issuer.jwks.as_ref().and_then(|jwks| jwks.url.as_deref()).unwrap_or_default();
        let local = ["http://127.", "http://localhost", "http://[::1]"].iter().any(|start| url.starts_with(start));
        if url.starts_with("http://") && !local {
            let reason = "whoever is on the way may put keys of his own into the set";
            report.warning(&item.field("jwks").field("url"), reason, "write `https://`");
        }
    }
}

/// What costs more than a limit ever admits is refused, except for callers with a maximum of their own.
fn dear(document: &Document, report: &Report<'_>) {
    let find = |name: &String| document.limits.iter().find(|limit| limit.name == *name);
    let max = |name: &String| find(name).and_then(|limit| limit.max.or(limit.burst).or(limit.concurrency));
    let routes = document.routes.iter().map(|route| &route.weights).enumerate().map(|(i, of)| ("routes", i, of));
    let products = document.products.iter().map(|product| &product.weights).enumerate();
    for (family, i, weights) in routes.chain(products.map(|(i, of)| ("products", i, of))) {
        for (name, weight) in weights {
            let Some(max) = max(name).filter(|max| *max < *weight) else { continue };
            let reason = format!("a call costs {weight} of `{name}`, which admits {max}: it is refused");
            let list = Path::Root.field(family);
            report.warning(&list.item(i).field("weights").field(name), reason, "lower it, or raise the limit's `max`");
        }
    }
}

/// Limits that cannot tell callers apart, or by what they choose themselves.
fn anonymous(document: &Document, report: &Report<'_>) {
    let list = Path::Root.field("routes");
    for (i, route) in document.routes.iter().enumerate() {
        for (j, name) in route.limits.iter().enumerate() {
            let Some(limit) = document.limits.iter().find(|limit| limit.name == *name) else { continue };
            let slip = limit.per.iter().find_map(|part| slip(name, part, route));
            if let Some((reason, hint)) = slip {
                report.warning(&list.item(i).field("limits").item(j), reason, hint);
            }
        }
    }
}

fn slip(limit: &str, part: &ScopePart, route: &RouteRule) -> Option<(String, &'static str)> {
    let keyed = !route.auth.is_empty();
    let claimed = route.auth.iter().any(|kind| matches!(kind, AuthKind::Jwt(_)));
    match part {
        ScopePart::Key | ScopePart::Consumer | ScopePart::Team if !keyed => {
            Some((format!("`{limit}` counts per {part}, but this route asks for no key"), "add `auth: [key]`"))
        }
        ScopePart::Claim(_) if !claimed => {
            Some((format!("`{limit}` counts per {part}, but this route asks for no token"), "add `auth: [jwt]`"))
        }
        ScopePart::EndUser if !keyed => {
            let reason = format!("`{limit}` counts per {part}, whom callers may make up: this route asks for no key");
            Some((reason, "add `auth: [key]`"))
        }
        ScopePart::Host if route.matches.hosts.is_empty() => {
            let reason = format!("`{limit}` counts per {part}, which callers may make up: this route takes any");
            Some((reason, "name the route's hosts: `match: {hosts: [api.example.com]}`"))
        }
        _ => None,
    }
}
