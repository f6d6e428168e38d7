//! Files that were cut off, changed or lost: a clear error, nothing in silence.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tidegate_cluster::{Cluster, Damage, Error, Settings, Start};
use tidegate_model::Revision;
use tidegate_state::{Command, Format, Publish};

/// A stopped node with documents in its log.
async fn node(path: &Path) {
    let cluster = Cluster::start(Settings::new(path, Start::Bootstrap)).await.unwrap();
    for revision in 0..20 {
        let publish = Publish {
            document: format!("version: 1 # {revision} {}", "find-me ".repeat(100)).into(),
            format: Format::Yaml,
            replaces: None,
            author: "spec".into(),
            note: String::new(),
            policies: Revision(0),
        };
        cluster.propose(Command::PublishDocument(publish)).await.unwrap();
    }
    cluster.shutdown().await;
}

async fn damage(path: &Path) -> Damage {
    match Cluster::start(Settings::new(path, Start::Resume)).await {
        Err(Error::Damage(damage)) => damage,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("started on a damaged disk"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_in_an_entry_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path()).await;
    let log = dir.path().join("control/log.redb");
    let mut bytes = fs::read(&log).unwrap();
    let places: Vec<usize> =
        bytes.windows(7).enumerate().filter(|(_, found)| found == b"find-me").map(|(at, _)| at).collect();
    for place in places {
        bytes[place] ^= 1;
    }
    fs::write(&log, bytes).unwrap();
    let damage = damage(dir.path()).await;
    assert!(damage.file.ends_with("control/log.redb"), "{damage}");
    assert!(damage.to_string().contains("cluster remove"), "{damage}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_cut_off_anywhere_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path()).await;
    let log = dir.path().join("control/log.redb");
    let whole = fs::read(&log).unwrap();
    for part in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(&log, &whole[..part]).unwrap();
        let damage = damage(dir.path()).await;
        assert!(damage.file.ends_with("control/log.redb"), "{part}: {damage}");
    }
    fs::remove_file(&log).unwrap();
    assert_eq!(damage(dir.path()).await.what, "missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_identity_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path()).await;
    for file in ["tls/cluster.key", "tls/node.der", "node.json"] {
        let path = dir.path().join(file);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(damage(dir.path()).await.file.ends_with(file), "{file}");
        fs::write(&path, &kept[..kept.len() / 2]).unwrap();
        let cut = Cluster::start(Settings::new(dir.path(), Start::Resume)).await;
        assert!(cut.is_err(), "{file} cut in half");
        fs::write(&path, kept).unwrap();
    }
    Cluster::start(Settings::new(dir.path(), Start::Resume)).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_an_identity_is_found_before_another_node_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path()).await;
    for file in ["tls/cluster.key", "tls/node.der", "tls/node.key", "tls/ca.der"] {
        let path = dir.path().join(file);
        let kept = fs::read(&path).unwrap();
        for at in [0, kept.len() / 3, kept.len() / 2, kept.len() - 1] {
            let mut changed = kept.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(damage(dir.path()).await.file.ends_with(file), "{file}, byte {at}");
        }
        fs::write(&path, kept).unwrap();
    }
    let path = dir.path().join("node.json");
    let kept = fs::read_to_string(&path).unwrap();
    let cluster = kept.split("\"cluster\": \"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(&path, kept.replace(cluster, &"0123456789abcdef".repeat(2))).unwrap();
    assert!(damage(dir.path()).await.file.ends_with("node.json"), "another cluster's id");
    for (at, byte) in kept.bytes().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace()) {
        let mut changed = kept.clone().into_bytes();
        changed[at] = byte ^ 1;
        fs::write(&path, changed).unwrap();
        let started = Cluster::start(Settings::new(dir.path(), Start::Resume)).await;
        assert!(started.is_err(), "node.json, byte {at}, which was {:?}", char::from(byte));
    }
    // As a release wrote it that knew of no sum.
    let sum = kept.rfind(",").expect("a field before it");
    fs::write(&path, format!("{}\n}}", &kept[..sum])).unwrap();
    Cluster::start(Settings::new(dir.path(), Start::Resume)).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_or_lost_snapshot_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path()).await;
    let cluster = Cluster::start(Settings::new(dir.path(), Start::Resume)).await.unwrap();
    cluster.compact().await.unwrap();
    let control = dir.path().join("control");
    let snapshots = || -> Vec<_> {
        let names = fs::read_dir(&control).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("snapshot-0") && path.extension().is_none()).collect()
    };
    let begun = std::time::Instant::now();
    while snapshots().is_empty() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    cluster.shutdown().await;
    let path = snapshots().pop().unwrap();
    let whole = fs::read(&path).unwrap();
    for at in [0, 20, 45, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        fs::write(&path, &changed).unwrap();
        let damage = damage(dir.path()).await;
        assert_eq!(damage.file, path);
        assert!(damage.place.starts_with("offset"), "{damage}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(damage(dir.path()).await.file, path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_log_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path()).await;
    let log = dir.path().join("control/log.redb");
    let older = fs::read(&log).unwrap();
    let cluster = Cluster::start(Settings::new(dir.path(), Start::Resume)).await.unwrap();
    let token = cluster.create_join_token(None, 1).await.unwrap();
    assert!(!token.reveal().is_empty());
    cluster.shutdown().await;
    fs::write(&log, older).unwrap();
    let damage = damage(dir.path()).await;
    assert!(damage.what.contains("was committed"), "{damage}");
}
