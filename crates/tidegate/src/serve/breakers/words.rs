//! What nodes say to each other about endpoints, and how the log's words are said here.

use serde::{Deserialize, Serialize};
use tidegate_admin::wire::{DeploymentState, EndpointState};
use tidegate_model::NodeId;
use tidegate_state::endpoints::{self as ruled, Endpoints};
use tidegate_upstream::breaker::Rulings;
use tidegate_upstream::breaker::ruling::{Evidence, Place, Ruling, Stand, Verdict, What};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// To the leader.
    Evidence(Vec<(Place, Evidence)>),
    /// From the leader: what do you know about these?
    Poll(Vec<Place>),
    /// For people: how are your endpoints?
    Facts,
    /// Deployments of language models that rest.
    Rests(Vec<Told>),
    /// For people: how are your deployments?
    Models,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Heard,
    NotLeader,
    Evidence(Vec<(Place, Evidence)>),
    Facts(Vec<EndpointState>),
    /// As `Heard`, and there is a verdict: it comes with the log.
    Ruled,
    Models(Vec<DeploymentState>),
}

/// One that rests, for so much longer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) deployment: String,
    pub(super) millis: u64,
    /// It did not ask for it.
    pub(super) failing: bool,
}

pub(super) fn rulings(all: &Endpoints) -> Rulings {
    Rulings::new(all.epoch(), all.rulings().map(|(place, ruling)| (place_of(place), ruling_of(ruling))))
}

pub(super) fn place_of(place: &ruled::Place) -> Place {
    Place { upstream: place.upstream.clone(), endpoint: place.endpoint.clone() }
}

pub(super) fn ruling_of(ruling: &ruled::Ruling) -> Ruling {
    let ruled::Ruling { epoch, at: _, breaker, unhealthy, weight, drained } = *ruling;
    let stand = match breaker {
        ruled::Breaker::Closed => Stand::Closed,
        ruled::Breaker::Open { round } => Stand::Open { round },
        ruled::Breaker::HalfOpen { round, node } => Stand::HalfOpen { round, node: node.0 },
    };
    Ruling { epoch, stand, unhealthy, weight, drained }
}

pub(super) fn command(verdict: Verdict) -> ruled::Verdict {
    let Verdict { place: Place { upstream, endpoint }, replaces, what } = verdict;
    let what = match what {
        What::Open { round } => ruled::What::Breaker(ruled::Breaker::Open { round }),
        What::Probe { round, node } => ruled::What::Breaker(ruled::Breaker::HalfOpen { round, node: NodeId(node) }),
        What::Close => ruled::What::Breaker(ruled::Breaker::Closed),
        What::Unhealthy => ruled::What::Unhealthy(true),
        What::Healthy => ruled::What::Unhealthy(false),
    };
    ruled::Verdict { place: ruled::Place { upstream, endpoint }, replaces, what }
}
