//! Breakers and health checks.

use std::time::Duration;

use tidegate_policy::defaults as standard;
use tidegate_policy::{Action, Breaker, Check, Fallback, Health, Slow};

use super::upstream::span;
use super::{Report, action, host};
use crate::decode::short;
use crate::document::{BreakerRule, HealthRule, SlowRule, StatusRange};
use crate::path::Path;
use crate::units::{Share, Span};

const MAX_COUNT: u32 = 1_000_000;

pub(super) fn breaker(rule: &BreakerRule, path: &Path<'_>, report: &Report<'_>) -> Breaker {
    let BreakerRule {
        error_ratio,
        window,
        min_requests,
        consecutive,
        slow,
        open_for,
        longest_open,
        ramp,
        max_ejected,
        statuses,
        stored,
        fallback,
        respond,
    } = rule;
    let of = |value: &Option<Span>, name, default| span(*value, &path.field(name), report).unwrap_or(default);
    let count = |value: Option<u32>, name| {
        if value.is_some_and(|count| !(1..=MAX_COUNT).contains(&count)) {
            report.error(&path.field(name), format!("1 to {MAX_COUNT}"));
        }
        value
    };
    let window = of(window, "window", standard::BREAKER_WINDOW);
    if window < Duration::from_millis(100) || window > Duration::from_secs(3600) {
        report.error(&path.field("window"), "100ms to 1h");
    }
    let open_for = of(open_for, "open_for", standard::BREAKER_OPEN);
    let longest_open = of(longest_open, "longest_open", standard::BREAKER_LONGEST_OPEN.max(open_for));
    if longest_open < open_for {
        report.error(&path.field("longest_open"), "shorter than `open_for`");
    }
    if fallback.is_some() && respond.is_some() {
        report.error(path, "either `fallback` or `respond`");
    }
    let respond = respond.as_ref().and_then(|rule| match action::respond(rule, &path.field("respond"), report) {
        Action::Respond { status, headers, body } => Some(Fallback::Respond { status, headers, body }),
        _ => None,
    });
    let statuses = match statuses {
        None => vec![(502, 504)],
        Some(ranges) => self::statuses(ranges, 500, &path.field("statuses"), report),
    };
    Breaker {
        error_ratio: ratio(*error_ratio, 0.5, &path.field("error_ratio"), report),
        window,
        min_requests: count(*min_requests, "min_requests").unwrap_or(standard::BREAKER_MIN_REQUESTS),
        consecutive: count(*consecutive, "consecutive"),
        slow: slow.as_ref().map(|slow| self::slow(slow, &path.field("slow"), report)),
        open_for,
        longest_open,
        ramp: of(ramp, "ramp", standard::BREAKER_RAMP),
        max_ejected: ratio(*max_ejected, 0.5, &path.field("max_ejected"), report),
        statuses,
        fallback: fallback.as_deref().map(|name| Fallback::Upstream(name.into())).or(respond),
        stored: stored.map(|span| super::cache::bounded(span.0, &path.field("stored"), report)),
    }
}

fn slow(rule: &SlowRule, path: &Path<'_>, report: &Report<'_>) -> Slow {
    let SlowRule { over, ratio } = rule;
    let over = span(Some(*over), &path.field("over"), report).unwrap_or_default();
    Slow { over, ratio: self::ratio(*ratio, 0.8, &path.field("ratio"), report) }
}

/// A share that is more than nothing.
fn ratio(value: Option<Share>, default: f64, path: &Path<'_>, report: &Report<'_>) -> f64 {
    let Some(Share(share)) = value else { return default };
    if share <= 0.0 {
        report.error(path, "above 0%");
    }
    share
}

fn statuses(ranges: &[StatusRange], least: u16, path: &Path<'_>, report: &Report<'_>) -> Vec<(u16, u16)> {
    if ranges.is_empty() {
        report.error(path, "at least one status");
    }
    for (i, StatusRange(first, _)) in ranges.iter().enumerate().filter(|(_, range)| range.0 < least) {
        report.hinted(&path.item(i), format!("{first} is the client's fault"), format!("{least} to 599"));
    }
    ranges.iter().map(|StatusRange(first, last)| (*first, *last)).collect()
}

