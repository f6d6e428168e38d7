//! Whom of a model's deployments a call goes to: strategies, conditions, what is done about failures, hedges.

use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::condition::Condition;
use tidegate_policy::{Choice, ChoiceTo, Hedge, Model, OnError, Reaction, Routing, Sticky, StickyBy, Strategy, Then};

use super::{Names, Report, header, issuer, model, upstream};
use crate::decode::short;
use crate::document::{
    ConditionRule, HedgeRule, ModelRule, OnErrorRule, ReactionRule, StickyRule, StrategyKind, ThenKind,
};
use crate::path::Path;
use crate::units::Share;

const MAX_CONDITIONS: usize = 32;
const MAX_FALLBACKS: usize = 8;
const MAX_ATTEMPTS: u32 = 32;
const MAX_RETRIES: u32 = 5;
const USUAL_LOAD: u32 = 150;

/// The places of the models that this one leads to, each name that there is none for told.
pub(super) fn edges(rule: &ModelRule, names: &Names<'_>, path: &Path<'_>, report: &Report<'_>) -> Vec<usize> {
    let mut edges = names.find_all(&rule.fallbacks, &path.field("fallbacks"), report);
    let conditions = path.field("conditions");
    for (i, condition) in rule.conditions.iter().enumerate() {
        let named = condition.model.as_ref();
        edges.extend(named.and_then(|name| names.find(name, &conditions.item(i).field("model"), report)));
    }
    let on_error = path.field("on_error");
    for (kind, reaction) in rule.on_error.iter().flat_map(kinds) {
        let named = reaction.and_then(|reaction| reaction.model.as_ref());
        edges.extend(named.and_then(|name| names.find(name, &on_error.field(kind).field("model"), report)));
    }
    edges
}

