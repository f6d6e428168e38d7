use std::time::Instant;

use openraft::ChangeMembers;

use super::*;
use crate::cluster::Cluster;
use crate::settings::{Settings, Start};

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_change_of_voters_that_stopped_between_its_steps_is_brought_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let start = async |name: &str, start| Cluster::start(Settings::new(home.path().join(name), start)).await.unwrap();
    let mut nodes = vec![start("a", Start::Bootstrap).await];
    for name in ["b", "c"] {
        let token = nodes[0].create_join_token(None, 1).await.unwrap();
        let address = nodes[0].addresses().peer.clone();
        nodes.push(start(name, Start::Join { address, token }).await);
    }
    let three_vote = async |nodes: &[Cluster]| {
        let status = nodes[0].status().await;
        status.settled && status.control.group.voters.len() == 3
    };
    until("three vote", async || three_vote(&nodes).await).await;

    let leader = nodes.iter().find(|node| node.inner.control.is_leader()).expect("somebody leads");
    let others = nodes.iter().map(|node| node.node().0).filter(|id| *id != leader.node().0);
    let two = ChangeMembers::ReplaceAllVoters(others.take(1).chain([leader.node().0]).collect::<BTreeSet<u64>>());
    {
        let mut change = Box::pin(leader.inner.control.raft.change_membership(two, true));
        while !leader.inner.control.is_joint() {
            assert!(futures_util::poll!(&mut change).is_pending(), "both steps were taken at once");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    } // As if whoever takes the second step had died.
    until("the voters are what they were", async || {
        three_vote(&nodes).await && nodes.iter().all(|node| !node.inner.control.is_joint())
    })
    .await;
    for node in nodes {
        node.shutdown().await;
    }
}
