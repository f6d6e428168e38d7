//! Do all members of a group have the same state? Each applies the same entries, so a state that differs after the same entry is a
//! fault: in a program, in a memory, on a disk. The control leader asks from time to time and tells everybody what it found.
//!
//! ```text
//! leader ── hash as of entry N? ──► member    it waits until it has applied N, and hashes right after
//!        ◄── hash, or: passed ───
//! ```
//! Nothing of it is in the log. Only nodes of the leader's own release are compared: another one may write a state in other words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_model::NodeId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{Cluster, Inner};
use crate::codec;
use crate::group::Group;
use crate::message::Topic;
use crate::replica::{Hashed, Machine};
use crate::wire::LeasesReply;

/// Between two looks, unless hashing takes long: then it takes no more than a five hundredth of the time.
const EVERY: Duration = Duration::from_secs(10);
const RARELY: u32 = 500;
/// For an entry to be applied that is to come.
const COMES: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(3);
/// How far ahead the entry lies at which all are asked. A group at rest: no further, where everybody is.
const AHEAD: [u64; 4] = [0, 16, 64, 0];

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// As of this entry.
    pub index: u64,
    /// So many states.
    pub count: usize,
    /// Whose state differs from most; if there is no majority, all of them.
    pub differ: Vec<NodeId>,
}

/// What was found last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparisons {
    pub control: Option<Compared>,
    pub quota: Option<Compared>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Which {
    Control,
    Quota,
}

/// Positional: append only.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Hash { group: Which, index: u64 },
    Found { group: Which, compared: Compared },
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Hash([u8; 32]),
    /// It is past the entry, or will not come to it.
    NotThere,
    Heard,
}

impl Cluster {
    /// What was last found when the states of all members were compared.
    #[must_use]
    pub fn compared(&self) -> Comparisons {
        self.inner.compared.lock().expect("no panic while locked").clone()
    }

    pub(crate) fn listen_to_comparisons(&self) {
        let cluster = Arc::downgrade(&self.inner);
        self.listen(Topic::States, move |_, body| {
            let cluster = cluster.upgrade();
            async move {
                let (Some(cluster), Ok(said)) = (cluster, codec::decode::<Said>(&body)) else { return Vec::new() };
                codec::encode(&answer(&cluster, said).await)
            }
        });
    }
}

async fn answer(cluster: &Inner, said: Said) -> Answer {
    match said {
        Said::Hash { group, index } => match hash(cluster, group, index).await {
            Hashed::Is(hash) => Answer::Hash(hash),
            Hashed::NotThere => Answer::NotThere,
        },
        Said::Found { group, compared } => {
            cluster.heard_of(group, compared);
            Answer::Heard
        }
    }
}

async fn hash(cluster: &Inner, group: Which, index: u64) -> Hashed {
    match group {
        Which::Control => cluster.control.replica.hash_at(index, COMES).await,
        Which::Quota => cluster.quota.replica.hash_at(index, COMES).await,
    }
}

/// While this node leads the control group.
pub(crate) async fn compare_forever(cluster: Cluster) {
    let mut pause = EVERY;
    loop {
        tokio::time::sleep(pause).await;
        pause = EVERY;
        if !cluster.leads_control() {
            continue;
        }
        for group in [Which::Control, Which::Quota] {
            pause = pause.max(compare(&cluster, group).await * RARELY);
        }
    }
}

/// How long a hash takes here.
async fn compare(cluster: &Cluster, group: Which) -> Duration {
    let others = peers(cluster, group).await;
    let (mut most, mut took) = (BTreeMap::new(), Duration::ZERO);
    let mut at = 0;
    for ahead in AHEAD {
        let (applied, cost) = position(cluster, group);
        took = took.max(cost);
        let hashes = hashes(cluster, group, applied + ahead, &others).await;
        if hashes.contains_key(&cluster.node()) && most.len() < hashes.len() {
            (most, at) = (hashes, applied + ahead);
        }
        if most.len() == others.len() + 1 {
            break;
        }
    }
    // One alone says nothing.
    if most.len() < 2 {
        return took;
    }
    let compared = Compared { index: at, count: most.len(), differ: differing(&most) };
    cluster.inner.heard_of(group, compared.clone());
    let mut told = JoinSet::new();
    for node in live(cluster).await.into_keys().filter(|node| *node != cluster.node()) {
        let (cluster, body) = (cluster.clone(), codec::encode(&Said::Found { group, compared: compared.clone() }));
        // Whoever does not hear it hears the next one.
        told.spawn(async move { _ = cluster.tell(node, Topic::States, body, CALL).await });
    }
    _ = told.join_all().await;
    took
}

fn position(cluster: &Cluster, group: Which) -> (u64, Duration) {
    fn of<M: Machine>(group: &Group<M>) -> (u64, Duration) {
        (*group.replica.applied().borrow(), group.replica.hashing_took())
    }
    match group {
        Which::Control => of(&cluster.inner.control),
        Which::Quota => of(&cluster.inner.quota),
    }
}

/// Live nodes and the release and level that they told.
async fn live(cluster: &Cluster) -> BTreeMap<NodeId, (String, u32)> {
    let LeasesReply::Are(views) = cluster.inner.lease_views().await else { return BTreeMap::new() };
    let live = views.into_iter().filter(|(_, view)| view.live);
    live.filter_map(|(node, view)| view.renewal.map(|told| (node, (told.version, told.feature_level)))).collect()
}

