//! What a route does with a request.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tidegate_policy::{Action, Redirect, Rewrite, Target, Targets};

use super::matching::Matching;
use super::route::World;
use super::{Report, header as headers, host};
use crate::decode::short;
use crate::document::{RedirectRule, RespondRule, RewriteRule, RouteRule, TargetRef};
use crate::path::Path;

const MAX_RESPONSE: usize = 1024 * 1024;
const MAX_WEIGHT: u32 = 1_000_000;

/// Exactly one of `to`, `redirect`, `respond`, `llm`.
pub(super) fn compile(
    rule: &RouteRule,
    matching: Option<&Matching>,
    world: &World<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Action> {
    let given = [!rule.to.is_empty(), rule.redirect.is_some(), rule.respond.is_some(), rule.llm.is_some()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        report.hinted(path, "a route does one of `to`, `redirect`, `respond`, `llm`", "write `to: [{upstream: NAME}]`");
    }
    if rule.rewrite.is_some() && rule.to.is_empty() {
        report.error(&path.field("rewrite"), "only what goes to an upstream is rewritten");
    }
    if let Some(redirect) = &rule.redirect {
        return Some(Action::Redirect(Box::new(self::redirect(redirect, matching, &path.field("redirect"), report))));
    }
    if let Some(respond) = &rule.respond {
        return Some(self::respond(respond, &path.field("respond"), report));
    }
    if let Some(llm) = &rule.llm {
        let built = super::llm::route(llm, world, &path.field("llm"), report);
        if let Some(llm) = &built {
            super::llm::priced(llm, rule, world, path, report);
        }
        return built.map(|llm| Action::Llm(Box::new(llm)));
    }
    let to = targets(&rule.to, world, &path.field("to"), report)?;
    let rewrite = rule.rewrite.as_ref().map(|rule| self::rewrite(rule, matching, &path.field("rewrite"), report));
    Some(Action::Forward { to, rewrite: rewrite.unwrap_or_default().into() })
}

fn targets(refs: &[TargetRef], world: &World<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Targets> {
    if !refs.is_empty() && refs.iter().all(|target| target.weight == 0) {
        report.hinted(path, "all weights are 0: no upstream takes requests", "give one a weight of 1");
    }
    let mut targets = Targets::new();
    let mut seen = Vec::new();
    for (i, target) in refs.iter().enumerate() {
        let TargetRef { upstream, weight } = target;
        let item = path.item(i);
        if *weight > MAX_WEIGHT {
            report.error(&item.field("weight"), format!("at most {MAX_WEIGHT}"));
        }
        let Some(at) = world.upstreams.find(upstream, &item.field("upstream"), report) else { continue };
        if seen.contains(&at) {
            report.error(&item.field("upstream"), format!("`{}` is named twice here", short(upstream)));
        }
        seen.push(at);
        targets.extend(world.built[at].clone().map(|upstream| Target { upstream, weight: *weight }));
    }
    (targets.len() == refs.len() && !targets.is_empty()).then_some(targets)
}

fn rewrite(rule: &RewriteRule, matching: Option<&Matching>, path: &Path<'_>, report: &Report<'_>) -> Rewrite {
    let RewriteRule { strip_prefix, add_prefix, path: whole, host } = rule;
    if whole.is_some() && (strip_prefix.is_some() || add_prefix.is_some()) {
        report.error(path, "either `path`, or `strip_prefix` and `add_prefix`");
    }
    for (name, prefix) in [("strip_prefix", strip_prefix), ("add_prefix", add_prefix)] {
        let Some(prefix) = prefix else { continue };
        let sane = prefix.starts_with('/') && prefix.len() > 1 && !prefix.ends_with('/') && is_path(prefix);
        if !sane {
            report.hinted(&path.field(name), format!("`{}` is not a prefix", short(prefix)), "write `/v1`");
        }
    }
    if let (Some(prefix), Some(matching)) = (strip_prefix, matching)
        && !starts_below(&matching.path, prefix)
    {
        let hint = "it has to be the front of the route's `path`";
        report.hinted(&path.field("strip_prefix"), "no path this route takes starts with it", hint);
    }
    if let Some(text) = whole {
        new_path(text, matching, &path.field("path"), report);
    }
    if let Some(name) = host {
        check_host(name, &path.field("host"), report);
    }
    Rewrite {
        strip_prefix: strip_prefix.clone(),
        add_prefix: add_prefix.clone(),
        path: whole.clone(),
        host: host.clone(),
    }
}

fn starts_below(pattern: &tidegate_policy::PathPattern, prefix: &str) -> bool {
    let (tidegate_policy::PathPattern::Template(text) | tidegate_policy::PathPattern::Prefix(text)) = pattern;
    text.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn redirect(rule: &RedirectRule, matching: Option<&Matching>, path: &Path<'_>, report: &Report<'_>) -> Redirect {
    let RedirectRule { status, scheme, host, port, path: whole } = rule;
    let code = StatusCode::from_u16(*status).ok().filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308));
    if code.is_none() {
        report.hinted(&path.field("status"), format!("{status} is no redirect"), "301, 302, 303, 307 or 308");
    }
    if let Some(scheme) = scheme.as_ref().filter(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
        report.error(&path.field("scheme"), format!("`{}` is not `http` or `https`", short(scheme)));
    }
    if let Some(name) = host.as_ref().filter(|name| !host::is_host(&name.to_ascii_lowercase())) {
        let hint = "write `api.example.com`; a port goes into `port`";
        report.hinted(&path.field("host"), format!("`{}` is not a host", short(name)), hint);
    }
    if *port == Some(0) {
        report.error(&path.field("port"), "1 to 65535");
    }
    if let Some(text) = whole {
        new_path(text, matching, &path.field("path"), report);
    }
    if scheme.is_none() && host.is_none() && port.is_none() && whole.is_none() {
        report.hinted(path, "this sends clients where they are", "name a `scheme`, `host`, `port` or `path`");
    }
    let lower = host.as_ref().map(|host| host.to_ascii_lowercase());
    Redirect {
        status: code.unwrap_or(StatusCode::FOUND),
        scheme: scheme.clone(),
        host: lower,
        port: *port,
        path: whole.clone(),
    }
}

pub(super) fn respond(rule: &RespondRule, path: &Path<'_>, report: &Report<'_>) -> Action {
    let RespondRule { status, headers: map, body } = rule;
    let code = StatusCode::from_u16(*status).ok().filter(|_| (200..600).contains(status));
    if code.is_none() {
        report.error(&path.field("status"), "200 to 599");
    }
    if body.len() > MAX_RESPONSE {
        report.error(&path.field("body"), "at most 1 MiB");
    }
    if !body.is_empty() && matches!(status, 204 | 205 | 304) {
        report.error(&path.field("body"), format!("a {status} has no body"));
    }
    let at = path.field("headers");
    let mut list = Vec::new();
    for (name, value) in map {
        let at = at.field(name);
        let name = headers::changeable(name, &at, report);
        let value = headers::value(value, &at, report);
        list.extend(name.zip(value));
    }
    if !body.is_empty() && !list.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
        list.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
    }
    Action::Respond { status: code.unwrap_or_default(), headers: list, body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// `Host` may carry a port.
fn check_host(text: &str, path: &Path<'_>, report: &Report<'_>) {
    let lower = text.to_ascii_lowercase();
    let name = match lower.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && !port.starts_with('+') => name,
        _ => &lower,
    };
    if !host::is_host(name) {
        report.hinted(path, format!("`{}` is not a host", short(text)), "write `api.example.com`");
    }
}

/// A new path, in which `{name}` is a capture.
fn new_path(text: &str, matching: Option<&Matching>, path: &Path<'_>, report: &Report<'_>) {
    let plain = text.replace(['{', '}'], "");
    if !text.starts_with('/') || !is_path(&plain) {
        report.hinted(path, format!("`{}` is not a path", short(text)), "write `/new/{id}`");
    }
    let Some(matching) = matching else { return };
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let inner = &rest[at + 1..];
        let end = inner.find('}').filter(|_| rest[at..].starts_with('{'));
        let Some(end) = end else {
            report.error(path, "unbalanced braces");
            return;
        };
        let name = &inner[..end];
        if !matching.captures.iter().any(|capture| capture == name) {
            let near = crate::problem::did_you_mean(name, matching.captures.iter().map(String::as_str));
            report.hinted(path, format!("the route's path captures no `{}`", short(name)), near);
        }
        rest = &inner[end + 1..];
    }
}

fn is_path(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|'))
}
