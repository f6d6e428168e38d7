//! Answers compressed for the clients that take it: which of them, and what their heads say then. The bytes are `packed`'s.
//!
//! It happens last, when the answer is as the client is to have it, whoever made it: so the cache keeps bodies as they came, and limits
//! and logs count what was answered, not what it shrank to.

mod packed;

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use tidegate_coding::{Coding, Encoding, preferred};
use tidegate_policy::Compression;

pub(crate) use self::packed::Packed;
use crate::headers::{self, Seen};
use crate::reply::Reply;

/// What of a request decides about its answer's coding: the request itself goes on to the upstream.
pub(crate) struct Asked {
    rules: Arc<Compression>,
    /// What the client takes of what is offered, best first.
    codings: Vec<Coding>,
    /// What it has.
    has: Option<HeaderValue>,
    is_head: bool,
}

/// They tell of bytes that the client does not get (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// `None`: its answer is no matter of ours. Messages of gRPC have a coding of their own.
pub(crate) fn asked(rules: &Arc<Compression>, parts: &Parts, seen: Seen) -> Option<Box<Asked>> {
    if seen.grpc.is_some() {
        return None;
    }
    let lines = parts.headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|line| line.to_str().ok());
    let codings = if is_not_to_be_changed(&parts.headers) { Vec::new() } else { preferred(lines, &rules.algorithms) };
    let has = parts.headers.get(IF_NONE_MATCH).cloned();
    Some(Box::new(Asked { rules: Arc::clone(rules), codings, has, is_head: parts.method == Method::HEAD }))
}

impl Asked {
    /// How the answer goes out; its head says so from here on. `length`: of its body, where it is known.
    pub(crate) fn judge(&self, status: StatusCode, headers: &mut HeaderMap, length: Option<u64>) -> Option<Packing> {
        if status == StatusCode::NOT_MODIFIED {
            self.confirm(headers);
            return None;
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|line| line.to_str().ok()?.parse().ok()).or(length);
        if !self.may(status, headers, length) {
            return None;
        }
        vary(headers);
        if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE) {
            return None; // A part of what is not compressed.
        }
        let (coding, packing) =
            self.codings.iter().find_map(|coding| Some((*coding, self.packing(*coding, length)?)))?;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        for name in &DIGESTS {
            headers.remove(name);
        }
        if let Some(weak) = headers.get(ETAG).and_then(weakened) {
            headers.insert(ETAG, weak);
        }
        Some(packing)
    }

    fn packing(&self, coding: Coding, length: Option<u64>) -> Option<Packing> {
        if self.is_head { Some(Packing(None)) } else { Encoding::new(coding, length).map(|it| Packing(Some(it))) }
    }

    fn may(&self, status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> bool {
        let bodiless = status.is_informational() || matches!(status.as_u16(), 204 | 205);
        let coded =
            headers.get(CONTENT_ENCODING).is_some_and(|line| !line.as_bytes().eq_ignore_ascii_case(b"identity"));
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        !bodiless
            && !coded
            && length.is_none_or(|length| length >= self.rules.min_size)
            && kind.is_some_and(|kind| self.rules.takes(kind))
            && !is_not_to_be_changed(headers)
    }

    /// What the client has is good. If that is what we compressed, its name is the weak one that it went out with
    /// (RFC 9110 § 15.4.5: as a 200 would have had it).
    fn confirm(&self, headers: &mut HeaderMap) {
        let Some(weak) = headers.get(ETAG).and_then(weakened) else { return };
        let has = self.has.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        if has.split(|byte| *byte == b',').any(|one| one.trim_ascii() == weak.as_bytes()) {
            headers.insert(ETAG, weak);
            vary(headers);
        }
    }
}

/// How an answer is compressed; nothing of one to HEAD.
pub(crate) struct Packing(Option<Encoding>);

impl Packing {
    pub(crate) fn apply(self, response: Response<Reply>) -> Response<Reply> {
        match self.0 {
            Some(encoding) => response.map(|reply| Reply::Packed(Box::new(Packed::new(reply, encoding)))),
            // The length of what would have come is not known.
            None => response
                .map(|reply| if let Reply::Ours(_, observer) = reply { Reply::Ours(None, observer) } else { reply }),
        }
    }
}

/// `no-transform`, of either side (RFC 9111 § 5.2.1.6, § 5.2.2.6).
fn is_not_to_be_changed(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|line| headers::has_token(line, "no-transform"))
}

