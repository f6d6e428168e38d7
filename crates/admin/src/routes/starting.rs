//! What the admin port says before there is a cluster to ask: that the process lives, and what it waits for.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;

use super::probe;
use crate::refusal::Refusal;
use crate::shell::shell;
use crate::wire::{Readiness, ReadyReply};

/// What the start waits for, in words.
type Says = Arc<dyn Fn() -> String + Send + Sync>;

/// For a node that looks for its cluster: probes are answered, everything else is refused with what it waits for.
pub fn starting(says: Says) -> Router {
    Router::new()
        .route("/healthz", get(probe::healthz))
        .route("/readyz", get(not_ready))
        .fallback(refused)
        .layer(from_fn(shell))
        .with_state(says)
}

async fn not_ready(State(says): State<Says>, headers: HeaderMap) -> Response {
    probe::told(ReadyReply { status: Readiness::Starting, reasons: vec![says()] }, &headers)
}

async fn refused(State(says): State<Says>) -> Refusal {
    Refusal::Starting(says())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tonic::codegen::Service;

    use super::*;

    async fn asked(path: &str) -> (StatusCode, String) {
        let mut router = starting(Arc::new(|| "waits for 10.0.0.2:7081".to_owned()));
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.call(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_node_that_looks_for_its_cluster_lives_is_not_ready_and_says_why() {
        assert_eq!(asked("/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        let ready = asked("/readyz").await;
        assert_eq!(ready, (StatusCode::SERVICE_UNAVAILABLE, "starting\nwaits for 10.0.0.2:7081\n".to_owned()));
        let (status, body) = asked("/v1/cluster").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""code":"starting""#) && body.contains("waits for 10.0.0.2:7081"), "{body}");
    }
}
