//! Who changed what: recorded once, the same on every node, and for good; what was changed in a listing of it is found.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{Backend, Cluster, TIDEGATE, eventually};
use crate::walk::document;

/// As the node that is asked has it by now.
async fn records(cluster: &Cluster, node: usize, words: &[&str]) -> Vec<Value> {
    let words = [&["audit", "ls"], words].concat();
    let told = cluster.cli_at(node, &words).await.expect("a listing");
    told["records"].as_array().unwrap().clone()
}

/// `who action target: result`, one a record.
fn lines(records: &[Value]) -> Vec<String> {
    let line = |record: &Value| {
        let of = |name: &str| record[name].as_str().unwrap().to_owned();
        let who = record["actor"]["name"].as_str().unwrap();
        format!("{who} {} {}: {}", of("action"), of("target"), of("result"))
    };
    records.iter().map(line).collect()
}

async fn token(cluster: &Cluster, name: &str, role: &str) -> String {
    let made = cluster.cli(&["token", "create", name, "--role", role]).await.expect("a token");
    made["token"].as_str().unwrap().to_owned()
}

/// With another token than the first.
async fn acting(cluster: &mut Cluster, token: &str, node: usize, words: &[&str]) -> Result<Value, String> {
    let own = std::mem::replace(&mut cluster.token, token.to_owned());
    let told = cluster.cli_at(node, words).await;
    cluster.token = own;
    told
}

/// Exit code and what was said, without a node.
async fn verify_file(file: &Path) -> (Option<i32>, Value) {
    let words = ["audit", "verify", "-o", "json", "--file"];
    let output = Command::new(TIDEGATE).args(words).arg(file).output().await.unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"));
    (output.status.code(), told)
}

#[tokio::test]
async fn what_was_changed_by_whom_is_the_same_on_every_node_and_outlives_a_restart_and_a_restore() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, 1_000, "60s")).await;
    let (ann, bob) = (token(&cluster, "ann", "operator").await, token(&cluster, "bob", "admin").await);
    let key = acting(&mut cluster, &ann, 1, &["key", "create", "acme"]).await.expect("a key");
    acting(&mut cluster, &bob, 2, &["key", "revoke", "1"]).await.expect("it is revoked");
    acting(&mut cluster, &ann, 0, &["key", "revoke", "77"]).await.expect_err("there is no such key");
    acting(&mut cluster, &ann, 0, &["token", "ls"]).await.expect_err("her role is not enough: nothing to record");
    acting(&mut cluster, &bob, 1, &["token", "revoke", "2"]).await.expect("hers is ended");

    let first = records(&cluster, 0, &["--all"]).await;
    let told = lines(&first);
    let people: Vec<_> = told.iter().filter(|line| !line.starts_with("node ") && !line.contains("cluster.")).collect();
    assert_eq!(
        people,
        [
            "bootstrap document.publish revision 1: done",
            "bootstrap token.create admin token 2 ann: done",
            "bootstrap token.create admin token 3 bob: done",
            "ann key.create key 1: done",
            "bob key.revoke key 1: done",
            "ann key.revoke key 77: refused: there is no such thing",
            "bob token.revoke admin token 2: done",
        ]
    );
    for made in ["node 1 cluster.form", "bootstrap cluster.token", "node 1 cluster.join node 3: done"] {
        assert!(told.iter().any(|line| line.starts_with(made)), "{made}: {told:#?}");
    }
    for record in first.iter().filter(|record| record["actor"]["kind"] == "token") {
        assert_eq!(record["address"], "127.0.0.1", "{record}");
        assert!(record["request"].as_str().is_some_and(|id| id.len() == 36), "{record}");
    }
    let text = serde_json::to_string(&first).unwrap();
    for secret in [&ann, &bob, &cluster.token, key["secret"].as_str().unwrap(), "upstreams:"] {
        assert!(!text.contains(secret), "{secret} is in the records");
    }
    for node in 0..3 {
        assert_eq!(records(&cluster, node, &["--all"]).await, first, "node {node}");
        let (exit, verdict) = cluster.told_at(node, &["audit", "verify"]).await;
        assert_eq!((exit, &verdict["whole"], &verdict["first"]), (Some(0), &Value::from(true), &Value::from(1)));
        assert_eq!(verdict["last"], first.len(), "{verdict}");
    }
    let of_ann = lines(&records(&cluster, 1, &["--actor", "ann", "--action", "key"]).await);
    assert_eq!(of_ann.len(), 2, "{of_ann:?}");
    assert!(records(&cluster, 1, &["--actor", "ann", "--since", "9999-01-01"]).await.is_empty());
    assert_eq!(records(&cluster, 1, &["--action", "key", "--limit", "1"]).await[0]["target"], "key 77", "the newest");

    // Nothing is lost or added by a stop of all, and by a node that comes new.
    cluster.restart().await;
    let joined = cluster.join().await;
    let after = records(&cluster, joined, &["--all"]).await;
    assert_eq!(after[..first.len()], first[..]);
    assert!(lines(&after[first.len()..]).iter().all(|line| line.contains(" cluster.")), "{after:#?}");

    let folder = tempfile::tempdir().unwrap();
    let restored = restore(&mut cluster, folder.path()).await;
    let anew = records(&cluster, 0, &["--all"]).await;
    let (exit, verdict) = cluster.told_at(0, &["audit", "verify"]).await;
    assert_eq!(exit, Some(0), "{verdict}");
    let came = anew.iter().position(|record| record["action"] == "cluster.restore").expect("it says so");
    assert_eq!(anew[..first.len()], first[..], "{restored}");
    assert!(first.len() < came);
}

