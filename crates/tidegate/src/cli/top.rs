//! `tidegate top`: all nodes at a glance, anew every second or two.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use tidegate_admin::wire::ClusterStatus;
use tidegate_config::Span;

use super::Output;
use super::client::Client;
use super::exit::{Error, Exit};
use super::print;
use super::scrape::{self, Metrics, Told};

/// Routes that are shown, the busiest first.
const ROUTES: usize = 15;

#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// How often it looks; rates are over this span
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = Span::or_seconds)]
    interval: Duration,
    /// Show it so many times, then end; default: until Ctrl-C
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

/// One look, in numbers a second where nothing else is said.
#[derive(Debug, Serialize)]
struct View {
    cluster_id: String,
    nodes: Vec<Row>,
    routes: Vec<Route>,
}

#[derive(Debug, Default, Serialize)]
struct Row {
    id: u64,
    name: String,
    /// `None`: it did not answer.
    readiness: Option<&'static str>,
    leads: Vec<&'static str>,
    revision: u64,
    requests: f64,
    server_errors: f64,
    refusals: f64,
    in_flight: f64,
    connections: f64,
    /// Of one core.
    processor: f64,
    memory_bytes: f64,
    /// Entries of the control log behind the furthest node.
    behind: u64,
}

#[derive(Debug, Default, Serialize)]
struct Route {
    route: String,
    requests: f64,
    server_errors: f64,
    /// Mean over the span, seconds.
    mean_seconds: f64,
}

struct Look {
    at: Instant,
    status: ClusterStatus,
    told: Vec<Told>,
}

pub(super) async fn run(client: &Client, asked: &Watch, output: Output) -> Result<Exit, Error> {
    if asked.interval < Duration::from_millis(100) {
        return Err(Error::Usage("--interval: at least 100ms".to_owned()));
    }
    let mut before = look(client).await?;
    let mut round = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(asked.interval) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
        }
        let now = look(client).await?;
        let stays = show(&view(&before, &now), output);
        round += 1;
        if !stays || asked.rounds.is_some_and(|rounds| rounds <= round) {
            return Ok(Exit::Ok);
        }
        before = now;
    }
}

async fn look(client: &Client) -> Result<Look, Error> {
    let status: ClusterStatus = client.get("/v1/cluster").await?;
    let told = scrape::all(client, &status).await;
    Ok(Look { at: Instant::now(), status, told })
}

fn view(before: &Look, now: &Look) -> View {
    let span = (now.at - before.at).as_secs_f64();
    let furthest = now.told.iter().filter_map(|told| told.status.as_ref()).map(|status| status.control.applied).max();
    let nothing = Metrics::default();
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    let mut nodes = Vec::new();
    for told in &now.told {
        let earlier = before.told.iter().find(|earlier| earlier.id == told.id).map_or(&nothing, |told| &told.metrics);
        // A node that is new, or was started anew, begins at nothing.
        let restarted = started(&told.metrics) != started(earlier);
        let earlier = if restarted { &nothing } else { earlier };
        add_routes(&mut routes, earlier, &told.metrics, span);
        nodes.push(row(told, earlier, now, furthest.unwrap_or_default(), span));
    }
    let mut routes: Vec<Route> = routes.into_values().filter(|route| route.requests > 0.0).collect();
    for route in &mut routes {
        route.mean_seconds /= route.requests;
    }
    routes.sort_by(|a, b| b.requests.total_cmp(&a.requests));
    routes.truncate(ROUTES);
    View { cluster_id: now.status.cluster_id.clone(), nodes, routes }
}

fn started(metrics: &Metrics) -> Option<f64> {
    metrics.sum("process_start_time_seconds")
}

