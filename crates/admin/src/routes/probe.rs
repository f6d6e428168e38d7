//! For load balancers and monitoring: no token needed from where they ask.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

use crate::AppState;
use crate::wire::ReadyReply;

/// The process is alive and its admin port answers
#[utoipa::path(get, path = "/healthz", tag = "probe", security(()), responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// May a load balancer send requests here?
///
/// 200 while `ready` or `degraded`, 503 while `starting` or `draining`. Text: that word, then the reasons, one a line.
/// With `Accept: application/json`, JSON.
#[utoipa::path(get, path = "/readyz", tag = "probe", security(()),
    responses(
        (status = 200, content((String = "text/plain"), (ReadyReply = "application/json"))),
        (status = 503, content((String = "text/plain"), (ReadyReply = "application/json")))))]
pub(super) async fn readyz(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let ready = state.backend.readiness();
    let code = if ready.status.takes_traffic() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") {
        return (code, Json(ready)).into_response();
    }
    let mut text = format!("{}\n", ready.status.as_str());
    for reason in &ready.reasons {
        text.push_str(reason);
        text.push('\n');
    }
    (code, text).into_response()
}

/// Prometheus metrics of this node
///
/// Without a token from the same machine; from elsewhere with one of role reader.
#[utoipa::path(get, path = "/metrics", tag = "probe", security((), ("token" = [])),
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], state.backend.metrics()).into_response()
}
