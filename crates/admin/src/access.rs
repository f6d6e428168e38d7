//! Who is asking at the admin port, and may they. Called by the shell before every handler.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;
use tidegate_model::Millis;

use crate::AppState;
use crate::failures::Verdict;
use crate::refusal::Refusal;
use crate::wire::Role;

/// What a path asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody: load balancers and probes hold no token.
    Open,
    /// Anybody on this machine; from elsewhere a token of this role.
    Local(Role),
    Role(Role),
}

/// The remote end of the connection; `serve` puts it into every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Who was let in. `name` goes into the history.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) name: String,
}

/// The longest token that is looked at; nobody issues longer ones.
const MAX_TOKEN: usize = 256;

/// `Ok(None)`: the path is open to this caller without a token.
pub(crate) fn admit(
    state: &AppState,
    access: Access,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Option<Login>, Refusal> {
    let needs = match access {
        Access::Open => return Ok(None),
        Access::Local(_) if peer.is_some_and(|ip| ip.to_canonical().is_loopback()) => return Ok(None),
        Access::Local(role) | Access::Role(role) => role,
    };
    let Some(token) = bearer(headers) else {
        // Nothing was guessed, so nothing is counted.
        if !headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::Unauthorized);
        }
        return Err(wrong(state, peer));
    };
    let Some((login, has)) = known(state, token) else { return Err(wrong(state, peer)) };
    if has < needs {
        return Err(Refusal::Forbidden { needs: needs.as_str(), has: has.as_str() });
    }
    Ok(Some(login))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None; // Two credentials: which one counts is not ours to guess.
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN).then_some(token)
}

/// Looks at every token, so that the time it takes says nothing about which one nearly matched.
fn known(state: &AppState, token: &str) -> Option<(Login, Role)> {
    let hash = hash(token);
    let now = wall_clock();
    let mut found = None;
    state.backend.look(&mut |agreed| {
        for record in agreed.tokens.admins() {
            let same = bool::from(record.hash.ct_eq(&hash));
            if same && record.expires_at.is_none_or(|end| now < end) {
                found = Some((Login { name: record.name.clone() }, record.role.into()));
            }
        }
    });
    found
}

fn wrong(state: &AppState, peer: Option<IpAddr>) -> Refusal {
    let address = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    match state.failures.count(address, Instant::now()) {
        Verdict::Tell => Refusal::Unauthorized,
        Verdict::Later { retry_after, first } => {
            if first {
                tracing::warn!(%address, "too many wrong admin tokens; answering 429 for a while");
            }
            Refusal::TooManyFailures { retry_after_secs: retry_after.as_secs().max(1) }
        }
    }
}

/// What the state keeps of an admin token. Tokens are 256 random bits, so a fast hash is enough.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// A new admin token. Shown to a person once; only its [`hash`] is kept.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn mint() -> Result<String, getrandom::Error> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret)?;
    let mut token = String::from("tga_");
    for byte in secret {
        token.push_str(&format!("{byte:02x}"));
    }
    Ok(token)
}

/// Milliseconds since 1970, for ends of life that people chose.
pub(crate) fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
