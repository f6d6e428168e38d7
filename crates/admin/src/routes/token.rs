//! Admin tokens. Only their hashes are kept.

use axum::Json;
use axum::extract::State;
use tidegate_model::Millis;
use tidegate_state::{Command, Outcome};

use super::publish::{REVOKE_WAIT, everywhere};
use crate::AppState;
use crate::access::{hash, mint, wall_clock};
use crate::backend::Failure;
use crate::input::{Id, Json as Input};
use crate::refusal::Refusal;
use crate::routes::said;
use crate::wire::{AdminToken, AdminTokens, CreateToken, ErrorReply, IssuedToken, RevokedToken};

/// Admin tokens, without their secrets
#[utoipa::path(get, path = "/v1/tokens", tag = "token", responses((status = 200, body = AdminTokens)))]
pub(super) async fn list(State(state): State<AppState>) -> Result<Json<AdminTokens>, Refusal> {
    let tokens = state.backend.read(|agreed| agreed.tokens.admins().map(view).collect());
    Ok(Json(AdminTokens { tokens }))
}

/// A new admin token
///
/// The answer holds the token; nothing else ever will.
#[utoipa::path(post, path = "/v1/tokens", tag = "token", request_body = CreateToken,
    responses((status = 201, body = IssuedToken), (status = 400, body = ErrorReply)))]
pub(super) async fn create(
    State(state): State<AppState>,
    Input(ask): Input<CreateToken>,
) -> Result<(http::StatusCode, Json<IssuedToken>), Refusal> {
    if ask.name.trim().is_empty() {
        return Err(Refusal::BadRequest("name is empty".to_owned()));
    }
    let token = mint().map_err(|error| Failure::Fault(error.to_string()))?;
    let expires_at = said::end_of_life(ask.ttl_seconds, wall_clock())?;
    let (hash, role) = (hash(&token), ask.role.into());
    let command = Command::CreateAdminToken { hash, name: ask.name.clone(), role, expires_at };
    let applied = state.backend.propose(command).await?;
    let Outcome::AdminTokenCreated { id } = applied.outcome else {
        return Err(said::no(&applied.outcome, "token"));
    };
    everywhere(&state, applied.index, REVOKE_WAIT).await;
    let made = state.backend.read(|agreed| agreed.tokens.admins().find(|token| token.id == id).map(view));
    let info = made.unwrap_or_else(|| AdminToken {
        id,
        name: ask.name,
        role: ask.role,
        created_at: said::time(wall_clock()),
        expires_at: expires_at.map(said::time),
    });
    Ok((http::StatusCode::CREATED, Json(IssuedToken { info, token })))
}

/// End an admin token
///
/// Answers when every node refuses it or its node lease lapsed.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "token", params(("id" = u64, Path)),
    responses((status = 200, body = RevokedToken), (status = 404, body = ErrorReply)))]
pub(super) async fn revoke(State(state): State<AppState>, Id(id): Id<u64>) -> Result<Json<RevokedToken>, Refusal> {
    if is_last_admin(&state, id) {
        return Err(Refusal::Rejected {
            reason: format!("token {id} is the last one with the role admin"),
            hint: Some("create another one first".to_owned()),
        });
    }
    let applied = state.backend.propose(Command::RevokeAdminToken { id }).await?;
    if applied.outcome != Outcome::Done {
        return Err(said::no(&applied.outcome, &format!("admin token {id}")));
    }
    let (_, complete) = everywhere(&state, applied.index, REVOKE_WAIT).await;
    Ok(Json(RevokedToken { id, complete }))
}

/// Nobody could ever make one again.
fn is_last_admin(state: &AppState, id: u64) -> bool {
    let now: Millis = wall_clock();
    state.backend.read(|agreed| {
        let mut admins = agreed
            .tokens
            .admins()
            .filter(|token| token.role == tidegate_state::Role::Admin && token.expires_at.is_none_or(|end| now < end));
        admins.next().is_some_and(|first| first.id == id) && admins.next().is_none()
    })
}

fn view(token: &tidegate_state::AdminToken) -> AdminToken {
    AdminToken {
        id: token.id,
        name: token.name.clone(),
        role: token.role.into(),
        created_at: said::time(token.created_at),
        expires_at: token.expires_at.map(said::time),
    }
}
