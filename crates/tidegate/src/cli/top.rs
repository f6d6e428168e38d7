//! `tidegate top`: all nodes at a glance, anew every second or two.

use std::collections::BTreeMap;
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
    status: ClusterStatus,
    told: Vec<Told>,
    /// What each node told last and when, silent ones before they fell silent.
    last: BTreeMap<u64, Last>,
}

#[derive(Clone)]
struct Last {
    at: Instant,
    metrics: Metrics,
}

pub(super) async fn run(client: &Client, asked: &Watch, output: Output) -> Result<Exit, Error> {
    if asked.interval < Duration::from_millis(100) {
        return Err(Error::Usage("--interval: at least 100ms".to_owned()));
    }
    let mut before = look(client, None).await?;
    let mut round = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(asked.interval) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
        }
        let now = look(client, Some(&before)).await?;
        let stays = print::again(output, &view(&before, &now), |view| worded(view, print::screen()));
        round += 1;
        if !stays || asked.rounds.is_some_and(|rounds| rounds <= round) {
            return Ok(Exit::Ok);
        }
        before = now;
    }
}

async fn look(client: &Client, before: Option<&Look>) -> Result<Look, Error> {
    let (asked, status) = status(client, before).await?;
    let told = scrape::all(&asked, &status).await;
    let at = Instant::now();
    let mut last = before.map(|look| look.last.clone()).unwrap_or_default();
    last.retain(|id, _| told.iter().any(|told| told.id == *id));
    for told in told.iter().filter(|told| told.status.is_some()) {
        last.insert(told.id, Last { at, metrics: told.metrics.clone() });
    }
    Ok(Look { status, told, last })
}

/// Of the node that we were pointed at; once it is gone, of whichever of the others answers. Who was asked, and what it told.
async fn status(client: &Client, before: Option<&Look>) -> Result<(Client, ClusterStatus), Error> {
    let why = match client.get("/v1/cluster").await {
        Err(why @ Error::Unreachable(_)) => why,
        told => return Ok((client.clone(), told?)),
    };
    for node in before.iter().flat_map(|look| &look.status.nodes).filter(|node| !node.admin.is_empty()) {
        let other = client.at(&node.admin);
        if let Ok(Ok(status)) = tokio::time::timeout(scrape::PATIENCE, other.get("/v1/cluster")).await {
            return Ok((other, status));
        }
    }
    Err(why)
}

fn view(before: &Look, now: &Look) -> View {
    let furthest = now.told.iter().filter_map(|told| told.status.as_ref()).map(|status| status.control.applied).max();
    let nothing = Metrics::default();
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    let mut nodes = Vec::new();
    for told in &now.told {
        let (Some(earlier), Some(last)) = (before.last.get(&told.id), now.last.get(&told.id)) else {
            // Nothing to take off yet: what it counted since it began is no rate.
            nodes.push(row(told, &told.metrics, now, furthest.unwrap_or_default(), 1.0));
            continue;
        };
        let span = (last.at - earlier.at).as_secs_f64();
        // A node that was started anew begins at nothing.
        let restarted = started(&told.metrics) != started(&earlier.metrics);
        let earlier = if restarted { &nothing } else { &earlier.metrics };
        if told.status.is_some() {
            add_routes(&mut routes, earlier, &told.metrics, span);
        }
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
        revision: status.revision,
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

const COLUMNS: [&str; 13] =
    ["id", "name", "state", "leads", "doc", "req/s", "5xx/s", "refused/s", "open", "conns", "cpu", "mem", "behind"];
/// Left out where there is no room for all, in this order.
const LESSER: [&str; 5] = ["doc", "conns", "behind", "open", "mem"];

/// As much as there is room for, `(columns, lines)`, if anybody said how much there is.
fn worded(view: &View, room: Option<(usize, usize)>) -> String {
    let (width, height) = room.unwrap_or((usize::MAX, usize::MAX));
    let requests: f64 = view.nodes.iter().map(|row| row.requests).sum();
    let mut text = format!("cluster {}   {requests:.0} requests/s\n\n", print::clean(&view.cluster_id));
    text.push_str(&nodes(view, width));
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
    // What is printed ends with a line end, which takes a line as well.
    let (lines, most) = (text.lines().count(), height.saturating_sub(1));
    let cut = |line: &str| line.chars().take(width).collect::<String>();
    let mut shown: Vec<String> = text.lines().take(most).map(cut).collect();
    if most < lines
        && let Some(last) = shown.last_mut()
    {
        *last = format!("… {} lines more", lines - most + 1);
    }
    shown.join("\n")
}

fn nodes(view: &View, width: usize) -> String {
    for left_out in 0..=LESSER.len() {
        let kept: Vec<usize> = (0..COLUMNS.len()).filter(|at| !LESSER[..left_out].contains(&COLUMNS[*at])).collect();
        let of_row = |row: &Row| {
            let cells = cells(row);
            kept.iter().map(|at| cells[*at].clone()).collect()
        };
        let header: Vec<&str> = kept.iter().map(|at| COLUMNS[*at]).collect();
        let text = print::rendered(&header, view.nodes.iter().map(of_row).collect());
        if left_out == LESSER.len() || text.lines().all(|line| line.chars().count() <= width) {
            return text;
        }
    }
    String::new()
}

fn cells(row: &Row) -> Vec<String> {
    let Some(readiness) = row.readiness else {
        let mut cells = vec![row.id.to_string(), row.name.clone(), "silent".to_owned()];
        cells.resize(COLUMNS.len(), "-".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(id: u64) -> Row {
        let (readiness, leads) = (Some("degraded"), vec!["control", "quota"]);
        Row { id, name: "gate".into(), readiness, leads, requests: 12_345.6, memory_bytes: 2e9, ..Row::default() }
    }

    fn of(nodes: u64) -> View {
        let route = |at: u64| Route { route: format!("route-{at}"), requests: 10.0, ..Route::default() };
        View {
            cluster_id: "c".repeat(32),
            nodes: (1..=nodes).map(busy).collect(),
            routes: (0..15).map(route).collect(),
        }
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_no_line_too_many_is_told() {
        for (width, height) in [(200, 50), (80, 24), (72, 10), (40, 5), (1, 1)] {
            for nodes in [1, 3, 40] {
                let text = worded(&of(nodes), Some((width, height)));
                assert!(text.lines().all(|line| line.chars().count() <= width), "{width}x{height}\n{text}");
                assert!(text.lines().count() < height.max(2), "{width}x{height}\n{text}");
            }
        }
    }

    #[test]
    fn what_matters_most_stays_where_there_is_little_room() {
        let text = worded(&of(3), Some((80, 24)));
        for word in ["STATE", "LEADS", "REQ/S", "5XX/S", "REFUSED/S", "CPU"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(worded(&of(3), None).contains("BEHIND"));
        assert!(worded(&of(40), Some((200, 24))).ends_with("lines more"));
    }
}
