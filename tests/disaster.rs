//! Everything burns: a backup that was made under traffic becomes a new cluster, or one survivor does. Whatever was promised
//! before still holds, and who comes back from the old cluster is told that it is no more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use crate::exactness::demand;
use crate::harness::store::{self, Store};
use crate::harness::{Backend, Client, Cluster, TIDEGATE, eventually};

/// Of the window: nothing is granted for W and the life of a lease (4 s) after a restore.
const WINDOW: u64 = 3;
const MAX: u64 = 30;
const BUDGET: u64 = 20;
const SECRET: &str = "a-secret-that-is-in-no-file";

fn document(backend: &Backend) -> String {
    let address = backend.address;
    format!(
        "\
version: 1
consumers:
  - {{name: acme, plan: gold}}
plans:
  - {{name: gold, limits: [per-key]}}
limits:
  - {{name: per-key, window: {WINDOW}s, max: {MAX}, per: [key]}}
  - {{name: budget, budget: {{count: {BUDGET}, per: total}}}}
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: open
    match: {{path: /open/*}}
    to: [{{upstream: echo}}]
    request_headers: {{set: {{x-from: {SECRET}}}}}
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: echo}}]
    auth: [key]
  - name: budgeted
    match: {{path: /budgeted/*}}
    to: [{{upstream: echo}}]
    limits: [budget]
"
    )
}

/// Runs the CLI without a node: its JSON and whether it succeeded.
async fn run(words: &[&str]) -> (bool, Value) {
    let output = Command::new(TIDEGATE).args(words).args(["-o", "json"]).output().await.unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{words:?}: {why}: {output:?}"));
    (output.status.success(), value)
}

async fn status(client: &Client, url: &str, key: &str) -> StatusCode {
    client.get(url, &[("authorization", key)]).await.unwrap().status
}

/// Traffic to every node that no limit touches: how many requests, and how many did not get their answer.
fn traffic(cluster: &Cluster, goes_on: &Arc<AtomicBool>) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<usize>) {
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url("/open/x")).collect();
    let (sent, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::clone(goes_on));
    let counted = Arc::clone(&sent);
    let task = tokio::spawn(async move {
        let (client, mut failed) = (Client::new(), 0);
        while goes_on.load(Ordering::Relaxed) {
            for url in &urls {
                let answer = client.get(url, &[]).await;
                failed += usize::from(!answer.is_ok_and(|answer| answer.status == StatusCode::OK));
                counted.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        failed
    });
    (sent, task)
}

/// Spends some of the budget, and returns how much.
async fn spend(cluster: &Cluster, times: u64) -> u64 {
    let mut spent = 0;
    for n in 0..times {
        let node = &cluster.nodes[n as usize % cluster.nodes.len()];
        let answer = cluster.client.get(&node.url("/budgeted/x"), &[]).await.unwrap();
        spent += u64::from(answer.status == StatusCode::OK);
    }
    spent
}

/// What is left of the budget: spent until nobody gives any more.
async fn drain(cluster: &Cluster) -> u64 {
    let (mut spent, mut refused) = (0, 0);
    let ends = Instant::now() + Duration::from_secs(30);
    while refused < 12 && Instant::now() < ends {
        let got = spend(cluster, cluster.nodes.len() as u64).await;
        spent += got;
        refused = if got == 0 { refused + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    spent
}

/// The first node begins anew with this data folder; the others with none.
async fn begin_anew(cluster: &mut Cluster, old: &Path) {
    for at in 0..cluster.nodes.len() {
        let node = &mut cluster.nodes[at];
        let gone = old.join(&node.name);
        if at > 0 {
            std::fs::rename(&node.data, &gone).unwrap();
            std::fs::create_dir(&node.data).unwrap();
        }
    }
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let to = cluster.nodes[0].wire.address;
    for at in 1..cluster.nodes.len() {
        let token = cluster.cli_at(0, &["cluster", "token"]).await.expect("a join token");
        cluster.nodes[at].spawn(Some((to, token["token"].as_str().unwrap())));
        cluster.nodes[at].wait_until_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_traffic_becomes_a_new_cluster_on_empty_machines() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend)).await;
    let good = cluster.bearer("acme", "/limited/x").await;
    let revoked = cluster.bearer("acme", "/limited/x").await;
    let keys = cluster.cli(&["key", "ls"]).await.unwrap();
    let id = keys["keys"].as_array().unwrap().iter().map(|key| key["id"].as_u64().unwrap()).max().unwrap();
    cluster.cli(&["key", "revoke", &id.to_string()]).await.unwrap();
    let spent = spend(&cluster, BUDGET / 2).await;
    assert_ne!(spent, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key_file, backup, old) = (file("backup.key"), file("all.backup"), file("old"));
    std::fs::create_dir(&old).unwrap();
    let made = run(&["cluster", "backup-key", "--out", &key_file]).await.1;
    let public = made["key"].as_str().unwrap();

    // Under traffic, of those that no limit touches and of those that one does.
    let goes_on = Arc::new(AtomicBool::new(true));
    let (sent, open) = traffic(&cluster, &goes_on);
    let ends = Instant::now() + Duration::from_secs(6);
    let rate = 2.0 * MAX as f64 / WINDOW as f64 / 3.0;
    let loads: Vec<_> =
        (0..3).map(|at| demand(cluster.nodes[at].url("/limited/x"), good.clone(), rate, ends)).collect();
    for at in 0..3 {
        let told = cluster.cli_at(at, &["cluster", "backup", "--key", public, "--out", &backup]).await.unwrap();
        assert_eq!(told["counts"]["revoked_keys"], 1, "{told}");
    }
    let before = sent.load(Ordering::Relaxed);
    eventually("traffic goes on", Duration::from_secs(10), async || sent.load(Ordering::Relaxed) > before + 30).await;
    goes_on.store(false, Ordering::Relaxed);
    assert_eq!(open.await.unwrap(), 0, "of {} requests", sent.load(Ordering::Relaxed));

    // To the ground, while permits are being taken.
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    for (_, task) in loads {
        task.abort();
    }
    let bytes = std::fs::read(&backup).unwrap();
    let secret_key = std::fs::read_to_string(&key_file).unwrap();
    let secret_key = secret_key.lines().find(|line| line.starts_with("tgb1-")).unwrap().to_owned();
    for planted in [SECRET, good.trim_start_matches("Bearer "), &secret_key, &cluster.token] {
        assert!(!bytes.windows(planted.len()).any(|part| part == planted.as_bytes()), "{planted} is in the backup");
    }
    use std::os::unix::fs::PermissionsExt;
    for path in [&backup, &key_file] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path}");
    }
    let (whole, inspected) = run(&["cluster", "backup", "--inspect", &backup]).await;
    assert!(whole && inspected["counts"]["revision"] == 1, "{inspected}");

    // The old decisions stay where `quota verify` finds them, the rest is gone.
    let first = cluster.nodes[0].data.clone();
    std::fs::rename(&first, Path::new(&old).join("n1")).unwrap();
    let data = first.display().to_string();
    let restore = ["cluster", "restore", &backup, "--data", &data, "--key-file", &key_file, "--name", "n1"];
    let (done, told) = run(&restore).await;
    assert!(done && told["epoch"] == 2, "{told}");
    let (again, told) = run(&restore).await;
    assert!(!again && told["error"]["message"].as_str().unwrap().contains("not empty"), "{told}");
    let began = Instant::now();
    begin_anew(&mut cluster, Path::new(&old)).await;
    let opened = Instant::now();
    for node in &cluster.nodes {
        assert_eq!(status(&cluster.client, &node.url("/open/x"), "").await, StatusCode::OK);
        assert_eq!(status(&cluster.client, &node.url("/limited/x"), &revoked).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(cluster.status().await["revision"], 1);

    // At twice the limit from the first moment on: nothing until all that the lost ones may have granted is past.
    let ends = opened + Duration::from_secs(14);
    let loads: Vec<_> =
        (0..3).map(|at| demand(cluster.nodes[at].url("/limited/x"), good.clone(), rate, ends)).collect();
    let admitted = || loads.iter().map(|(tally, _)| tally.admitted.load(Ordering::Relaxed)).sum::<u64>();
    eventually("the window opens again", Duration::from_secs(30), async || admitted() > 0).await;
    let closed = began.elapsed();
    assert!(closed >= Duration::from_secs(4 + WINDOW), "after {closed:?}");
    for (_, task) in loads {
        task.await.unwrap();
    }
    let verdict = verify(&[&cluster.nodes[0].folder, Path::new(&old)]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");

    // What was held when it was lost counts as spent; what was spent stays so.
    let left = drain(&cluster).await;
    println!("{spent} were spent before and {left} after, of {BUDGET}");
    assert!(spent + left <= BUDGET, "{spent} and {left}");

    // A machine of the old cluster comes back.
    let late = &mut cluster.nodes[2];
    late.kill().await;
    std::fs::rename(&late.data, late.data.with_extension("new")).unwrap();
    std::fs::rename(Path::new(&old).join("n3"), &late.data).unwrap();
    late.spawn(None);
    assert!(late.wait_for_end().await.is_some());
    let log = late.log();
    assert!(log.contains("is no more") && log.contains("was restored from a backup of it"), "{log}");
}

async fn verify(folders: &[&Path]) -> Value {
    let output = Command::new(TIDEGATE).args(["quota", "verify", "-o", "json"]).args(folders).output().await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_survivor_of_three_goes_on_after_it_is_told_what_may_be_lost() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend)).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let spent = spend(&cluster, BUDGET / 2).await;
    let data = cluster.nodes[0].data.display().to_string();
    let (done, told) = run(&["cluster", "recover", "--data", &data]).await;
    assert!(!done && told["error"]["message"].as_str().unwrap().contains("in use by another process"), "{told}");
    for node in &mut cluster.nodes {
        node.kill().await;
    }

    let (done, told) = run(&["cluster", "recover", "--data", &data]).await;
    assert!(!done && told["done"] == false, "{told}");
    let lost = &told["lost"];
    assert_eq!((lost["voters"].as_array().unwrap().len(), &lost["revision"]), (3, &Value::from(1)));
    assert!(lost["control"]["committed"].as_u64() <= lost["control"]["last"].as_u64(), "{lost}");
    let limits = lost["limits"].as_array().unwrap();
    let of =
        |name: &str| limits.iter().find(|limit| limit["limit"] == name).unwrap_or_else(|| panic!("{name}: {lost}"));
    assert_eq!((&of("per-key")["closed"], &of("budget")["closed"]), (&Value::from(true), &Value::from(false)));
    assert_eq!(of("per-key")["closed_for_ms"], (4 + WINDOW) * 1_000);

    let (done, told) = run(&["cluster", "recover", "--data", &data, "--yes"]).await;
    assert!(done && told["epoch"] == 2, "{told}");
    let old = tempfile::tempdir().unwrap();
    begin_anew(&mut cluster, old.path()).await;
    eventually("the window opens again", Duration::from_secs(30), async || {
        status(&cluster.client, &cluster.nodes[1].url("/limited/x"), &key).await == StatusCode::OK
    })
    .await;
    let left = drain(&cluster).await;
    println!("{spent} were spent before and {left} after, of {BUDGET}");
    assert!(spent + left <= BUDGET, "{spent} and {left}");
    assert_eq!(cluster.status().await["revision"], 1);
    cluster.apply(&document(&backend).replace("/open/", "/opened/")).await;

    let late = &mut cluster.nodes[1];
    late.kill().await;
    std::fs::rename(&late.data, late.data.with_extension("new")).unwrap();
    std::fs::rename(old.path().join("n2"), &late.data).unwrap();
    late.spawn(None);
    assert!(late.wait_for_end().await.is_some());
    let log = late.log();
    assert!(log.contains("it lost its quorum, and was recovered as cluster"), "{log}");
}

/// What scheduled backups need in a document: every 60 s is the shortest, so the spec counts on the first being due at once, and
/// on a change of the document being looked at anew.
fn scheduled(backend: &Backend, key: &str, to: &str) -> String {
    format!("{}backups: {{every: 1m, keep: 2, key: {key}, {to}}}\n", document(backend))
}

async fn metric(cluster: &Cluster, at: usize, name: &str) -> f64 {
    let text = cluster.metrics(at).await;
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_alone_makes_backups_in_a_folder_or_a_store_and_old_ones_go() {
    let (backend, store) = (Backend::start().await, Store::start().await);
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("backup.key").display().to_string();
    let made = run(&["cluster", "backup-key", "--out", &key_file]).await.1;
    let key = made["key"].as_str().unwrap();
    let cluster = Cluster::start(3).await;
    let to = folder.path().join("backups");
    std::fs::create_dir(&to).unwrap();
    // Of this cluster from long ago, of another one, and something else.
    let id = cluster.status().await["cluster_id"].as_str().unwrap()[..8].to_owned();
    let ours = |seconds: u64| format!("tidegate-{id}-{seconds:012}.backup");
    for name in [&ours(1), &ours(2), &ours(3), "tidegate-00000000-000000000001.backup", "notes.txt"] {
        std::fs::write(to.join(name), "old").unwrap();
    }
    let names = |folder: &Path| {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    cluster.apply(&scheduled(&backend, key, &format!("to: {}", to.display()))).await;
    eventually("one is made and the oldest go", Duration::from_secs(30), async || {
        let names = names(&to);
        names.iter().filter(|name| name.starts_with(&format!("tidegate-{id}"))).count() == 2
            && !names.contains(&ours(2))
    })
    .await;
    let newest = names(&to).into_iter().rfind(|name| name.starts_with(&format!("tidegate-{id}"))).unwrap();
    let path = to.join(&newest).display().to_string();
    let (whole, told) = run(&["cluster", "backup", "--inspect", &path, "--key-file", &key_file]).await;
    assert!(whole && told["counts"]["revision"] == 1, "{told}");
    assert!(to.join("notes.txt").exists() && to.join("tidegate-00000000-000000000001.backup").exists());
    let leader = cluster.leader("control").await;
    let mut made = 0.0;
    for at in 0..3 {
        made += metric(&cluster, at, "tidegate_backups_total").await;
    }
    assert_eq!(made, 1.0, "by one node");
    assert_eq!(metric(&cluster, leader, "tidegate_backups_total").await, 1.0, "which leads");
    assert!(metric(&cluster, leader, "tidegate_backup_last_success_seconds").await > 1_700_000_000.0);

    // The same in a store that looks at every signature, and with a wrong key.
    let s3 = |secret: &str| {
        format!(
            "to: s3://bucket/gate/way, s3: {{endpoint: \"http://{}\", region: eu-central-1, access_key_id: {}, \
             secret_access_key: \"${{secrets.{secret}}}\"}}",
            store.origin.address,
            store::ACCESS
        )
    };
    let secret = cluster.write("secret", store::SECRET);
    let wrong = cluster.write("wrong", "another-key");
    let secrets = format!(
        "version: 1\nsecrets:\n  - {{name: right, from: \"file:{}\"}}\n  - {{name: wrong, from: \"file:{}\"}}\n",
        secret.display(),
        wrong.display()
    );
    let in_store = |secret: &str| scheduled(&backend, key, &s3(secret)).replace("version: 1\n", &secrets);
    cluster.apply(&in_store("wrong")).await;
    eventually("the refusal is told", Duration::from_secs(30), async || {
        metric(&cluster, leader, "tidegate_backup_failures_total").await > 0.0
    })
    .await;
    let log = cluster.nodes[leader].log();
    assert!(log.contains("403") && log.contains("SignatureDoesNotMatch"), "{log}");
    assert!(!log.contains(store::SECRET) && !log.contains("another-key"));
    assert_eq!(metric(&cluster, leader, "tidegate_backup_overdue").await, 1.0);
    cluster.apply(&in_store("right")).await;
    eventually("one is stored", Duration::from_secs(60), async || store.kept().len() == 1).await;
    let (at, bytes) = store.kept().pop_first().unwrap();
    assert!(at.starts_with(&format!("/bucket/gate/way/tidegate-{id}-")), "{at}");
    let copy = folder.path().join("copy.backup");
    std::fs::write(&copy, &bytes).unwrap();
    let (whole, told) = run(&["cluster", "backup", "--inspect", copy.to_str().unwrap(), "--key-file", &key_file]).await;
    assert!(whole && told["counts"]["revision"] == 3, "{told}");
    eventually("nothing is overdue", Duration::from_secs(10), async || {
        metric(&cluster, leader, "tidegate_backup_overdue").await == 0.0
    })
    .await;
}
