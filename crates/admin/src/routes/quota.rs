//! Counters of limits: how they stand, and what operators order about them.

mod rates;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidegate_model::{KeyId, Millis};
use tidegate_state::orders::{Draft, Event, Happened, MOST_ORDERS, Order, What, Whom, Withdrawn};
use tidegate_state::{Command, Outcome, State as Agreed};

use super::publish::{REVOKE_WAIT, everywhere};
use super::said;
use crate::AppState;
use crate::access::{Login, wall_clock};
use crate::backend::{Counter, Whole};
use crate::input::{Ask, Json as Input};
use crate::refusal::Refusal;
use crate::wire::{
    ErrorReply, GetQuota, OrderQuota, QuotaCount, QuotaEvent, QuotaOrder, QuotaOrdered, QuotaOrders, QuotaSubject,
    QuotaTop,
};

const MOST_TOP: usize = 1_000;
const DEFAULT_TOP: usize = 20;

/// How a counter stands
///
/// As the quota leader's ledger has it; `stale`: as this node's has.
#[utoipa::path(post, path = "/v1/quota/get", tag = "quota", request_body = GetQuota,
    responses((status = 200, body = QuotaCount), (status = 404, body = ErrorReply)))]
pub(super) async fn get(
    State(state): State<AppState>,
    Input(ask): Input<GetQuota>,
) -> Result<Json<QuotaCount>, Refusal> {
    if !ask.stale {
        state.backend.catch_up().await?;
    }
    let counter = state.backend.counter(&ask.limit, &ask.subject, Whole::No)?;
    let mut count = state.backend.count(&counter, ask.stale).await?;
    count.orders = state.backend.read(|agreed| {
        let about = agreed.orders.in_force().filter(|order| concerns(&order.draft.whom, &counter));
        about.map(order_of).collect()
    });
    Ok(Json(count))
}

/// Those of the limit as a whole, and those of the subject.
fn concerns(whom: &Whom, counter: &Counter) -> bool {
    match whom {
        Whom::Limit { limit, subject, .. } => {
            *limit == counter.limit && (subject.is_none() || *subject == counter.subject)
        }
        Whom::Key(_) | Whom::Consumer { .. } => false,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopAsk {
    limit: Option<String>,
    by: Option<String>,
    n: Option<usize>,
}

/// What makes a counter one of the busiest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Spent,
    Utilisation,
    Refused,
}

/// The busiest counters
#[utoipa::path(get, path = "/v1/quota/top", tag = "quota",
    params(("limit" = Option<String>, Query, description = "Only of this limit"),
        ("by" = Option<String>, Query, description = "`spent` (default), `utilisation` or `refused`"),
        ("n" = Option<usize>, Query, description = "How many: 20, at most 1000")),
    responses((status = 200, body = QuotaTop), (status = 404, body = ErrorReply)))]
pub(super) async fn top(State(state): State<AppState>, Ask(ask): Ask<TopAsk>) -> Result<Json<QuotaTop>, Refusal> {
    let by = match ask.by.as_deref() {
        None | Some("spent") => By::Spent,
        Some("utilisation") => By::Utilisation,
        Some("refused") => By::Refused,
        Some(_) => return Err(Refusal::BadRequest("by is spent, utilisation or refused".to_owned())),
    };
    let n = ask.n.unwrap_or(DEFAULT_TOP);
    if !(1..=MOST_TOP).contains(&n) {
        return Err(Refusal::BadRequest(format!("n is 1 to {MOST_TOP}")));
    }
    Ok(Json(QuotaTop { counters: state.backend.busiest(ask.limit.as_deref(), by, n).await? }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListAsk {
    #[serde(default)]
    stale: bool,
}

/// All orders about limits that are in force, and what happened to those before
#[utoipa::path(get, path = "/v1/quota/orders", tag = "quota",
    params(("stale" = Option<bool>, Query, description = "What this node has")),
    responses((status = 200, body = QuotaOrders)))]
pub(super) async fn list(State(state): State<AppState>, Ask(ask): Ask<ListAsk>) -> Result<Json<QuotaOrders>, Refusal> {
    if !ask.stale {
        state.backend.catch_up().await?;
    }
    let (orders, events) = state.backend.read(|agreed| (in_force(agreed), events(agreed)));
    Ok(Json(QuotaOrders { orders, events }))
}

/// Another maximum, rate or burst than the document's
///
/// `permits` is the maximum; limits with a rate take `rate`, `burst` or both instead, and what is not said is the document's.
/// For one subject, or for all that have none of their own. Raising holds at once, lowering for new grants at once and
/// for what nodes hold within four seconds. It outlives changes of the document, until its end or until it is taken back.
#[utoipa::path(post, path = "/v1/quota/set", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn set(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    let (whom, counter) = of_limit(&state, &ask, Whole::Yes)?;
    let what = rates::ordered(&ask, &counter)?;
    give(&state, login, ask, whom, what, None).await
}

