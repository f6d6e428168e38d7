//! Taking the key out of what is forwarded: a backend has no use for our callers' credentials.
//!
//! Called on routes that ask for a key, after [`crate::presented`] found no conflict: every place holds the same key.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::presented::{KEY_HEADERS, bearer, has_key_header, is_key_parameter};

/// Removes every header that carries a key. `Authorization` of another scheme is the backend's and stays.
pub fn strip_headers(headers: &mut HeaderMap) {
    if headers.get_all(AUTHORIZATION).iter().any(|value| bearer(value.as_bytes()).is_some()) {
        headers.remove(AUTHORIZATION);
    }
    if has_key_header(headers) {
        for (name, _) in &KEY_HEADERS {
            headers.remove(name);
        }
    }
}

/// The query without its key; `None` when it carries none and may go as it is. Other parameters keep order and bytes.
#[must_use]
pub fn strip_query(query: &str) -> Option<String> {
    if !query.split('&').any(is_key_parameter) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_key_parameter(pair)).collect();
    Some(kept.join("&"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn no_place_keeps_the_key() {
        let mut headers = HeaderMap::new();
        for name in ["x-api-key", "api-key", "x-goog-api-key", "accept"] {
            headers.insert(name, HeaderValue::from_static("tg_a"));
        }
        headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer tg_a"));
        strip_headers(&mut headers);
        assert_eq!(headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_credential_for_the_backend_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic eA=="));
        strip_headers(&mut headers);
        assert!(headers.contains_key(AUTHORIZATION));
    }

    #[test]
    fn the_query_loses_its_key_and_nothing_else() {
        assert_eq!(strip_query("a=1&b=%20"), None);
        assert_eq!(strip_query("key=tg_a").as_deref(), Some(""));
        assert_eq!(strip_query("a=1&key=tg_a&b=%20&k%65y=x").as_deref(), Some("a=1&b=%20"));
    }
}
