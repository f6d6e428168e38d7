//! Routes that never get a request because another one takes them all.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_policy::path::Template;
use tidegate_policy::{HostPattern, PathPattern, Route, ValueMatch};

use super::Report;
use crate::path::Path;

/// Where routes compete: one host pattern (empty: any) and one shape of path.
type Ground = (String, String);

/// Exact: only a route with the same conditions, or with none, on each host of the other counts.
pub(super) fn check(routes: &[Option<Arc<Route>>], report: &Report<'_>) {
    let mut order: Vec<usize> = (0..routes.len()).filter(|&i| routes[i].is_some()).collect();
    let rank = |i: usize| {
        let route = routes[i].as_ref().expect("filtered above");
        (std::cmp::Reverse(route.priority), std::cmp::Reverse(route.predicates()))
    };
    order.sort_by_key(|&i| rank(i)); // As the router does; stable.
    let mut takers: HashMap<(Ground, Conditions), usize> = HashMap::new();
    for at in order {
        let Some(route) = &routes[at] else { continue };
        let grounds = grounds(route);
        let own = conditions(route);
        let taker = |ground: &Ground| {
            let alike = takers.get(&(ground.clone(), own.clone()));
            alike.or_else(|| takers.get(&(ground.clone(), Conditions::default()))).copied()
        };
        let all: Option<Vec<usize>> = grounds.iter().map(taker).collect();
        if let Some(first) = all.as_ref().and_then(|takers| takers.first()) {
            let list = Path::Root.field("routes");
            let other = routes[*first].as_ref().map(|route| route.id.to_string()).unwrap_or_default();
            let place = report.locations().place(&list.item(*first));
            report.hinted(
                &list.item(at).field("match"),
                format!("no request comes here: `{other}` takes all of them, {place}"),
                "remove one, add a condition, or give this one a higher `priority`",
            );
            continue;
        }
        for ground in grounds {
            takers.entry((ground, own.clone())).or_insert(at);
        }
    }
}

fn grounds(route: &Route) -> Vec<Ground> {
    let template = match &route.path {
        PathPattern::Template(text) => Template::parse(text).map(|template| template.shape()),
        PathPattern::Prefix(text) => Template::parse_prefix(text).map(|template| template.shape() + "/*"),
    };
    let Ok(shape) = template else { return Vec::new() };
    if route.hosts.is_empty() {
        return vec![(String::new(), shape)];
    }
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(name) | HostPattern::Suffix(name) => name.clone(),
    };
    route.hosts.iter().map(|pattern| (host(pattern), shape.clone())).collect()
}

/// Methods, then headers, then query, each sorted.
type Conditions = (Vec<String>, Vec<String>, Vec<String>);

fn conditions(route: &Route) -> Conditions {
    let test = |value: &ValueMatch| match value {
        ValueMatch::Present => "+".to_owned(),
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Prefix(text) => format!("^{text}"),
        ValueMatch::Regex(regex) => format!("~{regex}"),
    };
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    (
        sorted(route.methods.iter().map(ToString::to_string).collect()),
        sorted(route.headers.iter().map(|h| format!("{}{}", h.name, test(&h.value))).collect()),
        sorted(route.query.iter().map(|q| format!("{}\0{}", q.name, test(&q.value))).collect()),
    )
}
