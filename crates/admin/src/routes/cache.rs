//! Kept responses: purges, and what people want to know of what the nodes keep.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidegate_policy::path::normalize;
use tidegate_state::{Command, Outcome, Purge};

use super::key::{Wanted, must_be_in_the_document};
use super::publish::{REVOKE_WAIT, everywhere, waiting};
use super::said;
use crate::AppState;
use crate::input::{Ask, Json as Input};
use crate::refusal::Refusal;
use crate::wire::{CachePurge, CachePurged, CacheStats, ErrorReply, KeptResponses};

const DEFAULT_TENANT: &str = "default";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<String>,
}

/// Make kept responses void
///
/// Answers when no live node serves them any more, whatever Redis still holds: every node knows, or its node lease
/// lapsed and it does without its cache; at most after `wait`. Answers that are on their way to a client by then go on.
#[utoipa::path(post, path = "/v1/cache/purge", tag = "cache", request_body = CachePurge,
    params(("wait" = Option<String>, Query, description = "`5s`; default 10s, at most 300s")),
    responses((status = 200, body = CachePurged), (status = 400, body = ErrorReply)))]
pub(super) async fn purge(
    State(state): State<AppState>,
    Ask(ask): Ask<Wait>,
    Input(body): Input<CachePurge>,
) -> Result<Json<CachePurged>, Refusal> {
    let wait = waiting(ask.wait.as_deref())?.unwrap_or(REVOKE_WAIT);
    must_exist(&state, body.tenant.as_deref()).await?;
    let applied = state.backend.propose(Command::Purge(what(body)?)).await?;
    let Outcome::Purged { epoch } = applied.outcome else { return Err(said::no(&applied.outcome, "purge")) };
    let (nodes, complete) = everywhere(&state, applied.index, wait).await;
    Ok(Json(CachePurged { epoch, index: applied.index, nodes, complete }))
}

/// A tenant that nobody has heard of keeps nothing: a slip of the pen, most likely, that would look like a success.
async fn must_exist(state: &AppState, tenant: Option<&str>) -> Result<(), Refusal> {
    match tenant {
        None | Some(DEFAULT_TENANT) => Ok(()),
        Some(tenant) => must_be_in_the_document(state, Wanted::Tenant(tenant)).await,
    }
}

fn what(body: CachePurge) -> Result<Vec<Purge>, Refusal> {
    let CachePurge { tenant, urls, prefixes, tags, all } = body;
    let mut what = Vec::new();
    if all {
        what.push(tenant.clone().map_or(Purge::All, Purge::Tenant));
    }
    let tenant = tenant.unwrap_or_else(|| DEFAULT_TENANT.to_owned());
    for url in urls {
        what.push(Purge::Url { tenant: tenant.clone(), url: plain(&url)? });
    }
    for prefix in prefixes {
        what.push(Purge::Prefix { tenant: tenant.clone(), prefix: plain_prefix(&prefix)? });
    }
    for tag in tags {
        if tag.is_empty() {
            return Err(Refusal::BadRequest("an empty tag".to_owned()));
        }
        what.push(Purge::Tag { tenant: tenant.clone(), tag });
    }
    if what.is_empty() {
        return Err(Refusal::BadRequest("nothing is to be purged: name urls, prefixes, tags or all".to_owned()));
    }
    Ok(what)
}

/// What every live node keeps, and how it fares
#[utoipa::path(get, path = "/v1/cache", tag = "cache", responses((status = 200, body = CacheStats)))]
pub(super) async fn stats(State(state): State<AppState>) -> Json<CacheStats> {
    Json(CacheStats { nodes: state.backend.caches().await })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    url: String,
    tenant: Option<String>,
}

