//! Consumers.

use std::collections::HashMap;

use tidegate_policy::{Consumer, ConsumerLimits, Dimension};

use super::attach::{self, Limits, Owner};
use super::holder::Holders;
use super::{Names, Report, llm, model, name, overload};
use crate::decode::short;
use crate::document::ConsumerEntry;
use crate::path::Path;

pub(super) fn compile(
    entries: &[ConsumerEntry],
    plan_names: &Names<'_>,
    model_names: &Names<'_>,
    holders: &Holders<'_>,
    limits: &Limits<'_>,
    report: &Report<'_>,
) -> Vec<Consumer> {
    let list = Path::Root.field("consumers");
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    let consumers = entries.iter().enumerate().map(|(i, entry)| {
        let ConsumerEntry { name: own, tenant, team, plan, limits: _, models, residency, end_user: _, class } = entry;
        let path = list.item(i);
        name::check(own, &path.field("name"), report);
        name::check(tenant, &path.field("tenant"), report);
        if let Some(team) = team {
            name::check(team, &path.field("team"), report);
        }
        if let Some(first) = known.get(&(tenant.as_str(), own.as_str())) {
            let place = report.locations().place(&list.item(*first));
            let reason = format!("tenant `{}` has a consumer `{}` already: {place}", short(tenant), short(own));
            report.hinted(&path.field("name"), reason, "names are unique in a tenant; rename one");
        } else {
            known.insert((tenant, own), i);
        }
        Consumer {
            name: own.clone(),
            tenant: tenant.clone(),
            team: team.clone(),
            plan: plan.clone(),
            models: llm::allowed(models.as_deref(), model_names, &path.field("models"), report),
            residency: model::words(residency.as_ref(), &path.field("residency"), report),
            class: class.map(overload::class),
            limits: brought(entry, plan_names, holders, limits, &path, report),
        }
    });
    consumers.collect()
}

fn brought(
    entry: &ConsumerEntry,
    plan_names: &Names<'_>,
    holders: &Holders<'_>,
    limits: &Limits<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> ConsumerLimits {
    let ConsumerEntry { name, tenant, team, plan, limits: refs, models: _, residency: _, end_user, class: _ } = entry;
    let known = |part: &Dimension| match part {
        Dimension::Tenant | Dimension::Consumer => true,
        Dimension::Team => team.is_some(),
        _ => false,
    };
    let plan_at = match plan {
        Some(plan) => plan_names.find(plan, &path.field("plan"), report),
        None => holders.plan_of(tenant),
    };
    let own = limits.owned(refs, Owner::Consumer(tenant, name), &path.field("limits"), report);
    let of_team = team.as_deref().map(|team| holders.team(tenant, team).map_err(|()| team));
    if let Some(Err(team)) = of_team {
        let reason = format!("the tenant `{}` has no team `{}`", short(tenant), short(team));
        report.hinted(&path.field("team"), reason, "list it under `teams`, or name one that is there");
    }
    let of_team = of_team.and_then(Result::ok).unwrap_or_default();
    ConsumerLimits {
        own: limits.attached(&own, known),
        plan: plan_at.map(|at| limits.attached(&holders.plans[at], known)).unwrap_or_default(),
        team: limits.attached(of_team, known),
        plan_at,
        end_user: attach::end_user(end_user.as_ref(), &path.field("end_user"), report),
    }
}