/// Extra permits, once
///
/// Until the time given, or for one window.
#[utoipa::path(post, path = "/v1/quota/grant", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn grant(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    none(ask.rate.is_some() || ask.burst.is_some(), "rate and no burst")?;
    let (whom, counter) = of_limit(&state, &ask, Whole::No)?;
    let extra = permits("permits", ask.permits, "0 grants nothing", counter.most.0)?;
    if counter.period.is_none() && ask.for_seconds.is_none() && ask.until.is_none() {
        let why = format!("`{}` has no window: say how long the permits are good for", counter.name);
        return Err(Refusal::BadRequest(format!("{why} (for_seconds or until; on the command line --for 10m)")));
    }
    give(&state, login, ask, whom, What::Extra(extra), counter.period).await
}

/// A count begins anew
///
/// Of one subject, or of all. What nodes hold stays charged.
#[utoipa::path(post, path = "/v1/quota/reset", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply)))]
pub(super) async fn reset(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    none(ask.permits.is_some() || ask.rate.is_some() || ask.burst.is_some(), "permits, no rate and no burst")?;
    none(ask.for_seconds.is_some() || ask.until.is_some(), "an end: a reset happens once")?;
    let whom = of_limit(&state, &ask, Whole::Yes)?.0;
    give(&state, login, ask, whom, What::Reset, None).await
}

/// Refuse a key, a consumer, or whatever a counter counts
///
/// With 403 `blocked`. Answers when every live node does, or its node lease lapsed.
#[utoipa::path(post, path = "/v1/quota/block", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn block(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    none(ask.permits.is_some() || ask.rate.is_some() || ask.burst.is_some(), "permits, no rate and no burst")?;
    let whom = blocked(&state, &ask)?;
    give(&state, login, ask, whom, What::Block, None).await
}

/// The document's maximum holds again
#[utoipa::path(post, path = "/v1/quota/unset", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply)))]
pub(super) async fn unset(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    let whom = of_limit(&state, &ask, Whole::Yes)?.0;
    withdraw(&state, login, whom, Withdrawn::Max).await
}

/// What is left of extra permits is gone
#[utoipa::path(post, path = "/v1/quota/ungrant", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply)))]
pub(super) async fn ungrant(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    let whom = of_limit(&state, &ask, Whole::No)?.0;
    withdraw(&state, login, whom, Withdrawn::Extra).await
}

/// Refuse no longer
#[utoipa::path(post, path = "/v1/quota/unblock", tag = "quota", request_body = OrderQuota,
    responses((status = 200, body = QuotaOrdered), (status = 404, body = ErrorReply)))]
pub(super) async fn unblock(
    State(state): State<AppState>,
    axum::Extension(login): axum::Extension<Login>,
    Input(ask): Input<OrderQuota>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    let whom = blocked(&state, &ask)?;
    withdraw(&state, login, whom, Withdrawn::Block).await
}

