//! Who is asking, and may they. A key names a consumer; the document says whether that consumer (still) exists.

use std::sync::atomic::Ordering;

use http::request::Parts;
use tidegate_auth::{Rejected, presented};
use tidegate_model::KeyId;
use tidegate_policy::{Attached, AuthScheme, Consumer, Route, Snapshot};

use crate::gate::Gate;
use crate::refusal::Refusal;

/// A caller who proved it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'s> {
    pub(crate) key: KeyId,
    pub(crate) consumer: &'s Consumer,
    /// Its place in the snapshot's list.
    pub(crate) at: usize,
    /// Of its key's own plan, if it has one: the plan's place in the snapshot's list. Short: it goes along with the request.
    own_plan: Option<u32>,
}

impl<'s> Caller<'s> {
    fn own_plan(&self) -> Option<usize> {
        self.own_plan.map(|at| at as usize)
    }

    /// The plan it calls on: its key's, or else its consumer's.
    pub(crate) fn plan(&self) -> Option<usize> {
        self.own_plan().or(self.consumer.limits.plan_at)
    }

    /// What that plan asks for.
    pub(crate) fn plan_limits(&self, snapshot: &'s Snapshot) -> &'s [Attached] {
        match self.own_plan() {
            Some(at) => snapshot.plans.get(at).map_or(&[], |plan| &plan.limits),
            None => &self.consumer.limits.plan,
        }
    }
}

/// `Ok(None)`: the route asks for nobody; what the request carries is then the upstream's business.
pub(crate) fn caller<'s>(
    gate: &Gate,
    snapshot: &'s Snapshot,
    route: &Route,
    parts: &Parts,
) -> Result<Option<Caller<'s>>, Refusal> {
    match route.auth.as_slice() {
        [] => Ok(None),
        schemes => schemes.iter().map(|AuthScheme::Key| by_key(gate, snapshot, parts)).next().transpose(),
    }
}

fn by_key<'s>(gate: &Gate, snapshot: &'s Snapshot, parts: &Parts) -> Result<Caller<'s>, Refusal> {
    if gate.keys_stale.load(Ordering::Relaxed) {
        return Err(Refusal::KeysStale);
    }
    let presented = presented(parts).map_err(|_| Refusal::KeyConflict)?.ok_or(Refusal::KeyMissing)?;
    let now = tidegate_clock::wall().0 / 1_000_000;
    let found = gate.keys.look_up(&presented.secret, now, |entry| {
        let plan = entry.plan.as_ref().map(|plan| snapshot.plans.position(plan));
        (entry.id, snapshot.consumers.position(&entry.tenant, &entry.consumer), plan)
    });
    let (key, at, plan) = found.map_err(|why| match why {
        Rejected::Unknown => Refusal::KeyUnknown,
        Rejected::Expired => Refusal::KeyExpired,
        Rejected::Revoked => Refusal::KeyRevoked,
    })?;
    let at = at.ok_or(Refusal::KeyWithoutConsumer)?;
    // A key of a plan that is gone must not fall back on a larger one.
    let own_plan =
        plan.map(|at| at.and_then(|at| u32::try_from(at).ok()).ok_or(Refusal::KeyWithoutPlan)).transpose()?;
    Ok(Caller { key, consumer: &snapshot.consumers[at], at, own_plan })
}

/// Keys of one tenant do not open another's routes, and products are for callers on their plans.
pub(crate) fn may(route: &Route, caller: Option<&Caller<'_>>) -> Result<(), Refusal> {
    match caller {
        Some(caller) if *caller.consumer.tenant != *route.tenant => Err(Refusal::KeyUnknown),
        _ if route.limits.by_plan.is_empty() => Ok(()),
        _ => {
            let plan = caller.map_or(route.limits.anonymous_plan, Caller::plan);
            route.limits.of_plan(plan).map(|_| ()).ok_or(Refusal::NotSubscribed)
        }
    }
}
