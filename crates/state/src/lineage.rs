//! Clusters that this one took the place of: restored from a backup of theirs, or recovered from one survivor. Whoever still
//! belongs to one of them is told so.
//!
//! Changed while no cluster runs, before the first entry of the new one: no command does it.

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, NodeId};

use crate::audit::{self, By};
use crate::members::{Addresses, ClusterId};
use crate::{Role, State};

/// Of more, the oldest are forgotten.
const MOST: usize = 64;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lineage(Vec<Ancestor>);

/// A cluster that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ancestor {
    pub cluster: ClusterId,
    pub ended: Millis,
    pub how: Ending,
}

/// Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ending {
    /// A backup of it was restored.
    Restored,
    /// It had lost its quorum, and one of its nodes went on alone.
    Recovered,
}

/// A cluster of one node that takes the place of another.
#[derive(Debug, Clone)]
pub struct Anew {
    pub cluster: ClusterId,
    pub how: Ending,
    pub at: Millis,
    pub first: First,
}

/// Its node.
#[derive(Debug, Clone)]
pub enum First {
    /// One of the old cluster's.
    Survivor(NodeId),
    New(Newcomer),
}

#[derive(Debug, Clone)]
pub struct Newcomer {
    pub name: String,
    pub feature_level: u32,
    /// Fingerprint.
    pub public_key: [u8; 32],
    /// Hash of a first admin token: who restores may have none of the old ones.
    pub admin_token: [u8; 32],
}

impl Lineage {
    /// 1 for a cluster that took nobody's place.
    #[must_use]
    pub fn epoch(&self) -> usize {
        self.0.len() + 1
    }

    /// It took nobody's place.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.is_empty()
    }

    /// Newest last.
    pub fn ancestors(&self) -> impl DoubleEndedIterator<Item = &Ancestor> {
        self.0.iter()
    }

    #[must_use]
    pub fn ancestor(&self, cluster: ClusterId) -> Option<&Ancestor> {
        self.0.iter().rev().find(|ancestor| ancestor.cluster == cluster)
    }
}

impl State {
    /// Begins a new cluster with what this state holds. All former members are removed, and join tokens void: one that was used
    /// after the backup would be good again. The id of its node, or `None` when there is no such survivor.
    pub fn begin_anew(&mut self, anew: &Anew) -> Option<NodeId> {
        self.now = self.now.max(anew.at);
        let survivor = match anew.first {
            First::Survivor(id) => Some(self.members.node(id)?.id),
            First::New(_) => None,
        };
        let gone: Vec<NodeId> = self.members.nodes().map(|node| node.id).filter(|id| Some(*id) != survivor).collect();
        for id in gone {
            self.usage.forget(id);
            self.later.zones.forget(id);
            self.later.cluster_keys.without(id);
            self.members.remove(id);
        }
        self.tokens.revoke_all_joins();
        if self.later.lineage.0.len() == MOST {
            self.later.lineage.0.remove(0);
        }
        let old = self.members.rename(anew.cluster);
        self.later.lineage.0.push(Ancestor { cluster: old, ended: anew.at, how: anew.how });
        let first = match &anew.first {
            First::Survivor(_) => survivor,
            First::New(new) => {
                self.tokens.create_admin(new.admin_token, "restored", Role::Admin, None, anew.at);
                self.members.add(&new.name, &Addresses::default(), new.feature_level, new.public_key, anew.at)
            }
        };
        // Where there are records already; a release that knows of none reads this state otherwise.
        if let Some(first) = first
            && !self.later.audit.is_new()
        {
            self.later.audit.add(0, anew.at, &By::node(first), audit::anew(anew.how, &old.to_string()));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Form, Join, Outcome, Proposal, RequestId};

    fn apply(state: &mut State, request: u128, command: Command) -> Outcome {
        state.apply(0, &Proposal { request: RequestId(request), at: Millis(5), command, by: None }).0
    }

    fn two_nodes() -> State {
        let mut state = State::default();
        let (name, addresses, feature_level) = (String::from("a"), Addresses::default(), 2);
        let form = Form {
            cluster: ClusterId(1),
            name: name.clone(),
            addresses: addresses.clone(),
            feature_level,
            ca: vec![1],
            sealed_ca_key: vec![2],
            public_key: [1; 32],
            admin_token: [3; 32],
        };
        apply(&mut state, 1, Command::Form(form));
        apply(&mut state, 2, Command::CreateJoinToken { hash: [9; 32], expires_at: None, uses: 3 });
        let join = Join { token: [9; 32], name, addresses, feature_level, public_key: [2; 32] };
        assert_eq!(apply(&mut state, 3, Command::Join(join)), Outcome::Joined { node: NodeId(2) });
        state
    }

    #[test]
    fn a_new_cluster_has_a_node_of_a_new_id_and_knows_where_it_comes_from() {
        let mut state = two_nodes();
        let new = Newcomer { name: "c".into(), feature_level: 2, public_key: [4; 32], admin_token: [5; 32] };
        let anew = Anew { cluster: ClusterId(7), how: Ending::Restored, at: Millis(9), first: First::New(new) };
        assert_eq!(state.begin_anew(&anew), Some(NodeId(3)));
        assert_eq!((state.members.cluster(), state.members.len()), (ClusterId(7), 1));
        assert!(state.members.was_removed(NodeId(1)) && state.members.was_removed(NodeId(2)));
        assert_eq!(state.later.lineage.epoch(), 2);
        assert_eq!(state.later.lineage.ancestor(ClusterId(1)).map(|old| old.how), Some(Ending::Restored));
        assert_eq!(state.tokens.check_join([9; 32], Millis(9)), Err(Outcome::TokenUnknown));
        let names: Vec<_> = state.tokens.admins().map(|token| token.name.as_str()).collect();
        assert_eq!(names, ["bootstrap", "restored"]);
    }

    #[test]
    fn a_survivor_stays_who_it_is_and_a_stranger_is_none() {
        let mut state = two_nodes();
        let anew = |id| Anew {
            cluster: ClusterId(7),
            how: Ending::Recovered,
            at: Millis(9),
            first: First::Survivor(NodeId(id)),
        };
        assert_eq!(state.clone().begin_anew(&anew(3)), None);
        assert_eq!(state.begin_anew(&anew(2)), Some(NodeId(2)));
        assert_eq!(state.members.nodes().map(|node| node.id).collect::<Vec<_>>(), [NodeId(2)]);
    }
}
