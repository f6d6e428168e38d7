//! A disk that takes more than a second for each fsync: under the leader of both groups, and under a follower. Slowed down by a
//! library that is preloaded (`loadtest/src/chaos/shim.c`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::exactness::demand;
use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

/// Beyond every patience of a follower.
const FSYNC: Duration = Duration::from_millis(1_300);

/// A node's dials: milliseconds that its wall clock is ahead, and that each fsync takes longer.
struct Dials(File);

impl Dials {
    fn slow(&self, by: Duration) {
        self.0.write_all_at(&(by.as_millis() as i64).to_ne_bytes(), 8).unwrap();
    }
}

fn shim(folder: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../loadtest/src/chaos/shim.c");
    let library = folder.join("shim.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(cc.status().unwrap().success(), "a C compiler is needed");
    library.display().to_string()
}

/// Nodes whose disks can be made slow.
async fn cluster_with_dials() -> (Cluster, Vec<Dials>) {
    let mut cluster = Cluster::told_the_same(3, 3).await;
    let mut dials = Vec::new();
    let library = shim(cluster.write("here", "").parent().unwrap());
    for at in 0..3 {
        let path = cluster.write(&format!("dials{at}"), &"\0".repeat(16));
        let environment = [("LD_PRELOAD", library.clone()), ("CHAOS_DIALS", path.display().to_string())];
        cluster.nodes[at].environment.extend(environment.map(|(name, value)| (name.to_owned(), value)));
        dials.push(Dials(File::options().write(true).open(path).unwrap()));
        cluster.nodes[at].spawn(None);
    }
    for node in &mut cluster.nodes {
        node.wait_until_ready().await;
    }
    cluster.wait_for_voters(3).await;
    (cluster, dials)
}

/// Elections so far, in both groups.
async fn terms(cluster: &Cluster, at: usize) -> [u64; 2] {
    let status = cluster.cli_at(at, &["cluster", "status"]).await.unwrap();
    ["control", "quota"].map(|group| status[group]["term"].as_u64().unwrap())
}

async fn is_slow_under(the_leader: bool) {
    let backend = Backend::start().await;
    let (cluster, dials) = cluster_with_dials().await;
    cluster.apply(&document(&backend, 400, "4s")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let never = Instant::now() + Duration::from_secs(3_600);
    let loads: Vec<_> =
        (0..3).map(|at| demand(cluster.nodes[at].url("/limited/x"), key.clone(), 60.0, never)).collect();
    let admitted = |at: usize| loads[at].0.admitted.load(Ordering::Relaxed);
    eventually("all are admitted", Duration::from_secs(20), async || (0..3).all(|at| admitted(at) > 20)).await;
    let leader = cluster.leader("quota").await;
    let slow = if the_leader { leader } else { (leader + 1) % 3 };
    let other = (0..3).find(|at| *at != slow && *at != leader).unwrap();
    let before = terms(&cluster, other).await;
    dials[slow].slow(FSYNC);
    eventually("the node says what is wrong", Duration::from_secs(30), async || {
        cluster.metrics(slow).await.contains("tidegate_disk_slow{group=\"quota\"} 1")
    })
    .await;
    let status = cluster.cli_at(slow, &["cluster", "status"]).await.unwrap();
    assert!(status["alarms"].to_string().contains("disk of this node is slow"), "{status}");
    // Ten fsyncs' time of everything: limits are counted on all nodes, and changes are taken.
    let (began, counted) = (Instant::now(), [0, 1, 2].map(admitted));
    let mut changes = 0;
    while began.elapsed() < FSYNC * 10 {
        cluster.cli_at(other, &["key", "create", "acme"]).await.unwrap();
        changes += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for (at, before) in counted.into_iter().enumerate() {
        assert!(admitted(at) > before + 20, "node {at}: {before} and {}", admitted(at));
    }
    println!("{changes} changes");
    // None is what is found. A machine that stalls for a second makes one too; a disk that does would make one each second or two.
    let after = terms(&cluster, other).await;
    println!("terms {before:?}, {after:?} after a slow disk");
    assert!((0..2).all(|group| after[group] <= before[group] + 2), "elections: {before:?}, {after:?}");
    dials[slow].slow(Duration::ZERO);
    eventually("all is well", Duration::from_secs(90), async || {
        let status = cluster.cli_at(slow, &["cluster", "status"]).await.unwrap();
        status["alarms"] == serde_json::json!([]) && status["readiness"] == "ready"
    })
    .await;
    loads.iter().for_each(|(_, task)| task.abort());
    let verdict = cluster.verify(&backend.seen()).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_slow_disk_goes_on_leading_and_nobody_waits_for_its_disk() {
    is_slow_under(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_slow_disk_makes_no_election_and_nobody_waits_for_it() {
    is_slow_under(false).await;
}
