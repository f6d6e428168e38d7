//! For load balancers and monitoring: no token needed from where they ask.

use std::collections::HashSet;

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
    told(state.backend.readiness(), &headers)
}

pub(super) fn told(ready: ReadyReply, headers: &HeaderMap) -> Response {
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

/// Metrics of this node
///
/// OpenMetrics for whoever accepts it, Prometheus' text format for everybody else. Without a token from the same machine; from elsewhere
/// with one of role reader.
#[utoipa::path(get, path = "/metrics", tag = "probe", security((), ("token" = [])),
    responses((status = 200, content((String = "text/plain"), (String = "application/openmetrics-text")))))]
pub(super) async fn metrics(State(state): State<AppState>, headers: HeaderMap) -> Response {
    const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
    const END: &str = "# EOF\n";
    let mut text = state.backend.metrics();
    text.truncate(text.strip_suffix(END).unwrap_or(&text).len());
    text.push_str(&state.refused.render());
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let (kind, text) = if accepts.into_iter().any(|accept| accept.contains("application/openmetrics-text")) {
        (OPEN, text + END)
    } else {
        (CLASSIC, classic(&text))
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// OpenMetrics calls a counter by its name without `_total`, the older format by the name of its samples.
fn classic(open: &str) -> String {
    let counters: HashSet<&str> = open
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .filter(|name| !name.ends_with("_total"))
        .collect();
    let mut text = String::with_capacity(open.len() + counters.len() * 16);
    for line in open.lines() {
        let family = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = family.and_then(|family| family.split(' ').next()).filter(|name| counters.contains(name));
        match name {
            Some(name) => {
                let (word, rest) = line.split_at("# HELP ".len());
                text.extend([word, name, "_total", &rest[name.len()..]]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::classic;

    #[test]
    fn counters_are_called_as_their_samples_are() {
        let open = "# HELP a_b Things; a_b too\n# TYPE a_b counter\na_b_total{x=\"# TYPE\"} 1\n# HELP a A\n# TYPE a gauge\na 2\n";
        let told = classic(open);
        assert_eq!(
            told,
            "# HELP a_b_total Things; a_b too\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE\"} 1\n# HELP a A\n# TYPE a gauge\na 2\n"
        );
    }
}
