//! Models and their deployments.
//!
//! A model may lead to others (fallbacks, conditions, errors), never back to itself: those that it leads to are built
//! before it.

use std::sync::{Arc, OnceLock};

use tidegate_llm::catalogue::Catalogue;
use tidegate_policy::{Abilities, Deployment, Model, Provider};

use super::attach::Limits;
use super::secret::Secrets;
use super::{Names, Report, answers, catalogue, credential, name, routing};
use crate::decode::short;
use crate::document::{Ability, DeploymentRule, LossRule, ModelRule};
use crate::path::Path;

const MAX_DEPLOYMENTS: usize = 32;
const MAX_WEIGHT: u32 = 1_000_000;
const MAX_TAGS: usize = 32;
/// Models that one leads to, one after the other.
const DEEPEST: usize = 8;

/// What models are made of.
pub(super) struct World<'a> {
    pub(super) rules: &'a [ModelRule],
    pub(super) names: &'a Names<'a>,
    pub(super) provider_names: &'a Names<'a>,
    pub(super) providers: &'a [Option<Arc<Provider>>],
    pub(super) limits: &'a Limits<'a>,
    pub(super) secrets: &'a Secrets<'a>,
    pub(super) known: &'a Arc<Catalogue>,
}

/// By position; `None` where one cannot be built.
pub(super) fn compile(world: &World<'_>, report: &Report<'_>) -> Vec<Option<Arc<Model>>> {
    let list = Path::Root.field("models");
    let mut built: Vec<Option<Arc<Model>>> = vec![None; world.rules.len()];
    let edges: Vec<Vec<usize>> = world
        .rules
        .iter()
        .enumerate()
        .map(|(at, rule)| routing::edges(rule, world.names, &list.item(at), report))
        .collect();
    let (order, tied) = order(&edges);
    for at in tied {
        let reason =
            format!("`{}` leads back to itself, or over more than {DEEPEST} others", short(&world.rules[at].name));
        report.hinted(
            &list.item(at),
            reason,
            "let fallbacks, conditions and errors lead to models that lead to no more",
        );
    }
    for at in order {
        let path = list.item(at);
        built[at] = model(&world.rules[at], world, &built, &path, report).map(Arc::new);
    }
    built
}

/// Each model after those that it leads to; and those for which there is no such place.
fn order(edges: &[Vec<usize>]) -> (Vec<usize>, Vec<usize>) {
    let (mut order, mut placed) = (Vec::new(), vec![false; edges.len()]);
    for _ in 0..=DEEPEST {
        let ready: Vec<usize> =
            (0..edges.len()).filter(|at| !placed[*at] && edges[*at].iter().all(|to| placed[*to])).collect();
        ready.iter().for_each(|at| placed[*at] = true);
        order.extend(ready);
    }
    let tied: Vec<usize> = (0..edges.len()).filter(|at| !placed[*at]).collect();
    (order, tied)
}

