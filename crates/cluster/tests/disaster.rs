//! A cluster that is lost, and the one that takes its place.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cluster::disaster::{self, BackupKey, Wish};
use tidegate_cluster::{Cluster, Error, Readiness, Settings, Start, admin_token_hash};
use tidegate_model::{KeyId, LEVEL, Millis, NodeId, Revision};
use tidegate_quota::ledger::reborn::Budgets;
use tidegate_state::{Command, CreateKey, Format, Outcome, Publish};

const NOW: Millis = Millis(1_767_225_600_000);
const PATIENCE: Duration = Duration::from_secs(20);

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn of(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn start(&self, name: &str, start: Start, address: Option<&str>) -> Cluster {
        let mut settings = Settings::new(self.of(name), start);
        settings.name = name.into();
        settings.feature_level = LEVEL;
        if let Some(address) = address {
            settings.bind = address.parse().unwrap();
        }
        let cluster = Cluster::start(settings).await.unwrap();
        until("ready", async || cluster.readiness() == Readiness::Ready).await;
        cluster
    }

    async fn join(&self, name: &str, through: &Cluster) -> Cluster {
        let token = through.create_join_token(None, 1).await.unwrap();
        let address = through.addresses().peer.clone();
        self.start(name, Start::Join { address, token }, None).await
    }

    async fn three(&self) -> [Cluster; 3] {
        let first = self.start("a", Start::Bootstrap, None).await;
        let second = self.join("b", &first).await;
        let third = self.join("c", &first).await;
        until("three vote", async || {
            let status = first.status().await;
            status.settled && status.control.group.voters.len() == 3
        })
        .await;
        [first, second, third]
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A document, a key that is revoked and one that is not, a secret.
async fn fill(cluster: &Cluster) {
    let publish = Publish {
        document: "version: 1 # planted-document".into(),
        format: Format::Yaml,
        replaces: None,
        author: "spec".into(),
        note: String::new(),
        policies: Revision(0),
    };
    cluster.propose(Command::PublishDocument(publish)).await.unwrap();
    for n in 1..=2 {
        let create = CreateKey {
            tenant: "default".into(),
            consumer: "acme".into(),
            name: format!("key {n}"),
            hash: [n; 32],
            prefix: "tg_".into(),
            expires_at: None,
        };
        cluster.propose(Command::CreateKey(create)).await.unwrap();
    }
    cluster.propose(Command::RevokeKey { id: KeyId(1) }).await.unwrap();
    let bytes = cluster.seal("partner", b"planted-secret").unwrap();
    cluster.propose(Command::PutSealed { name: "partner".into(), bytes }).await.unwrap();
}

fn is_filled(cluster: &Cluster) {
    cluster.read(|state| {
        assert_eq!(state.documents.current(), Revision(1));
        assert!(state.keys.by_id(KeyId(1)).unwrap().revoked_at.is_some());
        assert!(state.keys.by_id(KeyId(2)).unwrap().revoked_at.is_none());
    });
    let sealed = cluster.read(|state| state.sealed.bytes("partner").map(<[u8]>::to_vec)).unwrap();
    assert_eq!(cluster.unseal("partner", &sealed).unwrap(), b"planted-secret");
}

fn wish() -> Wish {
    Wish { name: "first".into(), now: NOW, budgets: Budgets::GoOn }
}

async fn refused(file: &[u8], key: &BackupKey, data: &Path) -> Error {
    disaster::restore(file, key, data, &wish()).await.map(|restored| restored.cluster).unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_new_cluster_that_others_join_and_the_old_ones_do_not() {
    let (home, key) = (Home::new(), BackupKey::new());
    let nodes = home.three().await;
    fill(&nodes[0]).await;
    let old = nodes[0].id();
    let place = nodes[0].addresses().peer.clone();
    // Whichever node is asked.
    let mut files = Vec::new();
    for node in &nodes {
        files.push(node.backup(&key.recipient().unwrap(), PATIENCE).await.unwrap());
    }
    for node in nodes {
        node.shutdown().await;
    }
    for planted in ["planted-secret", "planted-document", &key.reveal()] {
        assert!(files.iter().all(|file| !file.windows(planted.len()).any(|part| part == planted.as_bytes())));
    }
    let restored = disaster::restore(&files[2], &key, &home.of("new"), &wish()).await.unwrap();
    assert_eq!((restored.manifest.cluster.as_str(), restored.node), (old.to_string().as_str(), NodeId(4)));
    assert_ne!(restored.cluster, old);
    let token = std::fs::read_to_string(home.of("new/admin.token")).unwrap();

    let first = home.start("new", Start::Resume, Some(&place)).await;
    is_filled(&first);
    let known = first.read(|state| state.tokens.admin(&admin_token_hash(&token), NOW).map(|token| token.name.clone()));
    assert_eq!(known.as_deref(), Some("restored"));
    let second = home.join("new-b", &first).await;
    let third = home.join("new-c", &second).await;
    is_filled(&third);
    assert_eq!([second.node(), third.node()], [NodeId(5), NodeId(6)]);
    fill_more(&third).await;

    // An old node comes back, and finds the new cluster where the old one was.
    let mut settings = Settings::new(home.of("b"), Start::Resume);
    settings.name = "b".into();
    let late = Cluster::start(settings).await.unwrap();
    until("it is told", async || late.removed().borrow().is_some()).await;
    let why = late.removed().borrow().clone().unwrap();
    assert!(why.contains(&old.to_string()) && why.contains("restored from a backup") && why.contains("join"), "{why}");
    late.shutdown().await;
    assert_eq!(first.read(|state| state.members.len()), 3);
    for node in [first, second, third] {
        node.shutdown().await;
    }
}

async fn fill_more(cluster: &Cluster) {
    let applied = cluster.propose(Command::RevokeKey { id: KeyId(2) }).await.unwrap();
    assert_eq!(applied.outcome, Outcome::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_was_killed_becomes_no_empty_cluster_and_can_be_done_again() {
    let (home, key) = (Home::new(), BackupKey::new());
    let node = home.start("a", Start::Bootstrap, None).await;
    fill(&node).await;
    let file = node.backup(&key.recipient().unwrap(), PATIENCE).await.unwrap();
    node.shutdown().await;
    let new = home.of("new");
    for folder in ["tls", "control", "quota", "backups", "installing.tmp/tls"] {
        std::fs::create_dir_all(new.join(folder)).unwrap();
    }
    std::fs::write(new.join("LOCK"), "").unwrap();
    std::fs::write(new.join("installing.tmp/tls/cluster.key"), "half of it").unwrap();
    let error = Cluster::start(Settings::new(&new, Start::Bootstrap)).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("a restore was begun and not ended"), "{error}");
    disaster::restore(&file, &key, &new, &wish()).await.unwrap();
    assert!(!new.join("installing.tmp").exists());
    let restored = home.start("new", Start::Resume, None).await;
    is_filled(&restored);
    restored.shutdown().await;
    // Of a recovery that was killed nothing has happened, and nothing is left.
    std::fs::create_dir_all(new.join("installing.tmp/tls")).unwrap();
    home.start("new", Start::Resume, None).await.shutdown().await;
    assert!(!new.join("installing.tmp").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_changed_or_missing_byte_is_found_and_named_and_nothing_is_written() {
    let (home, key) = (Home::new(), BackupKey::new());
    let node = home.start("a", Start::Bootstrap, None).await;
    fill(&node).await;
    let file = node.backup(&key.recipient().unwrap(), PATIENCE).await.unwrap();
    node.shutdown().await;
    let manifest = disaster::inspect(&file, Some(&key)).unwrap();
    assert_eq!((manifest.counts.keys, manifest.counts.revoked_keys, manifest.counts.revision), (2, 1, 1));

    let new = home.of("new");
    let bodies: u64 = manifest.sections.iter().map(|section| section.bytes).sum();
    let head = file.len() - usize::try_from(bodies).unwrap();
    let section_at = |at: usize| {
        let mut end = head;
        manifest.sections.iter().find(|section| {
            end += usize::try_from(section.bytes).unwrap();
            at < end
        })
    };
    for at in (0..head).step_by(7).chain((head..file.len()).step_by(5)).chain([8, head - 1, head, file.len() - 1]) {
        let mut changed = file.clone();
        changed[at] ^= 1 << (at % 8);
        let broken = disaster::inspect(&changed, None).unwrap_err();
        let name = if at < head { "head" } else { section_at(at).unwrap().name.as_str() };
        assert_eq!(broken.section, name, "byte {at}: {broken}");
        assert!(disaster::inspect(&file[..at], None).is_err(), "cut at {at}");
    }
    let longer = [file.as_slice(), b"x"].concat();
    assert_eq!(disaster::inspect(&longer, None).unwrap_err().section, "end");
    let mut changed = file.clone();
    changed[file.len() - 3] ^= 4;
    for (bytes, key, word) in [
        (&changed, &key, "section quota"),
        (&file[..file.len() - 9].to_vec(), &key, "cut off"),
        (&file, &BackupKey::new(), "sealed for the key tgbp1-"),
    ] {
        let error = refused(bytes, key, &new).await;
        assert!(matches!(error, Error::Backup(_)) && error.to_string().contains(word), "{error}");
        assert_eq!(error.to_string().contains("damaged"), !word.contains("tgbp1"), "another key is no damage: {error}");
    }
    assert!(!new.exists());
    let error = refused(&file, &key, &home.of("a")).await;
    assert!(error.to_string().contains("is not empty"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_survivor_goes_on_as_a_new_cluster_with_all_that_it_has() {
    let home = Home::new();
    let nodes = home.three().await;
    fill(&nodes[0]).await;
    until("the survivor has it", async || nodes[2].read(|state| state.sealed.bytes("partner").is_some())).await;
    let old = nodes[0].id();
    let places: Vec<String> = nodes.iter().map(|node| node.addresses().peer.clone()).collect();
    let error = disaster::survey(&home.of("c")).await.err().unwrap();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    for node in nodes {
        node.shutdown().await;
    }
    let survivor = disaster::survey(&home.of("c")).await.unwrap();
    assert_eq!((survivor.cluster(), survivor.node(), survivor.voters().len()), (old, NodeId(3), 3));
    let [control, quota] = survivor.standing();
    assert!(control.committed <= control.last && quota.committed <= quota.last && control.heard.is_some());
    let recovered = disaster::recover(survivor, NOW, Budgets::GoOn).await.unwrap();
    assert_eq!((recovered.node, recovered.epoch), (NodeId(3), 2));

    let first = home.start("c", Start::Resume, Some(&places[2])).await;
    is_filled(&first);
    assert!(first.applied().borrow().to_owned() > control.last);
    let second = home.join("d", &first).await;
    is_filled(&second);
    assert_eq!(second.node(), NodeId(4));
    let mut settings = Settings::new(home.of("a"), Start::Resume);
    settings.name = "a".into();
    let late = Cluster::start(settings).await.unwrap();
    until("it is told", async || late.removed().borrow().is_some()).await;
    let why = late.removed().borrow().clone().unwrap();
    assert!(why.contains("lost its quorum") && why.contains(&recovered.cluster.to_string()), "{why}");
    late.shutdown().await;
    // What was there before is kept.
    let before = home.of("c").join(format!("backups/before-recover-{old}"));
    assert!(before.join("control/log.redb").exists() && before.join("node.json").exists());
    for node in [first, second] {
        node.shutdown().await;
    }
}
