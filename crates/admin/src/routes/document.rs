//! The document as it is, as it was, and as it would be.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tidegate_model::Revision;
use tidegate_state::{Format, Published};

use super::publish::etag;
use super::{quota, said, upstream};
use crate::AppState;
use crate::input::{Ask, Id, Text};
use crate::refusal::Refusal;
use crate::wire::{CheckReply, DiffReply, DocumentReply, ErrorReply, HistoryReply, RevisionInfo};

/// How new an answer must be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Freshness {
    #[serde(default)]
    stale: bool,
}

/// The current document
///
/// JSON around its text; with `Accept: application/yaml`, the text itself as it was published. The ETag is the revision.
#[utoipa::path(get, path = "/v1/document", tag = "document",
    params(("stale" = Option<bool>, Query, description = "What this node has, without asking whether there is newer")),
    responses((status = 200, body = DocumentReply), (status = 404, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn current(
    State(state): State<AppState>,
    Ask(freshness): Ask<Freshness>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    newest(&state, freshness.stale).await?;
    match state.backend.read(|agreed| agreed.documents.latest().cloned()) {
        Some(published) => Ok(show(&published, &headers)),
        None => Err(Refusal::NotFound("no document was published yet".to_owned())),
    }
}

/// An old revision
#[utoipa::path(get, path = "/v1/history/{revision}", tag = "document",
    params(("revision" = u64, Path),
        ("stale" = Option<bool>, Query, description = "What this node has, without asking whether there is newer")),
    responses((status = 200, body = DocumentReply), (status = 404, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn revision(
    State(state): State<AppState>,
    Id(revision): Id<u64>,
    Ask(freshness): Ask<Freshness>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    newest(&state, freshness.stale).await?;
    let published = state.backend.read(|agreed| agreed.documents.revision(Revision(revision)).cloned());
    Ok(show(&published.ok_or_else(|| forgotten(revision))?, &headers))
}

/// Published revisions, newest first
#[utoipa::path(get, path = "/v1/history", tag = "document",
    params(("stale" = Option<bool>, Query, description = "What this node has, without asking whether there is newer")),
    responses((status = 200, body = HistoryReply), (status = 503, body = ErrorReply)))]
pub(super) async fn history(
    State(state): State<AppState>,
    Ask(freshness): Ask<Freshness>,
) -> Result<Json<HistoryReply>, Refusal> {
    newest(&state, freshness.stale).await?;
    let revisions = state.backend.read(|agreed| agreed.documents.history().rev().map(info).collect());
    let orders = state.backend.read(quota::events);
    Ok(Json(HistoryReply { revisions, orders }))
}

/// Everything that is wrong with a document
///
/// Compiled as this node would; changes nothing.
#[utoipa::path(post, path = "/v1/document/check", tag = "document",
    request_body(content = Option<serde_json::Value>, content_type = "application/yaml"),
    responses((status = 200, body = CheckReply), (status = 413, body = ErrorReply)))]
pub(super) async fn check(
    State(state): State<AppState>,
    Text { text, _slot }: Text,
) -> Result<Json<CheckReply>, Refusal> {
    let backend = state.backend.clone();
    let reply = state.compiling(move || match backend.compile(&text, Revision(0), None) {
        Ok(compiled) => CheckReply { ok: true, problems: compiled.warnings },
        Err(problems) => CheckReply { ok: false, problems },
    });
    Ok(Json(reply.await?))
}

/// What publishing a document would change, and what that does to counters
#[utoipa::path(post, path = "/v1/document/diff", tag = "document",
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = DiffReply), (status = 422, body = ErrorReply)))]
pub(super) async fn diff(
    State(state): State<AppState>,
    Text { text, _slot }: Text,
) -> Result<Json<DiffReply>, Refusal> {
    let published = state.backend.read(|agreed| agreed.documents.latest().cloned());
    let (from, old) = published.map_or((0, None), |old| (old.revision.0, Some(old.document)));
    let changes = state.compiling(move || crate::document::changes(old.as_deref(), &text)).await?;
    let by_hand = state.backend.read(upstream::set_by_hand);
    let orders = state.backend.read(quota::in_force);
    Ok(Json(DiffReply { from, changes: changes.map_err(Refusal::InvalidDocument)?, by_hand, orders }))
}

/// The JSON Schema of documents
#[utoipa::path(get, path = "/v1/schema", tag = "document",
    responses((status = 200, body = Object, content_type = "application/schema+json")))]
pub(super) async fn schema() -> Response {
    let json = HeaderValue::from_static("application/schema+json");
    ([(header::CONTENT_TYPE, json)], crate::document::schema()).into_response()
}

/// What was acknowledged anywhere before this request is seen by it, whichever node was asked then and is asked now;
/// unless the caller takes what there is.
pub(super) async fn newest(state: &AppState, stale: bool) -> Result<(), Refusal> {
    if !stale {
        state.backend.catch_up().await?;
    }
    Ok(())
}

pub(super) fn forgotten(revision: u64) -> Refusal {
    Refusal::NotFound(format!("there is no revision {revision}, or it is no longer kept"))
}

fn show(published: &Published, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = if accept.contains("yaml") || accept.contains("text/plain") {
        let kind = match published.format {
            Format::Yaml => "application/yaml",
            Format::Json => "application/json",
        };
        ([(header::CONTENT_TYPE, kind)], published.document.to_string()).into_response()
    } else {
        Json(DocumentReply { info: info(published), text: published.document.to_string() }).into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(published.revision.0));
    response
}

fn info(published: &Published) -> RevisionInfo {
    RevisionInfo {
        revision: published.revision.0,
        published_at: said::time(published.at),
        by: published.author.clone(),
        note: published.note.clone(),
        bytes: published.document.len() as u64,
    }
}