fn permits(name: &str, number: Option<u64>, zero: &str, most: u64) -> Result<u64, Refusal> {
    match number {
        Some(0) => Err(Refusal::BadRequest(format!("{name}: {zero}"))),
        Some(number) if number <= most => Ok(number),
        Some(_) => Err(Refusal::BadRequest(format!("{name}: 1 to {most}"))),
        None => Err(Refusal::BadRequest(format!("{name}: how many?"))),
    }
}

fn none(is: bool, what: &str) -> Result<(), Refusal> {
    if is { Err(Refusal::BadRequest(format!("this takes no {what}"))) } else { Ok(()) }
}

fn of_limit(state: &AppState, ask: &OrderQuota, whole: Whole) -> Result<(Whom, Counter), Refusal> {
    let Some(limit) = &ask.limit else {
        return Err(Refusal::BadRequest("limit: which? The document's `limits` name them".to_owned()));
    };
    let counter = state.backend.counter(limit, &ask.subject, whole)?;
    let whom = Whom::Limit {
        limit: counter.limit,
        name: counter.name.clone(),
        subject: counter.subject,
        words: counter.words.clone(),
    };
    Ok((whom, counter))
}

fn blocked(state: &AppState, ask: &OrderQuota) -> Result<Whom, Refusal> {
    if ask.limit.is_some() {
        return of_limit(state, ask, Whole::No).map(|(whom, _)| whom);
    }
    let QuotaSubject { tenant, consumer, key, .. } = ask.subject.clone();
    let alone = |subject: QuotaSubject| {
        if ask.subject == subject {
            return Ok(());
        }
        let why = "without a limit a block is for one key, or for one consumer and its tenant";
        Err(Refusal::BadRequest(why.to_owned()))
    };
    match (key, consumer) {
        (Some(id), None) => {
            alone(QuotaSubject { key, ..QuotaSubject::default() })?;
            let known = state.backend.read(|agreed| agreed.keys.by_id(KeyId(id)).is_some());
            if !known {
                return Err(Refusal::NotFound(format!("there is no key {id}; `tidegate key ls` lists them")));
            }
            Ok(Whom::Key(KeyId(id)))
        }
        (None, Some(name)) => {
            alone(QuotaSubject { tenant: tenant.clone(), consumer: Some(name.clone()), ..QuotaSubject::default() })?;
            let tenant = tenant.unwrap_or_else(|| "default".to_owned());
            let latest = state.backend.read(|agreed| agreed.documents.latest().map(|it| it.document.clone()));
            if !latest.is_some_and(|text| crate::document::names(&text, &tenant, &name)) {
                let why = format!("the document has no consumer `{name}` of the tenant `{tenant}`");
                return Err(Refusal::NotFound(why));
            }
            Ok(Whom::Consumer { tenant, name })
        }
        _ => Err(Refusal::BadRequest("whom? A limit and its subject, or a key, or a consumer".to_owned())),
    }
}

fn end(ask: &OrderQuota, otherwise: Option<Millis>) -> Result<Option<Millis>, Refusal> {
    let now = wall_clock();
    match (ask.for_seconds, &ask.until) {
        (Some(_), Some(_)) => Err(Refusal::BadRequest("either for_seconds or until".to_owned())),
        (seconds @ Some(_), None) => {
            said::end_of_life(seconds, now).map_err(|_| Refusal::BadRequest("for_seconds is 1 to ten years".to_owned()))
        }
        (None, Some(text)) => match said::instant(text) {
            Some(at) if now < at => Ok(Some(at)),
            Some(_) => Err(Refusal::BadRequest(format!("until: {text} is over"))),
            None => Err(Refusal::BadRequest(
                "until is a time like 2026-11-20T18:00:00Z, or a day like 2026-11-20".to_owned(),
            )),
        },
        (None, None) => Ok(otherwise.map(|lives| now.saturating_add(lives))),
    }
}