/// Members of the group that can be compared with this node; nobody, if it is none itself.
async fn peers(cluster: &Cluster, group: Which) -> Vec<NodeId> {
    let (me, inner) = (cluster.node(), &cluster.inner);
    let membership = match group {
        Which::Control => inner.control.replica.membership(),
        Which::Quota => inner.quota.replica.membership(),
    };
    let members: Vec<u64> = membership.nodes().map(|(id, _)| *id).collect();
    if !members.contains(&me.0) {
        return Vec::new();
    }
    let own = inner.renewal();
    let own = (own.version, own.feature_level);
    let alike = live(cluster).await.into_iter().filter(|(node, told)| *node != me && *told == own);
    alike.map(|(node, _)| node).filter(|node| members.contains(&node.0)).collect()
}

async fn hashes(cluster: &Cluster, group: Which, index: u64, others: &[NodeId]) -> BTreeMap<NodeId, [u8; 32]> {
    let mut asked = JoinSet::new();
    for node in others.iter().copied().chain([cluster.node()]) {
        let (cluster, body) = (cluster.clone(), codec::encode(&Said::Hash { group, index }));
        asked.spawn(async move {
            let answer: Bytes = cluster.tell(node, Topic::States, body, CALL).await.ok()?;
            match codec::decode::<Answer>(&answer) {
                Ok(Answer::Hash(hash)) => Some((node, hash)),
                Ok(Answer::NotThere | Answer::Heard) | Err(_) => None,
            }
        });
    }
    let ends = Instant::now() + CALL;
    let mut hashes = BTreeMap::new();
    while let Ok(Some(answer)) = tokio::time::timeout_at(ends, asked.join_next()).await {
        hashes.extend(answer.ok().flatten());
    }
    hashes
}

/// Those that are not with the majority.
fn differing(hashes: &BTreeMap<NodeId, [u8; 32]>) -> Vec<NodeId> {
    let mut alike: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    hashes.values().for_each(|hash| *alike.entry(*hash).or_default() += 1);
    let majority = alike.iter().find(|(_, count)| hashes.len() < **count * 2).map(|(hash, _)| *hash);
    hashes.iter().filter(|(_, hash)| majority != Some(**hash)).map(|(node, _)| *node).collect()
}

impl Inner {
    fn heard_of(&self, group: Which, compared: Compared) {
        let mut all = self.compared.lock().expect("no panic while locked");
        let (name, known) = match group {
            Which::Control => ("control", &mut all.control),
            Which::Quota => ("quota", &mut all.quota),
        };
        if known.as_ref().map_or(&[][..], |known| &known.differ) != compared.differ {
            let Compared { index, count, differ } = &compared;
            match differ.len() {
                0 => tracing::info!(group = name, index, count, "the members' states are the same again"),
                _ => tracing::error!(
                    group = name, index, count, nodes = ?differ.iter().map(|node| node.0).collect::<Vec<_>>(),
                    "DIVERGED: the state of these nodes differs from the majority's after the same entry. Remove them \
                     (tidegate cluster remove ID, on another node), keep their data folders for whoever looks for the \
                     cause, and join them anew with empty ones"
                ),
            }
        }
        *known = Some(compared);
    }

    /// For people.
    pub(crate) fn divergences(&self) -> Vec<String> {
        let all = self.compared.lock().expect("no panic while locked");
        let found = [("control", &all.control), ("quota", &all.quota)];
        let differs =
            found.into_iter().filter_map(|(name, it)| Some((name, it.as_ref().filter(|it| !it.differ.is_empty())?)));
        let worded = differs.map(|(name, Compared { index, count, differ })| {
            let nodes: Vec<String> = differ.iter().map(NodeId::to_string).collect();
            let which = if count / 2 < differ.len() { "and there is no majority" } else { "from the majority's" };
            format!(
                "the {name} state of node {} differs {which} after entry {index}: remove it and join it anew with an empty \
                 data folder (docs/operations.md, a state that differs)",
                nodes.join(", ")
            )
        });
        worded.collect()
    }

    /// The groups in which this node's own state differs from most.
    pub(crate) fn diverged(&self) -> Vec<&'static str> {
        let all = self.compared.lock().expect("no panic while locked");
        let differs = |it: &Option<Compared>| it.as_ref().is_some_and(|it| it.differ.contains(&self.me()));
        let groups = [("control", differs(&all.control)), ("quota", differs(&all.quota))];
        groups.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hashes: &[u8], differ: &[u64]) {
        let hashes = hashes.iter().zip(1..).map(|(hash, node)| (NodeId(node), [*hash; 32])).collect();
        let found: Vec<u64> = differing(&hashes).into_iter().map(|node| node.0).collect();
        assert_eq!(found, differ, "{hashes:?}");
    }

    #[test]
    fn who_differs_from_most_is_named_and_without_a_majority_everybody() {
        check(&[7, 7, 7], &[]);
        check(&[7, 8, 7], &[2]);
        check(&[8, 7, 7, 9, 7], &[1, 4]);
        check(&[7, 8], &[1, 2]);
        check(&[7, 8, 7, 8], &[1, 2, 3, 4]);
        check(&[7, 8, 9], &[1, 2, 3]);
    }
}
