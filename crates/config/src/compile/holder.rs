//! Tenants, teams, plans and products: what limits they bring, and to whom.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidegate_model::Permits;
use tidegate_policy::{Attached, Dimension, Plans, RouteLimits};

use super::attach::{self, Brought, Limits, Owner};
use super::{Names, Report, name, overload};
use crate::decode::short;
use crate::document::{OfferRule, Plan, ProductRule, RouteRule, TeamRule, TenantRule};
use crate::path::Path;

/// Everybody who is neither a route nor a consumer.
pub(super) struct Holders<'d> {
    tenants: HashMap<&'d str, Tenant>,
    /// By tenant, then name.
    teams: HashMap<&'d str, HashMap<&'d str, Vec<Brought>>>,
    pub(super) plans: Vec<Vec<Brought>>,
    products: Vec<Product>,
    /// By the name of a route: the place of its product.
    product_of: HashMap<&'d str, usize>,
}

#[derive(Default)]
struct Tenant {
    limits: Vec<Brought>,
    plan: Option<usize>,
    anonymous_plan: Option<usize>,
}

struct Product {
    name: Arc<str>,
    tenant: String,
    limits: Vec<Brought>,
    offers: Vec<(usize, Vec<Brought>)>,
    weights: Vec<(usize, Permits)>,
}

/// What the document says of them.
pub(super) struct Rules<'d> {
    pub(super) tenants: &'d [TenantRule],
    pub(super) teams: &'d [TeamRule],
    pub(super) plans: &'d [Plan],
    pub(super) products: &'d [ProductRule],
}

impl<'d> Holders<'d> {
    pub(super) fn compile(
        rules: &Rules<'d>,
        plan_names: &Names<'_>,
        route_names: &Names<'_>,
        limits: &Limits<'_>,
        report: &Report<'_>,
    ) -> Self {
        let (products, product_of) = products(rules.products, plan_names, route_names, limits, report);
        Self {
            tenants: tenants(rules.tenants, plan_names, limits, report),
            teams: teams(rules.teams, limits, report),
            plans: plans(rules.plans, limits, report),
            products,
            product_of,
        }
    }

    /// Plans as keys bring them.
    pub(super) fn snapshot(&self, rules: &[Plan], limits: &Limits<'_>) -> Plans {
        let plan = |(rule, list): (&Plan, &Vec<Brought>)| tidegate_policy::Plan {
            name: rule.name.clone(),
            limits: limits.attached(list, |_| false),
            class: rule.class.map(overload::class),
            models: rule.models.as_ref().map(|names| names.iter().map(|name| name.as_str().into()).collect()),
            residency: rule.residency.as_ref().map(|words| words.iter().map(|word| word.as_str().into()).collect()),
        };
        rules.iter().zip(&self.plans).map(plan).collect::<Vec<_>>().into()
    }

    /// The plan of a tenant's consumers that have none.
    pub(super) fn plan_of(&self, tenant: &str) -> Option<usize> {
        self.tenants.get(tenant)?.plan
    }

    /// `Err`: the tenant lists teams, and this is none of them.
    pub(super) fn team(&self, tenant: &str, team: &str) -> Result<&[Brought], ()> {
        match self.teams.get(tenant) {
            None => Ok(&[]),
            Some(teams) => teams.get(team).map(Vec::as_slice).ok_or(()),
        }
    }

    /// What holds for calls of a route.
    pub(super) fn route(
        &self,
        rule: &RouteRule,
        limits: &Limits<'_>,
        path: &Path<'_>,
        report: &Report<'_>,
    ) -> RouteLimits {
        let own = limits.named(&rule.limits, &path.field("limits"), report);
        let product = self.product_of.get(rule.name.as_str()).map(|at| &self.products[*at]);
        let tenant = self.tenants.get(rule.tenant.as_str());
        let known = |part: &Dimension| match part {
            Dimension::Tenant | Dimension::Route => true,
            Dimension::Product => product.is_some(),
            _ => false,
        };
        let of_product = product.map_or(&[][..], |product| &product.limits);
        let of_tenant = tenant.map_or(&[][..], |tenant| &tenant.limits);
        let all = attach::merged(&[&own, of_product, of_tenant]);
        // Without a key there is no consumer and no team; what could be known of the route is known as above.
        let anonymous_plan = tenant.and_then(|tenant| tenant.anonymous_plan).filter(|_| rule.auth.is_empty());
        let anonymous = anonymous_plan.map_or(&[][..], |plan| &self.plans[plan]);
        let by_plan: Vec<(usize, Vec<Attached>)> = product
            .map(|product| product.offers.iter().map(|(plan, list)| (*plan, limits.attached(list, known))).collect())
            .unwrap_or_default();
        if let Some(product) = product {
            if product.tenant != rule.tenant {
                let reason =
                    format!("it is in the product `{}` of the tenant `{}`", product.name, short(&product.tenant));
                report.hinted(&path.field("tenant"), reason, "a product's routes are of its tenant");
            }
            let open = by_plan.is_empty() || by_plan.iter().any(|(plan, _)| Some(*plan) == anonymous_plan);
            if rule.auth.is_empty() && !open {
                let reason =
                    format!("nobody could call it: the product `{}` is for callers on its plans", product.name);
                report.hinted(&path.field("auth"), reason, "add `auth: [key]`");
            }
        }
        let mut weights = limits.weights(&rule.weights, &path.field("weights"), report);
        for (base, weight) in product.iter().flat_map(|product| &product.weights) {
            if !weights.iter().any(|(known, _)| known == base) {
                weights.push((*base, *weight));
            }
        }
        RouteLimits {
            always: limits.attached(&all, known),
            anonymous: limits.attached(anonymous, known),
            anonymous_plan,
            product: product.map(|product| Arc::clone(&product.name)),
            by_plan,
            weights,
            end_user: attach::end_user(rule.end_user.as_ref(), &path.field("end_user"), report),
        }
    }
}

