//! Tokens of Google's that prove who we are: fetched when first needed, kept while they are good, fetched anew before they
//! end. At most one fetch per source is under way on a node, whoever waits for it, and it goes on when its asker leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use tidegate_auth::outward::google::{self, Granted};
use tidegate_policy::{
    Balance, Endpoint, GoogleTokens, Protocol, Retries, RetryOn, Timeouts, Upstream, UpstreamTimeouts, UpstreamTls, Url,
};
use tidegate_upstream::{Call, Upstreams};
use tokio::time::{Instant, timeout};

/// For a token's endpoint.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a fetch that failed nobody asks again for so long: whoever comes is told what came of that one.
const PAUSE: Duration = Duration::from_secs(1);
/// Taken off a token's life: it travels, and clocks differ.
const MARGIN: Duration = Duration::from_secs(10);
/// So long before its end, or in the last fifth of a short life, a token is fetched anew while it is still used.
const AHEAD: Duration = Duration::from_secs(300);
const LONGEST_ANSWER: usize = 64 * 1024;
/// Sources of documents that are gone are forgotten when there are so many.
const MOST: usize = 256;

pub struct Tokens {
    /// Apart from those of routes: nobody balances, breaks or counts these.
    upstreams: Arc<Upstreams>,
    slots: Mutex<Vec<Arc<Slot>>>,
}

struct Slot {
    source: Arc<GoogleTokens>,
    good: ArcSwapOption<Good>,
    renewing: AtomicBool,
    /// Whoever fetches holds it. What came of the last fetch, if it failed.
    turn: tokio::sync::Mutex<Option<(Instant, String)>>,
}

struct Good {
    header: HeaderValue,
    until: Instant,
    renew: Instant,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { upstreams: Upstreams::new(), slots: Mutex::default() }
    }
}

impl Tokens {
    /// `Bearer …`
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn header(&self, source: &Arc<GoogleTokens>) -> Result<HeaderValue, String> {
        let slot = self.slot(source);
        let now = Instant::now();
        if let Some(good) = slot.usable(now) {
            if now >= good.renew && !slot.renewing.swap(true, Ordering::AcqRel) {
                let (slot, upstreams) = (Arc::clone(&slot), Arc::clone(&self.upstreams));
                tokio::spawn(async move {
                    let renewed = slot.fetch(&upstreams, true).await;
                    slot.renewing.store(false, Ordering::Release);
                    if let Err(why) = renewed {
                        tracing::warn!(%why, "a provider's token cannot be renewed; the one that is known is used to its end");
                    }
                });
            }
            return Ok(good.header.clone());
        }
        let upstreams = Arc::clone(&self.upstreams);
        let fetched = tokio::spawn(async move { slot.fetch(&upstreams, false).await });
        fetched.await.unwrap_or_else(|_| Err("the node is stopping".into()))
    }

    /// The provider does not take it: it was withdrawn before its end.
    pub(super) fn forget(&self, source: &Arc<GoogleTokens>) {
        self.slot(source).good.store(None);
    }

    /// A document that says the same as the one before keeps its tokens.
    fn slot(&self, source: &Arc<GoogleTokens>) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let same = slots.iter().find(|slot| Arc::ptr_eq(&slot.source, source) || slot.source == *source);
        if let Some(slot) = same {
            return Arc::clone(slot);
        }
        if slots.len() >= MOST {
            slots.retain(|slot| Arc::strong_count(slot) > 1);
            slots.truncate(MOST - 1);
        }
        let source = Arc::clone(source);
        let slot = Slot {
            source,
            good: ArcSwapOption::empty(),
            renewing: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        };
        let slot = Arc::new(slot);
        slots.push(Arc::clone(&slot));
        slot
    }
}

impl Slot {
    fn usable(&self, now: Instant) -> Option<Arc<Good>> {
        self.good.load_full().filter(|good| now < good.until)
    }

    /// `anew`: though a good one is known.
    async fn fetch(&self, upstreams: &Upstreams, anew: bool) -> Result<HeaderValue, String> {
        let mut last = self.turn.lock().await;
        let now = Instant::now();
        // Whoever had the turn before may have fetched it.
        if let Some(good) = self.usable(now).filter(|good| !anew || now < good.renew) {
            return Ok(good.header.clone());
        }
        if let Some((_, why)) = last.as_ref().filter(|(when, _)| now < *when + PAUSE) {
            return Err(why.clone());
        }
        let asked = timeout(PATIENCE, ask(upstreams, &self.source)).await;
        match asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
            Ok(Granted { header, life }) => {
                let until = now + life.saturating_sub(MARGIN);
                let renew = until.checked_sub(AHEAD.min(life / 5)).unwrap_or(until);
                self.good.store(Some(Arc::new(Good { header: header.clone(), until, renew })));
                *last = None;
                Ok(header)
            }
            Err(why) => {
                *last = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }
}

async fn ask(upstreams: &Upstreams, source: &GoogleTokens) -> Result<Granted, String> {
    let (url, request) = match source {
        GoogleTokens::Account(account) => {
            let form = google::assertion(account, tidegate_clock::wall().0 / 1_000_000_000)?;
            let request = Request::post(&account.token_url.path)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(form)));
            (&account.token_url, request)
        }
        GoogleTokens::Metadata(url) => {
            (url, Request::get(&url.path).header("metadata-flavor", "Google").body(Full::default()))
        }
    };
    let mut request = request.map_err(|why| why.to_string())?;
    request.headers_mut().insert(HOST, HeaderValue::try_from(&url.authority).map_err(|why| why.to_string())?);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let upstream = Arc::new(upstream(url));
    let timeouts = Timeouts { total: Some(PATIENCE), first_byte: None };
    let answer = upstreams.call(Call::alone(&upstream, request, timeouts)).await.map_err(|why| why.to_string())?;
    let status = answer.response.status().as_u16();
    let body = Limited::new(answer.response.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|why| format!("its answer: {why}"))?.to_bytes();
    google::granted(status, &body)
}

fn upstream(url: &Url) -> Upstream {
    let Url { https, host, port, authority, path } = url.clone();
    Upstream {
        id: format!("{authority}{path}").into(),
        endpoints: vec![Endpoint::Url { https, host, port, weight: 1 }],
        balance: Balance::RoundRobin,
        protocol: Protocol::Http1,
        timeouts: UpstreamTimeouts { connect: PATIENCE, first_byte: PATIENCE, total: Some(PATIENCE), idle: PATIENCE },
        retries: Retries { max: 1, budget: 1.0, on: vec![RetryOn::Connect, RetryOn::Reset], unsafe_methods: true },
        max_connections: 4,
        max_idle: 0,
        idle_timeout: Duration::from_secs(1),
        tls: UpstreamTls { ca_pem: None, server_name: None, identity: None },
        breaker: None,
        overload: None,
        hedge: None,
        health: None,
        announce: None,
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}