/// The first node goes on alone with a backup of all.
async fn restore(cluster: &mut Cluster, folder: &Path) -> Value {
    let file = |name: &str| folder.join(name).display().to_string();
    let (key_file, backup) = (file("backup.key"), file("all.backup"));
    let made = cluster.cli(&["cluster", "backup-key", "--out", &key_file]).await.unwrap();
    cluster.cli(&["cluster", "backup", "--key", made["key"].as_str().unwrap(), "--out", &backup]).await.unwrap();
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    let first = &mut cluster.nodes[0];
    std::fs::rename(&first.data, folder.join("old")).unwrap();
    let data = first.data.display().to_string();
    let words = ["cluster", "restore", &backup, "--data", &data, "--key-file", &key_file, "-o", "json"];
    let output = Command::new(TIDEGATE).args(words).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    first.spawn(None);
    first.wait_until_ready().await;
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn whatever_is_changed_in_an_exported_listing_is_found_and_named() {
    let backend = Backend::start().await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&backend, 1_000, "60s")).await;
    for _ in 0..4 {
        cluster.key("acme").await;
    }
    let listing = cluster.cli(&["audit", "ls", "--all"]).await.unwrap();
    let export = |listing: &Value| cluster.write("audit.json", &serde_json::to_string_pretty(listing).unwrap());
    let (exit, verdict) = verify_file(&export(&listing)).await;
    assert_eq!((exit, &verdict["whole"]), (Some(0), &Value::from(true)), "{verdict}");
    let newest = format!("{}:{}", verdict["last"], verdict["hash"].as_str().unwrap());
    cluster.key("acme").await;
    let (exit, verdict) = cluster.told_at(0, &["audit", "verify", "--expect", &newest]).await;
    assert_eq!(exit, Some(0), "{verdict}");
    let (start, last) = newest.split_at(newest.len() - 1);
    let other = format!("{start}{}", if last == "0" { "1" } else { "0" });
    let (exit, verdict) = cluster.told_at(0, &["audit", "verify", "--expect", &other]).await;
    assert_eq!(exit, Some(1), "{verdict}");

    let at = listing["records"].as_array().unwrap().len() - 2;
    let seq = listing["records"][at]["seq"].as_u64().unwrap();
    for (pointer, value) in [
        ("/index", Value::from(1)),
        ("/at", Value::from("2026-01-01T00:00:00.000Z")),
        ("/actor/name", Value::from("Bootstrap")),
        ("/actor/role", Value::from("reader")),
        ("/address", Value::from("127.0.0.2")),
        ("/target", Value::from("key 9")),
        ("/detail", Value::from("")),
        ("/result", Value::from("refused: it exists already")),
        ("/hash", Value::from("0".repeat(64))),
        ("/previous", Value::from("0".repeat(64))),
    ] {
        let mut changed = listing.clone();
        *changed.pointer_mut(&format!("/records/{at}{pointer}")).unwrap() = value;
        let (exit, verdict) = verify_file(&export(&changed)).await;
        let said = verdict["misfits"][0].as_str().unwrap_or_default().to_owned();
        assert!(exit == Some(1) && said.starts_with(&format!("record {seq} ")), "{pointer}: {verdict}");
    }
    let mut shorter = listing.clone();
    shorter["records"].as_array_mut().unwrap().pop();
    let (exit, verdict) = verify_file(&export(&shorter)).await;
    assert!(exit == Some(1) && verdict["misfits"][0].as_str().unwrap().contains("is missing"), "{verdict}");
}

