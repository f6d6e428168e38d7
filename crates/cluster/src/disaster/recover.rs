//! A new cluster from one survivor, when the others are lost and with them the quorum. Looked at first, done when an operator
//! has read what may be lost.

use std::path::Path;
use std::time::SystemTime;

use tidegate_model::{Millis, NodeId};
use tidegate_quota::ledger::reborn::{Budgets, Reckoned};
use tidegate_state::ClusterId;
use tidegate_state::lineage::{Anew, Ending, First};
use tidegate_state::{CA_KEY, State};

use super::found::{self, After, Founding};
use super::offline::{self, Offline};
use crate::certificate::{LIFE, Validity};
use crate::cluster::wall;
use crate::control::Control;
use crate::error::Error;
use crate::folder::{Folder, NodeFile, Stage};
use crate::keys::Ring;
use crate::quota::Quota;
use crate::replica::Machine;
use crate::token::random;
use crate::transport::identity::{self, Identity};

/// A node's data folder, locked and read.
pub struct Survivor {
    folder: Folder,
    node: NodeFile,
    identity: Identity,
    ring: Ring,
    control: Offline<Control>,
    quota: Offline<Quota>,
}

/// One log of the survivor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The last entry it knew to be committed.
    pub committed: u64,
    /// The last entry it has: those between may never have been committed, and are kept.
    pub last: u64,
    /// When it last learnt of a commit.
    pub heard: Option<SystemTime>,
}

#[derive(Debug)]
pub struct Recovered {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub epoch: usize,
    pub reckoned: Vec<Reckoned>,
}

/// Reads a survivor's folder. Nothing is changed.
///
/// # Errors
/// Its process runs, the folder is damaged or holds no member, or it did not vote on limits.
pub async fn survey(data: &Path) -> Result<Survivor, Error> {
    if !data.join("node.json").exists() && !data.join("installing").exists() {
        return Err(Error::Settings(format!("the data folder {} holds no node", data.display())));
    }
    let folder = Folder::open(data)?;
    let node = folder.node()?.filter(|node| node.stage == Stage::Member);
    let node = node.ok_or_else(|| Error::Settings("this node has never been a member of a cluster".into()))?;
    let (identity, ring) = folder.identity(&node)?;
    let control = offline::read(&folder.path("control"), Control::new().0).await?;
    let quota = offline::read(&folder.path("quota"), Quota::default()).await?;
    if control.machine.state.members.node(identity.node).is_none() {
        let what = format!(
            "node {} was removed from its cluster before that was lost: recover from a node that was not, or restore a backup",
            identity.node
        );
        return Err(Error::Settings(what));
    }
    if !quota.membership.voter_ids().any(|id| id == identity.node.0) {
        let voters: Vec<String> = control.membership.voter_ids().map(|id| id.to_string()).collect();
        let what = format!(
            "node {} did not vote, so it does not know what was spent of budgets: recover from one of the voters \
             (nodes {}), or restore a backup",
            identity.node,
            voters.join(", ")
        );
        return Err(Error::Settings(what));
    }
    Ok(Survivor { folder, node, identity, ring, control, quota })
}

impl Survivor {
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.control.machine.state
    }

    /// Of the control log and of the quota log.
    #[must_use]
    pub fn standing(&self) -> [Standing; 2] {
        fn of<M: Machine>(group: &Offline<M>) -> Standing {
            let (committed, last) = (group.committed, group.last.index);
            Standing { committed, last: last.max(committed), heard: group.heard }
        }
        [of(&self.control), of(&self.quota)]
    }

    /// Those who voted, the survivor among them.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        self.control.membership.voter_ids().map(NodeId).collect()
    }

    /// What would become of the limits.
    #[must_use]
    pub fn reckon(&self, now: Millis, budgets: Budgets) -> Vec<Reckoned> {
        self.quota.machine.ledger.reborn(now, budgets).1
    }
}

/// Makes the survivor a new cluster of one. What its folder held is kept in `backups/`.
///
/// # Errors
/// The disk. Nothing has happened then, or whoever opens the folder next completes it.
pub async fn recover(survivor: Survivor, now: Millis, budgets: Budgets) -> Result<Recovered, Error> {
    let Survivor { folder, node: file, identity: old, ring, control, quota } = survivor;
    let node = old.node;
    let mut state = control.machine.state;
    let cluster = ClusterId(u128::from_le_bytes(random()));
    let first = First::Survivor(node);
    if state.begin_anew(&Anew { cluster, how: Ending::Recovered, at: now, first }).is_none() {
        return Err(Error::Settings(format!("node {node} was removed from its cluster before that was lost")));
    }
    let sealed = state.sealed.bytes(CA_KEY).ok_or_else(|| Error::Internal("the cluster CA's key is missing".into()))?;
    let ca_key = ring.open(CA_KEY, sealed).map_err(Error::Internal)?;
    let request = identity::signing_request(&identity::read_key(&old.key)?)?;
    let validity = Validity::starting(wall(), LIFE);
    let certificate = identity::sign(&request, &old.ca, &ca_key, cluster, node, validity)?;
    let identity = Identity { cluster, certificate, ..old.clone() };
    let (ledger, reckoned) = quota.machine.ledger.reborn(now, budgets);
    let after = |last: After, committed: u64| After { index: last.index.max(committed), ..last };
    let founding = Founding {
        identity: &identity,
        ring: &ring,
        name: &file.name,
        address: file.peers.get(&node.0).map_or("", String::as_str),
        state: &state,
        control: after(control.last, control.committed),
        ledger: &ledger,
        quota: after(quota.last, quota.committed),
        admin_token: None,
    };
    let written = found::write(&folder.path(""), &founding, &format!("before-recover-{}", old.cluster)).await;
    folder.release();
    written?;
    Ok(Recovered { cluster, node, epoch: state.later.lineage.epoch(), reckoned })
}
