//! Which limits hold for whom: what routes, products, plans, consumers, teams and tenants bring to a call.
//!
//! `config` writes these lists, the most specific first; `proxy` joins those of a route with those of its caller. A list is
//! at most [`crate::defaults::MAX_LISTED`] long, so a call has at most seven times as many limits.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use http::HeaderName;
use tidegate_model::{Permits, Subject};

use crate::overload::Class;
use crate::rare::Rare;

/// A limit as one place of the document brings it.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Index into [`crate::Snapshot::limits`]: the limit, or the same one with a maximum of its own.
    pub limit: usize,
    /// The limit as the document lists it. A call passes each once, as the most specific place brings it.
    pub base: usize,
    /// Whom it counts, if who holds this list says it alone: hashed by the first call. A process has one secret to hash by.
    subject: Option<OnceLock<Subject>>,
}

impl Attached {
    /// `fixed`: all parts of the limit's scope are known from who holds the list.
    #[must_use]
    pub fn new(limit: usize, base: usize, fixed: bool) -> Self {
        Self { limit, base, subject: fixed.then(OnceLock::new) }
    }

    /// Whom it counts, if that is the same for every call.
    #[inline]
    #[must_use]
    pub fn subject(&self) -> Option<&OnceLock<Subject>> {
        self.subject.as_ref()
    }
}

/// Without a maximum of its own.
impl From<usize> for Attached {
    fn from(limit: usize) -> Self {
        Self::new(limit, limit, false)
    }
}

/// What holds for all calls of a consumer.
#[derive(Debug, Clone, Default)]
pub struct ConsumerLimits {
    pub own: Vec<Attached>,
    /// Of its plan, or of its tenant's for consumers without one. A key's own plan takes this one's place.
    pub plan: Vec<Attached>,
    pub team: Vec<Attached>,
    /// The plan's place in [`crate::Snapshot::plans`].
    pub plan_at: Option<usize>,
    /// The header its end users are named in; `None`: as the route says.
    pub end_user: Option<HeaderName>,
}

/// What holds for all calls of a route.
#[derive(Debug, Clone, Default)]
pub struct RouteLimits {
    /// The route's own, its product's, its tenant's.
    pub always: Vec<Attached>,
    /// For callers who proved nothing: those of the tenant's plan for them.
    pub anonymous: Vec<Attached>,
    /// The place of that plan in [`crate::Snapshot::plans`].
    pub anonymous_plan: Option<usize>,
    /// The product it belongs to.
    pub product: Option<Arc<str>>,
    /// By plan: what its product asks of callers on it. Callers on none of them are refused, unless this is empty.
    pub by_plan: Vec<(usize, Vec<Attached>)>,
    /// By [`Attached::base`]: what a call costs, where that is not 1. 0: nothing.
    pub weights: Vec<(usize, Permits)>,
    /// The header end users are named in, where the consumer does not say.
    pub end_user: Option<HeaderName>,
}

impl RouteLimits {
    /// What a call costs of a limit.
    #[inline]
    #[must_use]
    pub fn weight(&self, base: usize) -> Permits {
        self.weights.iter().find(|(of, _)| *of == base).map_or(Permits(1), |(_, weight)| *weight)
    }

    /// What its product asks of callers on this plan. `None`: they may not call it.
    #[inline]
    #[must_use]
    pub fn of_plan(&self, plan: Option<usize>) -> Option<&[Attached]> {
        if self.by_plan.is_empty() {
            return Some(&[]);
        }
        let plan = plan?;
        self.by_plan.iter().find(|(at, _)| *at == plan).map(|(_, limits)| limits.as_slice())
    }
}

/// Some limits of a route, by their places.
impl<const N: usize> From<[usize; N]> for RouteLimits {
    fn from(limits: [usize; N]) -> Self {
        Self { always: limits.into_iter().map(Attached::from).collect(), ..Self::default() }
    }
}

impl<const N: usize> From<[usize; N]> for Rare<RouteLimits> {
    fn from(limits: [usize; N]) -> Self {
        RouteLimits::from(limits).into()
    }
}

/// A named set of limits.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: String,
    pub limits: Vec<Attached>,
    /// The language models that callers on it may use, by their names in the document; `None`: all.
    pub models: Option<Vec<Arc<str>>>,
    /// Regions or tags of deployments, one of which a call must stay in; `None`: anywhere.
    pub residency: Option<Vec<Box<str>>>,
    pub class: Option<Class>,
}

/// A list of plans with its index; reads like the list.
#[derive(Debug, Default)]
pub struct Plans {
    list: Vec<Plan>,
    index: HashMap<String, usize>,
}

impl Plans {
    /// Its place in the list.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }
}

impl From<Vec<Plan>> for Plans {
    fn from(list: Vec<Plan>) -> Self {
        let index = list.iter().enumerate().map(|(at, plan)| (plan.name.clone(), at)).collect();
        Self { list, index }
    }
}

impl Deref for Plans {
    type Target = [Plan];

    fn deref(&self) -> &[Plan] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_with_plans_is_for_callers_on_them() {
        let mut route = RouteLimits::from([3]);
        assert_eq!(route.of_plan(None).map(<[_]>::len), Some(0));
        route.by_plan = vec![(1, vec![Attached::from(7)]), (2, vec![])];
        assert!(route.of_plan(None).is_none() && route.of_plan(Some(0)).is_none());
        assert_eq!(route.of_plan(Some(1)).map(|limits| limits[0].limit), Some(7));
        assert_eq!(route.of_plan(Some(2)).map(<[_]>::len), Some(0));
    }

    #[test]
    fn a_call_costs_one_where_nothing_else_is_said() {
        let route = RouteLimits { weights: vec![(4, Permits(5)), (6, Permits(0))], ..RouteLimits::default() };
        assert_eq!([4, 5, 6].map(|base| route.weight(base)), [Permits(5), Permits(1), Permits(0)]);
    }
}