#[tokio::test]
async fn what_is_asked_again_while_leaders_change_is_recorded_once() {
    let backend = Backend::start().await;
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, 1_000, "60s")).await;
    for _ in 0..3 {
        let leader = cluster.leader("control").await;
        let asked = (0..3).find(|at| *at != leader).unwrap();
        let wire = &cluster.nodes[leader].wire;
        // Nobody is answered by this leader any more, and what it was sent may be in the log or not.
        wire.cut();
        let told = cluster.cli_at(asked, &["key", "create", "acme"]).await;
        wire.mend();
        told.expect("another one leads soon enough");
    }
    let counts = async |node: usize| {
        let keys = cluster.cli_at(node, &["key", "ls"]).await.unwrap()["keys"].as_array().unwrap().len();
        let all = records(&cluster, node, &["--action", "key.create"]).await;
        let mut targets: Vec<_> = all.iter().map(|record| record["target"].as_str().unwrap().to_owned()).collect();
        targets.dedup();
        (keys, all.len(), targets.len())
    };
    for node in 0..3 {
        assert_eq!(counts(node).await, (3, 3, 3), "node {node}");
    }
    eventually("all nodes have the same", Duration::from_secs(15), async || {
        cluster.told_at(0, &["audit", "verify"]).await.0 == Some(0)
    })
    .await;
}

#[tokio::test]
async fn nothing_is_recorded_while_a_node_is_too_old_to_read_it_and_everything_else_goes_on() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start_with(3, &["--feature-level", "2"]).await;
    cluster.apply(&document(&backend, 1_000, "60s")).await;
    let upgrade = async |cluster: &mut Cluster, at: usize| {
        let node = &mut cluster.nodes[at];
        node.drain().await;
        node.extra.clear();
        node.spawn(None);
        node.wait_until_ready().await;
    };
    for at in [0, 1] {
        upgrade(&mut cluster, at).await;
    }
    for node in 0..3 {
        cluster.cli_at(node, &["key", "create", "acme"]).await.expect("whoever leads, and whoever is asked");
        assert!(records(&cluster, node, &[]).await.is_empty());
    }
    upgrade(&mut cluster, 2).await;
    eventually("records begin", Duration::from_secs(20), async || {
        cluster.cli_at(2, &["key", "create", "acme"]).await.expect("a key");
        !records(&cluster, 2, &["--action", "key.create"]).await.is_empty()
    })
    .await;
    let (exit, verdict) = cluster.told_at(1, &["audit", "verify"]).await;
    assert_eq!(exit, Some(0), "{verdict}");
}
