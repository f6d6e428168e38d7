//! `tidegate model …`

use clap::Subcommand;
use tidegate_admin::wire::{DeploymentState, Deployments};

use super::Output;
use super::client::Client;
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every deployment on every live node: ready or cooling, how fast it was lately, its calls and errors
    Ls {
        /// Only of this model
        model: Option<String>,
    },
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    let Verb::Ls { model } = verb;
    let mut all: Deployments = client.get("/v1/models").await?;
    all.deployments.retain(|deployment| model.as_ref().is_none_or(|name| deployment.models.contains(name)));
    either(output, &all, list);
    Ok(Exit::Ok)
}

fn list(all: &Deployments) {
    let row = |d: &DeploymentState| {
        let state = match (&d.why, d.cooling_ms) {
            (Some(why), Some(left)) => format!("{}, cooling for {} s", why, left.div_ceil(1_000)),
            _ => d.state.clone(),
        };
        let millis = |value: Option<u64>| print::or_dash(value.map(|value| format!("{value} ms")));
        let per_token = d.per_token_us.map(|micros| format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100));
        vec![
            d.models.join(", "),
            d.deployment.clone(),
            d.node.to_string(),
            state,
            millis(d.first_event_ms),
            print::or_dash(per_token),
            millis(d.answer_ms),
            d.in_flight.to_string(),
            d.calls.to_string(),
            d.errors.to_string(),
            d.throttles.to_string(),
        ]
    };
    let header = [
        "models",
        "deployment",
        "node",
        "state",
        "first event",
        "per token",
        "answer",
        "in flight",
        "calls",
        "errors",
        "throttles",
    ];
    print::table(&header, all.deployments.iter().map(row).collect());
}