async fn give(
    state: &AppState,
    login: Login,
    ask: OrderQuota,
    whom: Whom,
    what: What,
    lives: Option<Millis>,
) -> Result<Json<QuotaOrdered>, Refusal> {
    let until = end(&ask, lives)?;
    let draft = Draft { whom, what, author: login.name, reason: ask.reason, until };
    let order = Order { id: 0, at: wall_clock(), draft: draft.clone() };
    settled(state, Command::GiveOrder(draft), order).await
}

async fn withdraw(state: &AppState, login: Login, whom: Whom, what: Withdrawn) -> Result<Json<QuotaOrdered>, Refusal> {
    let is = |order: &&Order| order.draft.whom.is(&whom) && order.draft.what.withdrawn() == Some(what);
    state.backend.catch_up().await?;
    let Some(order) = state.backend.read(|agreed| agreed.orders.in_force().find(is).cloned()) else {
        return Err(nothing_to_withdraw());
    };
    settled(state, Command::WithdrawOrder { whom, what, author: login.name }, order).await
}

fn nothing_to_withdraw() -> Refusal {
    Refusal::NotFound("there is no such order in force; `tidegate quota ls` lists them".to_owned())
}

async fn settled(state: &AppState, command: Command, mut order: Order) -> Result<Json<QuotaOrdered>, Refusal> {
    let applied = state.backend.propose(command).await?;
    match applied.outcome {
        Outcome::Ordered { id } if order.id == 0 => order.id = id,
        Outcome::Ordered { .. } => {}
        Outcome::NotFound => return Err(nothing_to_withdraw()),
        Outcome::Full => {
            return Err(Refusal::Rejected {
                reason: format!("{MOST_ORDERS} orders are in force, which is as many as there may be"),
                hint: Some("take some back (`tidegate quota ls`), or say it in the document".to_owned()),
            });
        }
        other => return Err(said::no(&other, "order")),
    }
    let pending = state.backend.settle_orders().await.err();
    let (nodes, complete) = everywhere(state, applied.index, REVOKE_WAIT).await;
    let complete = complete && pending.is_none();
    Ok(Json(QuotaOrdered { order: order_of(&order), nodes, complete, pending }))
}

pub(super) fn in_force(agreed: &Agreed) -> Vec<QuotaOrder> {
    agreed.orders.in_force().map(order_of).collect()
}

pub(super) fn events(agreed: &Agreed) -> Vec<QuotaEvent> {
    agreed.orders.events().rev().map(event_of).collect()
}

fn event_of(event: &Event) -> QuotaEvent {
    let happened = match event.happened {
        Happened::Given => "given",
        Happened::Withdrawn => "withdrawn",
        Happened::Lapsed => "lapsed",
        Happened::Replaced => "replaced",
    };
    let order = Order { id: event.order, at: event.at, draft: event.draft.clone() };
    QuotaEvent {
        at: said::time(event.at),
        happened: happened.to_owned(),
        by: event.draft.author.clone(),
        order: order_of(&order),
    }
}

fn order_of(order: &Order) -> QuotaOrder {
    let Draft { whom, what, author, reason, until } = &order.draft;
    let (limit, limit_id, words) = match whom {
        Whom::Limit { limit, name, words, .. } => (Some(name.clone()), Some(limit.to_string()), words.clone()),
        Whom::Key(id) => (None, None, format!("key={id}")),
        Whom::Consumer { tenant, name } => (None, None, format!("tenant={tenant} consumer={name}")),
    };
    let (verb, permits) = match what {
        What::Max(_) | What::Rate { .. } => ("set", what.maximum()),
        What::Extra(extra) => ("grant", Some(*extra)),
        What::Reset => ("reset", None),
        What::Block => ("block", None),
    };
    QuotaOrder {
        id: order.id,
        order: verb.to_owned(),
        limit,
        limit_id,
        words,
        permits,
        rate: what.rate().map(rates::written),
        by: author.clone(),
        at: said::time(order.at),
        until: until.map(said::time),
        reason: reason.clone(),
    }
}
