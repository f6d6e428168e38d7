//! What surrounds every handler: a request id, the caller's rights, a time limit, the shape of every "no", one log line
//! per change.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, header};
use tidegate_state::audit::By;

use crate::AppState;
use crate::access::{self, Access, Peer, Standing};
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
    let remote = request.extensions().get::<Peer>().cloned();
    let peer = remote.as_ref().map(|peer| peer.address.ip());
    let login = match access::admit(&gate.state, gate.access, remote.as_ref(), request.headers()) {
        Err(refusal) => {
            let certified = remote.as_ref().is_some_and(|peer| peer.operator.is_some());
            let tried = certified || request.headers().contains_key(header::AUTHORIZATION);
            gate.state.refused.count(&refusal, tried);
            // What is tried too often is told of once, where it is counted; who shows nothing is told of nowhere.
            if tried && !matches!(refusal, Refusal::TooManyFailures { .. }) {
                let (method, path) = (request.method(), request.uri().path());
                tracing::info!(address = ?peer, %method, path, ?refusal, "admin: not let in");
            }
            return refusal.into_response();
        }
        Ok(Some(login)) => login,
        Ok(None) => return in_time(gate.time_limit, next.run(request)).await,
    };
    let by = By {
        actor: login.actor.clone(),
        address: peer.map_or_else(String::new, |peer| peer.to_canonical().to_string()),
        request: request.extensions().get::<Asked>().map_or_else(String::new, |asked| asked.0.clone()),
    };
    let who = Who { name: login.name.clone(), address: by.address.clone() };
    if let Some(standing) = Standing::of(&gate.state, gate.access, &login, remote.as_ref()) {
        request.extensions_mut().insert(standing);
    }
    request.extensions_mut().insert(login);
    let mut response = access::on_behalf(by, in_time(gate.time_limit, next.run(request))).await;
    response.extensions_mut().insert(who);
    response
}

/// Who was let in, on the way out to the log.
#[derive(Clone)]
struct Who {
    name: String,
    address: String,
}

async fn in_time(limit: Option<Duration>, answer: impl Future<Output = Response>) -> Response {
    let Some(limit) = limit else { return answer.await };
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Refusal::TimedOut.into_response())
}

/// The request's id, for whoever is inside.
#[derive(Clone)]
struct Asked(String);

/// The outer layer, around everything: the request id and the rendering of refusals.
pub(crate) async fn shell(mut request: Request, next: Next) -> Response {
    let request_id = uuid::Uuid::now_v7().to_string();
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let grpc = is_grpc(&request);
    request.extensions_mut().insert(Asked(request_id.clone()));
    let mut response = next.run(request).await;
    let who = response.extensions_mut().remove::<Who>();

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
        let (name, address) = who.map(|who| (who.name, who.address)).unzip();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        tracing::info!(%method, path, status, request_id, millis, who = name, address, "admin");
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
