//! The processes and endpoints of the soak: three nodes that stay, one that comes and goes, Redis where it is installed, a
//! provider of language models, a backend that lives and one that dies and returns.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Runtime;

use super::backend::{Endpoint, Seen};
use super::crowd::World;
use super::document::{Places, document};
use super::line::{HOST, Target, Trust};
use super::memory::Held;
use super::part::Part;
use super::tally::Failure;
use crate::balancer::find_program;
use crate::llm::Provider;
use crate::node::{Binary, Cluster, Manner, Node};
use crate::process::Folder;
use crate::shared::redis::Redis;

/// Nodes that are there from first to last, and are measured.
pub(super) const STEADY: usize = 3;
const LIVES: Duration = Duration::from_secs(12);
const IS_DEAD: Duration = Duration::from_secs(5);
/// How long the fourth node is there, and how long it is not.
const STAYS: Duration = Duration::from_secs(25);
const IS_AWAY: Duration = Duration::from_secs(12);
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Longer than a node lets requests finish.
const LEAVES_WITHIN: Duration = Duration::from_secs(45);

pub(super) struct Stage {
    // Dropped in this order: whoever asks before whoever is asked.
    cluster: Cluster,
    _redis: Option<Redis>,
    _provider: Provider,
    _steady: Endpoint,
    mortal: Option<Endpoint>,
    mortal_turns: Instant,
    visitor: Visitor,
    pub(super) places: Places,
    pub(super) seen: Arc<Seen>,
    pub(super) joins: usize,
    pub(super) leaves: usize,
    pub(super) deaths: usize,
    folder: Folder,
}

/// The node that comes and goes.
enum Visitor {
    Away { since: Instant },
    Starts { nth: usize, since: Instant },
    Here { nth: usize, since: Instant, target: Arc<Target> },
    Leaves { nth: usize, since: Instant },
}

impl Stage {
    /// All of it, serving the first document; and what clients have to know.
    pub(super) fn set(binary: &Binary, runtime: &Runtime) -> Result<(Self, Arc<World>)> {
        let folder = Folder::fresh("soak")?;
        let redis = find_program("redis-server").is_some().then(|| Redis::start_anywhere(&folder.path)).transpose()?;
        println!(
            "cache: {}",
            if redis.is_some() { "memory and Redis" } else { "memory only (redis-server is not installed)" }
        );
        println!("starting {STEADY} nodes, a provider and a backend …");
        let provider = Provider::start(&folder.path)?;
        let seen = Arc::<Seen>::default();
        let steady = Endpoint::start(runtime.handle(), &seen)?;
        let mortal = Endpoint::start(runtime.handle(), &seen)?;
        let certificate_pem = certificate(&folder.path)?;
        let places = Places {
            steady: steady.address,
            mortal: mortal.address,
            provider: provider.address,
            certificate: folder.path.join("soak.pem"),
            key: folder.path.join("soak.key"),
        };
        let mut more = redis.as_ref().map(Redis::arguments).unwrap_or_default();
        more.extend(["--drain-wait".to_owned(), "2s".to_owned()]);
        let cluster = Cluster::start(binary, &folder.path, STEADY, Manner { https: true, more, ..Manner::default() })?;
        cluster.apply(&document(0, &places))?;
        let key = cluster.cli_json(&["key", "create", "soak"])?;
        let key = key["secret"].as_str().context("`key create` printed no key")?.to_owned();
        let targets = cluster.nodes.iter().map(target).collect::<Result<_>>()?;
        let world = Arc::new(World::new(targets, Trust::of(&certificate_pem)?, key));
        let stage = Self {
            cluster,
            _redis: redis,
            _provider: provider,
            _steady: steady,
            mortal: Some(mortal),
            mortal_turns: Instant::now() + LIVES,
            visitor: Visitor::Away { since: Instant::now() },
            places,
            seen,
            joins: 0,
            leaves: 0,
            deaths: 0,
            folder,
        };
        Ok((stage, world))
    }

    /// Names and admin ports of those who stay.
    pub(super) fn admins(&self) -> Vec<(String, SocketAddr)> {
        self.cluster.nodes.iter().take(STEADY).map(|node| (node.name.clone(), node.admin)).collect()
    }

    pub(super) fn token(&self) -> &str {
        &self.cluster.token
    }

    /// What each of those who stay holds.
    pub(super) fn held(&mut self) -> Result<[Held; STEADY]> {
        let mut all = [Held::default(); STEADY];
        for (held, node) in all.iter_mut().zip(&mut self.cluster.nodes) {
            *held = node
                .pid()
                .and_then(Held::by)
                .with_context(|| format!("{} has ended by itself:\n{}", node.name, tail(node)))?;
        }
        Ok(all)
    }