fn kinds(rule: &OnErrorRule) -> [(&'static str, Option<&ReactionRule>); 8] {
    let OnErrorRule { throttled, server, timeout, connect, context_exceeded, content_filtered, auth, not_found } = rule;
    [
        ("throttled", throttled.as_ref()),
        ("server", server.as_ref()),
        ("timeout", timeout.as_ref()),
        ("connect", connect.as_ref()),
        ("context_exceeded", context_exceeded.as_ref()),
        ("content_filtered", content_filtered.as_ref()),
        ("auth", auth.as_ref()),
        ("not_found", not_found.as_ref()),
    ]
}

/// `None`: it leads to a model that cannot be built, which is told there.
pub(super) fn compile(
    rule: &ModelRule,
    names: &Names<'_>,
    built: &[Option<Arc<Model>>],
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Routing> {
    let named = |name: &String| built[names.place(name)?].clone();
    let usual = Routing::default();
    if rule.attempts.is_some_and(|attempts| !(1..=MAX_ATTEMPTS).contains(&attempts)) {
        report.error(&path.field("attempts"), format!("1 to {MAX_ATTEMPTS}"));
    }
    if rule.fallbacks.len() > MAX_FALLBACKS {
        report.error(&path.field("fallbacks"), format!("at most {MAX_FALLBACKS}"));
    }
    if rule.conditions.len() > MAX_CONDITIONS {
        report.error(&path.field("conditions"), format!("at most {MAX_CONDITIONS}"));
    }
    let list = path.field("conditions");
    let conditions = rule.conditions.iter().enumerate();
    let conditions: Vec<Option<Choice>> =
        conditions.map(|(i, rule)| condition(rule, &named, &list.item(i), report)).collect();
    Some(Routing {
        strategy: strategy(rule, path, report),
        conditions: conditions.into_iter().collect::<Option<_>>()?,
        fallbacks: rule.fallbacks.iter().map(named).collect::<Option<_>>()?,
        on_error: on_error(rule.on_error.as_ref(), &named, &path.field("on_error"), report)?,
        attempts: rule.attempts.unwrap_or(usual.attempts),
        within: upstream::span(rule.within, &path.field("within"), report).unwrap_or(usual.within),
        hedge: rule.hedge.as_ref().map(|rule| hedge(rule, &path.field("hedge"), report)),
    })
}

fn strategy(rule: &ModelRule, path: &Path<'_>, report: &Report<'_>) -> Strategy {
    if rule.sticky.is_some() && rule.strategy != StrategyKind::Sticky {
        report.hinted(&path.field("sticky"), "goes with `strategy: sticky`", "write `strategy: sticky`");
    }
    match rule.strategy {
        StrategyKind::Weighted => Strategy::Weighted,
        StrategyKind::Priority => Strategy::Priority,
        StrategyKind::Fastest => Strategy::Fastest,
        StrategyKind::Cheapest => Strategy::Cheapest,
        StrategyKind::Sticky => {
            Strategy::Sticky(sticky(&rule.sticky.clone().unwrap_or_default(), &path.field("sticky"), report))
        }
    }
}

fn sticky(rule: &StickyRule, path: &Path<'_>, report: &Report<'_>) -> Sticky {
    let StickyRule { by, load } = rule;
    let load = load.unwrap_or(USUAL_LOAD);
    if !(100..=10_000).contains(&load) {
        report.error(&path.field("load"), "100 to 10000 percent of a fair share");
    }
    let list = path.field("by");
    let part = |(i, text): (usize, &String)| {
        let path = list.item(i);
        match (text.as_str(), text.strip_prefix("header:"), text.strip_prefix("claim:")) {
            (_, Some(name), _) => header::name(name, &path, report).map(StickyBy::Header),
            (_, _, Some(name)) => issuer::claim(name, &path, report).map(StickyBy::Claim),
            ("user", ..) => Some(StickyBy::User),
            ("prompt_cache_key", ..) => Some(StickyBy::CacheKey),
            ("consumer", ..) => Some(StickyBy::Consumer),
            ("key", ..) => Some(StickyBy::Key),
            ("prompt", ..) => Some(StickyBy::Prompt),
            _ => {
                let hint =
                    "there are `header:NAME`, `claim:NAME`, `user`, `prompt_cache_key`, `consumer`, `key`, `prompt`";
                report.hinted(&path, format!("calls have no `{}`", short(text)), hint);
                None
            }
        }
    };
    let mut by: Vec<StickyBy> = by.iter().enumerate().filter_map(part).collect();
    if rule.by.is_empty() {
        by = vec![StickyBy::CacheKey, StickyBy::Prompt];
    }
    Sticky { by, load }
}

fn condition(
    rule: &ConditionRule,
    named: &impl Fn(&String) -> Option<Arc<Model>>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Choice> {
    let ConditionRule { when, tags, model: to } = rule;
    let when = Condition::parse(when).map_err(|why| {
        let hint = "write CEL: `prompt.tokens > 8000 && caller.consumer == \"acme\"`";
        report.hinted(&path.field("when"), why, hint);
    });
    if tags.is_some() == to.is_some() {
        report.hinted(path, "a condition has exactly one of `tags`, `model`", "write `tags: [NAME]`");
    }
    let to = match (model::words(tags.as_ref(), &path.field("tags"), report), to) {
        (Some(tags), _) => ChoiceTo::Tags(tags),
        (None, to) => ChoiceTo::Model(named(to.as_ref()?)?),
    };
    Some(Choice { when: when.ok()?, to })
}

fn on_error(
    rule: Option<&OnErrorRule>,
    named: &impl Fn(&String) -> Option<Arc<Model>>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<OnError> {
    let mut all = OnError::default();
    let Some(rule) = rule else { return Some(all) };
    let places = [
        &mut all.throttled,
        &mut all.server,
        &mut all.timeout,
        &mut all.connect,
        &mut all.context_exceeded,
        &mut all.content_filtered,
        &mut all.auth,
        &mut all.not_found,
    ];
    for (place, (kind, rule)) in places.into_iter().zip(kinds(rule)) {
        let Some(ReactionRule { then, model, retries, wait }) = rule else { continue };
        let path = path.field(kind);
        if then.is_some() && model.is_some() {
            report.hinted(&path, "either `then` or `model`", "leave one of them out");
        }
        let retries = retries.unwrap_or(0);
        if retries > MAX_RETRIES {
            report.hinted(&path.field("retries"), format!("at most {MAX_RETRIES}"), "more only multiplies an outage");
        }
        let then = match (then, model) {
            (_, Some(model)) => Then::Model(named(model)?),
            (Some(ThenKind::Next) | None, None) => Then::Next,
            (Some(ThenKind::Fallbacks), None) => Then::Fallbacks,
            (Some(ThenKind::Fail), None) => Then::Fail,
        };
        let wait = upstream::span(*wait, &path.field("wait"), report).unwrap_or(place.wait);
        if wait > Duration::from_secs(60) {
            report.error(&path.field("wait"), "at most 60s: the caller waits as long");
        }
        *place = Reaction { then, retries, wait };
    }
    Some(all)
}

fn hedge(rule: &HedgeRule, path: &Path<'_>, report: &Report<'_>) -> Hedge {
    let HedgeRule { after, at_most, budget } = rule;
    let after = upstream::span(Some(*after), &path.field("after"), report).unwrap_or(after.0);
    let at_most = at_most.unwrap_or(1);
    if !(1..=3).contains(&at_most) {
        report.error(&path.field("at_most"), "1 to 3");
    }
    Hedge { after, at_most, budget: budget.unwrap_or(Share(0.1)).0 }
}
