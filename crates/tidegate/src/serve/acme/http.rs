//! The connection to an authority: over TLS alone, with a deadline and a bound on answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tidegate_acme::{Http, Sent};

use crate::connect::Connector;

const PATIENCE: Duration = Duration::from_secs(30);
const MOST_BYTES: usize = 1 << 20;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

pub(super) struct Transport(legacy::Client<Connector, Full<Bytes>>);

impl Transport {
    /// Trusts `ca` (PEM), or the system's roots.
    pub(super) fn open(ca: Option<Vec<u8>>) -> Result<Arc<dyn Http>, String> {
        let connector = Connector::tls(ca, &[b"http/1.1"]).map_err(|why| why.to_string())?;
        Ok(Arc::new(Self(legacy::Client::builder(TokioExecutor::new()).build(connector))))
    }
}

impl Http for Transport {
    fn send(&self, mut request: Request<Bytes>) -> Sent<'_> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let exchange = async move {
            let answer = self.0.request(request.map(Full::new)).await.map_err(|why| reason(&why))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await.map_err(|why| why.to_string())?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        Box::pin(async move {
            let late = |_| Err(format!("no answer within {PATIENCE:?}"));
            let done = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(late);
            done.map_err(|why| format!("{host}: {why}"))
        })
    }
}

/// With what lies behind it.
fn reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    reason
}
