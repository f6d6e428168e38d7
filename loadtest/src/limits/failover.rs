//! The leader is killed while demand is at half of two limits, one of a second and one of ten: how long until grants are back,
//! and what was refused meanwhile on the two nodes that live.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::contender::Contender;
use super::demand::{Demand, exchange};
use super::plan::{Shape, Stream};
use super::{Site, cold, float};
use crate::generator::Counts;
use crate::http::get_request;
use crate::linux;

/// For grants to be back.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Killed {
    /// From the kill until both living nodes have admitted a key that nobody had asked for.
    pub(super) grants_back: Duration,
    /// What the living nodes told clients after the kill, and how long that was watched.
    pub(super) second: Counts,
    pub(super) ten: Counts,
    watched: Duration,
}

/// What `--only` calls it, alone.
pub(super) const NAME: &str = "killed";

pub(super) fn measure(site: &Site<'_>, rounds: usize) -> Result<Vec<Killed>> {
    let mut all = Vec::new();
    for round in 1..=rounds {
        eprintln!("  the leader is killed, round {round} of {rounds}");
        all.push(kill(site)?);
    }
    Ok(all)
}

fn kill(site: &Site<'_>) -> Result<Killed> {
    let streams =
        [(1, 300), (10, 1_500)].map(|(seconds, max)| Stream::new(Shape::Hot, Duration::from_secs(seconds), max, 0.5));
    let mut rules: Vec<_> = streams.iter().map(|stream| stream.rule.clone()).collect();
    rules.push(cold::rule());
    let mut running = Contender::Tidegate.start(site.binary, site.folder, 3, &rules)?;
    let mut demand = Demand::start(&running.nodes, &streams);
    let (warm, after) = if site.quick { (4, 6) } else { (12, 20) };
    thread::sleep(Duration::from_secs(warm));
    ensure!(demand.total().failed == 0, "before the kill: {:?}", demand.failure());

    let cluster = running.cluster().context("these are our nodes")?;
    let leader = cluster.quota_leader().context("nobody knows who leads")?;
    let living: Vec<usize> = (0..3).filter(|nth| *nth != leader).collect();
    let so_far =
        |demand: &Demand, stream| living.iter().map(|node| demand.counts_at(*node, stream)).collect::<Vec<_>>();
    let before = [so_far(&demand, 0), so_far(&demand, 1)];
    demand.close(leader);
    cluster.nodes[leader].process.as_mut().context("the leader does not run")?.kill_now()?;
    let killed = Instant::now();
    let nodes: Vec<SocketAddr> = living.iter().map(|nth| running.nodes[*nth]).collect();
    let grants_back = until_granted(&nodes, killed)?;
    thread::sleep((killed + Duration::from_secs(after)).saturating_duration_since(Instant::now()));
    demand.stop();
    let watched = killed.elapsed();
    let [second, ten] = [0, 1].map(|stream| {
        let pairs = so_far(&demand, stream).into_iter().zip(before[stream].clone());
        pairs.map(|(now, then)| now.since(then)).fold(Counts::default(), Counts::plus)
    });
    ensure!(second.failed + ten.failed == 0, "a living node failed: {:?}", demand.failure());
    Ok(Killed { grants_back, second, ten, watched })
}

/// Asks each node for new keys until it has admitted one.
fn until_granted(nodes: &[SocketAddr], since: Instant) -> Result<Duration> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let ask = |node: &SocketAddr| -> Result<Duration> {
        while since.elapsed() < PATIENCE {
            if linux::asked_to_stop() {
                bail!("stopped");
            }
            let key = format!("new-{}", NEXT.fetch_add(1, Relaxed));
            let request = get_request("load.test", &format!("/{}", cold::rule().name), &[("x-key", &key)]);
            if exchange(&mut None, *node, &request) == Ok(200) {
                return Ok(since.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("no grant came back within {PATIENCE:?}")
    };
    thread::scope(|scope| {
        let asking: Vec<_> = nodes.iter().map(|node| scope.spawn(move || ask(node))).collect();
        let answers = asking.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        Ok(answers.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
    })
}

/// Of the requests that were not admitted.
pub(super) fn lost(counts: &Counts) -> f64 {
    float(counts.total() - counts.admitted) / float(counts.total().max(1))
}

impl Killed {
    pub(super) const COLUMNS: [&str; 7] = [
        "round",
        "grants back ms",
        "requests, 10 s",
        "429, 503 at 10 s",
        "requests, 1 s",
        "429, 503 at 1 s",
        "lost at 1 s",
    ];

    pub(super) fn cells(&self, round: usize) -> Vec<String> {
        let refusals = |counts: &Counts| format!("{}, {}", counts.refused, counts.undecided);
        vec![
            round.to_string(),
            self.grants_back.as_millis().to_string(),
            self.ten.total().to_string(),
            refusals(&self.ten),
            self.second.total().to_string(),
            refusals(&self.second),
            format!("{:.1} % of {:.0} s", lost(&self.second) * 100.0, self.watched.as_secs_f64()),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let counts = |counts: &Counts| {
            json!({
                "admitted": counts.admitted, "refused": counts.refused, "undecided": counts.undecided,
            })
        };
        json!({
            "grants_back_ms": self.grants_back.as_millis() as u64, "watched_s": self.watched.as_secs_f64(),
            "ten_seconds": counts(&self.ten), "one_second": counts(&self.second),
        })
    }
}
