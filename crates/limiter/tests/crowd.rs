//! More subjects than a node may hold keys: each is counted by a key of its own, here and on other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::{Ask, Leases, Limiter, Running, Settings, Unreachable, Why};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Cost, Dimension, Kind, Limit, Mode, OnUnavailable, Rate};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Reply, log_time};
use tokio::task::JoinSet;
use tokio::time::Instant;

const BOUND: usize = 100;
const MAX: u64 = 3;

/// A quota group of one.
struct Leader {
    ledger: Mutex<(Ledger, Nanos)>,
    cut: AtomicBool,
    /// Of keys: each life of one has an epoch of its own.
    lives: Mutex<BTreeSet<(Key, u64)>>,
}

impl Leader {
    fn new(limits: &[&Limit]) -> Arc<Self> {
        let mut ledger = Ledger::default();
        let policies = limits.iter().map(|limit| limit.policy()).collect();
        ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
        Arc::new(Self {
            ledger: Mutex::new((ledger, clock::raw())),
            cut: AtomicBool::new(false),
            lives: Mutex::default(),
        })
    }
}

struct Wire(Arc<Leader>);

impl Leases for Wire {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.0.cut.load(Ordering::Relaxed) {
                return Err(Unreachable("cut".into()));
            }
            self.0.lives.lock().expect("no panic").extend(batch.items.iter().map(|item| (item.key, item.epoch)));
            let mut guard = self.0.ledger.lock().expect("no panic");
            let now = clock::raw();
            let dt = log_time(now.saturating_sub(guard.1));
            guard.1 = now;
            let outcome = guard.0.apply(&Entry { dt, command: Command::Batches(vec![batch]) });
            Ok(outcome.replies.into_iter().next().expect("one batch, one reply"))
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn limit(id: u64, kind: Kind) -> Limit {
    Limit {
        id: LimitId(id),
        revision: Revision(1),
        name: "spec".into(),
        max: Permits(MAX),
        kind,
        cost: Cost::ONE,
        per: vec![Dimension::Consumer],
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    }
}

fn window() -> Kind {
    Kind::Sliding { window: Nanos::from_secs(600) }
}

fn node(id: u64, leader: &Arc<Leader>) -> Arc<Limiter> {
    let (node, incarnation) = (NodeId(id), Incarnation(id.into()));
    let limiter = Limiter::new(Settings { node, incarnation, secret: [1; 16], most_keys: BOUND, decisions: None });
    tokio::spawn(Arc::clone(&limiter).run(Arc::new(Wire(Arc::clone(leader)))));
    limiter
}

async fn admit(limiter: &Limiter, limits: &[Limit], who: usize) -> Result<Option<Box<Running>>, Why> {
    let who = who.to_le_bytes();
    let ask = |limit| Ask { limit, subject: limiter.subject(limit, &[&who]), cost: Permits(1) };
    let asks: Vec<_> = limits.iter().map(ask).collect();
    match limiter.admit(&asks).await {
        Ok(permit) => Ok(permit.commit(b"request")),
        Err(refused) => Err(refused.why),
    }
}

/// Each of these asks once of each node, many at a time; who was admitted how often in all.
async fn wave(nodes: &[Arc<Limiter>], limits: &[Limit], whom: std::ops::Range<usize>, most: usize) -> Vec<usize> {
    let (mut asked, mut admitted) = (JoinSet::new(), Vec::new());
    for (who, limiter) in whom.flat_map(|who| nodes.iter().map(move |limiter| (who, Arc::clone(limiter)))) {
        let limits = limits.to_vec();
        asked.spawn(async move { (who, admit(&limiter, &limits, who).await.map(drop)) });
        if asked.len() >= most {
            note(asked.join_next().await.expect("somebody asked").expect("no panic"), &mut admitted);
        }
    }
    while let Some(one) = asked.join_next().await {
        note(one.expect("no panic"), &mut admitted);
    }
    admitted
}

fn note((who, verdict): (usize, Result<(), Why>), admitted: &mut Vec<usize>) {
    match verdict {
        Ok(()) => admitted.push(who),
        Err(Why::Exhausted { .. }) => {}
        Err(why) => panic!("{who} is told {why:?}"),
    }
}

async fn is_served_at_last(limiter: &Limiter, limits: &[Limit], who: usize) -> bool {
    let comes_again = async {
        while admit(limiter, limits, who).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), comes_again).await.is_ok()
}

