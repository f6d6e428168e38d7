//! Redirects that come back to the route they left. Only what is certain: same scheme and port, and no other route in
//! between takes the new address.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request};
use tidegate_policy::{Action, HostPattern, PathPattern, Redirect, Route, Router};

use super::Report;
use crate::path::Path;

pub(super) fn check(routes: &[Option<Arc<Route>>], router: &Router, report: &Report<'_>) {
    let list = Path::Root.field("routes");
    for (i, route) in routes.iter().enumerate() {
        let Some(route) = route else { continue };
        let Action::Redirect(redirect) = &route.action else { continue };
        if redirect.scheme.is_none() && redirect.port.is_none() && comes_back(route, redirect, router) {
            report.hinted(
                &list.item(i).field("redirect"),
                "the new address is taken by this route again: a loop",
                "redirect to another path or host",
            );
        }
    }
}

fn comes_back(route: &Route, redirect: &Redirect, router: &Router) -> bool {
    if redirect.path.is_none() && (redirect.host.is_none() || route.hosts.is_empty()) {
        // A route for every host that names one may rest there only if something else takes that host; unknown here.
        return false;
    }
    let method = match redirect.status.as_u16() {
        301..=303 => Method::GET,
        _ => route.methods.first().cloned().unwrap_or(Method::GET),
    };
    let path = redirect.path.as_deref().unwrap_or(match &route.path {
        PathPattern::Template(text) => text,
        PathPattern::Prefix(text) if text.is_empty() => "/",
        PathPattern::Prefix(text) => text,
    });
    let host = redirect.host.clone().unwrap_or_else(|| match route.hosts.first() {
        None => "host".to_owned(),
        Some(HostPattern::Exact(name)) => name.clone(),
        Some(HostPattern::Suffix(suffix)) => format!("host{suffix}"),
    });
    let found = request(method, path).and_then(|parts| router.find(&host, &parts));
    found.is_some_and(|found| found.route.id == route.id)
}

fn request(method: Method, path: &str) -> Option<Parts> {
    Request::builder().method(method).uri(path).body(()).ok().map(|request| request.into_parts().0)
}
