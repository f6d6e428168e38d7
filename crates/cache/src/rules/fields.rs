//! Which header fields are kept with a stored response.

use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Ours alone: what a client is told of one request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// They concern a connection, never what is stored (RFC 9111 § 3.1).
const HOP: [HeaderName; 11] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHENTICATION_INFO,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    REQUEST_ID,
];

/// They describe the body that is stored, so no 304 changes them (RFC 9111 § 3.2).
const OF_THE_BODY: [HeaderName; 6] =
    [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_MD5, CONTENT_DIGEST, ETAG];

/// What of `headers` is stored. `unlisted`: fields that `no-cache` and `private` name, and cookies if they must go.
/// `Age` goes as well: from now on it is ours to tell.
#[must_use]
pub fn stored(headers: &HeaderMap, unlisted: &[HeaderName], without_cookies: bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    let connection: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for (name, value) in headers {
        let gone = HOP.contains(name)
            || *name == AGE
            || unlisted.contains(name)
            || connection.contains(name)
            || (without_cookies && *name == SET_COOKIE);
        if !gone {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Does a 304 change this field?
#[must_use]
pub fn is_updated(name: &HeaderName) -> bool {
    !HOP.contains(name) && !OF_THE_BODY.contains(name) && *name != AGE
}

/// Does a 304 that we send leave this field out (RFC 9110 § 15.4.5)?
#[must_use]
pub fn is_of_the_content(name: &HeaderName) -> bool {
    name.as_str().starts_with("content-")
        && *name != http::header::CONTENT_LOCATION
        && *name != http::header::CONTENT_SECURITY_POLICY
}
