//! What an unsafe request that succeeded makes void (RFC 9111 § 4.4): its own URI, and those of the same host that its
//! answer names.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::{Authority, Uri};
use http::{HeaderMap, Method, StatusCode};

#[must_use]
pub fn is_unsafe(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Path and query of each, all on the request's own host.
#[must_use]
pub fn targets(host: &str, target: &str, status: StatusCode, answer: &HeaderMap) -> Vec<String> {
    if !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut targets = vec![target.to_owned()];
    for name in [LOCATION, CONTENT_LOCATION] {
        let named = answer.get(name).and_then(|value| value.to_str().ok()).and_then(|text| resolve(host, target, text));
        targets.extend(named.filter(|named| named != target));
    }
    targets
}

/// `None`: another host, or no reference to anything over HTTP.
fn resolve(host: &str, base: &str, reference: &str) -> Option<String> {
    let reference = reference.trim().split('#').next()?;
    let path = base.split('?').next()?;
    if reference.is_empty() {
        return None;
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return absolute(host, &format!("http://{rest}"));
    }
    if reference.starts_with('/') {
        return Some(reference.to_owned());
    }
    if reference.starts_with('?') {
        return Some(format!("{path}{reference}"));
    }
    if reference.split(['/', '?']).next()?.contains(':') {
        return absolute(host, reference);
    }
    let folder = &path[..=path.rfind('/')?];
    let (relative, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
    Some(without_dots(&format!("{folder}{relative}")) + query)
}

fn absolute(host: &str, text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let named: &Authority = uri.authority()?;
    let bare = |host: &str| {
        host.rsplit_once(':')
            .filter(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(h, _)| h)
            .to_ascii_lowercase()
    };
    let known = uri.scheme_str().is_some_and(|s| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"));
    (known && bare(named.as_str()) == bare(host)).then(|| uri.path_and_query().map_or("/", |pq| pq.as_str()).to_owned())
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_change_voids_its_uri_and_those_it_names_on_its_host() {
        let check = |location: &'static str| {
            let mut answer = HeaderMap::new();
            answer.insert(LOCATION, HeaderValue::from_static(location));
            targets("Example.com:80", "/a/b?q", StatusCode::CREATED, &answer).into_iter().nth(1)
        };
        for (location, expected) in [
            ("/x?y", Some("/x?y")),
            ("http://example.com/x", Some("/x")),
            ("https://EXAMPLE.com:8443/x#f", Some("/x")),
            ("//example.com", Some("/")),
            ("c", Some("/a/c")),
            ("../c?z", Some("/c?z")),
            ("./", Some("/a/")),
            ("?z", Some("/a/b?z")),
            ("/a/b?q", None),
            ("http://other.com/x", None),
            ("mailto:a@example.com", None),
            ("", None),
        ] {
            assert_eq!(check(location).as_deref(), expected, "{location}");
        }
        assert!(targets("h", "/", StatusCode::NOT_FOUND, &HeaderMap::new()).is_empty());
        assert!(is_unsafe(&Method::POST) && is_unsafe(&Method::from_bytes(b"M-SEARCH").expect("a method")));
        assert!(!is_unsafe(&Method::HEAD));
    }
}
