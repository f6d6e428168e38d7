//! Owner mode: small limits of several nodes, with a real ledger and messages between the nodes that can be cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::{Ask, DecisionLog, Leases, Limiter, Settings, Unreachable, Why};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Dimension, Kind, Limit, Mode, OnMissing, OnUnavailable};
use tidegate_quota::Ledger;
use tidegate_quota::evidence::Evidence;
use tidegate_quota::owner::{Errand, Fetched};
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Reply, log_time};
use tokio::time::Instant;

/// A quota group of one, and the nodes.
struct Cluster {
    ledger: Mutex<(Ledger, Nanos)>,
    nodes: Mutex<Vec<Weak<Limiter>>>,
    /// No errand arrives.
    mute: AtomicBool,
    batches: AtomicU64,
}

struct Wire(Arc<Cluster>);

impl Cluster {
    fn start(limit: &Limit, count: usize, decisions: Option<&std::path::Path>) -> (Arc<Self>, Vec<Arc<Limiter>>) {
        let mut ledger = Ledger::default();
        let policies = vec![limit.policy()];
        ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
        let cluster = Arc::new(Self {
            ledger: Mutex::new((ledger, clock::raw())),
            nodes: Mutex::default(),
            mute: AtomicBool::new(false),
            batches: AtomicU64::new(0),
        });
        let ids: Vec<_> = (1..=count as u64).map(NodeId).collect();
        let start = |node: &NodeId| {
            let incarnation = Incarnation(u128::from(node.0));
            let decisions = decisions.map(|folder| DecisionLog::open(folder, *node, incarnation).expect("a log"));
            let settings = Settings { node: *node, incarnation, secret: [1; 16], most_keys: 1_000, decisions };
            let limiter = Limiter::new(settings);
            limiter.know_nodes(ids.clone());
            limiter.note_limits([limit]);
            tokio::spawn(Arc::clone(&limiter).run(Arc::new(Wire(Arc::clone(&cluster)))));
            limiter
        };
        let nodes: Vec<_> = ids.iter().map(start).collect();
        *cluster.nodes.lock().expect("no panic") = nodes.iter().map(Arc::downgrade).collect();
        (cluster, nodes)
    }

    fn apply(&self, batch: Batch) -> Reply {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let mut ledger = self.ledger.lock().expect("no panic");
        let now = clock::raw();
        let dt = log_time(now.saturating_sub(ledger.1));
        ledger.1 = now;
        let outcome = ledger.0.apply(&Entry { dt, command: Command::Batches(vec![batch]) });
        outcome.replies.into_iter().next().expect("one batch, one reply")
    }
}

impl Leases for Wire {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(self.0.apply(batch))
        })
    }

    fn send_errands(
        &self,
        to: NodeId,
        errands: Vec<Errand>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Fetched>, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            if self.0.mute.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            let owner = self.0.nodes.lock().expect("no panic")[to.0 as usize - 1].upgrade();
            Ok(owner.expect("it lives").serve_errands(&errands).await)
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn limit(max: u64, window_ms: u64) -> Limit {
    Limit {
        id: LimitId(7),
        revision: Revision(1),
        name: "small".into(),
        max: Permits(max),
        kind: Kind::Sliding { window: Nanos::from_millis(window_ms) },
        cost: tidegate_policy::Cost::ONE,
        per: vec![Dimension::Consumer],
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: OnMissing::default(),
        terms: tidegate_policy::Terms::default(),
    }
}

async fn admit(limiter: &Arc<Limiter>, limit: &Limit) -> Result<(), Why> {
    let ask = Ask { limit, subject: limiter.subject(limit, &[b"acme"]), cost: Permits(1) };
    limiter.admit(&[ask]).await.map(|permit| _ = permit.commit(b"r")).map_err(|refused| refused.why)
}

fn fetched(nodes: &[Arc<Limiter>]) -> Vec<u64> {
    nodes.iter().map(|node| node.counters().fetched.load(Ordering::Relaxed)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_a_limit_of_twenty_a_second_round_robin_over_five_nodes_is_used_and_never_exceeded() {
    let (limit, folder) = (limit(20, 1_000), tempfile::tempdir().expect("a folder"));
    let (cluster, nodes) = Cluster::start(&limit, 5, Some(folder.path()));
    let (started, mut at, mut asked) = (Instant::now(), Instant::now(), 0_u64);
    let mut calls = tokio::task::JoinSet::new();
    while started.elapsed() < Duration::from_secs(6) {
        at += Duration::from_millis(25);
        tokio::time::sleep_until(at).await;
        let (node, limit) = (Arc::clone(&nodes[asked as usize % nodes.len()]), limit.clone());
        calls.spawn(async move { admit(&node, &limit).await.is_ok() });
        asked += 1;
    }
    let admitted = calls.join_all().await.into_iter().filter(|admitted| *admitted).count() as u64;
    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder.path()).expect("the folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    let finding = &evidence.judge()[0];
    let batches = cluster.batches.load(Ordering::Relaxed);
    println!("{admitted} of {asked} admitted, fetched {:?}, {batches} batches, {finding:?}", fetched(&nodes));
    assert!(finding.worst_ratio <= 1.0, "{finding:?}");
    assert!(admitted >= 105, "of 120 that the limit allows, {admitted} were admitted");
    let others = fetched(&nodes).iter().filter(|count| **count > 0).count();
    assert_eq!(others, nodes.len() - 1, "all but the owner ask the owner: {:?}", fetched(&nodes));
    assert!(batches < 2 * asked, "{batches} batches for {asked} requests");
}

#[tokio::test]
async fn fetched_permits_that_are_dropped_come_back() {
    let limit = limit(29, 60_000);
    let (cluster, nodes) = Cluster::start(&limit, 3, None);
    let ask = Ask { limit: &limit, subject: nodes[0].subject(&limit, &[b"acme"]), cost: Permits(1) };
    for round in 0..60 {
        drop(nodes[round % 3].admit(&[ask]).await.expect("there are enough if most come back"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A report between a take and its return burns the permit, and there is one every 20 ms or so.
    let spent = cluster.ledger.lock().expect("no panic").0.views().map(|view| view.spent.0).sum::<u64>();
    println!("{spent} of 60 were burnt, fetched {:?}", fetched(&nodes));
    assert!(spent <= 29);
    assert!(fetched(&nodes).iter().sum::<u64>() >= 39, "{:?}", fetched(&nodes));
}

#[tokio::test]
async fn without_its_owner_a_small_key_is_leased_as_any_other() {
    let limit = limit(9, 60_000);
    let (cluster, nodes) = Cluster::start(&limit, 3, None);
    cluster.mute.store(true, Ordering::Relaxed);
    let started = Instant::now();
    for node in &nodes {
        assert_eq!(admit(node, &limit).await, Ok(()));
    }
    assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
    assert_eq!(fetched(&nodes), [0, 0, 0]);
}
