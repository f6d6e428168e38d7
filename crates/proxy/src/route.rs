//! Which route takes the request; 404 and 405 when none does.

use http::request::Parts;
use http::{HeaderValue, Method};
use tidegate_policy::{Matched, Snapshot};

use crate::head::Host;
use crate::refusal::Refusal;

pub(crate) fn find<'s>(snapshot: &'s Snapshot, host: &Host, parts: &Parts) -> Result<Matched<'s>, Refusal> {
    let name = host.name();
    match snapshot.router.find(&name, parts) {
        Some(matched) => Ok(matched),
        None => Err(none(&snapshot.router.allowed_methods(&name, parts))),
    }
}

fn none(allowed: &[Method]) -> Refusal {
    if allowed.is_empty() {
        return Refusal::NoRoute;
    }
    let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    match HeaderValue::try_from(list) {
        Ok(allow) => Refusal::MethodNotAllowed { allow },
        Err(_) => Refusal::NoRoute,
    }
}
