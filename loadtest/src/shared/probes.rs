//! How often a target is checked when three nodes, and ten, have it in their document.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::Site;
use super::origin::{HEALTH, Origin};
use super::report::Section;
use crate::node::{Cluster, Manner};
use crate::usage::Usage;

const TARGETS: usize = 4;
/// Nodes hear within seconds who else is alive.
const SETTLE: Duration = Duration::from_secs(15);

pub(super) fn measure(site: &Site<'_>) -> Result<Section> {
    let how = format!(
        "{TARGETS} targets, `health: {{path: {HEALTH}, interval: 1s}}`; what the targets were asked, after {} s to settle.",
        SETTLE.as_secs()
    );
    let columns: &[&str] = &["nodes", "checks/s per target", "least", "most", "core per node"];
    let mut section = Section::new("Health checks", how, columns);
    for count in [1, 3, 10] {
        eprintln!("  {count} nodes");
        let origins = (0..TARGETS).map(|_| Origin::start()).collect::<Result<Vec<_>>>()?;
        let cluster = Cluster::start(site.binary, site.folder, count, Manner::default())?;
        let endpoints: Vec<_> = origins.iter().map(|one| json!({"url": format!("http://{}", one.address)})).collect();
        cluster.apply(&json!({
            "version": 1,
            "upstreams": [{"name": "origin", "endpoints": endpoints, "health": {"path": HEALTH, "interval": "1s"}}],
            "routes": [{"name": "all", "match": {"path": "/*"}, "to": [{"upstream": "origin"}]}],
        }))?;
        thread::sleep(SETTLE);
        let checks = || origins.iter().map(Origin::checks).collect::<Vec<_>>();
        let (before, used, began) = (checks(), Usage::of(&cluster.groups()), Instant::now());
        thread::sleep(Duration::from_secs(if site.quick { 10 } else { 30 }));
        let (after, used, seconds) = (checks(), Usage::of(&cluster.groups()) - used, began.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss)]
        let rates: Vec<f64> =
            after.iter().zip(before).map(|(after, before)| (after - before) as f64 / seconds).collect();
        #[expect(clippy::cast_precision_loss)]
        let (mean, nodes) = (rates.iter().sum::<f64>() / TARGETS as f64, count as f64);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let core = (used.user + used.system).as_secs_f64() / seconds / nodes;
        section.row(
            vec![
                count.to_string(),
                format!("{mean:.2}"),
                format!("{least:.2}"),
                format!("{most:.2}"),
                format!("{:.1} %", core * 100.0),
            ],
            json!({"nodes": count, "checks_per_second": rates, "core_share": core}),
        );
    }
    Ok(section)
}
