//! The Redis that nodes share responses through. What stands in the document is no secret: a password is a reference.

use tidegate_policy::Redis;

use super::secret::Secrets;
use super::{Report, certificate, references};
use crate::document::{CacheDefaults, RedisRule};
use crate::inputs::Inputs;
use crate::path::Path;

const SHAPE: &str = "write `redis://:${secrets.NAME}@host:6379/0`, `rediss://…` for TLS, `redis+sentinel://host,host/master` \
    or `redis+cluster://host,host`";
const LONGEST: usize = 2_048;

pub(super) fn compile(
    rule: &CacheDefaults,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    report: &Report<'_>,
) -> Option<Redis> {
    let CacheDefaults { redis } = rule;
    let RedisRule { url: text, ca } = redis.as_ref()?;
    let path = Path::Root.field("cache");
    let path = path.field("redis");
    let at = path.field("url");
    // A reference and nothing else is the whole URL; elsewhere a secret is written as URLs want it.
    let whole = is_reference(text);
    let filled = secrets.fill_with(text, &at, report, |value| if whole { value.to_owned() } else { encoded(value) });
    if !whole && password(text).is_some_and(|password| !password.is_empty() && !is_reference(password)) {
        report.hinted(&at, "a password does not belong into the document", "write `${secrets.NAME}` in its place");
        return None;
    }
    let authority =
        ca.as_ref().and_then(|file| certificate::pem(file, "CERTIFICATE", inputs, &path.field("ca"), report));
    let looked_at = if filled.known { filled.text.as_str() } else { text };
    if whole && !filled.known {
        return None;
    }
    match shape(looked_at) {
        // What stands there may be a secret that landed in the wrong place: it is not repeated.
        Err(why) => report.hinted(&at, why, SHAPE),
        Ok(tls) if ca.is_some() && !tls => {
            report.hinted(&path.field("ca"), "the server is not spoken to over TLS", "write `rediss://` in the URL");
        }
        Ok(_) if filled.known => return Some(Redis { url: filled.text, authority }),
        Ok(_) => {}
    }
    None
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${secrets.") && text.find('}') == Some(text.len() - 1) && references(text).len() == 1
}

fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

/// As it stands in the user part, or behind `pass=` for sockets.
fn password(url: &str) -> Option<&str> {
    let (_, authority, rest) = parts(url)?;
    let in_query = || rest.split(['?', '&']).find_map(|pair| pair.strip_prefix("pass="));
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).map(|(_, password)| password).or_else(in_query)
}

/// Is it spoken to over TLS? Otherwise what is wrong with it.
fn shape(url: &str) -> Result<bool, &'static str> {
    if url.len() > LONGEST || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("not the URL of a Redis");
    }
    let (scheme, authority, rest) = parts(url).ok_or("not the URL of a Redis")?;
    let (tls, several) = match scheme {
        "redis" => (false, None),
        "rediss" => (true, None),
        "unix" | "redis+unix" if authority.is_empty() && rest.len() > 1 => return Ok(false),
        "redis+sentinel" => (false, Some(true)),
        "rediss+sentinel" => (true, Some(true)),
        "redis+cluster" => (false, Some(false)),
        "rediss+cluster" => (true, Some(false)),
        _ => return Err("not the scheme of a Redis"),
    };
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let hosts: Vec<&str> = hosts.split(',').collect();
    if !hosts.iter().all(|host| is_host(host)) || (several.is_none() && hosts.len() > 1) {
        return Err("the URL names no host, or not as `host:port`");
    }
    let path: Vec<&str> =
        rest.split(['?', '#']).next().unwrap_or_default().split('/').filter(|p| !p.is_empty()).collect();
    let number = |text: &str| text.parse::<u32>().is_ok();
    match (several, path.as_slice()) {
        (Some(true), []) => Err("a Sentinel URL ends with the master's name"),
        (Some(true), [_]) | (None | Some(false), []) => Ok(tls),
        (Some(true), [_, db]) | (None, [db]) if number(db) => Ok(tls),
        _ => Err("the path of the URL is no number of a database"),
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => {
            ("v6", rest.strip_prefix(':').or((!rest.is_empty()).then_some("?")))
        }
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty() && host.chars().all(sane) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Percent-encoded, all but what needs it nowhere.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => _ = write!(out, "%{byte:02X}"), // Writing to a String cannot fail.
        }
    }
    out
}
