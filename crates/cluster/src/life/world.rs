//! Machines with disks, the processes on them, and who keeps the members in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{BasicNode, ChangeMembers};
use tempfile::TempDir;

use super::dice::Dice;
use super::disk::{Disk, Log, Lost};
use super::judge::Judge;
use super::net::{Net, Network};
use crate::group::{self, Raft};
use crate::raft::LeaderId;
use crate::replica::{Machine, Replica};
use crate::store::snapshots::Snapshots;
use crate::voters::{self, Seen, Zones};
use crate::wire::GroupId;

/// How often the leader puts the members in order.
const ORDER: Duration = Duration::from_millis(500);
/// Nobody is this far behind and votes.
const BEHIND: u64 = 50;
/// A voter that is silent for so long is replaced.
const GONE: Duration = Duration::from_secs(10);

pub(super) struct World<M: Machine>(Arc<Shared<M>>);

impl<M: Machine> Clone for World<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<M: Machine> {
    group: GroupId,
    net: Net,
    judge: Judge,
    places: Mutex<BTreeMap<u64, Place<M>>>,
    folder: TempDir,
    /// The machine of a process that starts.
    make: Box<dyn Fn(u64) -> M + Send + Sync>,
    /// Machines that are to leave for good.
    leaving: Mutex<BTreeSet<u64>>,
}

/// A machine.
struct Place<M: Machine> {
    disk: Disk,
    process: Option<Process<M>>,
    lives: u64,
    /// Since when nothing runs there.
    silent_since: Option<tokio::time::Instant>,
}

struct Process<M: Machine> {
    raft: Raft<M>,
    replica: Replica<M>,
    log: Log,
}

impl<M: Machine> Clone for Process<M> {
    fn clone(&self) -> Self {
        Self { raft: self.raft.clone(), replica: self.replica.clone(), log: self.log.clone() }
    }
}

