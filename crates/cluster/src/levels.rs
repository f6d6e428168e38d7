//! Clusters of several releases: what needs a feature level is refused while a live node has a lower one.

use std::fmt;
use std::time::Duration;

use tidegate_model::{Feature, NodeId};
use tidegate_state::Proposal;

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
