//! Bounds on how many requests run at an upstream and wait for it; classes; hedges.

use std::time::Duration;

use tidegate_policy::defaults as standard;
use tidegate_policy::{After, Beside, Class, Concurrency, Overload, Waiting};

use super::upstream::span;
use super::{Report, header};
use crate::document::{AfterRule, BesideRule, ClassKind, ConcurrencyRule, OverloadRule, QueueRule};
use crate::path::Path;
use crate::units::{Share, Span};

const MOST: u32 = 1_000_000;
const MOST_WAIT: u32 = 100_000;

pub(super) fn class(kind: ClassKind) -> Class {
    match kind {
        ClassKind::Critical => Class::Critical,
        ClassKind::High => Class::High,
        ClassKind::Normal => Class::Normal,
        ClassKind::Low => Class::Low,
    }
}

pub(super) fn compile(rule: &OverloadRule, path: &Path<'_>, report: &Report<'_>) -> Overload {
    let OverloadRule { concurrency, min, max, queue, class_header } = rule;
    for (bound, field) in [(min, "min"), (max, "max")] {
        if bound.is_some_and(|bound| !(1..=MOST).contains(&bound)) {
            report.error(&path.field(field), format!("1 to {MOST}"));
        }
    }
    let concurrency = match concurrency.unwrap_or(ConcurrencyRule::Adaptive) {
        ConcurrencyRule::Adaptive => {
            let (least, most) = (min.unwrap_or(1), max.unwrap_or(standard::MAX_LEARNT.max(min.unwrap_or(1))));
            if most < least {
                report.error(&path.field("max"), "less than `min`");
            }
            Concurrency::Adaptive { min: least, max: most.max(least) }
        }
        ConcurrencyRule::Fixed(limit) => {
            if min.is_some() || max.is_some() {
                let hint = "leave them out, or write `concurrency: adaptive`";
                report.hinted(path, "`min` and `max` go with `concurrency: adaptive`", hint);
            }
            Concurrency::Fixed(limit)
        }
    };
    let class_header = class_header.as_ref().and_then(|name| {
        let path = path.field("class_header");
        let name = header::name(name, &path, report)?;
        if header::is_secret(name.as_str()) {
            report.hinted(&path, format!("`{name}` carries a credential"), "name a header such as `x-class`");
        }
        Some(name)
    });
    let queue = self::queue(queue.clone().unwrap_or_default(), &path.field("queue"), report);
    Overload { concurrency, queue, class_header }
}

fn queue(rule: QueueRule, path: &Path<'_>, report: &Report<'_>) -> Waiting {
    let QueueRule { max, per_consumer, deadline } = rule;
    let most = max.unwrap_or(standard::MAX_WAITING);
    if most > MOST_WAIT {
        report.error(&path.field("max"), format!("at most {MOST_WAIT}"));
    }
    let own = per_consumer.unwrap_or((most / 2).max(1));
    if !(1..=MOST_WAIT).contains(&own) {
        report.error(&path.field("per_consumer"), format!("1 to {MOST_WAIT}"));
    }
    let deadline = span(deadline, &path.field("deadline"), report).unwrap_or(standard::WAIT_DEADLINE);
    if deadline > Duration::from_secs(60) {
        report.hinted(&path.field("deadline"), "at most 1m", "clients do not wait that long; refuse them sooner");
    }
    Waiting { max: most as usize, per_consumer: own as usize, deadline }
}

pub(super) fn hedge(rule: &BesideRule, path: &Path<'_>, report: &Report<'_>) -> Beside {
    let BesideRule { after, budget } = rule;
    let after = match after {
        AfterRule::P95 => After::P95,
        AfterRule::Span(Span(after)) => {
            After::Span(span(Some(Span(*after)), &path.field("after"), report).unwrap_or(*after))
        }
    };
    Beside { after, budget: budget.unwrap_or(Share(0.1)).0 }
}
