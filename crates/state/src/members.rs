//! Who belongs to the cluster. Ids grow for ever: an id below the next one that is not here was removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, NodeId};

use crate::MAX_NAME;
use crate::command::{Form, Join};
use crate::outcome::{Change, Outcome};

/// A bound on what one token can add.
const MAX_NODES: usize = 1000;

/// 128 random bits drawn when the cluster was formed; in every handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// Where a node is reached, as `host:port`. Empty: it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Addresses {
    pub peer: String,
    pub http: String,
    pub admin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub addresses: Addresses,
    pub joined_at: Millis,
    /// What this node's build understands: commands and fields are used when every live node does.
    pub feature_level: u32,
    /// Fingerprint of the public key its first certificate was issued for.
    pub public_key: [u8; 32],
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Members {
    cluster: ClusterId,
    /// DER of the cluster CA's certificate.
    ca: Vec<u8>,
    last: NodeId,
    nodes: BTreeMap<NodeId, Node>,
}

impl Members {
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    #[must_use]
    pub fn ca(&self) -> &[u8] {
        &self.ca
    }

    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub(crate) fn node_ids(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Was this id given out once and taken away? Such a node is refused at the handshake.
    #[must_use]
    pub fn was_removed(&self, id: NodeId) -> bool {
        id <= self.last && !self.nodes.contains_key(&id)
    }

    /// Removed nodes, the newest first.
    pub fn removed(&self) -> impl Iterator<Item = NodeId> {
        (1..=self.last.0).rev().map(NodeId).filter(|id| !self.nodes.contains_key(id))
    }

    /// The feature level that every member understands.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.nodes.values().map(|node| node.feature_level).min().unwrap_or(0)
    }

    /// The first node, or `None` when the cluster exists already.
    pub(crate) fn form(&mut self, form: &Form, at: Millis) -> Option<NodeId> {
        if self.last != NodeId(0) {
            return None;
        }
        self.cluster = form.cluster;
        self.ca.clone_from(&form.ca);
        self.add(&form.name, &form.addresses, form.feature_level, form.public_key, at)
    }

    pub(crate) fn join(&mut self, join: &Join, at: Millis) -> Option<NodeId> {
        self.add(&join.name, &join.addresses, join.feature_level, join.public_key, at)
    }

    /// Another cluster takes this one's place; the id it had.
    pub(crate) fn rename(&mut self, cluster: ClusterId) -> ClusterId {
        std::mem::replace(&mut self.cluster, cluster)
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        addresses: &Addresses,
        feature_level: u32,
        public_key: [u8; 32],
        at: Millis,
    ) -> Option<NodeId> {
        if MAX_NODES <= self.nodes.len() || MAX_NAME < name.len() || !addresses.are_short() {
            return None;
        }
        let id = NodeId(self.last.0.checked_add(1)?);
        self.last = id;
        let addresses = addresses.clone();
        let node = Node { id, name: name.to_owned(), addresses, joined_at: at, feature_level, public_key };
        self.nodes.insert(id, node);
        Some(id)
    }

    pub(crate) fn update(&mut self, id: NodeId, addresses: &Addresses, feature_level: u32) -> (Outcome, Vec<Change>) {
        if !addresses.are_short() {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return (Outcome::NotFound, Vec::new());
        };
        node.addresses.clone_from(addresses);
        node.feature_level = feature_level;
        (Outcome::Done, vec![Change::Members])
    }

    pub(crate) fn remove(&mut self, id: NodeId) -> (Outcome, Vec<Change>) {
        match self.nodes.remove(&id) {
            Some(_) => (Outcome::Done, vec![Change::Members]),
            None if self.was_removed(id) && id != NodeId(0) => (Outcome::Done, Vec::new()),
            None => (Outcome::NotFound, Vec::new()),
        }
    }
}

impl Addresses {
    fn are_short(&self) -> bool {
        [&self.peer, &self.http, &self.admin].iter().all(|address| address.len() <= MAX_NAME)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}
