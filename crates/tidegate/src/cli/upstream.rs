//! `tidegate upstream …`

use clap::Subcommand;
use http::Method;
use tidegate_admin::wire::{EndpointSet, EndpointState, SetEndpoint, Upstreams};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every endpoint on every live node: its breaker, health, weight and load
    Ls {
        /// Only of this upstream
        upstream: Option<String>,
    },
    /// Give an endpoint another share of the requests than the document does, on every node
    Weight {
        upstream: String,
        /// As `ls` shows it: 10.0.0.5:8000
        endpoint: String,
        /// 0 to 65535, or `document`
        weight: Weight,
    },
    /// Send nothing more to an endpoint, on every node; requests under way end by themselves
    Drain { upstream: String, endpoint: String },
    /// Take a drain back
    Undrain { upstream: String, endpoint: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Is(u32),
    Document,
}

impl std::str::FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "document" {
            return Ok(Self::Document);
        }
        let weight = text.parse().ok().filter(|weight| *weight <= 65_535);
        weight.map(Self::Is).ok_or_else(|| "a weight is 0 to 65535, or `document`".to_owned())
    }
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    let body = match verb {
        Verb::Ls { upstream } => {
            let mut all: Upstreams = client.get("/v1/upstreams").await?;
            all.endpoints.retain(|endpoint| upstream.as_ref().is_none_or(|name| *name == endpoint.upstream));
            either(output, &all, list);
            return Ok(Exit::Ok);
        }
        Verb::Weight { upstream, endpoint, weight } => {
            let (weight, reset_weight) = match weight {
                Weight::Is(weight) => (Some(weight), false),
                Weight::Document => (None, true),
            };
            SetEndpoint { upstream, endpoint, weight, reset_weight, drained: None }
        }
        Verb::Drain { upstream, endpoint } => {
            SetEndpoint { upstream, endpoint, drained: Some(true), ..SetEndpoint::default() }
        }
        Verb::Undrain { upstream, endpoint } => {
            SetEndpoint { upstream, endpoint, drained: Some(false), ..SetEndpoint::default() }
        }
    };
    let set: EndpointSet = client.send(Ask::new(Method::POST, "/v1/upstreams/endpoint").json(&body)).await?;
    either(output, &set, said);
    Ok(Exit::Ok)
}

/// One line about what is set by hand.
pub(super) fn said(set: &EndpointSet) {
    let weight = set.weight.map_or_else(|| "the document's".to_owned(), |weight| weight.to_string());
    let drained = if set.drained { "drained" } else { "not drained" };
    let (upstream, endpoint) = (print::clean(&set.upstream), print::clean(&set.endpoint));
    print::line(&format!("{endpoint} of {upstream}: {drained}, weight: {weight}"));
}

fn list(all: &Upstreams) {
    let row = |e: &EndpointState| {
        let health = if e.unhealthy { "sick" } else { "well" };
        let weight = if e.drained { "drained".to_owned() } else { e.weight.to_string() };
        vec![
            e.upstream.clone(),
            e.endpoint.clone(),
            e.node.to_string(),
            e.breaker.clone(),
            health.to_owned(),
            weight,
            e.in_flight.to_string(),
            e.connections.to_string(),
            e.requests.to_string(),
        ]
    };
    let header =
        ["upstream", "endpoint", "node", "breaker", "health", "weight", "in flight", "connections", "requests"];
    print::table(&header, all.endpoints.iter().map(row).collect());
}
