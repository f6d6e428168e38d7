//! The cluster's key is replaced while the cluster runs: who has which key, and who opens what.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cluster::disaster::{self, BackupKey, Wish};
use tidegate_cluster::{Cluster, ProposeError, Readiness, Settings, Start};
use tidegate_model::{LEVEL, Millis};
use tidegate_quota::ledger::reborn::Budgets;
use tidegate_state::Command;

async fn until(what: &str, patience: u64, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(patience);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {patience} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn start(dir: &TempDir, name: &str, start: Start, bind: Option<&str>) -> Cluster {
    start_at(dir, name, start, bind, LEVEL).await
}

async fn start_at(dir: &TempDir, name: &str, start: Start, bind: Option<&str>, level: u32) -> Cluster {
    let mut settings = Settings::new(dir.path().join(name), start);
    settings.name = name.into();
    settings.feature_level = level;
    settings.key_grace = Duration::from_secs(2);
    if let Some(bind) = bind {
        // Connections of the one before end in their own time.
        until("its port is free", 20, async || std::net::UdpSocket::bind(bind).is_ok()).await;
        settings.bind = bind.parse().unwrap();
    }
    let cluster = Cluster::start(settings).await.unwrap();
    until("ready", 20, async || cluster.readiness() == Readiness::Ready).await;
    cluster
}

async fn join(dir: &TempDir, name: &str, through: &Cluster) -> Cluster {
    let token = through.create_join_token(None, 1).await.unwrap();
    start(dir, name, Start::Join { address: through.addresses().peer.clone(), token }, None).await
}

async fn three(dir: &TempDir) -> [Cluster; 3] {
    let first = start(dir, "a", Start::Bootstrap, None).await;
    let (second, third) = (join(dir, "b", &first).await, join(dir, "c", &first).await);
    until("three vote", 20, async || {
        let status = first.status().await;
        status.settled && status.control.group.voters.len() == 3
    })
    .await;
    [first, second, third]
}

/// Everything is sealed with a key of this generation, and the ones before are deleted here.
async fn is_replaced(cluster: &Cluster, generation: u64) {
    until(&format!("generation {generation}"), 90, async || {
        let key = cluster.cluster_key();
        key.generation == generation && key.holders.is_none() && !key.reseals && key.older == 0 && !key.lacks
    })
    .await;
}

async fn plant(cluster: &Cluster, name: &str) -> Vec<u8> {
    let bytes = cluster.seal(name, b"planted").unwrap();
    cluster.propose(Command::PutSealed { name: name.into(), bytes: bytes.clone() }).await.unwrap();
    bytes
}

fn sealed(cluster: &Cluster, name: &str) -> Vec<u8> {
    cluster.read(|state| state.sealed.bytes(name).map(<[u8]>::to_vec)).unwrap_or_default()
}

async fn opens(cluster: &Cluster) {
    until("the secret is opened", 20, async || {
        cluster.unseal("partner", &sealed(cluster, "partner")).is_ok_and(|value| value == b"planted")
    })
    .await;
}

fn holds(folder: &Path, key: &[u8]) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.into_iter().any(|file| file.windows(key.len()).any(|window| window == key))
}

