//! Secrets of the operator's own: sealed here, named by the document, never told again.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use tidegate_model::Revision;
use tidegate_state::secrets::{How, Put, Secret, Secrets};
use tidegate_state::{Command, Outcome};

use super::publish::{REVOKE_WAIT, everywhere};
use super::said;
use crate::AppState;
use crate::access::Login;
use crate::input::Hushed as Input;
use crate::refusal::Refusal;
use crate::wire::{ErrorReply, PutSecret, SecretChanged, SecretList, SecretState};

const LONGEST_NAME: usize = 128;
/// As of those from files and environments.
const LONGEST: usize = 8 * 1024;

/// Every secret that the cluster keeps; no values
#[utoipa::path(get, path = "/v1/secrets", tag = "secret",
    responses((status = 200, body = SecretList), (status = 503, body = ErrorReply)))]
pub(super) async fn list(state: State<AppState>) -> Result<Json<SecretList>, Refusal> {
    state.backend.catch_up().await?;
    Ok(Json(SecretList { secrets: all(&state) }))
}

/// Keep a new secret, sealed
///
/// The document names it with `secrets: [{name: NAME, from: sealed}]`.
#[utoipa::path(put, path = "/v1/secrets/{name}", tag = "secret", request_body = PutSecret,
    params(("name" = String, Path)),
    responses((status = 200, body = SecretChanged), (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub(super) async fn put(
    State(state): State<AppState>,
    Extension(login): Extension<Login>,
    Path(name): Path<String>,
    Input(ask): Input<PutSecret>,
) -> Result<Json<SecretChanged>, Refusal> {
    keep(&state, login, name, &ask, How::New).await
}

/// Give a secret a new value, which every node uses from then on
///
/// Requests that are under way end with the value that they began with. The document stays as it is, and a value that it
/// cannot be served with is refused.
#[utoipa::path(post, path = "/v1/secrets/{name}/rotate", tag = "secret", request_body = PutSecret,
    params(("name" = String, Path)),
    responses((status = 200, body = SecretChanged), (status = 404, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub(super) async fn rotate(
    State(state): State<AppState>,
    Extension(login): Extension<Login>,
    Path(name): Path<String>,
    Input(ask): Input<PutSecret>,
) -> Result<Json<SecretChanged>, Refusal> {
    keep(&state, login, name, &ask, How::Again).await
}

/// Keep a secret no longer
///
/// Refused while the published document names it.
#[utoipa::path(delete, path = "/v1/secrets/{name}", tag = "secret", params(("name" = String, Path)),
    responses((status = 200, body = SecretChanged), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn remove(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<SecretChanged>, Refusal> {
    state.backend.catch_up().await?;
    let users = all(&state).into_iter().find(|secret| secret.name == name).map(|secret| secret.used_by);
    if let Some(users) = users.filter(|users| !users.is_empty()) {
        return Err(Refusal::Rejected {
            reason: format!("the document uses the secret `{name}`: {}", users.join(", ")),
            hint: Some("take it out of the document first: `tidegate apply`".to_owned()),
        });
    }
    change(&state, name.clone(), Command::RemoveSecret { name }).await
}

async fn keep(
    state: &AppState,
    login: Login,
    name: String,
    ask: &PutSecret,
    how: How,
) -> Result<Json<SecretChanged>, Refusal> {
    if !is_name(&name) {
        return Err(Refusal::BadRequest(format!("a name is 1 to {LONGEST_NAME} letters, digits and `-_.`")));
    }
    if ask.value.is_empty() || LONGEST < ask.value.len() {
        return Err(Refusal::BadRequest(format!("a value is 1 to {LONGEST} bytes")));
    }
    fits(state, &name, &ask.value).await?;
    let sealed = state.backend.seal(&Secrets::sealing(&name), ask.value.as_bytes())?;
    let put = Put { name: name.clone(), sealed, author: login.name, how };
    change(state, name, Command::PutSecret(put)).await
}

/// A value that the document cannot be served with is not kept: the next node to start would serve nothing.
async fn fits(state: &AppState, name: &str, value: &str) -> Result<(), Refusal> {
    let text = state.backend.read(|agreed| agreed.documents.latest().map(|latest| latest.document.clone()));
    let names =
        |text: &std::sync::Arc<str>| crate::document::sealed_secrets(text).iter().any(|(sealed, _)| sealed == name);
    let Some(text) = text.filter(names) else { return Ok(()) };
    let (backend, name, value) = (state.backend.clone(), name.to_owned(), value.to_owned());
    let compiled = state.compiling(move || {
        let with = backend.compile(&text, Revision(0), Some((&name, value.as_bytes())));
        // What is wrong anyway is no reason to keep an old key.
        with.map(drop).or_else(|problems| match backend.compile(&text, Revision(0), None) {
            Ok(_) => Err(problems),
            Err(_) => Ok(()),
        })
    });
    compiled.await?.map_err(Refusal::InvalidDocument)
}

async fn change(state: &AppState, name: String, command: Command) -> Result<Json<SecretChanged>, Refusal> {
    let applied = state.backend.propose(command).await?;
    match &applied.outcome {
        Outcome::Done => {}
        Outcome::Duplicate => {
            let hint = Some(format!("give it a new value with `tidegate secret rotate {name}`"));
            return Err(Refusal::Rejected { reason: format!("there is a secret `{name}` already"), hint });
        }
        no => return Err(said::no(no, &format!("secret `{name}`"))),
    }
    let (nodes, complete) = everywhere(state, applied.index, REVOKE_WAIT).await;
    let secret = all(state).into_iter().find(|secret| secret.name == name);
    Ok(Json(SecretChanged { name, secret, nodes, complete }))
}

fn all(state: &AppState) -> Vec<SecretState> {
    let (kept, text) = state.backend.read(|agreed| {
        let kept = agreed.later.secrets.iter();
        let kept: Vec<_> = kept
            .map(|(name, Secret { generation, sealed: _, put_at, author })| SecretState {
                name: name.to_owned(),
                generation: *generation,
                changed_at: said::time(*put_at),
                by: author.clone(),
                used_by: Vec::new(),
            })
            .collect();
        (kept, agreed.documents.latest().map(|latest| latest.document.clone()))
    });
    let named = text.map(|text| crate::document::sealed_secrets(&text)).unwrap_or_default();
    let used = |secret: SecretState| {
        let by = named.iter().filter(|(name, _)| *name == secret.name).flat_map(|(_, users)| users.clone());
        SecretState { used_by: by.collect(), ..secret }
    };
    kept.into_iter().map(used).collect()
}

/// As it can be written into a document: `${secrets.NAME}`.
fn is_name(text: &str) -> bool {
    let may = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(may)
}
