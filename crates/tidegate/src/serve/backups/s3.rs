//! Backups in a store that speaks S3: buckets in the path, requests signed, one connection for each. An answer is read within a
//! bound; what it says in an error is passed on, but for the keys that it was shown.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tidegate_auth::outward::sigv4::{self, Unsigned};
use tidegate_policy::S3Place;

use crate::connect::Connector;

/// A thousand names, which is all that a store says at once.
const MOST_ANSWER: usize = 4 << 20;
/// Pages of names that are asked for: more backups than are ever kept.
const MOST_PAGES: usize = 32;

/// Names below the prefix that begin with this.
pub(super) async fn list(store: &S3Place, begins: &str) -> Result<Vec<String>, String> {
    let folder = key(store, "");
    let (mut names, mut after) = (Vec::new(), String::new());
    for _ in 0..MOST_PAGES {
        let from = if after.is_empty() { String::new() } else { format!("&start-after={}", escaped(&after)) };
        let query = format!("list-type=2&prefix={}{from}", escaped(&format!("{folder}{begins}")));
        let (status, body) = ask(store, Method::GET, "", &query, Vec::new()).await?;
        if status != StatusCode::OK {
            return Err(refused(store, "listing", status, &body));
        }
        let text = String::from_utf8_lossy(&body);
        let keys: Vec<&str> = elements(&text, "Key").collect();
        names.extend(keys.iter().filter_map(|key| key.strip_prefix(folder.as_str())).map(str::to_owned));
        match keys.last() {
            Some(last) if elements(&text, "IsTruncated").any(|is| is == "true") => after = (*last).to_owned(),
            _ => break,
        }
    }
    Ok(names)
}

pub(super) async fn put(store: &S3Place, name: &str, file: Vec<u8>) -> Result<(), String> {
    let (status, body) = ask(store, Method::PUT, &key(store, name), "", file).await?;
    if status.is_success() { Ok(()) } else { Err(refused(store, "storing", status, &body)) }
}

pub(super) async fn remove(store: &S3Place, name: &str) -> Result<(), String> {
    let (status, body) = ask(store, Method::DELETE, &key(store, name), "", Vec::new()).await?;
    if status.is_success() || status == StatusCode::NOT_FOUND {
        Ok(())
    } else {
        Err(refused(store, "deleting", status, &body))
    }
}

fn key(store: &S3Place, name: &str) -> String {
    if store.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", store.prefix) }
}

async fn ask(
    store: &S3Place,
    method: Method,
    key: &str,
    query: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", store.endpoint);
    // Bucket and key have no character that is escaped in a path: the document is checked for it.
    let path = format!("/{}/{key}", store.bucket);
    let authority = store.endpoint.authority().ok_or_else(|| wrong(&"no host"))?.as_str();
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(authority).map_err(|error| wrong(&error))?);
    let sum: String = digest(&SHA256, &body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    headers.insert("x-amz-content-sha256", HeaderValue::from_str(&sum).map_err(|error| wrong(&error))?);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let unsigned = Unsigned { method: &method, path: &path, query, body: &body };
    sigv4::sign(&unsigned, &mut headers, &store.keys, seconds).map_err(|error| wrong(&error))?;

    let secure = store.endpoint.scheme_str() == Some("https");
    let connector = match secure {
        true => Connector::tls(store.ca.clone(), &[b"http/1.1"]).map_err(|error| wrong(&error))?,
        false => Connector::plain(),
    };
    let question = if query.is_empty() { String::new() } else { format!("?{query}") };
    let scheme = if secure { "https" } else { "http" };
    let mut request = Request::builder().method(method).uri(format!("{scheme}://{authority}{path}{question}"));
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| wrong(&error))?;
    let client = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let answer = client.request(request).await.map_err(|error| wrong(&chain(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
    Ok((status, body.map_err(|error| wrong(&error))?.to_bytes()))
}

/// `<Code>` and `<Message>` of what the store says.
fn refused(store: &S3Place, what: &str, status: StatusCode, body: &[u8]) -> String {
    let keys = [Some(&store.keys.secret), store.keys.session.as_ref()];
    let text = keys
        .into_iter()
        .flatten()
        .fold(String::from_utf8_lossy(body).into_owned(), |text, key| text.replace(key.shown(), "…"));
    let said = |name| elements(&text, name).next().map(str::to_owned).unwrap_or_default();
    let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    format!("{what}: the store answered {status} {} {}", clean(said("Code")), clean(said("Message")))
}

/// What stands in each element of this name. Names of ours have no character that XML escapes.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(open.as_str())?;
        let (inside, after) = after.split_once(close.as_str())?;
        rest = after;
        Some(inside)
    })
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let each = text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    each.collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_a_listing_and_nothing_falls_over_what_is_none() {
        let xml = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a/b</Key></Contents>\
                   <Contents><Key>a/c</Key></Contents></ListBucketResult>";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["a/b", "a/c"]);
        for broken in ["", "<Key>", "<Key>a", "</Key><Key>", "<<Key>>"] {
            assert_eq!(elements(broken, "Key").count(), 0, "{broken}");
        }
        assert_eq!(escaped("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