fn row(told: &Told, earlier: &Metrics, now: &Look, furthest: u64, span: f64) -> Row {
    let Some(status) = &told.status else {
        return Row { id: told.id, name: told.name.clone(), ..Row::default() };
    };
    let metrics = &told.metrics;
    let sum = |name: &str| metrics.sum(name).unwrap_or_default();
    let rate = |name: &str| (sum(name) - earlier.sum(name).unwrap_or_default()).max(0.0) / span;
    let errors = |metrics: &Metrics| -> f64 {
        metrics
            .of("tidegate_requests_total")
            .filter(|sample| sample.label("class") == "5xx")
            .map(|sample| sample.value)
            .sum()
    };
    let leads = [("control", now.status.control.leader), ("quota", now.status.quota.leader)];
    Row {
        id: told.id,
        name: told.name.clone(),
        readiness: Some(status.readiness.as_str()),
        leads: leads.into_iter().filter(|(_, leader)| *leader == Some(told.id)).map(|(name, _)| name).collect(),
        revision: now
            .status
            .nodes
            .iter()
            .find(|node| node.id == told.id)
            .and_then(|node| node.revision)
            .unwrap_or_default(),
        requests: rate("tidegate_requests_total"),
        server_errors: (errors(metrics) - errors(earlier)).max(0.0) / span,
        refusals: rate("tidegate_refusals_total"),
        in_flight: sum("tidegate_requests_in_flight"),
        connections: sum("tidegate_client_connections"),
        processor: rate("process_cpu_seconds_total"),
        memory_bytes: sum("process_resident_memory_bytes"),
        behind: furthest.saturating_sub(status.control.applied),
    }
}

fn add_routes(routes: &mut BTreeMap<String, Route>, earlier: &Metrics, now: &Metrics, span: f64) {
    // What the earlier look had is taken off, what this one has is put on.
    for (metrics, sign) in [(earlier, -1.0), (now, 1.0)] {
        for sample in metrics.of("tidegate_requests_total") {
            let name = sample.label("route");
            let route =
                routes.entry(name.to_owned()).or_insert_with(|| Route { route: name.to_owned(), ..Route::default() });
            let per_second = sign * sample.value / span;
            route.requests += per_second;
            if sample.label("class") == "5xx" {
                route.server_errors += per_second;
            }
        }
        for sample in metrics.of("tidegate_request_duration_seconds_sum") {
            if let Some(route) = routes.get_mut(sample.label("route")) {
                route.mean_seconds += sign * sample.value / span;
            }
        }
    }
}

fn show(view: &View, output: Output) -> bool {
    let text = match output {
        Output::Json => serde_json::to_string(view).unwrap_or_default(),
        _ if std::io::stdout().is_terminal() => format!("\x1b[H\x1b[2J{}", worded(view)),
        _ => format!("{}\n", worded(view)),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

fn worded(view: &View) -> String {
    let requests: f64 = view.nodes.iter().map(|row| row.requests).sum();
    let mut text = format!("cluster {}   {requests:.0} requests/s\n\n", print::clean(&view.cluster_id));
    let header =
        ["id", "name", "state", "leads", "doc", "req/s", "5xx/s", "refused/s", "open", "conns", "cpu", "mem", "behind"];
    let rows = view.nodes.iter().map(cells).collect();
    text.push_str(&print::rendered(&header, rows));
    if !view.routes.is_empty() {
        text.push_str("\n\n");
        let of_route = |route: &Route| {
            let mean = format!("{:.1} ms", route.mean_seconds * 1_000.0);
            vec![route.route.clone(), format!("{:.1}", route.requests), format!("{:.1}", route.server_errors), mean]
        };
        text.push_str(&print::rendered(
            &["route", "req/s", "5xx/s", "mean"],
            view.routes.iter().map(of_route).collect(),
        ));
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let Some(readiness) = row.readiness else {
        let mut cells = vec![row.id.to_string(), row.name.clone(), "silent".to_owned()];
        cells.resize(13, "-".to_owned());
        return cells;
    };
    let leads = if row.leads.is_empty() { "-".to_owned() } else { row.leads.join(",") };
    vec![
        row.id.to_string(),
        row.name.clone(),
        readiness.to_owned(),
        leads,
        row.revision.to_string(),
        format!("{:.1}", row.requests),
        format!("{:.1}", row.server_errors),
        format!("{:.1}", row.refusals),
        format!("{:.0}", row.in_flight),
        format!("{:.0}", row.connections),
        format!("{:.0} %", row.processor * 100.0),
        format!("{:.0} MB", row.memory_bytes / 1e6),
        row.behind.to_string(),
    ]
}
