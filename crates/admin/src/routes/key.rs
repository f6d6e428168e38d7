//! Keys of consumers. The secret is minted here, shown once, and only its hash goes into the log.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use tidegate_model::{Feature, KeyId, Millis};
use tidegate_state::{Command, CreateKey as Create, Outcome};

use super::publish::{REVOKE_WAIT, everywhere, waiting};
use super::said;
use crate::AppState;
use crate::access::wall_clock;
use crate::backend::Failure;
use crate::input::{Ask, Id, Json as Input, behind};
use crate::refusal::Refusal;
use crate::wire::{CreateKey, ErrorReply, IssuedKey, Key, KeyPlan, KeyState, Keys, RevokedKey, RotateKey};

const DEFAULT_GRACE: u64 = 86_400;
const MAX_GRACE: u64 = 2_592_000;
const DEFAULT_PAGE: usize = 1_000;
const MAX_PAGE: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    consumer: Option<String>,
    tenant: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
    #[serde(default)]
    stale: bool,
}

/// Keys, without their secrets, by id
#[utoipa::path(get, path = "/v1/keys", tag = "key",
    params(("consumer" = Option<String>, Query, description = "Only of this consumer"),
        ("tenant" = Option<String>, Query, description = "Only of this tenant"),
        ("after" = Option<u64>, Query, description = "Only ids above this one: for the next page"),
        ("limit" = Option<usize>, Query, description = "At most so many: 1 to 10,000, default 1,000"),
        ("stale" = Option<bool>, Query, description = "What this node has, without asking whether there is newer")),
    responses((status = 200, body = Keys), (status = 401, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn list(State(state): State<AppState>, Ask(page): Ask<Page>) -> Result<Json<Keys>, Refusal> {
    let limit = page.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::BadRequest(format!("limit is 1 to {MAX_PAGE}")));
    }
    let after = behind(page.after)?;
    super::document::newest(&state, page.stale).await?;
    let now = wall_clock();
    let wanted = |key: &&tidegate_state::Key| {
        after < key.id.0
            && page.consumer.as_ref().is_none_or(|consumer| key.consumer == *consumer)
            && page.tenant.as_ref().is_none_or(|tenant| key.tenant == *tenant)
    };
    let page = |agreed: &tidegate_state::State| {
        agreed.keys.iter().filter(wanted).take(limit).map(|key| view(agreed, key, now)).collect()
    };
    Ok(Json(Keys { keys: state.backend.read(page) }))
}

/// A new key for a consumer
///
/// The answer holds the secret; nothing else ever will.
#[utoipa::path(post, path = "/v1/keys", tag = "key", request_body = CreateKey,
    responses((status = 201, body = IssuedKey), (status = 400, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn create(
    State(state): State<AppState>,
    Input(ask): Input<CreateKey>,
) -> Result<(StatusCode, Json<IssuedKey>), Refusal> {
    let tenant = ask.tenant.unwrap_or_else(|| "default".to_owned());
    let expires_at = said::end_of_life(ask.ttl_seconds, wall_clock())?;
    must_be_in_the_document(&state, Wanted::Consumer(&tenant, &ask.consumer)).await?;
    if let Some(plan) = &ask.plan {
        plans_are_known(&state)?;
        must_be_in_the_document(&state, Wanted::Plan(plan)).await?;
    }
    let minted = mint()?;
    let key = Create {
        tenant,
        consumer: ask.consumer,
        name: ask.name.unwrap_or_default(),
        hash: minted.hash,
        prefix: minted.prefix,
        expires_at,
    };
    let command = match ask.plan {
        Some(plan) => Command::CreateKeyOnPlan { key, plan },
        None => Command::CreateKey(key),
    };
    let applied = state.backend.propose(command).await?;
    let Outcome::KeyCreated { id } = applied.outcome else { return Err(said::no(&applied.outcome, "key")) };
    let issued = issued(&state, id, minted.secret.expose(), applied.index).await?;
    Ok((StatusCode::CREATED, Json(issued)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<String>,
}

/// End a key for ever
///
/// Answers when every node refuses it or its node lease lapsed; at most after `wait`.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "key",
    params(("id" = u64, Path), ("wait" = Option<String>, Query, description = "`5s`; default 10s, at most 300s")),
    responses((status = 200, body = RevokedKey), (status = 404, body = ErrorReply)))]
pub(super) async fn revoke(
    State(state): State<AppState>,
    Id(id): Id<u64>,
    Ask(ask): Ask<Wait>,
) -> Result<Json<RevokedKey>, Refusal> {
    let wait = waiting(ask.wait.as_deref())?.unwrap_or(REVOKE_WAIT);
    let applied = state.backend.propose(Command::RevokeKey { id: KeyId(id) }).await?;
    if applied.outcome != Outcome::Done {
        return Err(said::no(&applied.outcome, &format!("key {id}")));
    }
    let (nodes, complete) = everywhere(&state, applied.index, wait).await;
    Ok(Json(RevokedKey { id, nodes, complete }))
}

/// A new secret for a key; the old one works on for a while
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", tag = "key", request_body = Option<RotateKey>,
    params(("id" = u64, Path)),
    responses((status = 200, body = IssuedKey), (status = 404, body = ErrorReply)))]
