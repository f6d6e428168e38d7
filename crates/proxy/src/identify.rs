//! Who is asking, and may they. A key names a consumer; the document says whether that consumer (still) exists.

use std::sync::atomic::Ordering;

use http::request::Parts;
use tidegate_auth::{Rejected, presented};
use tidegate_model::KeyId;
use tidegate_policy::{AuthScheme, Consumer, Route, Snapshot};

use crate::gate::Gate;
use crate::refusal::Refusal;

/// A caller who proved it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'s> {
    pub(crate) key: KeyId,
    pub(crate) consumer: &'s Consumer,
    /// Its place in the snapshot's list.
    pub(crate) at: usize,
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
        (entry.id, snapshot.consumers.position(&entry.tenant, &entry.consumer))
    });
    let (key, at) = found.map_err(|why| match why {
        Rejected::Unknown => Refusal::KeyUnknown,
        Rejected::Expired => Refusal::KeyExpired,
        Rejected::Revoked => Refusal::KeyRevoked,
    })?;
    let at = at.ok_or(Refusal::KeyWithoutConsumer)?;
    Ok(Caller { key, consumer: &snapshot.consumers[at], at })
}

/// Keys of one tenant do not open another's routes.
pub(crate) fn may(route: &Route, caller: Option<&Caller<'_>>) -> Result<(), Refusal> {
    match caller {
        Some(caller) if *caller.consumer.tenant != *route.tenant => Err(Refusal::KeyUnknown),
        _ => Ok(()),
    }
}
