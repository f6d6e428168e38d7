//! Cross-origin rules.

use std::time::Duration;

use http::{Method, Uri};
use tidegate_policy::Cors;

use super::{Report, header, host, matching};
use crate::decode::short;
use crate::document::CorsRule;
use crate::path::Path;

/// Browsers cap it lower.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn compile(rule: &CorsRule, route: &[Method], path: &Path<'_>, report: &Report<'_>) -> Cors {
    let CorsRule { origins, methods, headers, expose, credentials, max_age } = rule;
    let field = path.field("origins");
    let any = origins.iter().any(|origin| origin == "*");
    if origins.is_empty() {
        report.hinted(&field, "nobody is allowed by this", "name origins, or leave `cors` out");
    }
    if any && *credentials {
        let hint = "name the origins that may send cookies; browsers refuse `*` with credentials";
        report.hinted(&path.field("credentials"), "any page could act with the user's cookies", hint);
    }
    if any && origins.len() > 1 {
        report.hinted(&field, "`*` stands alone: it allows every origin", "leave the others out");
    }
    for (i, origin) in origins.iter().enumerate().filter(|(_, origin)| *origin != "*") {
        check_origin(origin, &field.item(i), report);
    }
    let own = matching::methods(methods, &path.field("methods"), report);
    let methods = match (own.is_empty(), route.is_empty()) {
        (false, _) => own,
        (true, false) => route.to_vec(),
        (true, true) => vec![Method::GET, Method::HEAD, Method::POST],
    };
    if max_age.is_some_and(|age| age.0 > MAX_AGE) {
        report.error(&path.field("max_age"), "at most 1d");
    }
    Cors {
        origins: origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
        methods,
        headers: header::names(headers, &path.field("headers"), report),
        expose: header::names(expose, &path.field("expose"), report),
        credentials: *credentials,
        max_age: max_age.map(|age| age.0),
    }
}

/// `scheme://host[:port]`, the host maybe `*.example.com`.
fn check_origin(origin: &str, path: &Path<'_>, report: &Report<'_>) {
    let plain = origin.to_ascii_lowercase().replacen("://*.", "://", 1);
    let uri = plain.parse::<Uri>().ok();
    let sane = uri.as_ref().is_some_and(|uri| {
        let authority = uri.authority().is_some_and(|a| !a.as_str().contains('@') && host::is_host(a.host()));
        uri.scheme().is_some() && authority && matches!(uri.path(), "" | "/") && uri.query().is_none()
    });
    if !sane || plain.ends_with('/') {
        let hint = "write `https://app.example.com`, without path or slash at the end";
        report.hinted(path, format!("`{}` is not an origin", short(origin)), hint);
    }
}
