//! Deployments of language models: how they are.

use axum::Json;
use axum::extract::State;

use crate::AppState;
use crate::wire::{Deployments, ErrorReply};

/// Every deployment on every live node
#[utoipa::path(get, path = "/v1/models", tag = "model", responses((status = 200, body = Deployments),
    (status = 401, body = ErrorReply)))]
pub(super) async fn list(State(state): State<AppState>) -> Json<Deployments> {
    Json(Deployments { deployments: state.backend.deployments().await })
}
