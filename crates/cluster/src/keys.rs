//! The keys of the cluster that this node has, and their replacement without a pause.
//!
//! The state says which key seals and which comes next, by their marks alone (`state/src/cluster_keys.rs`). A key itself goes from
//! node to node, to current members only, over connections that both ends have proven; never into a log, where a node that was
//! removed could open it with the key before. Every node asks for what it lacks, also one that was down meanwhile. The control
//! leader takes the steps, whoever that is by then (`follow`).

mod follow;
mod ring;

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_model::NodeId;
use tidegate_state::audit::By;
use tidegate_state::cluster_keys::{Mark, Place, Resealed, SUBJECTS, Step};
use tidegate_state::{Command, Outcome, RequestId, State};

use crate::cluster::{Cluster, Inner};
use crate::error::ProposeError;
use crate::propose::{self, PATIENCE};
use crate::seal::ClusterKey;

pub(crate) use follow::{GRACE, follow_forever};
pub(crate) use ring::{FIRST, Keys, RING, Ring};

/// A call for a key, and the look at a quorum before one is told.
const CALL: Duration = Duration::from_secs(2);
/// Keys of a ring: one that seals, one that comes next, and those that are not deleted yet.
const MOST_KEYS: usize = 8;
const BUSY: &str =
    "the cluster's key is being replaced at this moment: `tidegate cluster status` tells when that is done";

/// A key, and what limits tell subjects apart by.
pub(crate) type Told = ([u8; 32], [u8; 32]);

/// How far the replacement of the cluster's key is, as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProgress {
    /// Of the key that seals; the first is 1.
    pub generation: u64,
    /// Who has the next one on its disk; `None`: there is no next one.
    pub holders: Option<BTreeSet<NodeId>>,
    /// Something may still be sealed with the key before.
    pub reseals: bool,
    /// Keys that this node still has besides the one that seals and the next one.
    pub older: usize,
    /// This node does not have the key that seals.
    pub lacks: bool,
}

impl Inner {
    /// The key that seals by now.
    pub(crate) fn sealing_key(&self) -> Result<ClusterKey, String> {
        self.sealing_key_of(&self.keys.ring())
    }

    pub(crate) fn sealing_key_of(&self, ring: &Ring) -> Result<ClusterKey, String> {
        let current = self.control.read(|control| control.state.later.cluster_keys.current());
        ring.key(current)
            .ok_or_else(|| "this node does not have the cluster's newest key yet: try again in a moment".to_owned())
    }

    /// What others seal by now cannot be opened here.
    pub(crate) fn lacks_key(&self) -> bool {
        let current = self.control.read(|control| control.state.later.cluster_keys.current());
        current.is_some() && !self.keys.has(current)
    }
}

impl Cluster {
    /// The key that seals everything secret is replaced; returns when the first step is taken. The others follow by themselves: all live
    /// nodes get it, it seals, what is sealed is sealed anew, the one before is deleted.
    ///
    /// # Errors
    /// Another replacement is under way; no leader took it in time; an older node does not know of it.
    pub async fn rotate_cluster_key(&self) -> Result<u64, ProposeError> {
        self.rotate_cluster_key_by(By::node(self.node())).await
    }

    /// The same on behalf of somebody.
    ///
    /// # Errors
    /// As [`rotate_cluster_key`](Self::rotate_cluster_key).
    pub async fn rotate_cluster_key_by(&self, by: By) -> Result<u64, ProposeError> {
        self.catch_up(PATIENCE).await?;
        let is_busy = self.read(|state| {
            let keys = &state.later.cluster_keys;
            keys.next().is_some() || keys.replaced_at().is_some()
        });
        if is_busy { Err(ProposeError::Refused(BUSY.into())) } else { begin(&self.inner, by).await }
    }

    /// How far the replacement of the cluster's key is.
    #[must_use]
    pub fn cluster_key(&self) -> KeyProgress {
        let keys = self.read(|state| state.later.cluster_keys.clone());
        let ring = self.inner.keys.ring();
        let held = |mark| usize::from(ring.key(mark).is_some());
        let next = keys.next().map_or(0, |next| held(Some(next.mark)));
        KeyProgress {
            generation: keys.generation(),
            holders: keys.next().map(|next| next.holders.clone()),
            reseals: keys.replaced_at().is_some(),
            older: ring.len().saturating_sub(held(keys.current()) + next),
            lacks: self.inner.lacks_key(),
        }
    }

