//! Endpoints of upstreams: how they are, and weights and drains set by hand.

use axum::Json;
use axum::extract::State;
use tidegate_state::endpoints::{Place, Set};
use tidegate_state::{Command, Outcome};

use crate::AppState;
use crate::input::Json as Input;
use crate::refusal::Refusal;
use crate::wire::{EndpointSet, ErrorReply, SetEndpoint, Upstreams};

/// Every endpoint on every live node
#[utoipa::path(get, path = "/v1/upstreams", tag = "upstream", responses((status = 200, body = Upstreams),
    (status = 401, body = ErrorReply)))]
pub(super) async fn list(State(state): State<AppState>) -> Json<Upstreams> {
    Json(Upstreams { endpoints: state.backend.endpoints().await })
}

/// Set an endpoint's weight or drain it, on every node
#[utoipa::path(post, path = "/v1/upstreams/endpoint", tag = "upstream", request_body = SetEndpoint,
    responses((status = 200, body = EndpointSet), (status = 404, body = ErrorReply)))]
pub(super) async fn set(
    State(state): State<AppState>,
    Input(ask): Input<SetEndpoint>,
) -> Result<Json<EndpointSet>, Refusal> {
    let SetEndpoint { upstream, endpoint, weight, reset_weight, drained } = ask;
    if weight.is_none() && !reset_weight && drained.is_none() {
        return Err(Refusal::BadRequest("nothing is to be set: name weight, reset_weight or drained".to_owned()));
    }
    if weight.is_some() && reset_weight {
        return Err(Refusal::BadRequest("either weight or reset_weight".to_owned()));
    }
    let place = Place { upstream, endpoint };
    let known = state.backend.endpoints().await;
    let ruled = state.backend.read(|state| state.endpoints.ruling(&place).is_some());
    if !ruled && !known.iter().any(|e| e.upstream == place.upstream && e.endpoint == place.endpoint) {
        let hint = "see the list of endpoints: GET /v1/upstreams, `tidegate upstream ls`";
        return Err(Refusal::NotFound(format!(
            "upstream `{}` has no endpoint `{}`; {hint}",
            place.upstream, place.endpoint
        )));
    }
    let mut sets = Vec::new();
    if weight.is_some() || reset_weight {
        sets.push(Set::Weight(weight));
    }
    sets.extend(drained.map(Set::Drained));
    for set in sets {
        let applied = state.backend.propose(Command::SetEndpoint { place: place.clone(), set }).await?;
        match applied.outcome {
            Outcome::Done => {}
            Outcome::TooLarge { limit } => return Err(Refusal::BadRequest(format!("at most {limit}"))),
            other => return Err(Refusal::BadRequest(format!("not possible now: {other:?}"))),
        }
    }
    let ruling = state.backend.read(|state| state.endpoints.ruling(&place).copied()).unwrap_or_default();
    let Place { upstream, endpoint } = place;
    Ok(Json(EndpointSet { upstream, endpoint, weight: ruling.weight, drained: ruling.drained }))
}

/// What was set by hand and holds whatever a document says.
pub(super) fn set_by_hand(state: &tidegate_state::State) -> Vec<EndpointSet> {
    let set = state.endpoints.rulings().filter(|(_, ruling)| ruling.weight.is_some() || ruling.drained);
    set.map(|(place, ruling)| EndpointSet {
        upstream: place.upstream.clone(),
        endpoint: place.endpoint.clone(),
        weight: ruling.weight,
        drained: ruling.drained,
    })
    .collect()
}
