//! Trailers, both ways: a field that is read before the body, to frame, route, authenticate or condition a message, or that
//! says who the client is, has no business behind it (RFC 9110 § 6.5.1). What is left goes on; most trailers are
//! `grpc-status` or a checksum.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;

use crate::headers;

/// Data passes as it is.
pub(crate) fn sifted(frame: Frame<Bytes>) -> Frame<Bytes> {
    if frame.is_data() { frame } else { frame.into_trailers().map_or_else(|frame| frame, sift) }
}

#[cold]
fn sift(trailers: HeaderMap) -> Frame<Bytes> {
    let mut kept = HeaderMap::with_capacity(trailers.keys_len());
    let mut last: Option<HeaderName> = None;
    for (name, value) in trailers {
        last = name.or(last);
        keep(&mut kept, last.as_ref(), value);
    }
    Frame::trailers(kept)
}

fn keep(kept: &mut HeaderMap, name: Option<&HeaderName>, value: HeaderValue) {
    if let Some(name) = name.filter(|name| !belongs_before(name)) {
        kept.append(name.clone(), value);
    }
}

fn belongs_before(name: &HeaderName) -> bool {
    let text = name.as_str();
    headers::is_claim(text)
        || headers::is_internal(text)
        || text.starts_with("if-")
        || text.starts_with("access-control-")
        || text.starts_with("proxy-")
        || matches!(text, "keep-alive" | "http2-settings" | "x-request-id" | "x-api-key" | "api-key" | "x-goog-api-key")
        || matches!(
            *name,
            // Framing and this hop.
            header::CONNECTION | header::CONTENT_LENGTH | header::TE | header::TRAILER | header::TRANSFER_ENCODING
                | header::UPGRADE
            // Routing and where it came from.
                | header::FORWARDED | header::HOST | header::LOCATION | header::ORIGIN | header::REFERER | header::VIA
            // Who is asking, and who is told to.
                | header::AUTHORIZATION | header::COOKIE | header::SET_COOKIE | header::WWW_AUTHENTICATE
            // What to do with the request and the answer.
                | header::AGE | header::CACHE_CONTROL | header::EXPECT | header::EXPIRES | header::DATE
                | header::MAX_FORWARDS | header::PRAGMA | header::RANGE | header::RETRY_AFTER | header::VARY
                | header::WARNING
            // How to read the body.
                | header::CONTENT_DISPOSITION | header::CONTENT_ENCODING | header::CONTENT_LANGUAGE
                | header::CONTENT_LOCATION | header::CONTENT_RANGE | header::CONTENT_TYPE
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_known_before_the_body_does_not_come_behind_it() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "authorization",
            "x-checksum",
            "content-length",
            "x-forwarded-for",
            "x_forwarded_for",
            "host",
            "forwarded",
            "via",
            "x-request-id",
            "cookie",
            "set-cookie",
            "x-api-key",
            "if-match",
            "transfer-encoding",
            "x-tidegate-node",
            "content-type",
            "proxy-authorization",
            "x-real-ip",
            "te",
        ] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        trailers.append("x-checksum", HeaderValue::from_static("2"));
        let left = sifted(Frame::trailers(trailers)).into_trailers().expect("trailers");
        let left: Vec<_> =
            left.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("ASCII"))).collect();
        assert_eq!(left, ["grpc-status=1", "x-checksum=1", "x-checksum=2"]);
        let data = sifted(Frame::data(Bytes::from_static(b"x")));
        assert_eq!(data.into_data().expect("data"), "x");
    }
}
