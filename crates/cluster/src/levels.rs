//! Clusters of several releases: what needs a feature level is refused while a live node has a lower one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_model::{Feature, NodeId};
use tidegate_state::{Command, Proposal};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::cluster::{Cluster, Inner};
use crate::propose::{self, Views};
use crate::wire::LeasesReply;

/// Live nodes that do not understand something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    pub feature: Feature,
    pub nodes: Vec<Old>,
}

/// A node of an older release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Old {
    pub node: NodeId,
    pub name: String,
    pub level: u32,
    /// The release it runs, if it was heard of.
    pub version: Option<String>,
}

impl Cluster {
    /// Which live nodes do not understand one of these features, the first that some do not. `None`: all do.
    ///
    /// # Errors
    /// When the control leader, who knows the nodes, cannot be asked.
    pub async fn behind(&self, features: &[Feature], patience: Duration) -> Result<Option<Behind>, String> {
        if features.is_empty() {
            return Ok(None);
        }
        let Some(views) = propose::leases(&self.inner, patience).await else {
            return Err("no control leader says which releases the nodes run".into());
        };
        Ok(features.iter().find_map(|feature| behind(&self.inner, &views, *feature)))
    }
}

/// On the leader, before a proposal goes into the log. `None`: it may.
pub(crate) async fn refused(cluster: &Inner, proposal: &Proposal) -> Option<Behind> {
    let feature = proposal.command.feature()?;
    if cluster.control.read(|control| control.state.has_applied(proposal.request)) {
        return None; // Asked again; the answer is there.
    }
    match cluster.lease_views().await {
        LeasesReply::Are(views) => behind(cluster, &views, feature),
        LeasesReply::NotLeader(_) => None, // Writing says so.
    }
}

/// On the leader. Whoever does not lead says so when it writes.
pub(crate) async fn is_behind(cluster: &Inner, feature: Feature) -> bool {
    let views = match cluster.lease_views().await {
        LeasesReply::Are(views) => views,
        LeasesReply::NotLeader(_) => Views::new(),
    };
    is_any_behind(cluster, &views, feature)
}

/// On a leader that is one for certain, and has applied all that leaders before it left: otherwise nothing is packed.
async fn may_pack(cluster: &Inner) -> bool {
    match cluster.lease_views().await {
        LeasesReply::Are(views) => !is_any_behind(cluster, &views, Feature::Packed),
        LeasesReply::NotLeader(_) => false,
    }
}

/// Members are looked at after the leases: whoever joined in between is among them.
fn is_any_behind(cluster: &Inner, views: &Views, feature: Feature) -> bool {
    // Of itself it may not have been told yet: the first entry comes before any renewal.
    if cluster.level() < feature.level() {
        return true;
    }
    // One that is silent for a moment reads the log again when it is back.
    let of_members = cluster.control.read(|control| control.state.members.feature_level());
    (1..feature.level()).contains(&of_members) || behind(cluster, views, feature).is_some()
}

/// What all members read may be in the logs already, and an older release would stop at it.
pub(crate) fn too_old_to_join(cluster: &Inner, level: u32) -> Option<String> {
    let least = cluster.control.read(|control| control.state.members.feature_level());
    (level < least)
        .then(|| format!("its release has feature level {level} and every node of the cluster has at least {least}"))
}

/// What to do about it.
pub(crate) const JOIN_WITH_A_NEWER: &str = "start a release as new as theirs";

/// On the leader: what changes who the members are is judged, appended and applied while nothing else is on its way. All else
/// is judged by who they are, and then appended behind whatever it was judged by.
#[derive(Default)]
pub(crate) struct Turns {
    turn: RwLock<()>,
    /// What became of the last such change is not known: it may be applied later.
    is_open: AtomicBool,
}

/// Held from the judgement until the outcome is known.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    alone: Option<RwLockWriteGuard<'a, ()>>,
    _beside: Option<RwLockReadGuard<'a, ()>>,
}

impl Turns {
    pub(crate) async fn take(&self, command: &Command) -> Turn<'_> {
        if matches!(command, Command::Join(_) | Command::UpdateNode { .. } | Command::RemoveNode { .. }) {
            return Turn { turns: self, alone: Some(self.turn.write().await), _beside: None };
        }
        Turn { turns: self, alone: None, _beside: Some(self.turn.read().await) }
    }
}

impl Turn<'_> {
    pub(crate) async fn may_pack(&self, cluster: &Inner) -> bool {
        !self.turns.is_open.load(Ordering::Acquire) && may_pack(cluster).await
    }

    /// From here on it may be in the log.
    pub(crate) fn appends(&self) {
        if self.alone.is_some() {
            self.turns.is_open.store(true, Ordering::Release);
        }
    }

    /// It was applied, and so was all that was appended here before it.
    pub(crate) fn applied(self) {
        self.turns.is_open.store(false, Ordering::Release);
    }
}

