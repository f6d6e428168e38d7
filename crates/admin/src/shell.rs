//! What surrounds every handler: a request id, the caller's rights, a time limit, the shape of every "no", one log line
//! per change.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, header};

use crate::AppState;
use crate::access::{self, Access, Peer};
use crate::refusal::Refusal;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What one path needs from the shell.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) state: AppState,
    pub(crate) access: Access,
    pub(crate) time_limit: Option<Duration>,
}

/// The inner layer, one per path: rights and time.
pub(crate) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    match access::admit(&gate.state, gate.access, peer, request.headers()) {
        Err(refusal) => return refusal.into_response(),
        Ok(Some(login)) => {
            request.extensions_mut().insert(login);
        }
        Ok(None) => {}
    }
    let Some(limit) = gate.time_limit else { return next.run(request).await };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::TimedOut.into_response(),
    }
}

/// The outer layer, around everything: the request id and the rendering of refusals.
pub(crate) async fn shell(request: Request, next: Next) -> Response {
    let request_id = uuid::Uuid::now_v7().to_string();
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let grpc = is_grpc(&request);
    let mut response = next.run(request).await;

    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        // What a 405 allows is written by the router and must survive.
        let allow = response.headers_mut().remove(header::ALLOW);
        response = if grpc { refusal.to_grpc().into_http() } else { refusal.render(&request_id) };
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !grpc && method != Method::GET && method != Method::HEAD {
        let (status, millis) = (response.status().as_u16(), started.elapsed().as_millis());
        tracing::info!(%method, path, status, request_id, millis = u64::try_from(millis).unwrap_or(u64::MAX), "admin");
    }
    response
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

pub(crate) async fn unknown_path() -> Refusal {
    Refusal::UnknownPath
}

pub(crate) async fn method_not_allowed() -> Refusal {
    Refusal::MethodNotAllowed
}
