//! Publishing a document: compile first, then limit policies, then the entry; then wait, when asked to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tidegate_config::Span;
use tidegate_model::Revision;
use tidegate_state::{Outcome, Publish};

use super::{document, said};
use crate::AppState;
use crate::access::Login;
use crate::backend::Compiled;
use crate::input::{Ask, Id, Text};
use crate::refusal::Refusal;
use crate::wire::{ErrorReply, NodeApplied, Problem, PublishReply};

pub(crate) const MAX_WAIT: Duration = Duration::from_secs(300);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// For what must hold everywhere before anybody relies on it. Longer than a node lease: a dead node lapses first.
pub(super) const REVOKE_WAIT: Duration = Duration::from_secs(10);
const MAX_TRIES: u32 = 4;
const MAX_NOTE: usize = 4_096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    wait: Option<String>,
    note: Option<String>,
}

/// Publish a document
///
/// The body is the whole document, YAML or JSON. With `If-Match`, only if that revision is the current one (`"0"`: only
/// if none is). With `wait`, answers when every node applied it or its node lease lapsed. A document with problems
/// changes nothing.
#[utoipa::path(put, path = "/v1/document", tag = "document",
    request_body(content = String, content_type = "application/yaml"),
    params(
        ("If-Match" = Option<String>, Header, description = "The revision this replaces, as in the ETag"),
        ("wait" = Option<String>, Query, description = "`30s`, `500ms`, `2m`; at most 300s; empty: 30s"),
        ("note" = Option<String>, Query, description = "Why: goes into the history")),
    responses((status = 200, body = PublishReply), (status = 409, body = ErrorReply), (status = 412, body = ErrorReply),
        (status = 413, body = ErrorReply), (status = 422, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn publish(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Ask(how): Ask<How>,
    headers: HeaderMap,
    Text { text, _slot }: Text,
) -> Result<Response, Refusal> {
    let expected = if_match(&headers)?;
    let note = how.note.unwrap_or_default();
    put(&state, login, text.into(), note, expected, how.wait.as_deref()).await
}

/// Publish the text of an old revision again, as a new one
///
/// Keys are not part of the document: what was revoked stays revoked.
#[utoipa::path(post, path = "/v1/rollback/{revision}", tag = "document",
    params(("revision" = u64, Path), ("wait" = Option<String>, Query), ("note" = Option<String>, Query),
        ("If-Match" = Option<String>, Header, description = "The revision this replaces, as in the ETag")),
    responses((status = 200, body = PublishReply), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply),
        (status = 422, body = ErrorReply)))]
pub(super) async fn rollback(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Id(revision): Id<u64>,
    Ask(how): Ask<How>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let expected = if_match(&headers)?;
    state.backend.catch_up().await?;
    let old = state.backend.read(|agreed| agreed.documents.revision(Revision(revision)).cloned());
    let Some(old) = old else { return Err(document::forgotten(revision)) };
    let note = how.note.unwrap_or_else(|| format!("rollback to {revision}"));
    put(&state, login, old.document, note, expected, how.wait.as_deref()).await
}

async fn put(
    state: &AppState,
    login: Login,
    text: Arc<str>,
    note: String,
    expected: Option<u64>,
    wait: Option<&str>,
) -> Result<Response, Refusal> {
    let wait = waiting(wait)?;
    if note.len() > MAX_NOTE {
        return Err(Refusal::BadRequest(format!("note is longer than {MAX_NOTE} bytes")));
    }
    if expected.is_some() {
        // What the caller saw elsewhere must be here before it is compared.
        state.backend.catch_up().await?;
    }
    // Without If-Match, whoever was faster is replaced: look again, compile again.
    let mut tries = 0;
    let (revision, index, warnings) = loop {
        tries += 1;
        match once(state, &login, &text, &note, expected).await {
            Err(Refusal::Conflict { .. }) if tries < MAX_TRIES => {
                state.backend.catch_up().await?;
            }
            done => break done?,
        }
    };
    let mut reply = PublishReply { revision, index, warnings, nodes: None, complete: None };
    if let Some(wait) = wait {
        let (mut nodes, complete) = everywhere(state, index, wait).await;
        let all_serve = serving(state, revision, &mut nodes).await;
        reply.nodes = Some(nodes);
        reply.complete = Some(complete && all_serve);
    }
    let mut response = Json(reply).into_response();
    response.headers_mut().insert(header::ETAG, etag(revision));
    Ok(response)
}

