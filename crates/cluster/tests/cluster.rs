//! Clusters in one process, over real QUIC on loopback and real files.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cluster::{Cluster, Error, JoinToken, Readiness, Settings, Start};
use tidegate_model::{NodeId, Revision};
use tidegate_state::{Command, Format, Outcome, Publish};

struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self, name: &str, start: Start) -> Settings {
        let mut settings = Settings::new(self.of(name), start);
        settings.name = name.into();
        settings.join_patience = Duration::from_secs(10);
        settings
    }

    async fn bootstrap(&self, name: &str) -> Cluster {
        Cluster::start(self.settings(name, Start::Bootstrap)).await.unwrap()
    }

    async fn join(&self, name: &str, through: &Cluster) -> Cluster {
        let token = through.create_join_token(None, 1).await.unwrap();
        let cluster = self.try_join(name, through, token).await.unwrap();
        ready(&cluster).await;
        cluster
    }

    async fn try_join(&self, name: &str, through: &Cluster, token: JoinToken) -> Result<Cluster, Error> {
        let address = through.addresses().peer.clone();
        Cluster::start(self.settings(name, Start::Join { address, token })).await
    }

    /// The same node, at the same address.
    async fn resume(&self, name: &str, address: &str) -> Cluster {
        let mut settings = self.settings(name, Start::Resume);
        settings.bind = address.parse().unwrap();
        Cluster::start(settings).await.unwrap()
    }

    async fn three(&self) -> [Cluster; 3] {
        let first = self.bootstrap("a").await;
        let second = self.join("b", &first).await;
        let third = self.join("c", &first).await;
        voters(&first, &[1, 2, 3]).await;
        [first, second, third]
    }
}