fn first_key(dir: &TempDir, name: &str) -> Vec<u8> {
    std::fs::read(dir.path().join(name).join("tls/cluster.key")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_get_another_key_also_who_was_down_and_who_joins_and_the_one_before_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&dir).await;
    let bytes = plant(&a, "partner").await;
    let (first, subjects) = (first_key(&dir, "a"), a.subjects_key());
    let address = c.addresses().peer.clone();
    c.shutdown().await;

    assert_eq!(b.rotate_cluster_key().await.unwrap(), 2);
    let again = a.rotate_cluster_key().await;
    assert!(again.as_ref().is_err_and(|why| why.to_string().contains("is being replaced")), "{again:?}");
    opens(&a).await;
    let d = join(&dir, "d", &a).await;
    opens(&d).await;
    for node in [&a, &b, &d] {
        is_replaced(node, 2).await;
    }
    assert_ne!(sealed(&a, "partner"), bytes, "sealed anew");
    opens(&a).await;
    // Everybody has forgotten the key that it knows.
    let c = start(&dir, "c", Start::Resume, Some(&address)).await;
    assert!(!c.cluster_key().lacks, "not ready without the key");
    opens(&c).await;
    is_replaced(&c, 2).await;
    let e = join(&dir, "e", &a).await;
    opens(&e).await;
    for (name, cluster) in [("a", &a), ("b", &b), ("c", &c), ("d", &d), ("e", &e)] {
        assert!(!holds(&dir.path().join(name).join("tls"), &first), "{name} keeps the first key");
        assert_eq!(cluster.subjects_key(), subjects, "{name}: counts of limits would be lost");
        assert!(cluster.unseal("partner", &bytes).is_err(), "{name}: the old key opens nothing");
    }
    for cluster in [a, b, c, d, e] {
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_with_the_only_copy_of_a_new_key_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&dir).await;
    plant(&a, "partner").await;
    let leader = a.status().await.control.group.leader.unwrap();
    let mut nodes = vec![("a", a), ("b", b), ("c", c)];
    let at = nodes.iter().position(|(_, node)| node.node() == leader).unwrap();
    let (name, dying) = nodes.remove(at);
    let address = dying.addresses().peer.clone();
    dying.rotate_cluster_key().await.unwrap();
    dying.shutdown().await;
    for (_, node) in &nodes {
        is_replaced(node, 2).await;
        opens(node).await;
    }
    let back = start(&dir, name, Start::Resume, Some(&address)).await;
    is_replaced(&back, 2).await;
    opens(&back).await;
    back.shutdown().await;
    for (_, node) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_while_things_are_sealed_anew_loses_none_and_all_start_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&dir).await;
    for n in 0..200 {
        plant(&a, &format!("many {n}")).await;
    }
    plant(&a, "partner").await;
    let leader = a.status().await.control.group.leader.unwrap();
    let mut nodes = vec![("a", a), ("b", b), ("c", c)];
    let at = nodes.iter().position(|(_, node)| node.node() == leader).unwrap();
    let (name, dying) = nodes.remove(at);
    let address = dying.addresses().peer.clone();
    dying.rotate_cluster_key().await.unwrap();
    until("the other key seals", 30, async || dying.cluster_key().generation == 2).await;
    dying.shutdown().await;
    for (_, node) in &nodes {
        is_replaced(node, 2).await;
    }
    nodes.push((name, start(&dir, name, Start::Resume, Some(&address)).await));
    is_replaced(&nodes[2].1, 2).await;
    let mut places = Vec::new();
    for (name, node) in nodes {
        places.push((name, node.addresses().peer.clone()));
        node.shutdown().await;
    }
    let again = |at: usize| start(&dir, places[at].0, Start::Resume, Some(places[at].1.as_str()));
    let (a, b, c) = tokio::join!(again(0), again(1), again(2));
    for node in [&a, &b, &c] {
        opens(node).await;
        for n in 0..200 {
            let name = format!("many {n}");
            assert_eq!(node.unseal(&name, &sealed(node, &name)).as_deref(), Ok(&b"planted"[..]), "{name}");
        }
        assert_eq!(node.cluster_key().generation, 2);
    }
    // Again, with what is sealed meanwhile.
    assert_eq!(c.rotate_cluster_key().await.unwrap(), 3);
    for n in 0..20 {
        plant(&b, &format!("late {n}")).await;
    }
    for node in [&a, &b, &c] {
        is_replaced(node, 3).await;
        for n in 0..20 {
            let name = format!("late {n}");
            assert_eq!(node.unseal(&name, &sealed(node, &name)).as_deref(), Ok(&b"planted"[..]), "{name}");
        }
    }
    for cluster in [a, b, c] {
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_removed_learns_no_key_and_one_that_it_may_have_never_seals() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&dir).await;
    plant(&a, "partner").await;
    a.rotate_cluster_key().await.unwrap();
    // It may have the new key by now, or not.
    a.remove(c.node()).await.unwrap();
    is_replaced(&a, 2).await;
    is_replaced(&b, 2).await;
    opens(&b).await;
    assert!(c.unseal("partner", &sealed(&a, "partner")).is_err());
    assert_eq!(c.cluster_key().generation, 1);
    // As a member it would ask within this time.
    a.rotate_cluster_key().await.unwrap();
    is_replaced(&a, 3).await;
    assert!(c.unseal("partner", &sealed(&a, "partner")).is_err());
    opens(&a).await;
    for cluster in [a, b, c] {
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_from_before_amid_and_after_become_clusters_that_open_everything() {
    let (dir, key) = (tempfile::tempdir().unwrap(), BackupKey::new());
    let a = start(&dir, "a", Start::Bootstrap, None).await;
    plant(&a, "partner").await;
    let patience = Duration::from_secs(20);
    let back_up = async || a.backup(&key.recipient().unwrap(), patience).await.unwrap();
    let (first, subjects) = (first_key(&dir, "a"), a.subjects_key());
    let mut files = vec![("before", 1, back_up().await)];
    a.rotate_cluster_key().await.unwrap();
    files.push(("amid", 2, back_up().await));
    is_replaced(&a, 2).await;
    files.push(("after", 2, back_up().await));
    a.shutdown().await;
    for (name, generation, file) in files {
        let wish = Wish { name: name.into(), now: Millis(1_767_225_600_000), budgets: Budgets::GoOn };
        disaster::restore(&file, &key, &dir.path().join(name), &wish).await.unwrap();
        let restored = start(&dir, name, Start::Resume, None).await;
        opens(&restored).await;
        assert_eq!(restored.subjects_key(), subjects, "{name}");
        is_replaced(&restored, generation).await;
        opens(&restored).await;
        let has_first = holds(&dir.path().join(name).join("tls"), &first);
        assert_eq!(has_first, generation == 1, "{name}");
        restored.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_node_of_an_older_release_lives_it_is_refused_and_nothing_is_left_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let old = start_at(&dir, "old", Start::Bootstrap, None, 3).await;
    let a = join(&dir, "a", &old).await;
    plant(&a, "partner").await;
    for _ in 0..10 {
        let refused = a.rotate_cluster_key().await.unwrap_err();
        let ProposeError::TooNew { reason, .. } = &refused else { panic!("{refused:?}") };
        assert!(reason.contains("another key of the cluster needs feature level 4"), "{reason}");
    }
    let key = a.cluster_key();
    assert_eq!((key.generation, key.holders, key.older), (1, None, 0));
    let late = join(&dir, "late", &a).await;
    opens(&late).await;
    assert_eq!(late.subjects_key(), old.subjects_key());
    for cluster in [a, old, late] {
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_survivor_of_a_cluster_that_was_lost_amid_a_replacement_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = three(&dir).await;
    plant(&a, "partner").await;
    let subjects = a.subjects_key();
    a.rotate_cluster_key().await.unwrap();
    until("the other key seals", 30, async || b.cluster_key().generation == 2).await;
    let place = b.addresses().peer.clone();
    for node in [a, b, c] {
        node.shutdown().await;
    }
    let survivor = disaster::survey(&dir.path().join("b")).await.unwrap();
    disaster::recover(survivor, Millis(1_767_225_600_000), Budgets::GoOn).await.unwrap();
    let b = start(&dir, "b", Start::Resume, Some(&place)).await;
    opens(&b).await;
    let d = join(&dir, "d", &b).await;
    is_replaced(&b, 2).await;
    for node in [&b, &d] {
        opens(node).await;
        assert_eq!(node.subjects_key(), subjects);
    }
    assert_eq!(d.rotate_cluster_key().await.unwrap(), 3);
    is_replaced(&d, 3).await;
    is_replaced(&b, 3).await;
    opens(&d).await;
    for node in [b, d] {
        node.shutdown().await;
    }
}