async fn once(
    state: &AppState,
    login: &Login,
    text: &Arc<str>,
    note: &str,
    expected: Option<u64>,
) -> Result<(u64, u64, Vec<Problem>), Refusal> {
    let current = state.backend.read(|agreed| agreed.documents.current());
    // Before compiling: who works on an old revision hears that first.
    if expected.is_some_and(|expected| expected != current.0) {
        return Err(Refusal::PreconditionFailed { current: current.0 });
    }
    let backend = state.backend.clone();
    let next = Revision(current.0.saturating_add(1));
    let document = text.clone();
    let compiled = state.compiling(move || backend.compile(&document, next, None)).await?;
    let Compiled { snapshot, warnings, features } = compiled.map_err(Refusal::InvalidDocument)?;
    state.backend.understood(&features).await?;
    certificates_are_there(state, text)?;

    let publish = Publish {
        format: crate::document::format(text),
        document: text.clone(),
        // Even without If-Match: what was compiled was compiled to follow this revision.
        replaces: Some(current),
        author: login.name.clone(),
        note: note.to_owned(),
        policies: Revision(0),
    };
    let applied = state.backend.publish(publish, &snapshot).await?;
    match applied.outcome {
        Outcome::Published { revision } => Ok((revision.0, applied.index, warnings)),
        Outcome::Conflict { current } if expected.is_some() => Err(Refusal::PreconditionFailed { current: current.0 }),
        other => Err(said::no(&other, "document")),
    }
}

/// A document that names a certificate which nobody keeps would leave its hosts without one.
fn certificates_are_there(state: &AppState, text: &str) -> Result<(), Refusal> {
    let names = crate::document::certificate_names(text);
    let missing = state.backend.read(|agreed| {
        let missing = names.missing(|name| agreed.certificates.by_name(name).is_some());
        missing.map(|(by, name)| (by.to_owned(), name.to_owned()))
    });
    let Some((by, name)) = missing else { return Ok(()) };
    Err(Refusal::Rejected {
        reason: format!("certificates.{by}.stored: the cluster keeps no certificate `{name}`"),
        hint: Some(format!("import it first: `tidegate cert import {name} --cert chain.pem --key key.pem`")),
    })
}

/// Which nodes have the entry, and whether that is all of them that count.
pub(super) async fn everywhere(state: &AppState, index: u64, wait: Duration) -> (Vec<NodeApplied>, bool) {
    let nodes = state.backend.applied_everywhere(index, wait).await;
    let complete = nodes.iter().all(|node| node.state != NodeApplied::WAITING);
    (nodes, complete)
}

/// A node that has the entry may still be unable to serve it. Marks those, and says whether there is none.
async fn serving(state: &AppState, revision: u64, nodes: &mut [NodeApplied]) -> bool {
    let serves: BTreeMap<u64, u64> =
        state.backend.status().await.nodes.iter().filter_map(|node| Some((node.id, node.revision?))).collect();
    let behind = |node: &NodeApplied| serves.get(&node.node).is_some_and(|serves| *serves < revision);
    let mut all = true;
    for node in nodes.iter_mut().filter(|node| node.state == NodeApplied::APPLIED) {
        if behind(node) {
            NodeApplied::NOT_SERVING.clone_into(&mut node.state);
            all = false;
        }
    }
    all
}

/// `None`: did not ask to wait.
pub(super) fn waiting(text: Option<&str>) -> Result<Option<Duration>, Refusal> {
    match text {
        None | Some("false") => Ok(None),
        Some("" | "true") => Ok(Some(DEFAULT_WAIT)),
        Some(text) => match Span::or_seconds(text) {
            Ok(span) if span <= MAX_WAIT => Ok(Some(span)),
            _ => Err(Refusal::BadRequest("wait is a span like 30s, at most 300s".to_owned())),
        },
    }
}

pub(super) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("digits and quotes are a header value")
}

/// The revision that must be current. `*` means any, as if there were no header.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    match text.trim_matches('"').parse() {
        Ok(revision) => Ok(Some(revision)),
        Err(_) => Err(Refusal::BadRequest("If-Match is one revision, as in the ETag: \"12\"".to_owned())),
    }
}