fn vary(headers: &mut HeaderMap) {
    let told = |line: &HeaderValue| headers::has_token(line, "accept-encoding") || headers::has_token(line, "*");
    if !headers.get_all(VARY).iter().any(told) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Two bodies that mean the same have no strong name in common (RFC 9110 § 8.8.1). `None`: it is weak.
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    let tag = tag.as_bytes();
    if !tag.starts_with(b"\"") {
        return None;
    }
    HeaderValue::from_bytes(&[&b"W/"[..], tag].concat()).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn rules() -> Arc<Compression> {
        let (algorithms, types) = (Compression::ALGORITHMS.to_vec(), Compression::usual_types());
        Arc::new(Compression { algorithms, min_size: 100, types })
    }

    fn judged(
        method: &str,
        request: &[(&str, &str)],
        status: u16,
        answer: &[(&str, &str)],
        length: Option<u64>,
    ) -> (bool, String) {
        let mut built = Request::builder().method(method).uri("/");
        for (name, value) in request {
            built = built.header(*name, *value);
        }
        let (parts, ()) = built.body(()).unwrap().into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in answer {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let asked = asked(&rules(), &parts, headers::survey(&parts.headers)).unwrap();
        let packs = asked.judge(StatusCode::from_u16(status).unwrap(), &mut headers, length).is_some();
        let mut said: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        said.sort();
        (packs, said.join("; "))
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const TAKES: [(&str, &str); 1] = [("accept-encoding", "gzip, br;q=0.9")];

    #[test]
    fn the_head_says_what_the_body_is() {
        let answer = [
            JSON,
            ("content-length", "5000"),
            ("etag", "\"a\""),
            ("accept-ranges", "bytes"),
            ("content-digest", "sha-256=:x:"),
            ("vary", "origin"),
        ];
        let want = "content-encoding: gzip; content-type: application/json; etag: W/\"a\"; vary: accept-encoding; vary: origin";
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(judged(method, &TAKES, 200, &answer, None), (true, want.into()), "{method}");
        }
        let want = "content-encoding: gzip; content-type: application/json; vary: Accept-Encoding, x";
        let told = [JSON, ("vary", "Accept-Encoding, x")];
        assert_eq!(judged("GET", &TAKES, 200, &told, Some(5_000)), (true, want.into()));
        assert_eq!(judged("GET", &TAKES, 404, &told, None), (true, want.into()), "errors are answers too");
    }

    #[test]
    fn what_is_not_to_be_compressed_stays_as_it_is() {
        let of = |status, answer: &[(&str, &str)]| judged("GET", &TAKES, status, answer, Some(5_000));
        let as_is = |answer: &[(&str, &str)]| {
            let mut said: Vec<String> = answer.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            said.sort();
            said.join("; ")
        };
        for (status, answer) in [
            (200, &[JSON, ("content-encoding", "br")][..]),
            (200, &[JSON, ("cache-control", "max-age=5, no-transform")]),
            (200, &[JSON, ("content-length", "99")]),
            (200, &[("content-type", "image/png")]),
            (200, &[("content-type", "text/event-stream")]),
            (200, &[]),
            (204, &[JSON]),
            (205, &[JSON]),
        ] {
            assert_eq!(of(status, answer), (false, as_is(answer)), "{answer:?}");
        }
        let part = [JSON, ("content-range", "bytes 0-999/5000")];
        let varies = format!("{}; vary: accept-encoding", as_is(&part));
        assert_eq!(of(206, &part), (false, varies));
    }

    #[test]
    fn who_does_not_take_it_is_told_that_others_do() {
        let want = (false, "content-type: application/json; etag: \"a\"; vary: accept-encoding".to_owned());
        let answer = [JSON, ("etag", "\"a\"")];
        for request in [
            &[][..],
            &[("accept-encoding", "identity")],
            &[("accept-encoding", "gzip;q=0")],
            &[("accept-encoding", "gzip"), ("cache-control", "no-transform")],
        ] {
            assert_eq!(judged("GET", request, 200, &answer, None), want, "{request:?}");
        }
    }

    #[test]
    fn what_a_client_has_is_confirmed_by_the_name_it_has() {
        let answer = [("etag", "\"a\"")];
        let weak = [TAKES[0], ("if-none-match", "\"b\", W/\"a\"")];
        assert_eq!(judged("GET", &weak, 304, &answer, None), (false, "etag: W/\"a\"; vary: accept-encoding".into()));
        let strong = [TAKES[0], ("if-none-match", "\"a\"")];
        assert_eq!(judged("GET", &strong, 304, &answer, None), (false, "etag: \"a\"".into()));
    }
}