    /// What limits tell their subjects apart by: the same on all nodes, whatever key seals.
    #[must_use]
    pub fn subjects_key(&self) -> [u8; 32] {
        self.inner.keys.ring().subjects()
    }
}

/// A new key, on this node's disk before anybody hears of it; the generation that it will be. Takes the place of one that nothing is
/// sealed with yet.
async fn begin(cluster: &Inner, by: By) -> Result<u64, ProposeError> {
    let _one_at_a_time = cluster.keys.changing.lock().await;
    let (rotations, replaces) = cluster.control.read(|control| {
        let keys = &control.state.later.cluster_keys;
        (keys.rotations(), keys.next().map(|next| next.mark))
    });
    let before = cluster.keys.ring();
    if MOST_KEYS <= before.len() {
        return Err(ProposeError::Refused("this node still has to delete older keys: try again in a minute".into()));
    }
    let subjects = before.subjects();
    let current = cluster.sealing_key_of(&before);
    let sealed = current.and_then(|key| key.seal(SUBJECTS, &subjects)).map_err(ProposeError::Refused)?;
    let key = ClusterKey(crate::token::random());
    let replace =
        |ring| cluster.keys.replace(&cluster.folder, ring).map_err(|why| ProposeError::Refused(why.to_string()));
    replace(before.with(&key, subjects))?;
    let step = Step::Begin { rotations, replaces, mark: key.mark(), subjects: sealed };
    match propose(cluster, by, step).await {
        Ok(Outcome::Done) => Ok(rotations.saturating_add(2)),
        // It may be in the log: whoever deletes keys knows.
        Err(why @ (ProposeError::NoLeader(_) | ProposeError::Stopped)) => Err(why),
        said => {
            replace(before)?;
            Err(said.err().unwrap_or_else(|| ProposeError::Refused(BUSY.into())))
        }
    }
}

async fn propose(cluster: &Inner, by: By, step: Step) -> Result<Outcome, ProposeError> {
    let request = RequestId(u128::from_le_bytes(crate::token::random()));
    let applied = propose::propose_by(cluster, by, request, Command::ClusterKey(step), PATIENCE).await?;
    Ok(applied.outcome)
}

/// What is not sealed with `key` yet. What no key opens stays as it is: it was lost before.
fn resealed(ring: &Ring, key: &ClusterKey, all: Vec<(Place, Vec<u8>)>) -> Vec<Resealed> {
    let anew = all.into_iter().filter_map(|(place, bytes)| {
        let name = place.name();
        if key.open(&name, &bytes).is_ok() {
            return None;
        }
        let value = ring.open(&name, &bytes).ok()?;
        let was = *blake3::hash(&bytes).as_bytes();
        Some(Resealed { sealed: key.seal(&name, &value).ok()?, place, was })
    });
    anew.collect()
}

/// For a backup, which holds one key: a state whose every secret is sealed with it. `None`: it is already.
pub(crate) fn sealed_by_one(ring: &Ring, state: &State) -> Result<(ClusterKey, Option<State>), String> {
    let key = ring.key(state.later.cluster_keys.current()).ok_or("this node lacks the cluster's newest key")?;
    let anew = resealed(ring, &key, state.all_sealed());
    if anew.is_empty() {
        return Ok((key, None));
    }
    let mut state = state.clone();
    for new in &anew {
        state.reseal(new);
    }
    Ok((key, Some(state)))
}

/// What a member is told that lacks a key. Whether it is still one is asked of a quorum first: who was removed a moment ago is told
/// nothing.
pub(crate) async fn tell(cluster: &Inner, from: NodeId, mark: Mark) -> Option<Told> {
    let ring = cluster.keys.ring();
    let key = ring.key(Some(mark))?;
    propose::catch_up(cluster, CALL).await.ok()?;
    let joined_with = cluster.control.read(|control| control.state.members.node(from).map(|node| node.public_key))?;
    cluster.open.all_show(from, &joined_with).then(|| (key.0, ring.subjects()))
}
