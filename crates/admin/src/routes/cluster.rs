//! Members: who they are, how one joins, how one leaves, who leads.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use tidegate_cluster::disaster::Recipient;
use tidegate_model::{Millis, NodeId};

use crate::AppState;
use crate::access::wall_clock;
use crate::input::{Id, Json as Input};
use crate::refusal::Refusal;
use crate::wire::{
    BackupRequest, ClusterKeyRotated, ClusterStatus, ErrorReply, JoinToken, JoinTokenRequest, Removed,
    TicketKeysRotated, TransferRequest, Transferred,
};

const DEFAULT_TTL: Duration = Duration::from_secs(3_600);

/// The cluster as this node sees it
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = ClusterStatus),
    (status = 401, body = ErrorReply)))]
pub(super) async fn status(State(state): State<AppState>) -> Json<ClusterStatus> {
    Json(state.backend.status().await)
}

/// A token with which new nodes join
#[utoipa::path(post, path = "/v1/cluster/token", tag = "cluster", request_body = Option<JoinTokenRequest>,
    responses((status = 200, body = JoinToken), (status = 503, body = ErrorReply)))]
pub(super) async fn token(
    State(state): State<AppState>,
    Input(ask): Input<JoinTokenRequest>,
) -> Result<Json<JoinToken>, Refusal> {
    let ttl = ask.ttl_seconds.unwrap_or(DEFAULT_TTL.as_secs());
    let uses = ask.uses.unwrap_or(1);
    if !(60..=604_800).contains(&ttl) {
        return Err(Refusal::BadRequest("ttl_seconds is 60 to 604800".to_owned()));
    }
    if !(1..=100).contains(&uses) {
        return Err(Refusal::BadRequest("uses is 1 to 100".to_owned()));
    }
    let expires_at = wall_clock().saturating_add(Millis(ttl * 1_000));
    Ok(Json(state.backend.join_token(expires_at, uses).await?))
}

/// Hand the leadership of the control group over
#[utoipa::path(post, path = "/v1/cluster/transfer", tag = "cluster", request_body = Option<TransferRequest>,
    responses((status = 200, body = Transferred), (status = 409, body = ErrorReply)))]
pub(super) async fn transfer(
    State(state): State<AppState>,
    Input(ask): Input<TransferRequest>,
) -> Result<Json<Transferred>, Refusal> {
    let leader = state.backend.transfer(ask.to.map(NodeId)).await?;
    Ok(Json(Transferred { leader: leader.0 }))
}

/// Everything that a new cluster needs, as one sealed file
#[utoipa::path(post, path = "/v1/cluster/backup", tag = "cluster", request_body = BackupRequest,
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 503, body = ErrorReply)))]
pub(super) async fn backup(
    State(state): State<AppState>,
    Input(ask): Input<BackupRequest>,
) -> Result<impl IntoResponse, Refusal> {
    let recipient = Recipient::parse(&ask.key).map_err(Refusal::BadRequest)?;
    // One at a time: each is held in memory as a whole.
    let _turn = state.backups.try_acquire().map_err(|_| Refusal::Busy)?;
    let file = state.backend.backup(recipient).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], file))
}

/// Renew the keys of TLS session tickets
#[utoipa::path(post, path = "/v1/cluster/tickets", tag = "cluster",
    responses((status = 200, body = TicketKeysRotated), (status = 503, body = ErrorReply)))]
pub(super) async fn tickets(State(state): State<AppState>) -> Result<Json<TicketKeysRotated>, Refusal> {
    Ok(Json(TicketKeysRotated { generation: state.backend.rotate_tickets().await? }))
}

/// Replace the key that seals everything secret
///
/// Answers when it has begun: all live nodes get another key, everything is sealed anew, and the one before is deleted. The cluster's
/// status tells when that is done.
#[utoipa::path(post, path = "/v1/cluster/key", tag = "cluster",
    responses((status = 200, body = ClusterKeyRotated), (status = 409, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn rotate_key(State(state): State<AppState>) -> Result<Json<ClusterKeyRotated>, Refusal> {
    Ok(Json(ClusterKeyRotated { generation: state.backend.rotate_cluster_key().await? }))
}

/// Take a node out of the cluster for good
#[utoipa::path(delete, path = "/v1/cluster/nodes/{id}", tag = "cluster", params(("id" = u64, Path)),
    responses((status = 200, body = Removed), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn remove(State(state): State<AppState>, Id(id): Id<u64>) -> Result<Json<Removed>, Refusal> {
    state.backend.remove_node(NodeId(id)).await?;
    Ok(Json(Removed { node: id }))
}