impl<M: Machine> World<M> {
    pub(super) fn new(
        group: GroupId,
        judge: Judge,
        dice: Dice,
        make: impl Fn(u64) -> M + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            group,
            net: Net::new(dice),
            judge,
            places: Mutex::default(),
            folder: tempfile::Builder::new().prefix("tidegate-life-").tempdir().expect("a folder for snapshots"),
            make: Box::new(make),
            leaving: Mutex::default(),
        }))
    }

    pub(super) fn group(&self) -> GroupId {
        self.0.group
    }

    pub(super) fn net(&self) -> &Net {
        &self.0.net
    }

    pub(super) fn judge(&self) -> &Judge {
        &self.0.judge
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Place<M>>> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshots(&self, node: u64) -> PathBuf {
        self.0.folder.path().join(node.to_string())
    }

    /// A machine with an empty disk, and a process on it.
    pub(super) async fn add(&self, node: u64) {
        std::fs::create_dir(self.snapshots(node)).expect("a folder for snapshots");
        let place = Place { disk: Disk::new(), process: None, lives: 0, silent_since: None };
        self.places().insert(node, place);
        self.start(node).await;
    }

    /// What is on the disk is read; a disk that cannot be is a broken promise.
    pub(super) async fn start(&self, node: u64) {
        let (disk, life) = {
            let mut places = self.places();
            let Some(place) = places.get_mut(&node).filter(|place| place.process.is_none()) else { return };
            place.lives += 1;
            (place.disk.clone(), place.lives)
        };
        self.judge().tell(|| format!("node {node} starts"));
        match self.open(node, &disk, life).await {
            Ok(process) => {
                if let Some(place) = self.places().get_mut(&node) {
                    place.process = Some(process);
                    place.silent_since = None;
                }
            }
            Err(why) => self.judge().broken(format!("node {node} does not start: {why}")),
        }
    }

    async fn open(&self, node: u64, disk: &Disk, life: u64) -> Result<Process<M>, String> {
        let log = Log::open(disk)?;
        let folder = self.snapshots(node);
        let snapshots = Snapshots::new(&folder, Arc::default());
        let replica = Replica::load((self.0.make)(node), snapshots, log.purged(), &folder);
        let replica = replica.map_err(|damage| damage.to_string())?;
        let config = Arc::new(group::config(self.group()).map_err(|why| why.to_string())?);
        let network = Network { world: self.clone(), from: node, life };
        let raft = Raft::new(node, config, network, log.clone(), replica.clone()).await;
        Ok(Process { raft: raft.map_err(|why| why.to_string())?, replica, log })
    }

    pub(super) fn kill(&self, node: u64, lost: Lost, dice: &mut Dice) {
        let Some(process) = self.places().get_mut(&node).and_then(|place| {
            place.lives += 1;
            place.silent_since = Some(tokio::time::Instant::now());
            place.process.take()
        }) else {
            return;
        };
        self.judge().tell(|| format!("node {node} is killed, and loses {lost:?}"));
        process.log.cut_off(lost, dice);
        // What is left of it ends by itself: nobody hears it, and its disk takes nothing.
        tokio::spawn(async move { _ = process.raft.shutdown().await });
    }

    pub(super) fn raft(&self, node: u64) -> Option<(Raft<M>, u64)> {
        let places = self.places();
        let place = places.get(&node)?;
        Some((place.process.as_ref()?.raft.clone(), place.lives))
    }

    /// Of the process that runs there.
    pub(super) fn life(&self, node: u64) -> Option<u64> {
        self.places().get(&node).filter(|place| place.process.is_some()).map(|place| place.lives)
    }

    pub(super) fn nodes(&self) -> Vec<u64> {
        self.places().keys().copied().collect()
    }

    pub(super) fn running(&self) -> Vec<u64> {
        self.places().iter().filter(|(_, place)| place.process.is_some()).map(|(node, _)| *node).collect()
    }

    pub(super) fn slow_disk(&self, node: u64, slow: Duration) {
        if let Some(place) = self.places().get(&node) {
            place.disk.slow_down(slow);
        }
    }

    fn process(&self, node: u64) -> Option<Process<M>> {
        self.places().get(&node)?.process.clone()
    }

    pub(super) fn read<T>(&self, node: u64, read: impl FnOnce(&M) -> T) -> Option<T> {
        Some(self.process(node)?.replica.read(read))
    }

    /// The leadership it holds and whose blank entry it has applied, as `Group::leadership`.
    pub(super) fn leadership(&self, node: u64) -> Option<LeaderId> {
        let process = self.process(node)?;
        let leader = process.raft.as_leader().ok()?.to_committed_leader_id();
        let applied = process.replica.applied_id()?;
        (*applied.committed_leader_id() == leader).then_some(leader)
    }

    /// Who believes to lead.
    pub(super) fn leader(&self) -> Option<u64> {
        self.running().into_iter().rev().find(|node| self.leadership(*node).is_some())
    }

    /// The first `count` machines are a group.
    pub(super) async fn form(&self, count: u64) {
        for node in 1..=count {
            self.add(node).await;
        }
        let (raft, _) = self.raft(1).expect("it was started");
        let first = BTreeMap::from([(1, BasicNode::new(""))]);
        raft.initialize(first).await.expect("an empty disk");
        for node in 2..=count {
            _ = raft.add_learner(node, BasicNode::new(""), false).await;
        }
        tokio::spawn(self.clone().keep_order());
        tokio::spawn(self.clone().watch_leaders());
    }

    /// A machine that never comes back is replaced by a new one, under another number.
    pub(super) async fn replace(&self, node: u64, by: u64) {
        self.leaving().insert(node);
        self.add(by).await;
    }

    /// As many as vote, if that is settled.
    pub(super) fn voters(&self) -> usize {
        let Some((raft, _)) = self.leader().and_then(|leader| self.raft(leader)) else { return 0 };
        let metrics = raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        if membership.get_joint_config().len() == 1 { membership.voter_ids().count() } else { 0 }
    }

    /// Everything is there, three vote, and it may go for ever.
    pub(super) fn can_spare(&self, node: u64) -> bool {
        let all_run = self.places().values().all(|place| place.process.is_some());
        all_run && self.voters() >= 3 && !self.has_left(node) && self.nodes().iter().all(|node| !self.has_left(*node))
    }

    pub(super) fn has_left(&self, node: u64) -> bool {
        self.leaving().contains(&node)
    }

    async fn watch_leaders(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for node in self.running() {
                if let Some(id) = self.process(node).and_then(|process| process.replica.applied_id()) {
                    self.judge().led(node, id);
                }
            }
        }
    }

    /// What `membership.rs` does on a leader, by the same choice of voters.
    async fn keep_order(self) {
        loop {
            tokio::time::sleep(ORDER).await;
            for node in self.running() {
                if self.leadership(node).is_some() {
                    _ = tokio::time::timeout(Duration::from_secs(5), self.order(node)).await;
                }
            }
        }
    }

    async fn order(&self, leader: u64) {
        let Some((raft, _)) = self.raft(leader) else { return };
        let metrics = raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership().clone();
        if membership.get_joint_config().len() > 1 {
            return;
        }
        let current: BTreeSet<u64> = membership.voter_ids().collect();
        let members: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
        let missing = self.nodes().into_iter().find(|node| !members.contains(node) && !self.has_left(*node));
        if let Some(missing) = missing {
            _ = raft.add_learner(missing, BasicNode::new(""), false).await;
            return;
        }
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = metrics.replication.unwrap_or_default();
        let reached = |id: u64| matched.get(&id).and_then(Option::as_ref).map_or(0, |id| id.index);
        let seen = |id: u64| {
            let silent = self.silent(leader, id);
            Seen {
                live: silent == Duration::ZERO,
                gone: silent > GONE,
                silent,
                caught_up: id == leader || reached(id) + BEHIND >= last,
                draining: self.has_left(id),
            }
        };
        let seen: BTreeMap<u64, Seen> = members.iter().map(|id| (*id, seen(*id))).collect();
        let wanted = voters::desired(leader, &current, &seen, &Zones::default());
        if wanted != current {
            self.judge().tell(|| format!("leader {leader} asks for voters {wanted:?} in place of {current:?}"));
            _ = raft.change_membership(ChangeMembers::ReplaceAllVoters(wanted), true).await;
            return;
        }
        let left: BTreeSet<u64> =
            members.into_iter().filter(|id| self.has_left(*id) && !current.contains(id)).collect();
        if !left.is_empty() && raft.change_membership(ChangeMembers::RemoveNodes(left.clone()), true).await.is_ok() {
            for node in left {
                self.kill(node, Lost::Nothing, &mut Dice::new(0));
                self.places().remove(&node);
            }
        }
    }

    fn silent(&self, leader: u64, node: u64) -> Duration {
        let places = self.places();
        let since = places.get(&node).and_then(|place| place.silent_since);
        let cut =
            if node != leader && self.net().is_cut(leader, node) { Duration::from_millis(1) } else { Duration::ZERO };
        since.map_or(cut, |since| since.elapsed().max(Duration::from_millis(1)))
    }

    /// A snapshot now, and the log before it goes.
    pub(super) async fn compact(&self, node: u64) {
        if let Some((raft, _)) = self.raft(node) {
            _ = raft.trigger().snapshot().await;
        }
    }

    /// Everything is whole again: does the cluster come back, all of it, to the same?
    pub(super) async fn converges(&self) {
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let newest = self.judge().newest();
            let nodes: Vec<u64> = self.nodes().into_iter().filter(|node| !self.has_left(*node)).collect();
            let applied = |node: u64| self.process(node)?.replica.applied_id().map(|id| id.index);
            let least = nodes.iter().map(|node| applied(*node).unwrap_or(0)).min().unwrap_or(0);
            let most = nodes.iter().map(|node| applied(*node).unwrap_or(0)).max().unwrap_or(0);
            if self.leader().is_some() && least == most && newest <= least {
                let states = nodes.iter().filter_map(|node| self.read(*node, Machine::hash));
                if states.collect::<BTreeSet<_>>().len() > 1 {
                    self.judge().broken(format!("nodes that applied all up to index {least} have different states"));
                }
                return;
            }
        }
        let applied: Vec<_> = self
            .nodes()
            .into_iter()
            .map(|node| (node, self.process(node).and_then(|process| process.replica.applied_id()).map(|id| id.index)))
            .collect();
        self.judge().broken(format!(
            "after {:?} in peace they have not come together: leader {:?}, applied {applied:?}",
            super::PEACE,
            self.leader()
        ));
    }
}
