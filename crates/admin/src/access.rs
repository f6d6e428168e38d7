//! Who is asking at the admin port, and may they. Called by the shell before every handler.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;
use tidegate_model::Millis;
use tidegate_state::audit::{Actor, By};
use tokio::sync::watch;

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
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// Whom a certificate names that was shown and verified.
    pub operator: Option<Arc<Operator>>,
    /// Turns true when what that was verified with holds no more: the connection ends then, and the next one is verified anew.
    pub outdated: Option<watch::Receiver<bool>>,
}

/// An operator who is known by a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    pub name: String,
    /// `None`: nobody said what this one may.
    pub role: Option<Role>,
    /// Seconds since 1970. A connection may outlive its certificate.
    pub not_after: u64,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, operator: None, outdated: None }
    }
}

/// Who was let in. `name` goes into the history.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) actor: Actor,
}

/// Whether who was let in would be let in now: for what goes on for long.
#[derive(Clone)]
pub(crate) struct Standing {
    state: AppState,
    needs: Role,
    actor: Actor,
    operator: Option<Arc<Operator>>,
}

impl Standing {
    /// Nobody is asked for where no role is needed.
    pub(crate) fn of(state: &AppState, access: Access, login: &Login, remote: Option<&Peer>) -> Option<Self> {
        let (Access::Local(needs) | Access::Role(needs)) = access else { return None };
        let operator = remote.and_then(|peer| peer.operator.clone());
        Some(Self { state: state.clone(), needs, actor: login.actor.clone(), operator })
    }

    pub(crate) fn holds(&self) -> bool {
        let Actor::Token { id, .. } = &self.actor else {
            return self.operator.as_deref().is_some_and(|operator| certified(operator, self.needs).is_ok());
        };
        let (now, mut holds) = (wall_clock(), false);
        self.state.backend.look(&mut |agreed| {
            holds = agreed.tokens.admins().any(|token| token.id == *id && token.expires_at.is_none_or(|end| now < end));
        });
        holds
    }
}

tokio::task_local! {
    /// On whose behalf a handler runs. Beside its parameters, so that no handler can propose a change and forget to say whose.
    static CALLER: By;
}

/// Runs a handler on behalf of somebody.
pub(crate) async fn on_behalf<T>(by: By, handler: impl Future<Output = T>) -> T {
    CALLER.scope(by, handler).await
}

/// On whose behalf this runs; `None` outside of handlers.
pub(crate) fn caller() -> Option<By> {
    CALLER.try_with(By::clone).ok()
}

/// Requests that were not let in, since the process began.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Nothing was shown.
    nothing: AtomicU64,
    /// A token, or a certificate, that is good for nothing.
    unknown: AtomicU64,
    /// One whose role is too low.
    role: AtomicU64,
}

impl Refused {
    pub(crate) fn count(&self, refusal: &Refusal, tried: bool) {
        let counter = match refusal {
            Refusal::Forbidden { .. } => &self.role,
            _ if tried => &self.unknown,
            _ => &self.nothing,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// OpenMetrics text, without its end.
    pub(crate) fn render(&self) -> String {
        let mut text = String::from(
            "# HELP tidegate_admin_refused Requests at the admin port that were not let in\n# TYPE tidegate_admin_refused counter\n",
        );
        for (why, count) in [("nothing", &self.nothing), ("unknown", &self.unknown), ("role", &self.role)] {
            let count = count.load(Ordering::Relaxed);
            text.push_str(&format!("tidegate_admin_refused_total{{why=\"{why}\"}} {count}\n"));
        }
        text
    }
}

/// The longest token that is looked at; nobody issues longer ones.
const MAX_TOKEN: usize = 256;

/// `Ok(None)`: the path is open to this caller without a token.
pub(crate) fn admit(
    state: &AppState,
    access: Access,
    remote: Option<&Peer>,
    headers: &HeaderMap,
) -> Result<Option<Login>, Refusal> {
    let peer = remote.map(|peer| peer.address.ip());
    let needs = match access {
        Access::Open => return Ok(None),
        Access::Local(_) if peer.is_some_and(|ip| ip.to_canonical().is_loopback()) => return Ok(None),
        Access::Local(role) | Access::Role(role) => role,
    };
    let Some(token) = bearer(headers) else {
        // Nothing was guessed, so nothing is counted.
        if !headers.contains_key(AUTHORIZATION) {
            let operator = remote.and_then(|peer| peer.operator.as_deref());
            return operator.map_or(Err(Refusal::Unauthorized), |operator| certified(operator, needs).map(Some));
        }
        return Err(wrong(state, peer));
    };
    let Some((login, has)) = known(state, token) else { return Err(wrong(state, peer)) };
    if has < needs {
        return Err(Refusal::Forbidden { needs: needs.as_str(), has: has.as_str() });
    }
    Ok(Some(login))
}

/// By a certificate alone. Who shows a token as well is whoever the token says.
fn certified(operator: &Operator, needs: Role) -> Result<Login, Refusal> {
    if operator.not_after.saturating_mul(1_000) <= wall_clock().0 {
        return Err(Refusal::Unauthorized);
    }
    match operator.role {
        Some(role) if needs <= role => {
            let name = operator.name.clone();
            Ok(Login { actor: Actor::Certificate { name: name.clone(), role: role.into() }, name })
        }
        has => Err(Refusal::Forbidden { needs: needs.as_str(), has: has.map_or("none", Role::as_str) }),
    }
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
                let (id, name, role) = (record.id, record.name.clone(), record.role);
                found = Some((Login { name: name.clone(), actor: Actor::Token { id, name, role } }, role.into()));
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
