//! `tidegate usage`: what language models were used, by whom, and what it cost.

use clap::Args;
use http::Method;
use tidegate_admin::wire::{UsageAmounts, UsageProjection, UsageReply, UsageRow};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, csv};

#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// What rows are told by, with commas between: day, tenant, team, consumer, route, model, provider
    #[arg(long, value_name = "NAMES", default_value = "model")]
    by: String,
    /// First day (UTC), as 2026-11-01, or so many days until now, as 7d; default: the first of this month
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// Last day; default: today
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only of this team
    #[arg(long)]
    team: Option<String>,
    /// Only of this consumer
    #[arg(long)]
    consumer: Option<String>,
    /// Only of this route
    #[arg(long)]
    route: Option<String>,
    /// Only of this model, by its name in the document
    #[arg(long)]
    model: Option<String>,
    /// Only of this provider
    #[arg(long)]
    provider: Option<String>,
    /// What this node has, without asking whether there is newer
    #[arg(long)]
    stale: bool,
}

pub(super) async fn run(client: &Client, asked: &Asked, output: Output) -> Result<Exit, Error> {
    let mut ask = Ask::new(Method::GET, "/v1/usage").query("by", &asked.by);
    let fields = [
        ("since", &asked.since),
        ("until", &asked.until),
        ("tenant", &asked.tenant),
        ("team", &asked.team),
        ("consumer", &asked.consumer),
        ("route", &asked.route),
        ("model", &asked.model),
        ("provider", &asked.provider),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            ask = ask.query(name, value);
        }
    }
    if asked.stale {
        ask = ask.query("stale", "true");
    }
    let reply: UsageReply = client.send(ask).await?;
    match output {
        Output::Json => print::json(&reply),
        Output::Csv => table_of_all(&reply),
        Output::Table | Output::Yaml => for_people(&reply),
    }
    Ok(Exit::Ok)
}

/// In the order of `by`.
fn names(by: &[String], row: &UsageRow) -> Vec<String> {
    let field = |name: &String| match name.as_str() {
        "day" => row.day.clone(),
        "tenant" => row.tenant.clone(),
        "team" => row.team.clone(),
        "consumer" => row.consumer.clone(),
        "route" => row.route.clone(),
        "model" => row.model.clone(),
        _ => row.provider.clone(),
    };
    by.iter().map(|name| field(name).unwrap_or_default()).collect()
}

fn amounts(used: &UsageAmounts) -> [(&'static str, String); 16] {
    let number = |name, value: u64| (name, value.to_string());
    [
        number("calls", used.calls),
        number("failed", used.failed),
        number("estimated", used.estimated),
        number("unpriced", used.unpriced),
        number("input_tokens", used.input_tokens),
        number("cache_read_tokens", used.cache_read_tokens),
        number("cache_write_tokens", used.cache_write_tokens),
        number("output_tokens", used.output_tokens),
        number("reasoning_tokens", used.reasoning_tokens),
        number("audio_in_tokens", used.audio_in_tokens),
        number("image_in_tokens", used.image_in_tokens),
        number("audio_out_tokens", used.audio_out_tokens),
        number("image_out_tokens", used.image_out_tokens),
        number("total_tokens", used.total_tokens),
        number("cost_nanos", used.cost_nanos),
        ("cost", used.cost.clone()),
    ]
}

fn table_of_all(reply: &UsageReply) {
    let columns = amounts(&reply.total).into_iter().map(|(name, _)| name.to_owned());
    csv(&reply.by.iter().cloned().chain(columns).collect::<Vec<_>>());
    for row in &reply.rows {
        let values = amounts(&row.used).into_iter().map(|(_, value)| value);
        csv(&names(&reply.by, row).into_iter().chain(values).collect::<Vec<_>>());
    }
}

fn for_people(reply: &UsageReply) {
    const SHOWN: [&str; 7] =
        ["calls", "input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens", "unpriced", "cost"];
    let shown = |used: &UsageAmounts| {
        amounts(used).into_iter().filter(|(name, _)| SHOWN.contains(name)).map(|(_, value)| value).collect::<Vec<_>>()
    };
    let columns = amounts(&reply.total).into_iter().map(|(name, _)| name).filter(|name| SHOWN.contains(name));
    let header: Vec<&str> = reply.by.iter().map(String::as_str).chain(columns).collect();
    let dashed = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let row = |row: &UsageRow| names(&reply.by, row).into_iter().map(dashed).chain(shown(&row.used)).collect();
    let mut rows: Vec<Vec<String>> = reply.rows.iter().map(row).collect();
    let blanks = std::iter::repeat_n(String::new(), reply.by.len().saturating_sub(1));
    rows.push(["all".to_owned()].into_iter().chain(blanks).chain(shown(&reply.total)).collect());
    print::table(&header, rows);
    print::line(&format!("\n{} to {}, UTC; cost in dollars", reply.since, reply.until));
    for UsageProjection { period, until, projected_calls, projected_tokens, projected_cost, .. } in &reply.projections {
        print::line(&format!(
            "at this pace the {period} ends ({until}) with {projected_calls} calls, {projected_tokens} tokens, {projected_cost} dollars"
        ));
    }
    if let Some(day) = &reply.coarse_until {
        print::line(&format!("days up to {day} are kept by tenant and model only"));
    }
}