fn behind(cluster: &Inner, views: &Views, feature: Feature) -> Option<Behind> {
    let nodes: Vec<Old> = cluster.control.read(|control| {
        let live = views.iter().filter(|(_, view)| view.live);
        let old = live.filter_map(|(node, view)| {
            let known = control.state.members.node(*node);
            let told = view.renewal.as_ref().map(|renewal| renewal.feature_level);
            // A young leader has not heard of all; what a node said of itself when it started stands in the state.
            let level = told.or_else(|| known.map(|known| known.feature_level))?;
            let name = known.map(|known| known.name.clone()).unwrap_or_default();
            let version = view.renewal.as_ref().map(|renewal| renewal.version.clone());
            (level < feature.level()).then_some(Old { node: *node, name, level, version })
        });
        old.collect()
    });
    (!nodes.is_empty()).then_some(Behind { feature, nodes })
}

impl Behind {
    /// For people.
    #[must_use]
    pub fn hint(&self) -> String {
        "upgrade these nodes first; one that is gone for good is removed with `tidegate cluster remove ID`".to_owned()
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs feature level {} on every live node, and ", self.feature.name(), self.feature.level())?;
        for (n, old) in self.nodes.iter().enumerate() {
            let before = if n == 0 { "" } else { ", " };
            write!(f, "{before}node {} ({}", old.node, old.name)?;
            if let Some(version) = &old.version {
                write!(f, ", release {version}")?;
            }
            write!(f, ") has {}", old.level)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_state::{Addresses, Join, Outcome, RequestId};
    use tokio::time::timeout;

    use super::*;
    use crate::cluster::wall;
    use crate::codec;
    use crate::settings::{Settings, Start};
    use crate::wire::Proposed;

    const MOMENT: Duration = Duration::from_millis(20);

    async fn alone(home: &tempfile::TempDir) -> Cluster {
        let mut settings = Settings::new(home.path(), Start::Bootstrap);
        settings.feature_level = Feature::Packed.level();
        Cluster::start(settings).await.unwrap()
    }

    async fn here(cluster: &Cluster, proposal: Vec<u8>) -> Proposed {
        propose::here(&cluster.inner, proposal.into(), Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn the_leader_lets_nobody_join_with_an_older_release_than_all_members_have() {
        let home = tempfile::tempdir().unwrap();
        let cluster = alone(&home).await;
        let least = cluster.read(|state| state.members.feature_level());
        let token = cluster.create_join_token(None, 1).await.unwrap().hash();
        let join = |feature_level| {
            let (name, addresses) = ("b".to_owned(), Addresses::default());
            let join = Join { token, name, addresses, feature_level, public_key: [1; 32] };
            codec::encode(&Proposal { request: RequestId(1), at: wall(), command: Command::Join(join), by: None })
        };
        match here(&cluster, join(least - 1)).await {
            Proposed::TooNew { reason, hint } => {
                assert!(reason.ends_with(&format!("at least {least}")), "{reason}");
                assert_eq!(hint, JOIN_WITH_A_NEWER);
            }
            other => panic!("{other:?}"),
        }
        for _ in 0..2 {
            let joined = here(&cluster, join(least)).await;
            assert!(
                matches!(joined, Proposed::Applied { outcome: Outcome::Joined { node: NodeId(2) }, .. }),
                "{joined:?}"
            );
        }
        cluster.shutdown().await;
    }

    #[tokio::test]
    async fn what_comes_compressed_is_not_proposed() {
        let home = tempfile::tempdir().unwrap();
        let cluster = alone(&home).await;
        let lines = (0..200).map(|line| format!("- {{name: route-{line}, path: /{}}}\n", line * 7919));
        let command = Command::PutSealed { name: "long".into(), bytes: lines.collect::<String>().into_bytes() };
        let plain = codec::encode(&Proposal { request: RequestId(1), at: wall(), command, by: None });
        match here(&cluster, codec::pack(plain.clone())).await {
            Proposed::Unknown(why) => assert!(why.contains("format version 2, compressed"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(here(&cluster, plain).await, Proposed::Applied { outcome: Outcome::Done, .. }));
        cluster.shutdown().await;
    }

    #[tokio::test]
    async fn a_change_of_the_members_has_its_turn_alone_and_nothing_is_packed_while_its_outcome_is_not_known() {
        let home = tempfile::tempdir().unwrap();
        let cluster = alone(&home).await;
        let turns = &cluster.inner.turns;
        let (change, other) = (Command::RemoveNode { id: NodeId(9) }, Command::LapseOrders);
        let (first, second) = (turns.take(&other).await, turns.take(&other).await);
        assert!(timeout(MOMENT, turns.take(&change)).await.is_err(), "others are on their way");
        assert!(first.may_pack(&cluster.inner).await);
        drop((first, second));

        let turn = turns.take(&change).await;
        assert!(timeout(MOMENT, turns.take(&other)).await.is_err(), "it is on its way");
        turn.appends();
        drop(turn); // It waited too long.
        let turn = turns.take(&other).await;
        assert!(!turn.may_pack(&cluster.inner).await);
        turn.applied();
        assert!(turns.take(&other).await.may_pack(&cluster.inner).await);
        cluster.shutdown().await;
    }
}
