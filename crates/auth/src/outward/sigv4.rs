//! AWS Signature Version 4, in the `Authorization` header, for requests whose body is known
//! (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
//!
//! Signed are `host`, `content-type` and all `x-amz-*`: what decides. The path is the one that is sent, escapes and all,
//! and every service but S3 escapes it once more: `:` of a model's name is sent as `%3A` and signed as `%253A`.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use tidegate_policy::AwsKeys;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const OF_PATH: &AsciiSet = &UNRESERVED.remove(b'/');
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request that is about to be sent.
pub struct Unsigned<'a> {
    pub method: &'a Method,
    /// As it is sent.
    pub path: &'a str,
    /// As it is sent, without its `?`.
    pub query: &'a str,
    pub body: &'a [u8],
}

/// Adds `x-amz-date`, the session's token and `Authorization`. `seconds`: since 1970; AWS refuses what is five minutes off.
///
/// # Errors
/// The keys hold characters that no header has.
pub fn sign(
    request: &Unsigned<'_>,
    headers: &mut HeaderMap,
    keys: &AwsKeys,
    seconds: u64,
) -> Result<(), http::header::InvalidHeaderValue> {
    let stamp = stamp(seconds);
    headers.remove(AUTHORIZATION);
    headers.insert(DATE, HeaderValue::try_from(&stamp)?);
    if let Some(token) = &keys.session {
        let mut token = HeaderValue::from_str(token.shown())?;
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    let day = &stamp[..8];
    let scope = format!("{day}/{}/{}/aws4_request", keys.region, keys.service);
    let (canonical, signed) = canonical(request, headers, &keys.service);
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
    let mut key = hmac_of(format!("AWS4{}", keys.secret.shown()).as_bytes(), day.as_bytes());
    for part in [&*keys.region, &*keys.service, "aws4_request"] {
        key = hmac_of(key.as_ref(), part.as_bytes());
    }
    let signature = hex(hmac_of(key.as_ref(), to_sign.as_bytes()).as_ref());
    let access = keys.access.shown();
    let line = format!("{ALGORITHM} Credential={access}/{scope}, SignedHeaders={signed}, Signature={signature}");
    let mut line = HeaderValue::try_from(line)?;
    line.set_sensitive(true);
    headers.insert(AUTHORIZATION, line);
    Ok(())
}

/// What is signed, and the names of the headers in it.
fn canonical(request: &Unsigned<'_>, headers: &HeaderMap, service: &str) -> (String, String) {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).filter(|name| decides(name)).collect();
    names.sort_unstable();
    let signed = names.join(";");
    let mut text = format!("{}\n{}\n{}\n", request.method, path(request.path, service), query(request.query));
    for name in names {
        let values = headers.get_all(name).iter().map(|value| trimmed(value.as_bytes()));
        let _infallible = writeln!(text, "{name}:{}", values.collect::<Vec<_>>().join(","));
    }
    let _infallible = write!(text, "\n{signed}\n{}", hex(&sha256(request.body)));
    (text, signed)
}

fn decides(name: &str) -> bool {
    name == HOST.as_str() || name == "content-type" || name.starts_with("x-amz-")
}

/// Without dots and doubled slashes, escaped once more; of S3, whose keys may hold any of that, as it is sent.
fn path(sent: &str, service: &str) -> String {
    if service == "s3" {
        return sent.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if sent.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    percent_encode(format!("/{}{end}", kept.join("/")).as_bytes(), OF_PATH).to_string()
}

/// By name, then by value, each escaped in the one way.
fn query(sent: &str) -> String {
    let escaped = |text: &str| percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), UNRESERVED).to_string();
    let pairs = sent.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (escaped(name), escaped(value)))
        .collect();
    pairs.sort();
    pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Runs of blanks are one blank.
fn trimmed(value: &[u8]) -> String {
    String::from_utf8_lossy(value).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hmac_of(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

fn sha256(data: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, data)
}

fn hex(bytes: &(impl AsRef<[u8]> + ?Sized)) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// `20150830T123600Z`
fn stamp(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Days since 1970 in the proleptic Gregorian calendar (howardhinnant.github.io/date_algorithms.html, `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use tidegate_policy::Hidden;

    use super::*;

    /// As botocore signed it (`tests/sigv4/vectors.py`).
    #[derive(Deserialize)]
    struct Vector {
        name: String,
        method: String,
        path: String,
        query: String,
        headers: Vec<(String, String)>,
        body: String,
        access: String,
        secret: String,
        session: Option<String>,
        region: String,
        service: String,
        seconds: u64,
        authorization: String,
    }

    #[test]
    fn requests_are_signed_as_aws_itself_would() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("../../tests/sigv4/vectors.json")).unwrap();
        assert!(vectors.len() >= 60);
        for vector in vectors {
            let keys = AwsKeys {
                access: Hidden::new(vector.access),
                secret: Hidden::new(vector.secret),
                session: vector.session.map(Hidden::new),
                region: vector.region.into(),
                service: vector.service.into(),
            };
            let mut headers = HeaderMap::new();
            for (name, value) in vector.headers {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            headers.insert("user-agent", HeaderValue::from_static("not signed"));
            headers.insert("authorization", HeaderValue::from_static("Bearer of the caller's"));
            let method = vector.method.parse().unwrap();
            let (path, query, body) = (&*vector.path, &*vector.query, vector.body.as_bytes());
            sign(&Unsigned { method: &method, path, query, body }, &mut headers, &keys, vector.seconds).unwrap();
            assert_eq!(headers["authorization"], vector.authorization, "{}", vector.name);
            assert!(headers["authorization"].is_sensitive());
        }
    }

    #[test]
    fn the_published_get_vanilla_is_signed_as_published() {
        let keys = AwsKeys {
            access: Hidden::new("AKIDEXAMPLE".into()),
            secret: Hidden::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            session: None,
            region: "us-east-1".into(),
            service: "service".into(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("example.amazonaws.com"));
        let request = Unsigned { method: &Method::GET, path: "/", query: "", body: b"" };
        sign(&request, &mut headers, &keys, 1_440_938_160).unwrap();
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        let line = headers["authorization"].to_str().unwrap();
        assert!(line.ends_with("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"), "{line}");
    }

    #[test]
    fn days_are_named_by_the_calendar() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (4_102_444_800, "21000101T000000Z"),
        ] {
            assert_eq!(stamp(seconds), text);
        }
    }
}
