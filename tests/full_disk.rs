//! A disk that is full under a member of both groups, at twice the limit, again and again. Needs the right to mount a small file system:
//! where there is none, it says so and does nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::exactness::demand;
use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

/// A small file system over a folder, with what was in it. Gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: it may not be mounted here.
    fn over(folder: &Path) -> Option<Self> {
        let aside = folder.with_extension("aside");
        run("cp", &["-a", folder.to_str()?, aside.to_str()?])?;
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", folder.to_str()?]);
        let copied = mounted.and_then(|()| run("cp", &["-a", &format!("{}/.", aside.to_str()?), folder.to_str()?]));
        std::fs::remove_dir_all(&aside).ok()?;
        copied.map(|()| Self(folder.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// To the last byte.
    fn fill(&self) {
        let _ends_with_an_error = Command::new("dd")
            .args(["if=/dev/zero", &format!("of={}", self.filler().display()), "bs=4096"])
            .output()
            .unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_with_its_last_user = run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, words: &[&str]) -> Option<()> {
    Command::new(program).args(words).output().ok()?.status.success().then_some(())
}

/// Both groups' folders of a node.
struct Disks(Vec<SmallDisk>);

impl Disks {
    fn over(data: &Path) -> Option<Self> {
        ["control", "quota"]
            .map(|group| SmallDisk::over(&data.join(group)))
            .into_iter()
            .collect::<Option<_>>()
            .map(Self)
    }

    fn fill(&self) {
        self.0.iter().for_each(SmallDisk::fill);
    }

    fn make_room(&self) {
        self.0.iter().for_each(SmallDisk::make_room);
    }
}

/// A number of a metric, by its line's beginning.
async fn metric(cluster: &Cluster, node: usize, line: &str) -> f64 {
    let told = cluster.metrics(node).await;
    let value = told.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in {told}"))
}

/// What `/readyz` says: its status, and why.
async fn ready(cluster: &Cluster, node: usize) -> (StatusCode, String) {
    let answer = cluster.client.get(&cluster.nodes[node].admin("/readyz"), &[]).await.unwrap();
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

/// It says so wherever one would look, and takes no changes.
async fn says_that_it_is_full(cluster: &Cluster, full: usize) {
    eventually("the node says what is wrong", Duration::from_secs(30), async || {
        let (status, why) = ready(cluster, full).await;
        status == StatusCode::SERVICE_UNAVAILABLE && why.contains("disk of this node is full")
    })
    .await;
    eventually("both groups' logs met it", Duration::from_secs(30), async || {
        metric(cluster, full, "tidegate_disk_full{group=\"control\"}").await == 1.0
            && metric(cluster, full, "tidegate_disk_full{group=\"quota\"}").await == 1.0
    })
    .await;
    let status = cluster.cli_at(full, &["cluster", "status"]).await.unwrap();
    assert!(status["alarms"].to_string().contains("disk of this node is full"), "{status}");
    let refused = cluster.cli_at(full, &["key", "create", "acme"]).await.unwrap_err();
    assert!(refused.contains("read-only: the disk of this node is full"), "{refused}");
    let id = cluster.nodes[full].id();
    let (_, report) = cluster.told_at((full + 1) % 3, &["cluster", "doctor"]).await;
    let found = report["findings"].as_array().unwrap().iter();
    let found = found.filter(|it| it["node"] == id).map(|it| it["what"].as_str().unwrap_or_default());
    assert!(found.into_iter().any(|what| what.contains("has no room on its disk")), "{report}");
}

/// The disk fills up under the leader, or under another voter, twice; nobody starts anything again.
async fn fills_up(under_the_leader: bool) {
    const MAX: u64 = 400;
    const WINDOW: u64 = 4;
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    let document = document(&backend, MAX, &format!("{WINDOW}s"));
    cluster.apply(&document).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let mut disks = Vec::new();
    for at in 0..3 {
        // Whoever leads when it matters: all of them have small disks, and one is filled.
        cluster.nodes[at].drain().await;
        let Some(disk) = Disks::over(&cluster.nodes[at].data) else {
            println!("SKIPPED: a small file system cannot be mounted here (that takes root)");
            return;
        };
        disks.push(disk);
        cluster.nodes[at].spawn(None);
        cluster.nodes[at].wait_until_ready().await;
    }
    let rate = 2.0 * MAX as f64 / WINDOW as f64;
    let never = Instant::now() + Duration::from_secs(3_600);
    let loads: Vec<_> =
        (0..3).map(|at| demand(cluster.nodes[at].url("/limited/x"), key.clone(), rate / 3.0, never)).collect();
    let admitted = |at: usize| loads[at].0.admitted.load(Ordering::Relaxed);
    let pids: Vec<_> = cluster.nodes.iter().map(crate::harness::Node::pid).collect();
    for round in 0..2 {
        let leader = cluster.leader("quota").await;
        let full = if under_the_leader { leader } else { (leader + 1) % 3 };
        disks[full].fill();
        // Something to write for both: the quota log is written by the load, the other one has some room inside.
        for _ in 0..4 {
            let long = cluster.write("long.yaml", &format!("{document}# {}\n", "x".repeat(500_000)));
            cluster.cli_at((full + 1) % 3, &["apply", long.to_str().unwrap()]).await.unwrap();
        }
        says_that_it_is_full(&cluster, full).await;
        // Those that are left go on, with another leader, and take changes.
        let before: Vec<_> = (0..3).map(admitted).collect();
        eventually("the others go on", Duration::from_secs(30), async || {
            (0..3).filter(|at| *at != full).all(|at| admitted(at) > before[at] + 5)
        })
        .await;
        let issued = cluster.cli_at((full + 1) % 3, &["key", "create", "acme"]).await.unwrap();
        // What the others admit may still be of leases that the full one gave: that it gives way is a fact of its own.
        eventually("another leads both", Duration::from_secs(15), async || {
            cluster.leader("quota").await != full && cluster.leader("control").await != full
        })
        .await;

        disks[full].make_room();
        let line = "tidegate_raft_applied_index{group=\"quota\"}";
        let reached = metric(&cluster, (full + 1) % 3, line).await;
        eventually("it goes on by itself, and catches up", Duration::from_secs(40), async || {
            ready(&cluster, full).await.0 == StatusCode::OK
                && metric(&cluster, full, "tidegate_disk_full{group=\"control\"}").await == 0.0
                && metric(&cluster, full, "tidegate_disk_full{group=\"quota\"}").await == 0.0
                && metric(&cluster, full, line).await >= reached
        })
        .await;
        let keys = cluster.cli_at(full, &["key", "ls"]).await.unwrap();
        assert!(keys.to_string().contains(issued["prefix"].as_str().unwrap()), "round {round}: {keys}");
        cluster.wait_for_voters(3).await;
        let before = admitted(full);
        eventually("it counts again", Duration::from_secs(30), async || admitted(full) > before + 5).await;
    }
    assert_eq!(cluster.nodes.iter().map(crate::harness::Node::pid).collect::<Vec<_>>(), pids);
    for (tally, task) in loads {
        task.abort();
        println!("{tally:?}");
    }
    let verdict = cluster.verify(&backend.seen()).await;
    println!("{verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    for at in 0..3 {
        // What was stored meanwhile is whole: it is read again, and its disk goes after it.
        cluster.nodes[at].kill().await;
        cluster.nodes[at].spawn(None);
    }
    for at in 0..3 {
        cluster.nodes[at].wait_until_ready().await;
    }
    for at in 0..3 {
        cluster.nodes[at].kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_whose_disk_is_full_says_so_and_comes_back_by_itself_while_the_others_count_on() {
    fills_up(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_gives_way_and_comes_back_by_itself() {
    fills_up(true).await;
}
