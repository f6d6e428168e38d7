//! Limits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use siphasher::sip::SipHasher24;
use tidegate_model::{LimitId, Nanos, Permits, Revision};
use tidegate_policy::defaults::MAX_WINDOW;
use tidegate_policy::{Dimension, Kind, Limit, Mode, OnMissing, OnUnavailable, Prefix};

use super::{Report, later};
use crate::document::{LimitMode, LimitRule, ScopePart, WhenMissing, WhenUnavailable};
use crate::path::Path;

const MIN_WINDOW: Duration = Duration::from_millis(100);
/// Sums of it never come near the end of a u64.
pub(super) const MAX_MAX: u64 = 1_000_000_000_000_000;
const MAX_SCOPE: usize = 8;

pub(super) fn compile(rules: &[LimitRule], revision: Revision, report: &Report<'_>) -> Vec<Option<Arc<Limit>>> {
    let list = Path::Root.field("limits");
    let mut ids: HashMap<LimitId, &str> = HashMap::new();
    let limits = rules.iter().enumerate().map(|(i, rule)| {
        let path = list.item(i);
        let limit = one(rule, revision, &path, report)?;
        if let Some(other) = ids.insert(limit.id, &rule.name).filter(|other| *other != rule.name) {
            let reason = format!("its id is also that of `{other}` (one chance in 2^64)");
            report.hinted(&path.field("name"), reason, "rename it");
        }
        Some(Arc::new(limit))
    });
    limits.collect()
}

fn one(rule: &LimitRule, revision: Revision, path: &Path<'_>, report: &Report<'_>) -> Option<Limit> {
    let LimitRule { name, window, max, per, mode, on_unavailable, count_hits, on_missing, calendar, zone } = rule;
    later(calendar.as_ref(), &path.field("calendar"), report);
    later(zone.as_ref(), &path.field("zone"), report);
    if *max == 0 {
        let hint = "for a route that refuses everything use `respond: {status: 403}`";
        report.hinted(&path.field("max"), "0 admits nothing", hint);
    } else if *max > MAX_MAX {
        report.error(&path.field("max"), format!("at most {MAX_MAX}"));
    }
    if window.is_none() && calendar.is_none() {
        report.hinted(path, "`window` is missing", "write `window: 1m`");
    }
    let per = scope(per, &path.field("per"), report);
    let window = window.as_ref()?.0;
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
        report.hinted(&path.field("window"), "a window is 100ms to 31d long", None::<String>);
    }
    let window = Nanos::from(window);
    Some(Limit {
        id: id(name, window, &per),
        revision,
        name: name.clone(),
        max: Permits(*max),
        kind: Kind::Sliding { window },
        per,
        mode: match mode {
            LimitMode::Enforce => Mode::Enforce,
            LimitMode::Observe => Mode::Observe,
        },
        on_unavailable: match on_unavailable {
            WhenUnavailable::Deny => OnUnavailable::Deny,
            WhenUnavailable::Share => OnUnavailable::Share,
            WhenUnavailable::Allow => OnUnavailable::Allow,
        },
        count_hits: *count_hits,
        on_missing: match on_missing {
            WhenMissing::Share => OnMissing::Share,
            WhenMissing::Skip => OnMissing::Skip,
            WhenMissing::Refuse => OnMissing::Refuse,
        },
    })
}

fn scope(parts: &[ScopePart], path: &Path<'_>, report: &Report<'_>) -> Vec<Dimension> {
    if parts.len() > MAX_SCOPE {
        report.error(path, format!("at most {MAX_SCOPE} parts"));
    }
    let mut scope: Vec<Dimension> = Vec::new();
    for (i, part) in parts.iter().enumerate().take(MAX_SCOPE) {
        let dimension = match part {
            ScopePart::Cluster => {
                if parts.len() > 1 {
                    let hint = "leave `cluster` out: it means one count for all";
                    report.hinted(&path.item(i), "`cluster` stands alone", hint);
                }
                continue;
            }
            ScopePart::Tenant => Dimension::Tenant,
            ScopePart::Team => Dimension::Team,
            ScopePart::Consumer => Dimension::Consumer,
            ScopePart::Key => Dimension::Key,
            ScopePart::EndUser => Dimension::EndUser,
            ScopePart::Route => Dimension::Route,
            ScopePart::Product => Dimension::Product,
            ScopePart::Method => Dimension::Method,
            ScopePart::Host => Dimension::Host,
            ScopePart::Ip(v4, v6) => Dimension::Ip(Prefix { v4: *v4, v6: *v6 }),
            ScopePart::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Dimension::Header(name),
                Err(_) => {
                    report.error(&path.item(i), format!("`{}` is not a header name", crate::decode::short(name)));
                    continue;
                }
            },
        };
        if scope.contains(&dimension) {
            report.error(&path.item(i), format!("`{part}` is named twice here"));
        } else {
            scope.push(dimension);
        }
    }
    scope
}

/// Stable over releases and machines: what makes a limit *this* limit. Everything else may change under its count.
pub(crate) fn id(name: &str, window: Nanos, per: &[Dimension]) -> LimitId {
    let mut text = format!("window\0{name}\0{}", window.0);
    for dimension in per {
        text.push('\0');
        let word = match dimension {
            Dimension::Tenant => "tenant",
            Dimension::Team => "team",
            Dimension::Consumer => "consumer",
            Dimension::Key => "key",
            Dimension::EndUser => "end_user",
            Dimension::Route => "route",
            Dimension::Product => "product",
            Dimension::Method => "method",
            Dimension::Host => "host",
            Dimension::Ip(prefix) if *prefix == Prefix::default() => "ip",
            Dimension::Ip(Prefix { v4, v6 }) => &format!("ip/{v4}/{v6}"),
            Dimension::Header(name) => &format!("header:{name}"),
        };
        text.push_str(word);
    }
    LimitId(SipHasher24::new_with_key(b"tidegate limit 1").hash(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_for_ever() {
        // A change here resets every counter of every cluster that upgrades.
        let minute = Nanos::from_secs(60);
        assert_eq!(id("per-key", minute, &[Dimension::Key]).to_string(), "823ded0c54b97adb");
        assert_ne!(id("per-key", minute, &[Dimension::Key]), id("per-key", minute, &[]));
        assert_ne!(id("per-key", minute, &[]), id("per-key", Nanos::from_secs(61), &[]));
    }
}
