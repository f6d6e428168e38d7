//! What the fuzzer calls (docs/fuzzing.md), and tests with what it kept. Any bytes: nothing panics, promises hold, cuts make
//! no difference.

use http::header::{CONNECTION, COOKIE, HOST};
use http::request::Parts;
use http::{Request, Version};
use tidegate_policy::path::normalize;

use crate::bounds::Bounds;
use crate::grpc::{self, Speech};
use crate::{announced, head, headers, max_forwards};

pub use crate::grpc::web::fuzz as grpc_web;
pub use crate::wire::fuzz as h2_frames;

/// A request head as a parser hands it on: a line `METHOD TARGET`, `2` behind it for h2, and fields.
pub fn request_head(bytes: &[u8]) {
    let Some(mut parts) = parts(bytes) else { return };
    let seen = headers::survey(&parts.headers);
    let _ = (Speech::of(&parts.headers), grpc::deadline(&parts.headers), headers::passages(&parts.headers));
    let _ = tidegate_auth::presented(&parts);
    let Ok(host) = head::vet(&mut parts, seen, &Bounds::default()) else { return };
    // What is passed on has one host, one spelling, and nothing that two servers would read apart.
    let name = host.name().into_owned();
    assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '), "{name:?} is a name of a host");
    assert!(parts.uri.authority().is_none() && parts.headers.get_all(HOST).iter().count() <= 1, "one host");
    let path = parts.uri.path();
    assert!(path == "*" || path.starts_with('/'), "{path:?} is in origin form");
    let one = normalize(path);
    assert_eq!(normalize(&one), one, "a path that is normal stays");
    assert!(!one.split('/').any(|segment| matches!(segment, "." | "..")), "{one:?} has dots");
    let escapes_slash = |text: &str| text.contains("%2F");
    assert!(one == "*" || escapes_slash(&one) || !one.contains("//"), "{one:?} has an empty segment");
    let _ = max_forwards::count(&mut parts);
    if headers::mend(&mut parts.headers) {
        assert!(parts.headers.get_all(COOKIE).iter().count() <= 1 || seen.hop || true_crumbs(&parts), "one cookie");
    }
    headers::strip_hop_by_hop(&mut parts.headers, seen);
    assert!(!parts.headers.contains_key(CONNECTION), "what concerns one connection stays behind");
    let once = parts.headers.clone();
    headers::strip_hop_by_hop(&mut parts.headers, headers::survey(&once));
    assert_eq!(parts.headers, once, "what was taken out is out");
}

/// Cookies that together are no value of a header stay as they came.
fn true_crumbs(parts: &Parts) -> bool {
    let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
    http::HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).is_err()
}

fn parts(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next());
    let version = if version == Some(b"2") { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut request = Request::builder().method(method).uri(target).version(version);
    for line in lines.take(64) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// The PROXY protocol: what is read of a line is what it says.
pub fn announcement(bytes: &[u8]) {
    announced::fuzz(bytes);
}
