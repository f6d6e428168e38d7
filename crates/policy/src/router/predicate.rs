//! What a route asks of a request beyond host and path.

use http::Method;
use http::request::Parts;

use crate::path::decode_query;
use crate::route::{Route, ValueMatch};

impl Route {
    /// How much a route asks for: more is more specific.
    #[must_use]
    pub fn predicates(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }
}

/// `asked` is the method a CORS preflight asks about.
pub(super) fn method(route: &Route, method: &Method, asked: Option<&[u8]>) -> bool {
    if route.methods.is_empty() || takes(route, method.as_str().as_bytes()) {
        return true;
    }
    route.cors.is_some() && asked.is_some_and(|asked| takes(route, asked))
}

fn takes(route: &Route, method: &[u8]) -> bool {
    route.methods.iter().any(|m| m.as_str().as_bytes() == method || (*m == Method::GET && method == b"HEAD"))
}

pub(super) fn add_methods(route: &Route, allowed: &mut Vec<Method>) {
    let head = route.methods.contains(&Method::GET).then_some(Method::HEAD);
    let preflight = route.cors.is_some().then_some(Method::OPTIONS);
    for method in route.methods.iter().cloned().chain(head).chain(preflight) {
        if !allowed.contains(&method) {
            allowed.push(method);
        }
    }
}

/// Headers and query. Of a header sent several times any value may match; of a query field the first counts.
pub(super) fn others(route: &Route, request: &Parts) -> bool {
    let headers = route.headers.iter().all(|wanted| {
        request.headers.get_all(&wanted.name).iter().any(|value| match value.to_str() {
            Ok(text) => fits(&wanted.value, text),
            Err(_) => matches!(wanted.value, ValueMatch::Present),
        })
    });
    headers && (route.query.is_empty() || query(route, request.uri.query().unwrap_or_default()))
}

fn query(route: &Route, query: &str) -> bool {
    route.query.iter().all(|wanted| {
        let mut fields = query.split('&').map(|field| field.split_once('=').unwrap_or((field, "")));
        let found = fields.find(|(name, _)| decode_query(name) == wanted.name);
        found.is_some_and(|(_, value)| fits(&wanted.value, &decode_query(value)))
    })
}

fn fits(wanted: &ValueMatch, value: &str) -> bool {
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => value == text,
        ValueMatch::Prefix(text) => value.starts_with(text.as_str()),
        ValueMatch::Regex(regex) => regex.is_match(value),
    }
}
