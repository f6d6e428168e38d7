//! The quota group over real QUIC: any node exchanges with the leader, whoever that is.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cluster::{Cluster, Readiness, Settings, Start};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::protocol::{Batch, Item, Key, Policy, Verdict};

const KEY: Key = Key { limit: LimitId(7), subject: Subject(9) };

fn policy(max: u64) -> Policy {
    Policy::sliding(KEY.limit, Permits(max), Nanos::from_secs(60), Nanos::from_secs(4))
}

/// A node that asks for permits and spends them all at once.
struct Holder {
    cluster: Cluster,
    seq: u64,
    spent: u64,
}

impl Holder {
    fn new(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), seq: 0, spent: 0 }
    }

    fn batch(&mut self, want: u64) -> Batch {
        self.seq += 1;
        let (node, incarnation) = (self.cluster.node(), Incarnation(u128::from(self.cluster.node().0)));
        let item = Item {
            key: KEY,
            epoch: 1,
            spent: Permits(self.spent),
            have: Permits(0),
            want: Permits(want),
            waiting: Permits(want.min(1)),
            reserve: false,
            reserved: Permits::default(),
        };
        Batch { node, incarnation, seq: self.seq, items: vec![item] }
    }

    async fn ask(&mut self, want: u64) -> Result<u64, tidegate_cluster::Unreachable> {
        let batch = self.batch(want);
        let reply = self.cluster.exchange(batch).await?;
        assert_eq!((reply.node, reply.seq, reply.items.len()), (self.cluster.node(), self.seq, 1));
        match reply.items[0].verdict {
            Verdict::Lease { granted, .. } => {
                self.spent += granted.0;
                Ok(granted.0)
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn until(what: &str, patience: u64, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(patience);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {patience} s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn four(dir: &TempDir) -> Vec<Cluster> {
    let mut nodes = vec![Cluster::start(Settings::new(dir.path().join("1"), Start::Bootstrap)).await.unwrap()];
    for name in ["2", "3", "4"] {
        let token = nodes[0].create_join_token(None, 1).await.unwrap();
        let address = nodes[0].addresses().peer.clone();
        let node = Cluster::start(Settings::new(dir.path().join(name), Start::Join { address, token })).await.unwrap();
        until("ready", 10, async || node.readiness() == Readiness::Ready).await;
        nodes.push(node);
    }
    until("three quota voters", 10, async || nodes[0].status().await.quota.group.voters.len() == 3).await;
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_draws_from_one_limit_and_a_dead_leader_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = four(&dir).await;
    // The fourth is a learner of control and no member of quota: a client like the others.
    assert_eq!(nodes[3].set_policies(Revision(1), vec![policy(100)]).await.unwrap(), Revision(1));
    let mut holders: Vec<Holder> = nodes.iter().map(Holder::new).collect();
    let mut total = 0;
    for holder in &mut holders {
        total += holder.ask(10).await.unwrap();
    }
    assert!(0 < total && total <= 100, "{total}");

    let leader = nodes[0].status().await.quota.group.leader.unwrap();
    let at = nodes.iter().position(|node| node.node() == leader).unwrap();
    let dead = nodes.remove(at);
    holders.remove(at);
    dead.shutdown().await;
    let killed = Instant::now();
    let deadline = killed + Duration::from_secs(10);
    let mut answered = None;
    while Instant::now() < deadline && (total < 100 || answered.is_none()) {
        for holder in &mut holders {
            if let Ok(granted) = holder.ask(10).await {
                answered.get_or_insert(killed.elapsed());
                total += granted;
            }
        }
        assert!(total <= 100, "over-admitted: {total}");
        if total == 100 {
            break;
        }
    }
    assert!(answered.unwrap() < Duration::from_secs(4), "failover took {answered:?}");
    assert!(50 < total && total <= 100, "{total}");
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_in_another_nodes_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = four(&dir).await;
    nodes[0].set_policies(Revision(1), vec![policy(100)]).await.unwrap();
    let leader = nodes[0].status().await.quota.group.leader.unwrap();
    let other = nodes.iter().find(|node| node.node() != leader).unwrap();
    let mut batch = Holder::new(other).batch(10);
    batch.node = NodeId(99);
    assert!(other.exchange(batch).await.unwrap_err().0.contains("sent a batch of node 99"));
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_sits_on_permits_is_asked_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = four(&dir).await;
    nodes[0].set_policies(Revision(1), vec![policy(100)]).await.unwrap();
    let (mut idle, mut starving) = (Holder::new(&nodes[3]), Holder::new(&nodes[1]));
    // Takes what it gets and keeps it in its cell.
    let mut have = 0;
    for _ in 0..20 {
        let mut batch = idle.batch(100);
        batch.items[0].have = Permits(have);
        if let Verdict::Lease { granted, .. } = nodes[3].exchange(batch).await.unwrap().items[0].verdict {
            have += granted.0;
        }
    }
    assert!(50 < have, "{have}");
    let asked = tokio::spawn({
        let node = nodes[3].clone();
        async move { node.recalled().await }
    });
    until("a recall", 5, async || {
        let mut batch = starving.batch(90);
        batch.items[0].waiting = Permits(90);
        _ = nodes[1].exchange(batch).await;
        asked.is_finished()
    })
    .await;
    assert_eq!(asked.await.unwrap(), KEY);
    for node in &nodes {
        node.shutdown().await;
    }
}

/// Prints what an exchange costs and what an idle node's disk does; asserts only the loose bounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_share_fsyncs_and_idle_nodes_do_none() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = four(&dir).await;
    nodes[0].set_policies(Revision(1), vec![policy(1_000_000)]).await.unwrap();
    let leader = nodes[0].status().await.quota.group.leader.unwrap();
    let far = nodes.iter().find(|node| node.node() != leader).unwrap();
    let mut holder = Holder::new(far);
    holder.ask(1).await.unwrap();
    let begun = Instant::now();
    for _ in 0..100 {
        holder.ask(1).await.unwrap();
    }
    println!("one exchange after the other: {:?} each", begun.elapsed() / 100);

    let disk = async |node: &Cluster| node.status().await.quota.disk;
    let before = disk(far).await;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..400 {
        let cluster = far.clone();
        let mut holder = Holder::new(&cluster);
        tasks.spawn(async move {
            let mut batch = holder.batch(1);
            batch.incarnation = Incarnation(1000 + number);
            cluster.exchange(batch).await.is_ok()
        });
    }
    let mut done = 0;
    while let Some(ok) = tasks.join_next().await {
        done += usize::from(ok.unwrap());
    }
    let after = disk(far).await;
    println!("{done} of 400 at once: {:?}, {} entries", begun.elapsed(), after.log_entries - before.log_entries);
    assert_eq!(done, 400);
    assert!(after.log_entries - before.log_entries < 200, "a round is one entry");

    // Still charged: a tick a second. Control: nothing at all.
    let control = far.status().await.control.disk;
    let (before, begun) = (disk(far).await, Instant::now());
    until("three seconds pass", 4, async || Duration::from_secs(3) <= begun.elapsed()).await;
    assert_eq!(far.status().await.control.disk, control, "an idle control group does not touch the disk");
    let fsyncs = disk(far).await.fsyncs - before.fsyncs;
    assert!(fsyncs <= 6, "{fsyncs} fsyncs in three idle seconds");
    for node in &nodes {
        node.shutdown().await;
    }
}
