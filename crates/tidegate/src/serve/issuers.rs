//! Fetches the keys of issuers of tokens, each from its URL: when they get old, and when a token names a key that is not
//! known. Every node fetches for itself: keys are public, and a node that is cut off from the cluster needs them no less.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use tidegate_policy::{
    Balance, Endpoint, Issuer, Keys, Protocol, Retries, RetryOn, Timeouts, Upstream, UpstreamTimeouts, UpstreamTls, Url,
};
use tidegate_proxy::{Gate, IssuerLine};
use tidegate_upstream::{Call, Upstreams};
use tokio::task::AbortHandle;

/// Of a JWK set, more than any that can be used.
const MOST_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);
/// After a fetch that failed; doubled with each.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
const LAST_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct Fetchers {
    gate: Arc<Gate>,
    /// Apart from those of routes: nobody balances, breaks or counts these.
    upstreams: Arc<Upstreams>,
    running: Mutex<Vec<(Arc<IssuerLine>, AbortHandle)>>,
}

impl Fetchers {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
        Self { gate: Arc::clone(gate), upstreams: Upstreams::new(), running: Mutex::default() }
    }

    /// The issuers of a new document.
    ///
    /// # Errors
    /// Keys that it holds are none; nothing has changed then.
    pub(super) fn follow(&self, issuers: &[Arc<Issuer>]) -> Result<(), String> {
        let lines = self.gate.issuers.follow(issuers)?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(known, task)| {
            let wanted = lines.iter().any(|line| Arc::ptr_eq(line, known));
            if !wanted {
                task.abort();
            }
            wanted
        });
        for line in lines {
            if !running.iter().any(|(known, _)| Arc::ptr_eq(known, &line)) {
                let task = tokio::spawn(keep_fetching(Arc::clone(&self.upstreams), Arc::clone(&line)));
                running.push((line, task.abort_handle()));
            }
        }
        Ok(())
    }

    /// For `/readyz`: what is wrong, and whether tokens of somebody cannot be checked because of it.
    pub(super) fn trouble(&self) -> Vec<(String, bool)> {
        let troubled = self.gate.issuers.facts().into_iter().filter_map(|facts| {
            let why = facts.ring.trouble?;
            Some((format!("the keys of issuer `{}` cannot be fetched: {why}", facts.name), !facts.usable))
        });
        troubled.collect()
    }
}

async fn keep_fetching(upstreams: Arc<Upstreams>, line: Arc<IssuerLine>) {
    let Keys::Url { url, ca, refresh, .. } = &*line.ring.source else { return };
    let upstream = Arc::new(upstream(url, ca.clone()));
    let mut again = FIRST_AGAIN;
    let mut well = true;
    loop {
        let fetched = fetch(&upstreams, &upstream, url).await;
        let now = tidegate_clock::boot().0 / 1_000_000;
        let outcome = match fetched {
            Ok(json) => line.ring.fetched(&json, now).map_err(|why| why.to_string()),
            Err(why) => {
                line.ring.failed(why.clone());
                Err(why)
            }
        };
        line.tell();
        let next = match outcome {
            Ok(()) => {
                if !well {
                    tracing::info!(host = %url.authority, "keys of an issuer of tokens are fetched again");
                }
                (well, again) = (true, FIRST_AGAIN);
                *refresh
            }
            Err(why) => {
                if well {
                    tracing::warn!(host = %url.authority, %why, "keys of an issuer of tokens cannot be fetched; the last good ones stay");
                }
                well = false;
                let next = again.min(*refresh);
                again = (again * 2).min(LAST_AGAIN);
                next
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = line.asked() => {}
        }
    }
}

async fn fetch(upstreams: &Upstreams, upstream: &Arc<Upstream>, url: &Url) -> Result<Bytes, String> {
    let request = Request::get(&url.path)
        .header(HOST, &url.authority)
        .header(USER_AGENT, "tidegate-jwks")
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|why| why.to_string())?;
    let timeouts = Timeouts { total: Some(PATIENCE), first_byte: None };
    let call = Call::alone(upstream, request, timeouts);
    let whole = async {
        let answer = upstreams.call(call).await.map_err(|why| why.to_string())?;
        let status = answer.response.status();
        if status != StatusCode::OK {
            // Not even a redirect: where keys come from is the document's to say.
            return Err(format!("the answer is {}", status.as_u16()));
        }
        let body = Limited::new(answer.response.into_body(), MOST_BYTES).collect().await;
        body.map(|body| body.to_bytes()).map_err(|why| format!("its body: {why}"))
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

fn upstream(url: &Url, ca_pem: Option<Vec<u8>>) -> Upstream {
    let Url { https, host, port, authority, path } = url.clone();
    Upstream {
        id: format!("{authority}{path}").into(),
        endpoints: vec![Endpoint::Url { https, host, port, weight: 1 }],
        balance: Balance::RoundRobin,
        protocol: Protocol::Http1,
        timeouts: UpstreamTimeouts { connect: PATIENCE, first_byte: PATIENCE, total: Some(PATIENCE), idle: PATIENCE },
        retries: Retries { max: 1, budget: 1.0, on: vec![RetryOn::Connect, RetryOn::Reset], unsafe_methods: false },
        max_connections: 1,
        max_idle: 1,
        idle_timeout: Duration::from_secs(10),
        tls: UpstreamTls { ca_pem, server_name: None, identity: None },
        breaker: None,
        overload: None,
        hedge: None,
        health: None,
        announce: None,
    }
}
