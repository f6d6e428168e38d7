//! A backend dies under load: how many requests are wasted on it until nobody asks it any more? Five nodes against one
//! node alone, at the same load altogether.
//!
//! Wasted is what the origin was asked after it died, or, where its port is closed, what clients got that was not the
//! breaker's refusal.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::origin::Origin;
use super::report::Section;
use super::{Site, document, median};
use crate::generator::{Load, Plan};
use crate::http;
use crate::matrix::report::millis;
use crate::node::{Cluster, Manner};

/// Requests per second altogether.
const RATE: f64 = 500.0;
const NODES: usize = 5;
const CONNECTIONS: usize = 40;
const HEALTHY: Duration = Duration::from_secs(3);
/// After it died; the breaker stays open for longer.
const DEAD: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
enum Death {
    /// 503 at once.
    Sick,
    /// 503 after 100 ms.
    Slow,
    /// The port is closed.
    Gone,
}

#[derive(Clone, Copy)]
struct Wasted {
    requests: u64,
    /// From the death to the last of them.
    lasted: Duration,
}

pub(super) fn measure(site: &Site<'_>) -> Result<Section> {
    let how = format!(
        "Open loop, {RATE:.0} requests/s altogether, spread evenly; `breaker: {{consecutive: 10}}` but in the last two rows. \
         Requests that reached the backend, or failed to, after it died; how long after its death the last one failed."
    );
    let columns: &[&str] =
        &["the backend", "one node", "five nodes", "of rounds", "five, most", "one lasted ms", "five lasted ms"];
    let mut section = Section::new("Wasted on a dead backend", how, columns);
    let rounds = if site.quick { 1 } else { 5 };
    let quick = json!({"consecutive": 10, "open_for": "60s"});
    let plain = json!({"open_for": "60s"});
    let cases: [(&str, Death, &Value); 5] = [
        ("503 at once", Death::Sick, &quick),
        ("503 after 100 ms", Death::Slow, &quick),
        ("closes its port", Death::Gone, &quick),
        ("503 at once, `breaker: {}`", Death::Sick, &plain),
        ("closes its port, `breaker: {}`", Death::Gone, &plain),
    ];
    for (name, death, breaker) in cases {
        eprintln!("  {name}");
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (count, runs) in [1, NODES].into_iter().zip(&mut runs) {
                runs.push(run(site, count, death, breaker)?);
            }
        }
        let [one, five] = &runs;
        #[expect(clippy::cast_precision_loss)]
        let middle = |runs: &[Wasted]| median(runs, |run| run.requests as f64).map_or(0, |run| run.requests);
        let lasted = |runs: &[Wasted]| median(runs, |run| millis(run.lasted)).map_or(0.0, |run| millis(run.lasted));
        let most = five.iter().map(|run| run.requests).max().unwrap_or(0);
        let cells = vec![
            name.to_owned(),
            middle(one).to_string(),
            middle(five).to_string(),
            rounds.to_string(),
            most.to_string(),
            format!("{:.0}", lasted(one)),
            format!("{:.0}", lasted(five)),
        ];
        let all = |runs: &[Wasted]| -> Vec<Value> {
            runs.iter().map(|run| json!({"requests": run.requests, "lasted_ms": millis(run.lasted)})).collect()
        };
        section.row(cells, json!({"backend": name, "one_node": all(one), "five_nodes": all(five)}));
    }
    Ok(section)
}

fn run(site: &Site<'_>, count: usize, death: Death, breaker: &Value) -> Result<Wasted> {
    let mut origin = Origin::start()?;
    let cluster = Cluster::start(site.binary, site.folder, count, Manner::default())?;
    let upstream = json!({"retries": {"max": 0}, "breaker": breaker});
    cluster.apply(&document(&origin.address.to_string(), upstream, json!({})))?;
    #[expect(clippy::cast_precision_loss)]
    let rate = RATE / count as f64;
    let mut loads = Vec::new();
    for node in &cluster.nodes {
        let request = http::get_request("load.test", "/x", &[]);
        let connections = CONNECTIONS / count;
        loads.push(Load::start(Plan { target: node.http, request, connections, rate, nodes: Vec::new() }));
    }
    thread::sleep(HEALTHY);
    for load in &loads {
        ensure!(load.counts().failed == 0, "before it died: {:?}", load.failures().first());
    }
    if matches!(death, Death::Slow) {
        origin.set_delay(Duration::from_millis(100));
    }
    let (died, before) = (std::time::Instant::now(), origin.asked());
    match death {
        Death::Sick | Death::Slow => origin.fall_sick(),
        Death::Gone => origin.vanish(),
    }
    thread::sleep(DEAD);
    let asked = origin.asked() - before;
    for load in &mut loads {
        load.stop();
    }
    let failures = loads.iter().flat_map(Load::failures).filter(|failure| !failure.what.contains("breaker_open"));
    let failed: Vec<_> = failures.collect();
    let last = failed.iter().map(|failure| failure.ended).max();
    let refused = loads.iter().map(|load| load.counts().failed).sum::<u64>() - failed.len() as u64;
    ensure!(refused > 0, "the breaker never opened");
    let requests = if matches!(death, Death::Gone) { failed.len() as u64 } else { asked };
    Ok(Wasted { requests, lasted: last.map_or(Duration::ZERO, |last| last.saturating_duration_since(died)) })
}
