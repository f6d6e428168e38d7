//! Where nodes say they are: machines of one zone are lost together. Who votes is spread over zones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_model::NodeId;

use crate::outcome::{Change, Outcome};

/// Longest name of a zone, in bytes.
pub const MAX_ZONE: usize = 64;

/// Of those that say so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Zones(BTreeMap<NodeId, String>);

impl Zones {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<&str> {
        self.0.get(&node).map(String::as_str)
    }

    /// Of a member. An empty name: it says nothing any more.
    pub(crate) fn set(&mut self, node: NodeId, zone: &str) -> (Outcome, Vec<Change>) {
        if MAX_ZONE < zone.len() {
            return (Outcome::TooLarge { limit: MAX_ZONE as u64 }, Vec::new());
        }
        if zone.is_empty() {
            self.0.remove(&node);
        } else {
            self.0.insert(node, zone.to_owned());
        }
        (Outcome::Done, vec![Change::Members])
    }

    /// The node left for good.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }
}