fn counted(admitted: impl IntoIterator<Item = usize>) -> BTreeMap<usize, u64> {
    admitted.into_iter().fold(BTreeMap::new(), |mut counts, who| {
        *counts.entry(who).or_default() += 1;
        counts
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_everybody_is_served_by_a_key_of_his_own() {
    let limits = [limit(1, window())];
    let leader = Leader::new(&[&limits[0]]);
    let one = [node(1, &leader)];
    let mut admitted = Vec::new();
    for _ in 0..MAX + 1 {
        admitted.extend(wave(&one, &limits, 0..10 * BOUND, 20).await);
        assert!(one[0].keys() <= BOUND, "{}", one[0].keys());
    }
    let counts = counted(admitted);
    assert_eq!(counts.len(), 10 * BOUND);
    assert!(counts.values().all(|count| *count == MAX), "{counts:?}");
    assert!(one[0].counters().evicted.load(Ordering::Relaxed) > 9 * BOUND as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_that_comes_by_several_full_nodes_has_one_count() {
    let (rate, busy) = (Rate { permits: MAX, per: Nanos::from_secs(600) }, limit(3, window()));
    let limits = [limit(1, window()), limit(2, Kind::Bucket { rate }), Limit { max: Permits(1_000_000), ..busy }];
    let leader = Leader::new(&[&limits[0], &limits[1], &limits[2]]);
    let nodes = [node(1, &leader), node(2, &leader), node(3, &leader)];
    let mut admitted = Vec::new();
    for _ in 0..MAX + 1 {
        admitted.extend(wave(&nodes, &limits, 0..2 * BOUND, 30).await);
    }
    let counts = counted(admitted);
    assert!(counts.values().all(|count| *count <= MAX), "{counts:?}");
    let all: u64 = counts.values().sum();
    assert!(all >= 2 * BOUND as u64 * MAX * 8 / 10, "only {all} were admitted");
}

#[tokio::test]
async fn who_has_a_key_on_one_node_has_nothing_more_on_one_that_is_full() {
    let limits = [limit(1, window())];
    let leader = Leader::new(&[&limits[0]]);
    let (own, full) = ([node(1, &leader)], [node(2, &leader)]);
    for _ in 0..MAX {
        assert_eq!(wave(&own, &limits, 7_000..7_001, 1).await, [7_000]);
    }
    wave(&full, &limits, 0..2 * BOUND, 10).await;
    for _ in 0..20 {
        assert!(wave(&full, &limits, 7_000..7_001, 1).await.is_empty());
    }
    assert!(wave(&own, &limits, 7_000..7_001, 1).await.is_empty());
}

#[tokio::test]
async fn what_is_in_use_makes_no_room_and_says_so() {
    let limits = [limit(1, Kind::Concurrency)];
    let leader = Leader::new(&[&limits[0]]);
    let one = node(1, &leader);
    let mut calls = Vec::new();
    for who in 0..BOUND {
        calls.push(admit(&one, &limits, who).await.expect("a place").expect("it runs"));
    }
    let started = Instant::now();
    assert!(matches!(admit(&one, &limits, 9_999).await, Err(Why::Unavailable { .. })));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(admit(&one, &limits, 5).await.is_ok_and(|running| running.is_some()), "who has a key is served as ever");
    drop(calls.pop());
    assert!(is_served_at_last(&one, &limits, 9_999).await, "a call has ended, and its key made room");
}

#[tokio::test]
async fn who_is_asked_for_all_the_time_keeps_his_key_however_many_come_by() {
    let limits = [limit(1, window()), Limit { max: Permits(1_000_000), ..limit(2, window()) }];
    let leader = Leader::new(&[&limits[0], &limits[1]]);
    let one = [node(1, &leader)];
    let ends = Instant::now() + Duration::from_secs(2);
    let (mut asked, mut others) = (0, 0);
    while Instant::now() < ends {
        assert_eq!(wave(&one, &limits[1..], 0..1, 1).await, [0]);
        asked += 1;
        wave(&one, &limits[..1], others..others + 20, 20).await;
        others += 20;
    }
    assert!(others > 5 * BOUND, "only {others} came by");
    let lives = leader.lives.lock().expect("no panic").iter().filter(|(key, _)| key.limit == limits[1].id).count();
    assert!(lives <= asked / 5 + 20, "he lost his key {lives} times, asking {asked} times");
}

#[tokio::test]
async fn without_a_leader_nobody_makes_room_and_who_has_permits_goes_on() {
    let limits = [Limit { max: Permits(1_000), ..limit(1, window()) }];
    let leader = Leader::new(&[&limits[0]]);
    let one = node(1, &leader);
    for _ in 0..50 {
        admit(&one, &limits, 0).await.expect("plenty");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for who in 1..BOUND {
        admit(&one, &limits, who).await.expect("there is room");
    }
    admit(&one, &limits, 0).await.expect("plenty");
    leader.cut.store(true, Ordering::Relaxed);
    for who in 8_000..8_010 {
        assert!(matches!(admit(&one, &limits, who).await, Err(Why::Unavailable { .. })));
    }
    admit(&one, &limits, 0).await.expect("it has a lease");
    assert!(one.keys() <= BOUND);
    leader.cut.store(false, Ordering::Relaxed);
    assert!(is_served_at_last(&one, &limits, 8_000).await, "a leader answers again");
}
