//! Limits.

mod cost;
mod kind;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;
use siphasher::sip::SipHasher24;
use tidegate_model::{LimitId, Revision};
use tidegate_policy::{Cost, Dimension, Kind, Limit, Mode, OnMissing, OnUnavailable, Prefix, Unit, Unpriced};

use super::Report;
use crate::document::{LimitMode, LimitRule, ScopePart, WhenMissing, WhenUnavailable};
use crate::path::Path;
use crate::source::Locations;

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

/// Of a limit alone; `None`: it is none.
pub(crate) fn id_of(rule: &LimitRule) -> Option<LimitId> {
    let locations = Locations::default();
    one(rule, Revision(0), &Path::Root, &Report::new(&locations)).map(|limit| limit.id)
}

fn one(rule: &LimitRule, revision: Revision, path: &Path<'_>, report: &Report<'_>) -> Option<Limit> {
    let per = scope(&rule.per, &path.field("per"), report);
    let (mut cost, terms) = cost::compile(rule.cost.as_ref(), &path.field("cost"), report);
    if rule.cost.is_none() && rule.budget.as_ref().is_some_and(|budget| budget.money.is_some()) {
        cost = Cost::Money { unpriced: Unpriced::Refuse };
    }
    let (max, kind) = kind::compile(rule, &cost, path, report)?;
    // What is settled later comes back, which a part of a rate does not.
    let kind = match kind {
        Kind::Bucket { rate } if matches!(cost, Cost::Fixed(_)) => Kind::bucket(rate, max),
        other => other,
    };
    let LimitRule { name, mode, on_unavailable, count_hits, on_missing, .. } = rule;
    if *on_unavailable == WhenUnavailable::Share && !matches!(kind, Kind::Sliding { .. }) {
        let hint = "partition reserves exist for `window` limits; write `deny` or `allow`";
        report.hinted(&path.field("on_unavailable"), "`share` needs a `window`", hint);
    }
    if matches!(kind, Kind::Concurrency) && !matches!(cost, Cost::Fixed(_)) {
        let hint = "write `cost: {weight: 2}`, or leave it out";
        report.hinted(&path.field("cost"), "a place is taken before the cost is known", hint);
    }
    let is_paid = matches!(&kind, Kind::Budget(budget) if budget.unit != Unit::Count);
    Some(Limit {
        id: id(name, &kind, &cost, &per),
        revision,
        name: name.clone(),
        max,
        kind,
        cost,
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
        count_hits: count_hits.unwrap_or(!is_paid),
        on_missing: match on_missing {
            WhenMissing::Share => OnMissing::Share,
            WhenMissing::Skip => OnMissing::Skip,
            WhenMissing::Refuse => OnMissing::Refuse,
        },
        terms,
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
            ScopePart::Model => Dimension::Model,
            ScopePart::Ip(v4, v6) => Dimension::Ip(Prefix { v4: *v4, v6: *v6 }),
            ScopePart::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Dimension::Header(name),
                Err(_) => {
                    report.error(&path.item(i), format!("`{}` is not a header name", crate::decode::short(name)));
                    continue;
                }
            },
            ScopePart::Claim(name) => match super::issuer::claim(name, &path.item(i), report) {
                Some(claim) => Dimension::Claim(claim),
                None => continue,
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
pub(crate) fn id(name: &str, kind: &Kind, cost: &Cost, per: &[Dimension]) -> LimitId {
    let mut text = match kind {
        Kind::Sliding { window } => format!("window\0{name}\0{}", window.0),
        Kind::Bucket { .. } => format!("bucket\0{name}"),
        Kind::Smooth { .. } => format!("smooth\0{name}"),
        Kind::Concurrency => format!("concurrency\0{name}"),
        Kind::Calendar { period, zone } => format!("calendar\0{name}\0{period:?}\0{zone}"),
        Kind::Budget(budget) => format!("budget\0{name}\0{:?}\0{}\0{:?}", budget.period, budget.zone, budget.unit),
    };
    match cost {
        Cost::Fixed(_) => {}
        Cost::RequestBytes { .. } => text.push_str("\0of request_bytes"),
        Cost::ResponseBytes { .. } => text.push_str("\0of response_bytes"),
        Cost::Header { name, .. } => text.push_str(&format!("\0of header:{name}")),
        Cost::Tokens { .. } => text.push_str("\0of tokens"),
        Cost::Money { .. } => text.push_str("\0of money"),
    }
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
            Dimension::Model => "model",
            Dimension::Ip(prefix) if *prefix == Prefix::default() => "ip",
            Dimension::Ip(Prefix { v4, v6 }) => &format!("ip/{v4}/{v6}"),
            Dimension::Header(name) => &format!("header:{name}"),
            Dimension::Claim(name) => &format!("claim:{name}"),
        };
        text.push_str(word);
    }
    LimitId(SipHasher24::new_with_key(b"tidegate limit 1").hash(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use tidegate_model::Nanos;

    use super::*;

    #[test]
    fn an_id_is_the_same_for_ever() {
        // A change here resets every counter of every cluster that upgrades.
        let id = |window, per: &[Dimension]| {
            id("per-key", &Kind::Sliding { window: Nanos::from_secs(window) }, &Cost::ONE, per)
        };
        assert_eq!(id(60, &[Dimension::Key]).to_string(), "823ded0c54b97adb");
        assert_ne!(id(60, &[Dimension::Key]), id(60, &[]));
        assert_ne!(id(60, &[]), id(61, &[]));
    }
}
