//! Who is asking, and may they. A key names a consumer; the document says whether that consumer (still) exists.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::request::Parts;
use tidegate_auth::{KeyEntry, Rejected, presented};
use tidegate_policy::{AuthScheme, Consumer, Route, Snapshot};

use crate::gate::Gate;
use crate::refusal::Refusal;

/// A caller who proved it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) key: Arc<KeyEntry>,
    pub(crate) consumer: Arc<Consumer>,
}

/// `Ok(None)`: the route asks for nobody; what the request carries is then the upstream's business.
pub(crate) fn caller(
    gate: &Gate,
    snapshot: &Snapshot,
    route: &Route,
    parts: &Parts,
) -> Result<Option<Caller>, Refusal> {
    match route.auth.as_slice() {
        [] => Ok(None),
        schemes => schemes.iter().map(|AuthScheme::Key| by_key(gate, snapshot, parts)).next().transpose(),
    }
}

fn by_key(gate: &Gate, snapshot: &Snapshot, parts: &Parts) -> Result<Caller, Refusal> {
    if gate.keys_stale.load(Ordering::Relaxed) {
        return Err(Refusal::KeysStale);
    }
    let presented = presented(parts).map_err(|_| Refusal::KeyConflict)?.ok_or(Refusal::KeyMissing)?;
    let now = tidegate_clock::wall().0 / 1_000_000;
    let key = gate.keys.find(&presented.secret, now).map_err(|why| match why {
        Rejected::Unknown => Refusal::KeyUnknown,
        Rejected::Expired => Refusal::KeyExpired,
        Rejected::Revoked => Refusal::KeyRevoked,
    })?;
    let consumer = snapshot.consumer(&key.tenant, &key.consumer).ok_or(Refusal::KeyWithoutConsumer)?;
    Ok(Caller { key, consumer: consumer.clone() })
}

/// Keys of one tenant do not open another's routes.
pub(crate) fn may(route: &Route, caller: Option<&Caller>) -> Result<(), Refusal> {
    match caller {
        Some(caller) if *caller.key.tenant != *route.tenant => Err(Refusal::KeyUnknown),
        _ => Ok(()),
    }
}
