//! What may be reused, for how long and for whom: RFC 9111 with 5861, 9211 and 9213, and the parts of RFC 9110 that a
//! cache answers itself. No clock, no locks, no I/O: `now` is wall-clock milliseconds that the caller brings.

pub mod conditional;
pub mod control;
mod cookies;
pub mod date;
pub mod fields;
pub mod freshen;
pub mod invalidate;
pub mod key;
pub mod lifetime;
pub mod range;
pub mod reuse;
pub mod status;
pub mod store;
pub mod tags;
pub mod targeted;
pub mod vary;

/// For tests.
#[cfg(test)]
fn map(lines: &[(&'static str, &'static str)]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, http::HeaderValue::from_static(value));
    }
    headers
}