    /// Whoever's time has come dies, returns, joins or leaves.
    pub(super) fn turn(&mut self, runtime: &Runtime, world: &World, only: &[Part]) -> Result<()> {
        if Part::Deaths.is_among(only) && Instant::now() >= self.mortal_turns {
            match self.mortal.take() {
                Some(_dies) => {
                    self.deaths += 1;
                    self.mortal_turns = Instant::now() + IS_DEAD;
                }
                None => self.revive(runtime)?,
            }
        }
        if matches!(self.visitor, Visitor::Away { since } if Part::Joins.is_among(only) && since.elapsed() >= IS_AWAY) {
            let nth = self.cluster.plan()?;
            let since = self.cluster.join(nth)?;
            self.visitor = Visitor::Starts { nth, since };
        } else if matches!(self.visitor, Visitor::Here { since, .. } if since.elapsed() >= STAYS) {
            self.show_out(world)?;
        }
        self.look_at_the_visitor(world)
    }

    fn revive(&mut self, runtime: &Runtime) -> Result<()> {
        self.mortal = Some(Endpoint::at(runtime.handle(), self.places.mortal, &self.seen)?);
        self.mortal_turns = Instant::now() + LIVES;
        Ok(())
    }

    fn show_out(&mut self, world: &World) -> Result<()> {
        let Visitor::Here { nth, target, .. } = &self.visitor else { return Ok(()) };
        world.leave(target);
        let process = self.cluster.nodes[*nth].process.as_ref().context("the fourth node does not run")?;
        process.signal(libc::SIGTERM)?;
        self.visitor = Visitor::Leaves { nth: *nth, since: Instant::now() };
        Ok(())
    }

    fn look_at_the_visitor(&mut self, world: &World) -> Result<()> {
        match self.visitor {
            Visitor::Starts { nth, since } if self.cluster.nodes[nth].is_ready() => {
                let target = target(&self.cluster.nodes[nth])?;
                world.enter(Arc::clone(&target));
                self.joins += 1;
                self.visitor = Visitor::Here { nth, since: Instant::now(), target };
                let _ = since;
            }
            Visitor::Starts { nth, since } => {
                ensure!(since.elapsed() < STARTS_WITHIN, "{}", self.late(nth, "is not ready", since));
            }
            Visitor::Leaves { nth, since } => {
                let process = self.cluster.nodes[nth].process.as_mut().context("the fourth node does not run")?;
                if let Some(status) = process.wait_for_exit(Duration::ZERO)? {
                    ensure!(
                        status.success(),
                        "{} did not leave in good order ({status}):\n{}",
                        process.name,
                        process.tail()
                    );
                    self.cluster.nodes[nth].process = None;
                    self.leaves += 1;
                    self.visitor = Visitor::Away { since: Instant::now() };
                } else {
                    ensure!(since.elapsed() < LEAVES_WITHIN, "{}", self.late(nth, "has not left", since));
                }
            }
            Visitor::Here { nth, .. } => {
                let process = self.cluster.nodes[nth].process.as_mut().context("the fourth node does not run")?;
                if !process.is_running() {
                    bail!("{} ended by itself:\n{}", process.name, process.tail());
                }
            }
            Visitor::Away { .. } => {}
        }
        Ok(())
    }

    fn late(&self, nth: usize, what: &str, since: Instant) -> String {
        let node = &self.cluster.nodes[nth];
        format!("{} {what} after {:?}:\n{}", node.name, since.elapsed(), tail(node))
    }

    /// Until the fourth node is gone and both endpoints live: nothing moves any more.
    pub(super) fn calm_down(&mut self, runtime: &Runtime, world: &World) -> Result<()> {
        if self.mortal.is_none() {
            self.revive(runtime)?;
        }
        while !matches!(self.visitor, Visitor::Away { .. }) {
            self.show_out(world)?;
            self.look_at_the_visitor(world)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// From now on as if it had just begun.
    pub(super) fn begin_anew(&mut self) {
        (self.joins, self.leaves, self.deaths) = (0, 0, 0);
        self.mortal_turns = Instant::now() + LIVES;
        self.visitor = Visitor::Away { since: Instant::now() };
    }

    /// Leaves data, logs and all failures behind for someone to read; says where.
    pub(super) fn keep(&mut self, failures: &[Failure]) -> String {
        let lines: String = failures.iter().map(|failure| format!("{failure}\n")).collect();
        let _ = fs::write(self.folder.path.join("failures.txt"), lines);
        self.folder.keep();
        self.cluster.keep_folder();
        self.folder.path.display().to_string()
    }
}

fn target(node: &Node) -> Result<Arc<Target>> {
    let https = node.https.context("the node has no TLS listener")?;
    Ok(Arc::new(Target { name: node.name.clone(), http: node.http, https, leaving: AtomicBool::new(false) }))
}

fn tail(node: &Node) -> String {
    node.process.as_ref().map(|process| process.tail()).unwrap_or_default()
}

/// Signed by itself, for our host and another; beside its key in the folder.
fn certificate(folder: &Path) -> Result<String> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned(), "other.test".to_owned()])?;
    let pem = made.cert.pem();
    fs::write(folder.join("soak.pem"), &pem)?;
    fs::write(folder.join("soak.key"), made.signing_key.serialize_pem())?;
    Ok(pem)
}

/// Requests, health checks and revalidations that came through.
pub(super) fn seen(seen: &Seen) -> (u64, u64, u64) {
    (seen.requests.load(Relaxed), seen.checks.load(Relaxed), seen.unchanged.load(Relaxed))
}
