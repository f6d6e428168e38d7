//! How the cluster is: this node's part, and the whole as its leaders see it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_model::{NodeId, Revision};
use tidegate_state::{Addresses, ClusterId};

use crate::cluster::Inner;
use crate::group::{Group, GroupStatus};
use crate::propose;
use crate::replica::Machine;

const ASK: Duration = Duration::from_millis(500);

/// The cluster as seen from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub control: Part,
    pub quota: Part,
    /// Both groups have the same voters, by entries that are committed: no failure finds them half changed.
    pub settled: bool,
    pub members: Vec<MemberStatus>,
    /// Hash of the control state and the entry it is the outcome of: equal on all nodes at the same entry.
    pub state_hash: ([u8; 32], u64),
}

/// One group on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub group: GroupStatus,
    pub disk: Disk,
    /// Set when the group stopped on this node.
    pub failure: Option<String>,
}

/// What a group's disk did since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub fsyncs: u64,
    pub log_bytes: u64,
    pub log_entries: u64,
    pub snapshots: u64,
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    pub node: NodeId,
    pub control: Part,
    pub quota: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: NodeId,
    pub name: String,
    pub addresses: Addresses,
    pub feature_level: u32,
    /// Votes in the control group; else it is a learner.
    pub voter: bool,
    /// Its node lease is kept. `None`: no control leader could be asked.
    pub live: Option<bool>,
    pub ready: bool,
    pub draining: bool,
    pub applied: u64,
    pub in_effect: u64,
    /// The document revision it serves; `None`: nobody has heard of it lately.
    pub revision: Option<Revision>,
    /// The release it runs.
    pub version: Option<String>,
    /// Where it says it is.
    pub zone: Option<String>,
}

pub(crate) fn report(cluster: &Inner) -> NodeReport {
    NodeReport { node: cluster.me(), control: part(&cluster.control), quota: part(&cluster.quota) }
}

pub(crate) async fn status(cluster: &Inner) -> Status {
    let (leases, quota, leader) =
        tokio::join!(propose::leases(cluster, ASK), cluster.quota_status(), propose::find(cluster, None));
    let mut own = report(cluster);
    // Where there is no room on the disk, nothing is heard of other leaders: whoever was asked knows.
    own.quota.group.leader = own.quota.group.leader.or(quota.as_ref().and_then(|quota| quota.leader));
    own.control.group.leader = own.control.group.leader.or(leader);
    let leases = leases.unwrap_or_default();
    let control = &own.control.group;
    let settled = control.settled && quota.is_some_and(|quota| quota.settled && quota.voters == control.voters);
    let voters = &own.control.group.voters;
    let members = cluster.control.read(|control| {
        let nodes = control.state.members.nodes();
        let member = |node: &tidegate_state::Node| {
            let lease = leases.get(&node.id);
            let renewal = lease.and_then(|lease| lease.renewal.as_ref());
            MemberStatus {
                id: node.id,
                name: node.name.clone(),
                addresses: node.addresses.clone(),
                feature_level: renewal.map_or(node.feature_level, |renewal| renewal.feature_level),
                voter: voters.contains(&node.id),
                live: lease.map(|lease| lease.live),
                ready: renewal.is_some_and(|renewal| renewal.ready),
                draining: renewal.is_some_and(|renewal| renewal.draining),
                applied: renewal.map_or(0, |renewal| renewal.applied),
                in_effect: renewal.map_or(0, |renewal| renewal.in_effect),
                revision: renewal.map(|renewal| renewal.revision),
                version: renewal.map(|renewal| renewal.version.clone()),
                zone: control.state.later.zones.of(node.id).map(str::to_owned),
            }
        };
        nodes.map(member).collect()
    });
    let state_hash = state_hash(cluster);
    let (cluster, node) = (cluster.identity.cluster, own.node);
    Status { cluster, node, control: own.control, quota: own.quota, settled, members, state_hash }
}

/// Computed once per entry: the state may be megabytes, and whoever watches asks often.
fn state_hash(cluster: &Inner) -> ([u8; 32], u64) {
    // Under the machine's lock state and position stand still together.
    cluster.control.read(|control| {
        let index = cluster.control.replica.applied_id().map_or(0, |id| id.index);
        let mut hashed = cluster.hashed.lock().expect("no panic while locked");
        match *hashed {
            Some(known) if known.1 == index => known,
            _ => *hashed.insert((control.state.hash(), index)),
        }
    })
}

fn part<M: Machine>(group: &Group<M>) -> Part {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let disk = Disk {
        fsyncs: count(&group.counters.fsyncs),
        log_bytes: count(&group.counters.log_bytes),
        log_entries: count(&group.counters.log_entries),
        snapshots: count(&group.counters.snapshots),
    };
    Part { group: group.status(), disk, failure: group.failure() }
}