fn model(
    rule: &ModelRule,
    world: &World<'_>,
    built: &[Option<Arc<Model>>],
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Model> {
    let ModelRule {
        name,
        deployments,
        strategy: _,
        sticky: _,
        conditions: _,
        fallbacks: _,
        on_error: _,
        attempts: _,
        within: _,
        hedge: _,
        max_output,
        losses,
        cache,
    } = rule;
    if *max_output == Some(0) {
        report.error(&path.field("max_output"), "at least 1");
    }
    let exact = Some(name.as_str()).filter(|name| !name.ends_with('*'));
    let deployments = self::deployments(deployments, (name, exact), world, &path.field("deployments"), report);
    let routing = routing::compile(rule, world.names, built, path, report);
    let (deployments, routing) = (deployments?, routing?);
    let model = Model {
        name: name.as_str().into(),
        deployments,
        max_output: *max_output,
        drops: *losses == LossRule::Drop,
        routing,
        answers: cache.as_ref().map(|rule| answers::compile(rule, &path.field("cache"), report)),
    };
    let vague = |to: &&Arc<Model>| to.deployments.iter().any(|deployment| deployment.model.is_none());
    if let Some(vague) = model.leads_to().find(vague) {
        let reason = format!("leads to `{}`, which does not say for which model its providers are asked", vague.name);
        report.hinted(path, reason, "give its deployments a `model`, or lead to a model with one name");
    }
    Some(model)
}

/// `exact`: what callers name the model, if that is one name.
fn deployments(
    rules: &[DeploymentRule],
    (pattern, exact): (&str, Option<&str>),
    world: &World<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Vec<Deployment>> {
    if rules.is_empty() {
        report.hinted(path, "a model has at least one deployment", "write `- {provider: NAME}`");
    }
    if rules.len() > MAX_DEPLOYMENTS {
        report.error(path, format!("at most {MAX_DEPLOYMENTS} deployments"));
    }
    let mut built = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let item = path.item(i);
        let same = |other: &DeploymentRule| {
            (&other.provider, &other.model, &other.name) == (&rule.provider, &rule.model, &rule.name)
        };
        if rules[..i].iter().any(same) {
            let hint = "use `weight` to give it a larger share, or give it a `name` of its own";
            report.hinted(&item, "this deployment is in the list already", hint);
        }
        built.extend(deployment(rule, (pattern, exact), world, &item, report));
    }
    built.sort_by_key(|deployment| std::cmp::Reverse(deployment.priority));
    (built.len() == rules.len() && !built.is_empty()).then_some(built)
}

fn deployment(
    rule: &DeploymentRule,
    (pattern, exact): (&str, Option<&str>),
    world: &World<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Deployment> {
    let DeploymentRule {
        name,
        provider,
        model,
        key,
        region,
        tags,
        limits,
        context,
        can,
        weight,
        priority,
        price,
        like,
    } = rule;
    if *weight > MAX_WEIGHT {
        report.error(&path.field("weight"), format!("at most {MAX_WEIGHT}"));
    }
    if model.as_ref().is_some_and(|model| model.is_empty() || model.len() > 256 || model.contains(char::is_control)) {
        report.error(&path.field("model"), "1 to 256 characters, none of them a control character");
    }
    if *context == Some(0) {
        report.error(&path.field("context"), "at least 1");
    }
    if let Some(name) = name {
        self::name::check(name, &path.field("name"), report);
    }
    let tags = words(Some(tags), &path.field("tags"), report).unwrap_or_default();
    let region = region.as_ref().map(|region| word(region, &path.field("region"), report));
    let limits = world.limits.named(limits, &path.field("limits"), report);
    let at = world.provider_names.find(provider, &path.field("provider"), report)?;
    let provider = world.providers[at].clone()?;
    let credential = key
        .as_ref()
        .and_then(|key| credential::key(key, provider.kind.key_place(), world.secrets, &path.field("key"), report));
    let rest = model.as_deref() == Some("*");
    if model.as_deref().is_some_and(|model| model.contains('*')) && !(rest && exact.is_none()) {
        let hint = "write `*` alone, for a model whose name ends with one: it is what callers have in its place";
        report.hinted(&path.field("model"), "there is nothing that it stands for", hint);
    }
    let after = if rest { pattern.len().saturating_sub(1) } else { 0 };
    let called = model.as_deref().filter(|_| !rest).or(exact);
    let facts = catalogue::facts((price.as_ref(), like.as_deref()), called, provider.kind, world.known, path, report);
    let has = |ability| can.as_ref().map(|list| list.contains(&ability));
    Some(Deployment {
        provider,
        name: name.as_deref().map(Box::from),
        // One name leads here, whoever led the call: it is the name that callers used, or would have.
        model: called.map(Box::from),
        after,
        credential,
        region,
        tags,
        weight: *weight,
        priority: *priority,
        facts,
        known_as: OnceLock::new(),
        target: OnceLock::new(),
        limits: world.limits.attached(&limits, |_| false),
        abilities: Abilities {
            context: *context,
            tools: has(Ability::Tools),
            vision: has(Ability::Vision),
            json_schema: has(Ability::JsonSchema),
        },
    })
}

/// Tags and regions.
pub(super) fn words(words: Option<&Vec<String>>, path: &Path<'_>, report: &Report<'_>) -> Option<Vec<Box<str>>> {
    let words = words?;
    if words.len() > MAX_TAGS {
        report.error(path, format!("at most {MAX_TAGS}"));
    }
    Some(words.iter().enumerate().map(|(i, text)| word(text, &path.item(i), report)).collect())
}

fn word(text: &str, path: &Path<'_>, report: &Report<'_>) -> Box<str> {
    name::check(text, path, report);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_come_after_those_that_they_lead_to_and_loops_have_no_place() {
        assert_eq!(order(&[vec![1], vec![2], vec![]]), (vec![2, 1, 0], vec![]));
        assert_eq!(order(&[vec![1], vec![0], vec![]]), (vec![2], vec![0, 1]));
        assert_eq!(order(&[vec![0]]), (vec![], vec![0]));
        let chain: Vec<Vec<usize>> = (0..12).map(|at| if at == 0 { vec![] } else { vec![at - 1] }).collect();
        assert_eq!(order(&chain).1, [9, 10, 11], "too long a chain");
    }
}
