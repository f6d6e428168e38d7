//! How long a purge takes to return on three nodes, that is until no live node serves what it voids: asked of the admin
//! port, and of the command line (its own start included), with nothing else to do and under load.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::origin::Origin;
use super::redis::Redis;
use super::report::Section;
use super::{Site, document};
use crate::generator::{Load, Plan};
use crate::http::{self, Connection};
use crate::matrix::report::millis;
use crate::node::{Cluster, Manner};

const NODES: usize = 3;
const PURGES: usize = 200;
/// A process each: fewer.
const CALLS: usize = 40;
/// Requests per second at each node.
const RATE: f64 = 500.0;
const PATH: &str = "/1024/kept";

pub(super) fn measure(site: &Site<'_>) -> Result<Section> {
    let how = format!(
        "{NODES} nodes and Redis; {PURGES} purges of the URL that is being asked for, through each node in turn. Under load: \
         {RATE:.0} requests/s for that URL at each node."
    );
    let columns: &[&str] = &["purge", "times", "p50 ms", "p99 ms", "slowest ms"];
    let mut section = Section::new("A purge", how, columns);
    let (origin, redis) = (Origin::start()?, Redis::start(site.folder)?);
    let manner = Manner { more: redis.arguments(), ..Manner::default() };
    let cluster = Cluster::start(site.binary, site.folder, NODES, manner)?;
    cluster.apply(&document(&origin.address.to_string(), json!({}), json!({"cache": {}})))?;
    for (name, loaded) in [("idle", false), ("under load", true)] {
        eprintln!("  {name}");
        let loads: Vec<Load> = if loaded { cluster.nodes.iter().map(|node| load(node.http)).collect() } else { vec![] };
        thread::sleep(Duration::from_secs(2));
        let before = origin.asked();
        tell(&mut section, &format!("admin call, {name}"), by_admin(&cluster)?);
        tell(&mut section, &format!("command line, {name}"), by_cli(&cluster)?);
        let fetched = origin.asked() - before;
        for mut load in loads {
            load.stop();
            let counts = load.counts();
            ensure!(counts.failed == 0, "{:?}", load.failures().first());
        }
        ensure!(!loaded || fetched >= PURGES as u64 / 2, "{fetched} fetches: the purges voided nothing");
    }
    Ok(section)
}

fn load(target: SocketAddr) -> Load {
    let request = http::get_request("load.test", PATH, &[]);
    Load::start(Plan { target, request, connections: 8, rate: RATE, nodes: Vec::new() })
}

fn by_admin(cluster: &Cluster) -> Result<Vec<Duration>> {
    let body = json!({"urls": [format!("http://load.test{PATH}")]}).to_string();
    let request = format!(
        "POST /v1/cache/purge HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        cluster.token,
        body.len()
    );
    let mut connections = Vec::new();
    for node in &cluster.nodes {
        connections.push(Connection::open(node.admin, Duration::from_secs(15))?);
    }
    let mut took = Vec::new();
    for nth in 0..PURGES {
        let began = Instant::now();
        let answer = connections[nth % NODES].exchange(request.as_bytes()).map_err(|broken| broken.why)?;
        took.push(began.elapsed());
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200 && text.contains("\"complete\":true"), "{}: {text}", answer.status);
        thread::sleep(Duration::from_millis(10));
    }
    Ok(took)
}

fn by_cli(cluster: &Cluster) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        cluster.cli(&["cache", "purge", &format!("http://load.test{PATH}")])?;
        took.push(began.elapsed());
    }
    Ok(took)
}

fn tell(section: &mut Section, name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: usize| millis(took[(took.len() * share / 100).min(took.len() - 1)]);
    let (p50, p99, most) = (at(50), at(99), at(100));
    let times = took.len();
    section.row(
        vec![name.to_owned(), times.to_string(), format!("{p50:.1}"), format!("{p99:.1}"), format!("{most:.1}")],
        json!({"purge": name, "times": times, "p50_ms": p50, "p99_ms": p99, "slowest_ms": most}),
    );
}