/// Fallbacks name upstreams, and end somewhere.
pub(super) fn fallbacks(all: &[(&str, Option<&str>)], report: &Report<'_>) {
    let list = Path::Root.field("upstreams");
    let next = |name: &str| all.iter().find(|(known, _)| *known == name).and_then(|(_, fallback)| *fallback);
    for (i, (name, fallback)) in all.iter().enumerate() {
        let Some(to) = fallback else { continue };
        let item = list.item(i);
        let breaker = item.field("breaker");
        let path = breaker.field("fallback");
        if !all.iter().any(|(known, _)| known == to) {
            let near = crate::problem::did_you_mean(to, all.iter().map(|(known, _)| *known));
            report.hinted(&path, format!("no upstream is named `{}`", short(to)), near);
            continue;
        }
        let (mut at, mut steps) = (Some(*to), 0);
        while let Some(here) = at.filter(|here| here != name && steps <= all.len()) {
            (at, steps) = (next(here), steps + 1);
        }
        if at == Some(name) {
            report.error(&path, "this fallback leads back here");
        }
    }
}

pub(super) fn health(rule: &HealthRule, path: &Path<'_>, report: &Report<'_>) -> Health {
    let HealthRule {
        path: target,
        host: name,
        statuses,
        grpc,
        tcp,
        interval,
        timeout,
        healthy,
        unhealthy,
        slow_start,
        panic_below,
    } = rule;
    let kinds = usize::from(target.is_some()) + usize::from(grpc.is_some()) + usize::from(*tcp);
    if kinds != 1 {
        report.hinted(path, "a check has exactly one of `path`, `grpc`, `tcp`", "write `path: /health`");
    }
    if target.is_none() && (name.is_some() || statuses.is_some()) {
        report.error(path, "`host` and `statuses` go with `path`");
    }
    if let Some(text) = target.as_ref().filter(|text| !is_target(text)) {
        report.hinted(&path.field("path"), format!("`{}` is not a path", short(text)), "write `/health`");
    }
    if let Some(text) = name.as_ref().filter(|text| !host::is_host(&text.to_ascii_lowercase())) {
        report.error(&path.field("host"), format!("`{}` is not a host", short(text)));
    }
    if let Some(text) = grpc.as_ref().filter(|text| text.len() > 256 || !text.chars().all(|c| c.is_ascii_graphic())) {
        report.error(&path.field("grpc"), format!("`{}` is not the name of a service", short(text)));
    }
    let count = |value: Option<u32>, name, default| {
        let count = value.unwrap_or(default);
        if !(1..=100).contains(&count) {
            report.error(&path.field(name), "1 to 100");
        }
        count
    };
    let interval = span(*interval, &path.field("interval"), report).unwrap_or(standard::HEALTH_INTERVAL);
    if interval < Duration::from_millis(100) {
        report.error(&path.field("interval"), "at least 100ms");
    }
    let check = match (target, grpc) {
        (Some(target), _) => Check::Http {
            path: target.clone(),
            host: name.clone(),
            statuses: match statuses {
                None => vec![(200, 299)],
                Some(ranges) => self::statuses(ranges, 100, &path.field("statuses"), report),
            },
        },
        (None, Some(service)) => Check::Grpc { service: service.clone() },
        (None, None) => Check::Tcp,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is between 0 and 1")]
    let panic_below = panic_below.map_or(0, |Share(share)| (share * 100.0).round() as u32);
    Health {
        check,
        interval,
        timeout: span(*timeout, &path.field("timeout"), report).unwrap_or(standard::HEALTH_TIMEOUT),
        healthy: count(*healthy, "healthy", 2),
        unhealthy: count(*unhealthy, "unhealthy", 3),
        slow_start: span(*slow_start, &path.field("slow_start"), report).unwrap_or_default(),
        panic_below,
    }
}

fn is_target(text: &str) -> bool {
    let sane = text.starts_with('/') && text.len() <= 2_048 && !text.contains('#');
    sane && text.parse::<http::uri::PathAndQuery>().is_ok()
}
