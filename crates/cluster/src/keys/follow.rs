//! What every node does about the cluster's keys by itself: it gets what it lacks, says so, and deletes what nothing needs any more.
//! The leader takes the next step of a replacement.
//!
//! Times are measured here, on each node's own monotonic clock; wall clocks may be set.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_model::NodeId;
use tidegate_state::audit::By;
use tidegate_state::cluster_keys::{Mark, Next, Resealed, Step};
use tidegate_state::{Change, ClusterKeys, Outcome};

use super::{CALL, Ring, Told, begin, propose, resealed};
use crate::cluster::Inner;
use crate::control::News;
use crate::propose::{Views, catch_up};
use crate::seal::ClusterKey;
use crate::wire::{Lane, LeasesReply, Request};

const LOOK: Duration = Duration::from_millis(300);
/// What was sealed with a key before is in the log by then, or never: twice as long as any proposal is tried.
pub(crate) const GRACE: Duration = Duration::from_secs(20);
/// Values that are sealed anew in one entry, and their bytes: one more may come on top.
const AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 << 10;

type Done = Result<(), String>;

/// Since when something is as it is.
struct Since<T>(Option<(T, Instant)>);

impl<T: PartialEq> Since<T> {
    fn is(&mut self, what: T) -> Duration {
        match &self.0 {
            Some((known, since)) if *known == what => since.elapsed(),
            _ => {
                self.0 = Some((what, Instant::now()));
                Duration::ZERO
            }
        }
    }
}

struct Follower {
    cluster: Arc<Inner>,
    /// These keys are needed, and others are there.
    spare: Since<Vec<Mark>>,
    /// Nobody who lives has this one.
    lost: Since<Mark>,
    /// Of the generation that seals: an entry of the log after it began to.
    used: Option<(u64, u64)>,
}