/// What the live nodes keep of a URL in memory
#[utoipa::path(get, path = "/v1/cache/kept", tag = "cache",
    params(("url" = String, Query, description = "`https://example.com/a?b`, scheme or not"),
        ("tenant" = Option<String>, Query, description = "Default: `default`")),
    responses((status = 200, body = KeptResponses), (status = 400, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn kept(State(state): State<AppState>, Ask(of): Ask<Of>) -> Result<Json<KeptResponses>, Refusal> {
    must_exist(&state, of.tenant.as_deref()).await?;
    let (tenant, url) = (of.tenant.unwrap_or_else(|| DEFAULT_TENANT.to_owned()), plain(&of.url)?);
    let responses = state.backend.kept(&tenant, &url).await;
    Ok(Json(KeptResponses { tenant, url, responses }))
}

/// `host/path?query`: neither scheme nor port nor fragment, the host in lower case.
fn plain(url: &str) -> Result<String, Refusal> {
    let text = without_scheme(url);
    let text = text.split_once('#').map_or(text, |(text, _)| text);
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (authority, rest) = text.split_at(end);
    let plain = !text.chars().any(|c| c.is_ascii_whitespace() || c.is_control());
    let Some(host) = host(authority).filter(|_| plain) else {
        return Err(Refusal::BadRequest(format!("`{url}` is no URL: https://example.com/path?query")));
    };
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/".into() } else { normalize(path) };
    Ok(format!("{host}{path}{query}"))
}

/// A name, or an address. What is no host was never kept: to say that it was purged would be wrong.
fn is_host(host: &str) -> bool {
    let label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(label),
    }
}

/// The same of a beginning of URLs: of a host's name too.
fn plain_prefix(prefix: &str) -> Result<String, Refusal> {
    let text = without_scheme(prefix);
    if text.is_empty() {
        return Err(Refusal::BadRequest("an empty prefix: say `all`".to_owned()));
    }
    let begins = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'[' | b']' | b':');
    let is_name = text.bytes().all(begins);
    match text.rsplit_once(':') {
        // With a port it is a whole name.
        Some((name, _)) if !name.starts_with('[') || is_host(name) => plain(prefix),
        _ if is_name => Ok(text.to_ascii_lowercase()),
        _ => plain(prefix),
    }
}

/// Another scheme than HTTP's is no scheme, and makes no URL.
fn without_scheme(url: &str) -> &str {
    let url = url.trim();
    let is_http = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    url.split_once("://").filter(|(scheme, _)| is_http(scheme)).map_or(url, |(_, rest)| rest)
}

/// As requests are matched: lower case, no port, no final dot.
fn host(authority: &str) -> Option<String> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let end = authority[bracket..].find(':').map_or(authority.len(), |at| bracket + at);
    let (bare, port) = authority.split_at(end);
    let is_port = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let host = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    (is_host(&host) && (port.is_empty() || is_port(port))).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_named_as_requests_are_kept() {
        for (url, expected) in [
            ("https://Example.com/A?b=C#d", "example.com/A?b=C"),
            ("http://example.com:8080/a", "example.com/a"),
            ("example.com", "example.com/"),
            ("example.com.?q", "example.com/?q"),
            ("[::1]:8080/x", "[::1]/x"),
            ("http://[2001:DB8::1]", "[2001:db8::1]/"),
            ("example.com/a://b", "example.com/a:/b"),
        ] {
            assert_eq!(plain(url).ok().as_deref(), Some(expected), "{url}");
        }
        for wrong in [
            "",
            "/a",
            "https://",
            "https:///a",
            "a b",
            "example.com/\u{7f}",
            "ftp://example.com/a",
            "%%%",
            "u:p@example.com/a",
            "[::1/x",
            "[zz]/x",
            "a,b/x",
        ] {
            assert!(plain(wrong).is_err(), "{wrong}");
        }
        for (spelled, kept) in [
            ("example.com/x/../%61//b?c=%61/..", "example.com/a/b?c=%61/.."),
            ("example.com/go?to=http://other.test/x", "example.com/go?to=http://other.test/x"),
        ] {
            assert_eq!(plain(spelled).ok().as_deref(), Some(kept));
            assert_eq!(plain_prefix(spelled).ok().as_deref(), Some(kept));
        }
        assert_eq!(plain_prefix("127.0.0.1:8080").ok().as_deref(), Some("127.0.0.1/"));
        assert_eq!(plain_prefix("http://[::1]:80").ok().as_deref(), Some("[::1]/"));
        for wrong in ["u:p@example.com", "ftp://example.com/", "a b"] {
            assert!(plain_prefix(wrong).is_err(), "{wrong}");
        }
        assert_eq!(plain_prefix("https://Example.com:8080/A").ok().as_deref(), Some("example.com/A"));
        assert_eq!(plain_prefix("Example.c").ok().as_deref(), Some("example.c"));
        assert!(plain_prefix("").is_err() && plain_prefix("http://").is_err());
    }
}
