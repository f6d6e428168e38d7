//! What being a cluster costs: five nodes as one against five alone, an idle node, and publishing a document.
//!
//! The five and the five are up at the same time and are measured in turn, several times: a machine's mood changes within
//! minutes, by more than what is looked for.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Effort;
use super::measure::{Backend, PerRequest, last_cpu, paced, wrk};
use crate::balancer::{Balancer, Kind, Server};
use crate::http;
use crate::node::{Binary, Cluster, Extent, Manner};
use crate::process::Folder;
use crate::usage::Usage;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) saturated: PerRequest,
    pub(crate) paced: PerRequest,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clusters {
    pub(crate) extent: Extent,
    pub(crate) clustered: Cost,
    pub(crate) unclustered: Cost,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) resident_bytes: u64,
    /// Of one core, 0–1.
    pub(crate) core_share: f64,
    pub(crate) syncs_per_second: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) routes: usize,
    pub(crate) took: Duration,
}

/// The same document, load and balancer; only who knows whom differs. With limits each node reports what it spends: to the
/// one leader, or to itself.
pub(crate) fn measure(binary: &Binary, folder: &Path, backend: &Backend, effort: Effort) -> Result<Vec<Clusters>> {
    eprintln!("five nodes as one cluster, and five alone");
    let together = vec![Cluster::start(binary, folder, 5, Manner::default())?];
    let alone = (0..5).map(|_| Cluster::start(binary, folder, 1, Manner::default())).collect::<Result<Vec<_>>>()?;
    let sides = [together, alone];
    [Extent::Bare, Extent::Limited].into_iter().map(|extent| compare(extent, &sides, folder, backend, effort)).collect()
}

fn compare(
    extent: Extent,
    sides: &[Vec<Cluster>; 2],
    folder: &Path,
    backend: &Backend,
    effort: Effort,
) -> Result<Clusters> {
    let fronts = [Front::open(extent, &sides[0], folder, backend)?, Front::open(extent, &sides[1], folder, backend)?];
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..effort.rounds.max(2) {
        for side in [round % 2, 1 - round % 2] {
            costs[side].push(fronts[side].cost(effort)?);
        }
    }
    let [clustered, unclustered] = costs.map(|costs| median(&costs));
    Ok(Clusters { extent, clustered, unclustered })
}

/// A balancer before some nodes. It has the last CPU, like the generator.
struct Front {
    balancer: Balancer,
    groups: Vec<u32>,
    _folder: Folder,
}

impl Front {
    fn open(extent: Extent, clusters: &[Cluster], folder: &Path, backend: &Backend) -> Result<Self> {
        for cluster in clusters {
            cluster.publish(extent, backend.address)?;
        }
        let nodes = clusters.iter().flat_map(|cluster| &cluster.nodes).enumerate();
        let servers = nodes
            .map(|(nth, node)| Server { name: format!("s{nth}"), http: node.http, health: Some(node.admin) })
            .collect();
        let folder = Folder::within(folder)?;
        let balancer = Balancer::start(Kind::Haproxy, &folder.path, servers, 1, Some(&[last_cpu()]))?;
        let groups = clusters.iter().flat_map(Cluster::groups).collect();
        let front = Self { balancer, groups, _folder: folder };
        wrk(front.balancer.address, &[], Duration::from_secs(1))?;
        Ok(front)
    }

    fn cost(&self, effort: Effort) -> Result<Cost> {
        wrk(self.balancer.address, &[], effort.warm_up / 2)?;
        let before = Usage::of(&self.groups);
        let run = wrk(self.balancer.address, &[], effort.saturated)?;
        let used = Usage::of(&self.groups) - before;
        ensure!(run.failed == 0, "{} of {} answers are not 200", run.failed, run.requests);
        let paced = paced(self.balancer.address, &[], &self.groups, effort)?.used;
        Ok(Cost { saturated: PerRequest::of(used, run.requests), paced })
    }
}

/// Of each column by itself.
fn median(costs: &[Cost]) -> Cost {
    let middle = |column: fn(&Cost) -> PerRequest| {
        let mut column: Vec<PerRequest> = costs.iter().map(column).collect();
        column.sort_by(|a, b| a.total().total_cmp(&b.total()));
        column[(column.len() - 1) / 2]
    };
    Cost { saturated: middle(|cost| cost.saturated), paced: middle(|cost| cost.paced) }
}

/// Three nodes that nobody calls, after they settled.
pub(crate) fn idle(binary: &Binary, folder: &Path, effort: Effort) -> Result<Idle> {
    eprintln!("three idle nodes");
    let cluster = Cluster::start(binary, folder, 3, Manner::default())?;
    thread::sleep(Duration::from_secs(5));
    let groups = cluster.groups();
    let (before, syncs) = (Usage::of(&groups), fsyncs(&cluster)?);
    let began = Instant::now();
    thread::sleep(effort.paced);
    let seconds = began.elapsed().as_secs_f64();
    let used = Usage::of(&groups) - before;
    #[expect(clippy::cast_precision_loss)]
    let nodes = groups.len() as f64;
    Ok(Idle {
        resident_bytes: used.resident_bytes / groups.len() as u64,
        core_share: (used.user + used.system).as_secs_f64() / seconds / nodes,
        syncs_per_second: (fsyncs(&cluster)? - syncs) / seconds / nodes,
    })
}

/// As the nodes count them.
fn fsyncs(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for node in &cluster.nodes {
        let answer = http::get(node.admin, "/metrics", Duration::from_secs(2)).map_err(|broken| broken.why)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let samples = text.lines().filter(|line| !line.starts_with('#') && line.contains("raft_fsyncs"));
        sum += samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(sum)
}

/// From `apply --wait` to its return, the CLI's own start included.
pub(crate) fn apply(binary: &Binary, folder: &Path, _effort: Effort) -> Result<Vec<Applied>> {
    eprintln!("publishing documents");
    let cluster = Cluster::start(binary, folder, 3, Manner::default())?;
    let mut applied = Vec::new();
    for routes in [100, 10_000] {
        let mut took = Vec::new();
        for revision in 0..5 {
            let document = wide_document(routes, revision);
            let began = Instant::now();
            cluster.apply(&document)?;
            took.push(began.elapsed());
        }
        took.sort();
        applied.push(Applied { routes, took: took[took.len() / 2] });
    }
    Ok(applied)
}

fn wide_document(routes: usize, revision: usize) -> Value {
    let route = |nth: usize| {
        json!({
            "name": format!("route-{nth}"),
            "match": {"path": format!("/r{nth}/{{id}}"), "headers": {"x-revision": revision.to_string()}},
            "to": [{"upstream": "backend"}],
        })
    };
    json!({
        "version": 1,
        "upstreams": [{"name": "backend", "endpoints": [{"url": "http://127.0.0.1:9"}]}],
        "routes": (0..routes).map(route).collect::<Vec<_>>(),
    })
}