pub(crate) async fn follow_forever(cluster: Arc<Inner>) {
    let mut follower = Follower { cluster, spare: Since(None), lost: Since(None), used: None };
    loop {
        if let Err(why) = follower.follow().await {
            tracing::debug!(%why, "the cluster's keys are not as they should be yet");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those that the state names.
fn wanted(keys: &ClusterKeys, ring: &Ring) -> Vec<Mark> {
    let current = ring.key(keys.current()).map(|key| key.mark());
    current.into_iter().chain(keys.next().map(|next| next.mark)).collect()
}

impl Follower {
    async fn follow(&mut self) -> Done {
        let cluster = Arc::clone(&self.cluster);
        let keys = cluster.control.read(|control| control.state.later.cluster_keys.clone());
        if keys.is_empty() && cluster.keys.ring().len() == 1 {
            return Ok(());
        }
        let next = keys.next().filter(|next| !next.spoiled);
        let mut lacks = Ok(());
        for mark in keys.current().into_iter().chain(next.map(|next| next.mark)) {
            lacks = lacks.and(obtain(&cluster, mark).await);
        }
        if let Some(next) = next
            && !next.holders.contains(&cluster.me())
            && cluster.keys.has(Some(next.mark))
        {
            take(&cluster, Step::Hold { node: cluster.me(), mark: next.mark }).await?;
        }
        self.forget(&keys).await?;
        if cluster.control.leadership().is_some() {
            self.lead(&keys).await?;
        }
        lacks
    }

    /// Not before everything is sealed anew, and what was under way has come.
    async fn forget(&mut self, keys: &ClusterKeys) -> Done {
        let ring = self.cluster.keys.ring();
        let wanted = wanted(keys, &ring);
        if ring.len() <= wanted.len() || keys.replaced_at().is_some() || !self.cluster.keys.has(keys.current()) {
            self.spare = Since(None);
            return Ok(());
        }
        if self.spare.is(wanted) < self.cluster.key_grace { Ok(()) } else { forget(&self.cluster).await }
    }

    async fn lead(&mut self, keys: &ClusterKeys) -> Done {
        if let Some(next) = keys.next() {
            return self.hand_out(next).await;
        }
        if keys.replaced_at().is_none() {
            return Ok(());
        }
        let cluster = Arc::clone(&self.cluster);
        let applied = *cluster.control.replica.applied().borrow();
        let after = match self.used {
            Some((generation, after)) if generation == keys.generation() => after,
            _ => self.used.insert((keys.generation(), applied)).1,
        };
        let ring = cluster.keys.ring();
        let key = ring.key(keys.current()).ok_or("the leader lacks the key that seals")?;
        let all = cluster.control.read(|control| control.state.all_sealed());
        let anew = resealed(&ring, &key, all);
        if !anew.is_empty() {
            return reseal(&cluster, anew).await;
        }
        // Whoever lives seals with it by now.
        let views = views(&cluster).await?;
        let mut live = views.values().filter(|view| view.live);
        if live.all(|view| view.renewal.as_ref().is_some_and(|renewal| after <= renewal.applied)) {
            take(&cluster, Step::Forget { rotations: keys.rotations() }).await?;
            tracing::info!(generation = keys.generation(), "everything secret is sealed with the cluster's newest key");
        }
        Ok(())
    }

    async fn hand_out(&mut self, next: &Next) -> Done {
        let cluster = Arc::clone(&self.cluster);
        let anew = async || begin(&cluster, By::node(cluster.me())).await.map(drop).map_err(|error| error.to_string());
        if next.spoiled {
            return anew().await;
        }
        let views = views(&cluster).await?;
        let live: BTreeSet<NodeId> = views.iter().filter(|(_, view)| view.live).map(|(node, _)| *node).collect();
        let voters = cluster.control.status().voters;
        let have_it = voters.iter().filter(|voter| next.holders.contains(voter)).count();
        if live.is_subset(&next.holders) && voters.len() < 2 * have_it {
            take(&cluster, Step::Use { mark: next.mark }).await?;
            tracing::info!("another key of the cluster seals from now on");
        } else if !live.is_disjoint(&next.holders) {
            self.lost = Since(None);
        } else if cluster.key_grace * 3 / 4 <= self.lost.is(next.mark) {
            return anew().await;
        }
        Ok(())
    }
}

async fn take(cluster: &Inner, step: Step) -> Done {
    match propose(cluster, By::node(cluster.me()), step).await {
        Ok(Outcome::Done) => Ok(()),
        Ok(other) => Err(format!("things are not as they were: {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn views(cluster: &Inner) -> Result<Views, String> {
    match cluster.lease_views().await {
        LeasesReply::Are(views) => Ok(views),
        LeasesReply::NotLeader(_) => Err("not the leader any more".into()),
    }
}

async fn reseal(cluster: &Inner, anew: Vec<Resealed>) -> Done {
    let (mut part, mut bytes) = (Vec::new(), 0);
    for new in anew {
        bytes += new.sealed.len();
        part.push(new);
        if AT_ONCE <= part.len() || BYTES_AT_ONCE <= bytes {
            take(cluster, Step::Reseal(std::mem::take(&mut part))).await?;
            bytes = 0;
        }
    }
    if part.is_empty() { Ok(()) } else { take(cluster, Step::Reseal(part)).await }
}

/// From whoever has it.
async fn obtain(cluster: &Inner, mark: Mark) -> Done {
    if cluster.keys.has(Some(mark)) {
        return Ok(());
    }
    let others: Vec<NodeId> = cluster.control.read(|control| {
        control.state.members.nodes().map(|node| node.id).filter(|node| *node != cluster.me()).collect()
    });
    for node in others {
        let request = Request::ClusterKey(mark);
        let Ok(Some((key, subjects))) = cluster.peers.call::<Option<Told>>(node, Lane::Calls, &request, CALL).await
        else {
            continue;
        };
        let key = ClusterKey(key);
        if key.mark() != mark {
            continue;
        }
        let _one_at_a_time = cluster.keys.changing.lock().await;
        let ring = cluster.keys.ring().with(&key, subjects);
        cluster.keys.replace(&cluster.folder, ring).map_err(|error| error.to_string())?;
        tracing::info!(from = %node, "this node has another key of the cluster");
        // What could not be opened before can be now.
        let index = *cluster.control.replica.applied().borrow();
        _ = cluster.news.send(News { index, change: Change::Everything });
        return Ok(());
    }
    Err("no member that answers has the cluster's key that this node lacks".into())
}

/// Deletes all keys that the state does not name, once this node's state is as new as the quorum's: by an old one, the key that seals by
/// now would be deleted.
async fn forget(cluster: &Inner) -> Done {
    catch_up(cluster, CALL).await.map_err(|error| error.to_string())?;
    let (ring, keys, anew) = {
        // Not while a new one is made here, which the state does not know yet.
        let Ok(_one_at_a_time) = cluster.keys.changing.try_lock() else { return Ok(()) };
        let (keys, all) = cluster.control.read(|control| {
            let state = &control.state;
            (state.later.cluster_keys.clone(), state.all_sealed())
        });
        let ring = cluster.keys.ring();
        let Some(key) = ring.key(keys.current()) else { return Ok(()) };
        if keys.replaced_at().is_some() {
            return Ok(());
        }
        let anew = resealed(&ring, &key, all);
        if anew.is_empty() {
            let left = ring.only(&wanted(&keys, &ring));
            if !crate::certificate::keep_ca_key(cluster) {
                return Err("the CA's key is not kept as it is sealed by now".into());
            }
            cluster.keys.replace(&cluster.folder, left).map_err(|error| error.to_string())?;
        }
        (ring, keys, anew)
    };
    // Sealed by a node that was behind, which may be the only one that has the key for it.
    if !anew.is_empty() {
        return reseal(cluster, anew).await;
    }
    let deleted = ring.len().saturating_sub(cluster.keys.ring().len());
    tracing::info!(
        deleted,
        generation = keys.generation(),
        "keys of the cluster that nothing is sealed with are deleted"
    );
    // The log before has values as they were sealed with them.
    cluster.control.raft.trigger().snapshot().await.map_err(|error| error.to_string())
}