pub(super) async fn rotate(
    State(state): State<AppState>,
    Id(id): Id<u64>,
    Input(ask): Input<RotateKey>,
) -> Result<Json<IssuedKey>, Refusal> {
    let grace = ask.grace_seconds.unwrap_or(DEFAULT_GRACE);
    if grace > MAX_GRACE {
        return Err(Refusal::BadRequest(format!("grace_seconds is 0 to {MAX_GRACE}")));
    }
    let minted = mint()?;
    let command = Command::RotateKey {
        id: KeyId(id),
        hash: minted.hash,
        prefix: minted.prefix,
        grace_until: wall_clock().saturating_add(Millis(grace * 1_000)),
    };
    let applied = state.backend.propose(command).await?;
    if applied.outcome != Outcome::Done {
        return Err(said::no(&applied.outcome, &format!("key {id} that could be rotated")));
    }
    Ok(Json(issued(&state, KeyId(id), minted.secret.expose(), applied.index).await?))
}

/// Another plan for a key
///
/// Its calls count for the limits of that plan as soon as the nodes know.
#[utoipa::path(post, path = "/v1/keys/{id}/plan", tag = "key", request_body = Option<KeyPlan>,
    params(("id" = u64, Path)),
    responses((status = 200, body = Key), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn plan(
    State(state): State<AppState>,
    Id(id): Id<u64>,
    Input(ask): Input<KeyPlan>,
) -> Result<Json<Key>, Refusal> {
    plans_are_known(&state)?;
    if let Some(plan) = &ask.plan {
        must_be_in_the_document(&state, Wanted::Plan(plan)).await?;
    }
    let applied = state.backend.propose(Command::SetKeyPlan { id: KeyId(id), plan: ask.plan }).await?;
    if applied.outcome != Outcome::Done {
        return Err(said::no(&applied.outcome, &format!("key {id}")));
    }
    everywhere(&state, applied.index, REVOKE_WAIT).await;
    let key = state.backend.read(|agreed| agreed.keys.by_id(KeyId(id)).map(|key| view(agreed, key, wall_clock())));
    key.map(Json).ok_or_else(|| Failure::NotFound(format!("there is no key {id}")).into())
}

fn plans_are_known(state: &AppState) -> Result<(), Refusal> {
    if state.backend.read(|agreed| agreed.members.feature_level()) >= Feature::PlansOfKeys.level() {
        return Ok(());
    }
    Err(Refusal::Rejected {
        reason: "a node of an older release does not know plans of keys".to_owned(),
        hint: Some("upgrade every node, or give the consumer the plan".to_owned()),
    })
}

/// A key that works on one node and not yet on the next would look broken: wait, then show it.
async fn issued(state: &AppState, id: KeyId, secret: &str, index: u64) -> Result<IssuedKey, Refusal> {
    let (_, complete) = everywhere(state, index, REVOKE_WAIT).await;
    let key = state.backend.read(|agreed| agreed.keys.by_id(id).map(|key| view(agreed, key, wall_clock())));
    match key {
        Some(key) => Ok(IssuedKey { key, secret: secret.to_owned(), complete }),
        None => Err(Failure::Fault(format!("key {id} was created and is not in the state")).into()),
    }
}

/// What a key refers to.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// By tenant and name.
    Consumer(&'a str, &'a str),
    Tenant(&'a str),
    Plan(&'a str),
}

/// A key of a consumer or a plan nobody declared would be refused at every route: say so now.
pub(super) async fn must_be_in_the_document(state: &AppState, wanted: Wanted<'_>) -> Result<(), Refusal> {
    let seen = state.backend.read(|agreed| agreed.documents.current());
    if declares(state, wanted).await? {
        return Ok(());
    }
    // It may have been published through another node a moment ago.
    state.backend.catch_up().await?;
    let now = state.backend.read(|agreed| agreed.documents.current());
    if now != seen && declares(state, wanted).await? {
        return Ok(());
    }
    let (reason, hint) = match wanted {
        Wanted::Consumer(tenant, consumer) => (
            format!("the document has no consumer `{consumer}` in the tenant `{tenant}`"),
            format!("publish `consumers: [{{name: {consumer}}}]` first"),
        ),
        Wanted::Tenant(tenant) => (
            format!("the document has no tenant `{tenant}`"),
            "a tenant is named by its routes, consumers, teams or products, or in `tenants`: `tidegate get` shows the document".to_owned(),
        ),
        Wanted::Plan(plan) => (
            format!("the document has no plan `{plan}`"),
            format!("publish `plans: [{{name: {plan}, limits: […]}}]` first"),
        ),
    };
    Err(Refusal::Rejected { reason, hint: Some(hint) })
}

async fn declares(state: &AppState, wanted: Wanted<'_>) -> Result<bool, Refusal> {
    let text = state.backend.read(|agreed| agreed.documents.latest().map(|published| published.document.clone()));
    let Some(text) = text else { return Ok(false) };
    match wanted {
        Wanted::Consumer(tenant, consumer) => {
            let (tenant, consumer) = (tenant.to_owned(), consumer.to_owned());
            state.compiling(move || crate::document::names(&text, &tenant, &consumer)).await
        }
        Wanted::Tenant(tenant) => {
            let tenant = tenant.to_owned();
            state.compiling(move || crate::document::names_tenant(&text, &tenant)).await
        }
        Wanted::Plan(plan) => {
            let plan = plan.to_owned();
            state.compiling(move || crate::document::names_plan(&text, &plan)).await
        }
    }
}

fn mint() -> Result<tidegate_auth::Minted, Failure> {
    tidegate_auth::mint().map_err(|error| Failure::Fault(error.to_string()))
}

fn view(agreed: &tidegate_state::State, key: &tidegate_state::Key, now: Millis) -> Key {
    let state = match key {
        key if key.revoked_at.is_some() => KeyState::Revoked,
        key if key.expires_at.is_some_and(|end| end <= now) => KeyState::Expired,
        _ => KeyState::Active,
    };
    Key {
        id: key.id.0,
        tenant: key.tenant.clone(),
        consumer: key.consumer.clone(),
        name: key.name.clone(),
        plan: agreed.key_plans.of(key.id).map(str::to_owned),
        prefix: key.prefix.clone(),
        state,
        created_at: said::time(key.created_at),
        expires_at: key.expires_at.map(said::time),
        revoked_at: key.revoked_at.map(said::time),
        grace_until: key.previous.map(|(_, until)| until).filter(|until| now < *until).map(said::time),
    }
}
