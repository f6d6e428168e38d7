//! A disk that is full under a member of the quota group, at twice the limit. Needs the right to mount a small file system:
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

/// The disk fills up under the leader, or under another voter.
async fn fills_up(under_the_leader: bool) {
    const MAX: u64 = 400;
    const WINDOW: u64 = 4;
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, MAX, &format!("{WINDOW}s"))).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let mut disks = Vec::new();
    for at in 0..3 {
        // Whoever leads when it matters: all of them have small disks, and one is filled.
        cluster.nodes[at].drain().await;
        let Some(disk) = SmallDisk::over(&cluster.nodes[at].data.join("quota")) else {
            println!("SKIPPED: a small file system cannot be mounted here (that takes root)");
            return;
        };
        disks.push(disk);
        cluster.nodes[at].spawn(None);
        cluster.nodes[at].wait_until_ready().await;
    }
    let leader = cluster.leader("quota").await;
    let full = if under_the_leader { leader } else { (leader + 1) % 3 };
    let (began, rate) = (Instant::now(), 2.0 * MAX as f64 / WINDOW as f64);
    let ends = began + Duration::from_secs(22);
    let loads: Vec<_> =
        (0..3).map(|at| demand(cluster.nodes[at].url("/limited/x"), key.clone(), rate / 3.0, ends)).collect();
    tokio::time::sleep_until(began + Duration::from_secs(4)).await;
    disks[full].fill();
    eventually("the node says what is wrong", Duration::from_secs(20), async || {
        let log = cluster.nodes[full].log();
        log.contains("No space left") || log.contains("os error 28")
    })
    .await;
    println!("noticed after {:?}", began.elapsed());
    // Those that are left go on, and so does the node itself as their client.
    let admitted = |at: usize| loads[at].0.admitted.load(Ordering::Relaxed);
    let before: Vec<_> = (0..3).map(admitted).collect();
    eventually("the others go on", Duration::from_secs(10), async || {
        (0..3).filter(|at| *at != full).all(|at| admitted(at) > before[at] + 5)
    })
    .await;
    tokio::time::sleep_until(ends.max(Instant::now()) - Duration::from_secs(5)).await;
    disks[full].make_room();
    cluster.nodes[full].kill().await;
    cluster.nodes[full].spawn(None);
    cluster.nodes[full].wait_until_ready().await;
    for (tally, task) in loads {
        task.await.unwrap();
        println!("{tally:?}");
    }
    eventually("it counts again", Duration::from_secs(15), async || {
        let url = cluster.nodes[full].url("/limited/x");
        let answer = cluster.client.get(&url, &[("authorization", &key)]).await.unwrap();
        answer.status == StatusCode::OK
    })
    .await;
    let verdict = cluster.verify(&backend.seen()).await;
    println!("{verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    for at in 0..3 {
        cluster.nodes[at].kill().await; // before its disk goes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_whose_disk_is_full_stops_voting_and_the_others_count_on() {
    fills_up(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_gives_way_and_the_others_count_on() {
    fills_up(true).await;
}
