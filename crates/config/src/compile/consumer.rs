//! Consumers and their plans.

use std::collections::HashMap;

use tidegate_policy::Consumer;

use super::{Names, Report, name};
use crate::decode::short;
use crate::document::{ConsumerEntry, Plan};
use crate::path::Path;

/// The limits of each plan, by position.
pub(super) fn plans(plans: &[Plan], limits: &Names<'_>, report: &Report<'_>) -> Vec<Vec<usize>> {
    let list = Path::Root.field("plans");
    let compiled = plans.iter().enumerate().map(|(i, plan)| {
        let Plan { name: _, limits: names } = plan;
        limits.find_all(names, &list.item(i).field("limits"), report)
    });
    compiled.collect()
}

pub(super) fn compile(
    entries: &[ConsumerEntry],
    plan_names: &Names<'_>,
    plans: &[Vec<usize>],
    report: &Report<'_>,
) -> Vec<Consumer> {
    let list = Path::Root.field("consumers");
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    let consumers = entries.iter().enumerate().map(|(i, entry)| {
        let ConsumerEntry { name: own, tenant, team, plan } = entry;
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
        let limits = plan.as_ref().and_then(|plan| plan_names.find(plan, &path.field("plan"), report));
        Consumer {
            name: own.clone(),
            tenant: tenant.clone(),
            team: team.clone(),
            plan: plan.clone(),
            limits: limits.map(|at| plans[at].clone()).unwrap_or_default(),
        }
    });
    consumers.collect()
}