fn tenants<'d>(
    rules: &'d [TenantRule],
    plan_names: &Names<'_>,
    limits: &Limits<'_>,
    report: &Report<'_>,
) -> HashMap<&'d str, Tenant> {
    Names::collect("tenants", "tenant", rules.iter().map(|rule| rule.name.as_str()), report);
    let list = Path::Root.field("tenants");
    let tenants = rules.iter().enumerate().map(|(i, rule)| {
        let TenantRule { name, limits: refs, plan, anonymous_plan } = rule;
        let path = list.item(i);
        let find = |plan: &Option<String>, field| {
            plan.as_ref().and_then(|plan| plan_names.find(plan, &path.field(field), report))
        };
        let tenant = Tenant {
            limits: limits.owned(refs, Owner::Tenant(name), &path.field("limits"), report),
            plan: find(plan, "plan"),
            anonymous_plan: find(anonymous_plan, "anonymous_plan"),
        };
        (name.as_str(), tenant)
    });
    tenants.collect()
}

fn teams<'d>(
    rules: &'d [TeamRule],
    limits: &Limits<'_>,
    report: &Report<'_>,
) -> HashMap<&'d str, HashMap<&'d str, Vec<Brought>>> {
    let list = Path::Root.field("teams");
    let mut teams: HashMap<&str, HashMap<&str, Vec<Brought>>> = HashMap::new();
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    for (i, rule) in rules.iter().enumerate() {
        let TeamRule { name: own, tenant, limits: refs } = rule;
        let path = list.item(i);
        name::check(own, &path.field("name"), report);
        name::check(tenant, &path.field("tenant"), report);
        if let Some(first) = first.get(&(tenant.as_str(), own.as_str())) {
            let place = report.locations().place(&list.item(*first));
            let reason = format!("tenant `{}` has a team `{}` already: {place}", short(tenant), short(own));
            report.hinted(&path.field("name"), reason, "names are unique in a tenant; rename one");
            continue;
        }
        first.insert((tenant, own), i);
        let limits = limits.owned(refs, Owner::Team(tenant, own), &path.field("limits"), report);
        teams.entry(tenant).or_default().insert(own, limits);
    }
    teams
}

fn plans(rules: &[Plan], limits: &Limits<'_>, report: &Report<'_>) -> Vec<Vec<Brought>> {
    let list = Path::Root.field("plans");
    let plans = rules.iter().enumerate().map(|(i, plan)| {
        let Plan { name, limits: refs, models: _, residency: _, class: _ } = plan;
        limits.owned(refs, Owner::Plan(name), &list.item(i).field("limits"), report)
    });
    plans.collect()
}

fn products<'d>(
    rules: &'d [ProductRule],
    plan_names: &Names<'_>,
    route_names: &Names<'_>,
    limits: &Limits<'_>,
    report: &Report<'_>,
) -> (Vec<Product>, HashMap<&'d str, usize>) {
    Names::collect("products", "product", rules.iter().map(|rule| rule.name.as_str()), report);
    let list = Path::Root.field("products");
    let mut of: HashMap<&str, usize> = HashMap::new();
    let mut products = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let ProductRule { name: own, tenant, routes, limits: names, plans, weights } = rule;
        let path = list.item(i);
        name::check(tenant, &path.field("tenant"), report);
        route_names.find_all(routes, &path.field("routes"), report);
        for (j, route) in routes.iter().enumerate() {
            if let Some(other) = of.insert(route, i).filter(|other| *other != i) {
                let reason =
                    format!("the route `{}` is in the product `{}` already", short(route), short(&rules[other].name));
                report.hinted(&path.field("routes").item(j), reason, "offer one product on several plans");
            }
        }
        products.push(Product {
            name: own.as_str().into(),
            tenant: tenant.clone(),
            limits: limits.named(names, &path.field("limits"), report),
            offers: offers(plans, own, plan_names, limits, &path.field("plans"), report),
            weights: limits.weights(weights, &path.field("weights"), report),
        });
    }
    (products, of)
}

fn offers(
    rules: &[OfferRule],
    product: &str,
    plan_names: &Names<'_>,
    limits: &Limits<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Vec<(usize, Vec<Brought>)> {
    let mut known = HashSet::new();
    let offers = rules.iter().enumerate().filter_map(|(i, rule)| {
        let OfferRule { plan, limits: refs } = rule;
        let item = path.item(i);
        let at = plan_names.find(plan, &item.field("plan"), report)?;
        if !known.insert(at) {
            report.error(&item.field("plan"), format!("`{}` is named twice here", short(plan)));
            return None;
        }
        Some((at, limits.owned(refs, Owner::Offer(product, plan), &item.field("limits"), report)))
    });
    offers.collect()
}
