//! Where the members are reached. What the state says counts; what a node said itself in a handshake counts more,
//! because it moved after it could tell the state.

use std::collections::BTreeMap;
use std::sync::RwLock;

use tidegate_model::NodeId;

#[derive(Debug, Default)]
pub(crate) struct AddressBook(RwLock<Pages>);

#[derive(Debug, Default)]
struct Pages {
    /// From the state, or before that from `node.json`.
    known: BTreeMap<NodeId, String>,
    /// Heard in handshakes since.
    heard: BTreeMap<NodeId, String>,
}

impl AddressBook {
    pub(crate) fn of(&self, node: NodeId) -> Option<String> {
        let pages = self.0.read().expect("no panic while locked");
        pages.heard.get(&node).or_else(|| pages.known.get(&node)).cloned()
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.0.read().expect("no panic while locked").known.keys().copied().collect()
    }

    pub(crate) fn all(&self) -> BTreeMap<NodeId, String> {
        let pages = self.0.read().expect("no panic while locked");
        let mut all = pages.known.clone();
        for (node, address) in &pages.heard {
            if let Some(known) = all.get_mut(node) {
                known.clone_from(address);
            }
        }
        all
    }

    /// The state's members. What was heard of a node holds until the state says something new about it.
    pub(crate) fn replace(&self, members: BTreeMap<NodeId, String>) {
        let mut pages = self.0.write().expect("no panic while locked");
        let Pages { known, heard } = &mut *pages;
        heard.retain(|node, _| members.contains_key(node) && members.get(node) == known.get(node));
        *known = members;
    }

    /// A node said where it is. Only authenticated peers get here, so the book is no longer than the cluster.
    pub(crate) fn heard(&self, node: NodeId, address: &str) {
        if !address.is_empty() {
            self.0.write().expect("no panic while locked").heard.insert(node, address.to_owned());
        }
    }

    /// An address to use if none is known.
    pub(crate) fn suggest(&self, node: NodeId, address: &str) {
        if !address.is_empty() {
            let mut pages = self.0.write().expect("no panic while locked");
            pages.known.entry(node).or_insert_with(|| address.to_owned());
        }
    }
}