async fn until(what: &str, patience: u64, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(patience);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {patience} s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ready(cluster: &Cluster) {
    until("ready", 10, async || cluster.readiness() == Readiness::Ready).await;
}

async fn voters(cluster: &Cluster, expected: &[u64]) {
    until(&format!("voters {expected:?}"), 20, async || {
        let status = cluster.status().await;
        let is =
            |voters: &std::collections::BTreeSet<NodeId>| voters.iter().map(|node| node.0).eq(expected.iter().copied());
        // Settled: a leader that dies before a change is committed takes the vote it still needs with it.
        let group = &status.control.group;
        is(&group.voters) && group.settled && group.leader.is_some()
    })
    .await;
}

fn document(text: &str) -> Command {
    Command::PublishDocument(Publish {
        document: text.into(),
        format: Format::Yaml,
        replaces: None,
        author: "spec".into(),
        note: String::new(),
        policies: Revision(0),
    })
}

fn text(cluster: &Cluster) -> String {
    cluster.read(|state| state.documents.latest().map(|published| published.document.to_string()).unwrap_or_default())
}

async fn leader(nodes: &[Cluster]) -> &Cluster {
    let mut found = None;
    until("a leader", 10, async || {
        let status = nodes[0].status().await;
        found = nodes.iter().find(|node| Some(node.node()) == status.control.group.leader);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_a_cluster_and_agree() {
    let home = Home::new();
    let nodes = home.three().await;
    // From a follower: applied there when it returns, and everywhere soon after.
    let applied = nodes[2].propose(document("version: 1")).await.unwrap();
    assert_eq!(applied.outcome, Outcome::Published { revision: Revision(1) });
    assert_eq!(text(&nodes[2]), "version: 1");
    let everywhere = nodes[1].wait_applied_everywhere(applied.index, Duration::from_secs(5)).await.unwrap();
    assert_eq!(everywhere.acked, [NodeId(1), NodeId(2), NodeId(3)]);
    for node in &nodes {
        assert_eq!(text(node), "version: 1");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_its_leader_and_a_restart_from_disk() {
    let home = Home::new();
    let mut nodes = home.three().await.to_vec();
    nodes[0].propose(document("one")).await.unwrap();
    let first = leader(&nodes).await.node();
    let at = nodes.iter().position(|node| node.node() == first).unwrap();
    let dead = nodes.remove(at);
    let address = dead.addresses().peer.clone();
    dead.shutdown().await;
    let killed = Instant::now();
    nodes[0].propose(document("two")).await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(3), "failover took {:?}", killed.elapsed());

    let name = ["a", "b", "c"][usize::try_from(first.0).unwrap() - 1];
    let back = home.resume(name, &address).await;
    assert_eq!(back.node(), first);
    ready(&back).await;
    assert_eq!(text(&back), "two");
    for node in nodes.iter().chain([&back]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fourth_learns_and_the_fifth_makes_five_voters() {
    let home = Home::new();
    let mut nodes = home.three().await.to_vec();
    nodes.push(home.join("d", &nodes[1]).await);
    voters(&nodes[0], &[1, 2, 3]).await;
    nodes.push(home.join("e", &nodes[3]).await);
    voters(&nodes[0], &[1, 2, 3, 4, 5]).await;
    until("the quota group follows", 10, async || nodes[4].status().await.quota.group.voters.len() == 5).await;

    // Removed for good: its id is gone, it knows it, and the others go on as three voters.
    nodes[0].remove(NodeId(5)).await.unwrap();
    voters(&nodes[0], &[1, 2, 3]).await;
    until("the removed node knows", 10, async || nodes[4].removed().borrow().is_some()).await;
    let again = home.join("f", &nodes[2]).await;
    assert_eq!(again.node(), NodeId(6), "ids are never reused");
    for node in nodes.iter().chain([&again]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leaves_hands_everything_over() {
    let home = Home::new();
    let mut nodes = home.three().await.to_vec();
    nodes.push(home.join("d", &nodes[0]).await);
    let first = leader(&nodes).await.node();
    let at = nodes.iter().position(|node| node.node() == first).unwrap();
    let leaving = nodes.remove(at);
    leaving.leave().await.unwrap();
    leaving.shutdown().await;
    let expected: Vec<u64> = (1..=4).filter(|id| *id != first.0).collect();
    voters(&nodes[0], &expected).await;
    nodes[0].propose(document("after")).await.unwrap();
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_where_it_is_sent() {
    let home = Home::new();
    let nodes = home.three().await;
    let first = leader(&nodes).await.node();
    let to = nodes.iter().map(Cluster::node).find(|node| *node != first).unwrap();
    until("transferred", 10, async || nodes[0].transfer(to).await.is_ok()).await;
    until("both groups follow", 5, async || {
        let status = nodes[0].status().await;
        status.control.group.leader == Some(to) && status.quota.group.leader == Some(to)
    })
    .await;
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_tokens_are_checked() {
    let home = Home::new();
    let node = home.bootstrap("a").await;
    let refused = async |name: &str, token: JoinToken| match home.try_join(name, &node, token).await {
        Err(Error::JoinRefused(reason)) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("let in"),
    };
    let expired = node.create_join_token(Some(Duration::ZERO), 1).await.unwrap();
    assert!(refused("expired", expired).await.contains("expired"));

    let once = node.create_join_token(None, 1).await.unwrap();
    let second = home.try_join("b", &node, once.clone()).await.unwrap();
    assert!(refused("used", once).await.contains("used up"));

    // A token of another cluster: the joiner does not even show it.
    let other = home.bootstrap("other").await;
    let foreign = other.create_join_token(None, 1).await.unwrap();
    assert!(refused("foreign", foreign.clone()).await.contains("does not belong"));

    // The right fingerprint, another secret.
    let (mine, theirs) = (node.create_join_token(None, 1).await.unwrap().reveal(), foreign.reveal());
    let mixed = format!("{}-{}", mine.rsplit_once('-').unwrap().0, theirs.rsplit_once('-').unwrap().1);
    assert!(refused("mixed", JoinToken::parse(&mixed).unwrap()).await.contains("unknown"));
    assert!(JoinToken::parse("tgj1-00").is_err());
    for node in [node, second, other] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_serves_one_process_and_resumes_as_what_it_was() {
    let home = Home::new();
    let node = home.bootstrap("a").await;
    let again = Cluster::start(home.settings("a", Start::Bootstrap)).await;
    assert!(matches!(again, Err(Error::InUse(_))));
    node.propose(document("kept")).await.unwrap();
    let (id, token) = (node.id(), std::fs::read_to_string(home.of("a/admin.token")).unwrap());
    node.shutdown().await;

    // Asked to form a cluster, a folder with a node in it resumes as that node.
    let back = Cluster::start(home.settings("a", Start::Bootstrap)).await.unwrap();
    assert_eq!((back.id(), back.node(), text(&back).as_str()), (id, NodeId(1), "kept"));
    let hash = tidegate_cluster::admin_token_hash(&token);
    assert!(back.read(|state| state.tokens.admin(&hash, state.now()).is_some()));
    ready(&back).await;
    back.shutdown().await;

    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str| std::fs::metadata(home.of(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a"), mode("a/tls"), mode("a/control")), (0o700, 0o700, 0o700));
    for file in ["a/admin.token", "a/node.json", "a/tls/cluster.key", "a/tls/node.key", "a/control/log.redb"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_lets_the_folder_go() {
    let home = Home::new();
    let fails = async |why: &str, settings: Settings| {
        assert!(Cluster::start(settings).await.is_err(), "{why}");
        let lock = std::fs::File::options().write(true).open(home.of("a/LOCK")).unwrap();
        assert!(lock.try_lock().is_ok(), "the folder is still held: {why}");
    };
    fails("there is nothing to resume", home.settings("a", Start::Resume)).await;
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut settings = home.settings("a", Start::Bootstrap);
    settings.bind = taken.local_addr().unwrap();
    fails("its port is taken", settings).await;
    // When its first entry is committed.
    std::fs::create_dir(home.of("a/admin.token")).unwrap();
    fails("the token cannot be written", home.settings("a", Start::Bootstrap)).await;
    std::fs::remove_dir(home.of("a/admin.token")).unwrap();

    home.bootstrap("a").await.shutdown().await;
    // When the other log is open.
    let log = home.of("a/quota/log.redb");
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, "none").unwrap();
    fails("a log is damaged", home.settings("a", Start::Resume)).await;
    std::fs::write(&log, whole).unwrap();
    Cluster::start(home.settings("a", Start::Resume)).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_peers_serves_what_it_has() {
    let home = Home::new();
    let nodes = home.three().await;
    nodes[0].propose(document("kept")).await.unwrap();
    for node in &nodes {
        until("everywhere", 5, async || text(node) == "kept").await;
    }
    let address = nodes[2].addresses().peer.clone();
    for node in &nodes {
        node.shutdown().await;
    }
    let alone = home.resume("c", &address).await;
    until("served from disk", 1, async || text(&alone) == "kept").await;
    assert!(matches!(alone.readiness(), Readiness::NotYet(_)));
    until("degraded", 7, async || matches!(alone.readiness(), Readiness::Degraded(_))).await;
    assert!(!alone.is_live());
    alone.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founder_of_two_nodes_can_leave() {
    let home = Home::new();
    let first = home.bootstrap("a").await;
    let second = home.join("b", &first).await;
    first.propose(document("kept")).await.unwrap();
    assert!(first.remove(NodeId(1)).await.is_err(), "the only voter is not removed by force");
    first.leave().await.unwrap();
    first.shutdown().await;
    voters(&second, &[2]).await;
    assert_eq!(second.propose(document("more")).await.unwrap().outcome, Outcome::Published { revision: Revision(2) });
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_is_replaced() {
    let home = Home::new();
    let mut nodes = home.three().await.to_vec();
    nodes.push(home.join("d", &nodes[0]).await);
    let first = leader(&nodes).await.node();
    let at = nodes.iter().position(|node| node.node() == first).unwrap();
    let removed = nodes.remove(at);
    nodes[0].remove(first).await.unwrap();
    let expected: Vec<u64> = (1..=4).filter(|id| *id != first.0).collect();
    voters(&nodes[0], &expected).await;
    nodes[0].propose(document("after")).await.unwrap();
    until("the removed node knows", 10, async || removed.removed().borrow().is_some()).await;
    for node in nodes.iter().chain([&removed]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_and_a_restart_begin_from_a_snapshot() {
    let home = Home::new();
    let first = home.bootstrap("a").await;
    for revision in 1..=60 {
        first.propose(document(&format!("revision {revision}"))).await.unwrap();
    }
    first.compact().await.unwrap();
    until("compacted", 5, async || first.status().await.control.group.snapshot > 0).await;
    let second = home.join("b", &first).await;
    until("the newcomer has it", 5, async || text(&second) == "revision 60").await;
    assert_eq!(second.read(|state| state.documents.history().count()), 60);
    let hash = first.status().await.state_hash;
    until("equal states", 5, async || {
        let (mine, theirs) = (first.status().await.state_hash, second.status().await.state_hash);
        mine.1 == theirs.1 && mine.0 == theirs.0
    })
    .await;
    assert!(hash.1 <= second.status().await.state_hash.1);
    let address = second.addresses().peer.clone();
    second.shutdown().await;
    let back = home.resume("b", &address).await;
    ready(&back).await;
    assert_eq!(text(&back), "revision 60");
    back.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moved_is_found_again() {
    let home = Home::new();
    let nodes = home.three().await;
    nodes[2].shutdown().await;
    let moved = home.resume("c", "127.0.0.1:0").await;
    assert_ne!(moved.addresses().peer, nodes[2].addresses().peer);
    ready(&moved).await;
    until("the state knows", 10, async || {
        nodes[0].read(|state| state.members.node(NodeId(3)).unwrap().addresses.peer == moved.addresses().peer)
    })
    .await;
    nodes[0].propose(document("found")).await.unwrap();
    until("replicated to the new place", 5, async || text(&moved) == "found").await;
    for node in nodes[..2].iter().chain([&moved]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_tells_what_it_serves_and_which_release_it_runs() {
    let home = Home::new();
    let first = home.bootstrap("a").await;
    let second = home.join("b", &first).await;
    first.serves(Revision(7));
    second.serves(Revision(6));
    for asked in [&first, &second] {
        until("both are known", 5, async || {
            let members = asked.status().await.members;
            let facts: Vec<_> =
                members.iter().map(|member| (member.id.0, member.revision, member.version.as_deref())).collect();
            let release = Some(env!("CARGO_PKG_VERSION"));
            facts == [(1, Some(Revision(7)), release), (2, Some(Revision(6)), release)]
        })
        .await;
    }
    second.shutdown().await;
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_died_long_ago_is_forgotten_and_a_voter_is_not() {
    let home = Home::new();
    let after = Some(Duration::from_secs(3));
    let start = async |name: &str, start: Start| {
        Cluster::start(Settings { forget_after: after, ..home.settings(name, start) }).await.unwrap()
    };
    let first = start("a", Start::Bootstrap).await;
    let mut others = Vec::new();
    for name in ["b", "c", "d"] {
        let token = first.create_join_token(None, 1).await.unwrap();
        others.push(start(name, Start::Join { address: first.addresses().peer.clone(), token }).await);
        ready(others.last().unwrap()).await;
    }
    voters(&first, &[1, 2, 3]).await;
    // Both die without a word. The learner may have taken the dead voter's vote, or died before it could.
    let (learner, voter) = (others.pop().unwrap(), others.pop().unwrap());
    learner.shutdown().await;
    until("the learner is forgotten", 30, async || {
        first.status().await.members.iter().all(|member| member.id != NodeId(4))
    })
    .await;
    voter.shutdown().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let members: Vec<u64> = first.status().await.members.iter().map(|member| member.id.0).collect();
    assert_eq!(members, [1, 2, 3], "nobody could vote in its place, so it is waited for");
    // It comes back as who it was; the forgotten one does not.
    let back = home.resume("c", &voter.addresses().peer.clone()).await;
    ready(&back).await;
    let late = Cluster::start(home.settings("d", Start::Resume)).await.unwrap();
    until("it hears that it was removed", 20, async || late.removed().borrow().is_some()).await;
    for cluster in [late, back, others.pop().unwrap(), first] {
        cluster.shutdown().await;
    }
}
