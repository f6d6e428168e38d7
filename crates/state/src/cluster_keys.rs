//! Which key seals what is secret in this state, and how far its replacement is. The keys themselves are in no log: a node that was
//! removed has old logs and old keys. Nodes hand them to each other; here is what they are known by.
//!
//! ```text
//! Begin   a new key is known by its mark, nothing is sealed with it yet: another may still take its place, and has to once a member
//!         is removed, which may have it
//! Hold    a node has it on its disk                           (once for each node)
//! Use     all live nodes do: from here on everybody seals with it
//! Reseal  what was sealed with the one before is replaced     (as often as it takes)
//! Forget  nothing is: the one before is deleted
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, NodeId, Revision};

use crate::certificates::{account_name, key_name, order_name};
use crate::outcome::{Change, Outcome};
use crate::{Secrets, State, TicketKeys};

/// What a key is known by: of a key of full entropy nothing can be learnt from it.
pub type Mark = [u8; 32];

/// What limits tell subjects apart by is sealed under this name.
pub const SUBJECTS: &str = "subjects of limits";
/// Of a sealed value, in bytes.
const LONGEST: usize = 1 << 21;
/// Values in one entry.
const AT_ONCE: usize = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterKeys {
    /// How often the key was replaced.
    rotations: u64,
    /// Of the key that seals; `None`: the one that the cluster was formed with.
    current: Option<Mark>,
    next: Option<Next>,
    /// Since when the current key seals, while the one before is still needed.
    replaced_at: Option<Millis>,
    /// It was derived from the first key; counts in the quota log go by it, so it stays as it is.
    subjects: Vec<u8>,
}

/// A key that nothing is sealed with yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Next {
    pub mark: Mark,
    pub begun_at: Millis,
    pub holders: BTreeSet<NodeId>,
    /// A node was removed meanwhile, and may have it: it never seals.
    pub spoiled: bool,
}

/// Append only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Unless somebody else did so first.
    Begin {
        rotations: u64,
        replaces: Option<Mark>,
        mark: Mark,
        /// Sealed with the current key; kept the first time.
        subjects: Vec<u8>,
    },
    Hold {
        node: NodeId,
        mark: Mark,
    },
    Use {
        mark: Mark,
    },
    Reseal(Vec<Resealed>),
    Forget {
        rotations: u64,
    },
}

/// The same value, sealed with another key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    pub place: Place,
    /// Hash of the bytes it replaces: whoever was faster wrote something newer.
    pub was: [u8; 32],
    pub sealed: Vec<u8>,
}

/// Where something sealed is. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    Sealed(String),
    Secret(String),
    CertificateKey(String),
    Order(String),
    Account(String),
    TicketKey(u64),
    Subjects,
}

impl Place {
    /// The name that the value is sealed under.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Sealed(name) => name.clone(),
            Self::Secret(name) => Secrets::sealing(name),
            Self::CertificateKey(name) => key_name(name),
            Self::Order(name) => order_name(name),
            Self::Account(directory) => account_name(directory),
            Self::TicketKey(generation) => TicketKeys::sealing(*generation),
            Self::Subjects => SUBJECTS.to_owned(),
        }
    }

    fn change(&self) -> Change {
        match self {
            Self::Sealed(name) => Change::Sealed(name.clone()),
            Self::Secret(name) => Change::Secret(name.clone()),
            Self::CertificateKey(_) | Self::Order(_) | Self::Account(_) => Change::Certificates,
            Self::TicketKey(_) => Change::TicketKeys,
            Self::Subjects => Change::ClusterKeys,
        }
    }
}

impl ClusterKeys {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rotations == 0 && self.next.is_none()
    }

    /// Of the key that seals; the first is 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.rotations + 1
    }

    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    #[must_use]
    pub fn current(&self) -> Option<Mark> {
        self.current
    }

    #[must_use]
    pub fn next(&self) -> Option<&Next> {
        self.next.as_ref()
    }

    /// `None`: the key before is needed no more.
    #[must_use]
    pub fn replaced_at(&self) -> Option<Millis> {
        self.replaced_at
    }

    /// Empty: the key was never replaced.
    #[must_use]
    pub fn subjects(&self) -> &[u8] {
        &self.subjects
    }

    /// A node is a member no more.
    pub(crate) fn without(&mut self, node: NodeId) {
        if let Some(next) = &mut self.next {
            next.holders.remove(&node);
            next.spoiled = true;
        }
    }
}

impl State {
    /// Everything in it that is sealed with the cluster's key.
    #[must_use]
    pub fn all_sealed(&self) -> Vec<(Place, Vec<u8>)> {
        let sealed = self.sealed.names().map(|name| Place::Sealed(name.to_owned()));
        let secrets = self.later.secrets.iter().map(|(name, _)| Place::Secret(name.to_owned()));
        let keys = self.certificates.stored().map(|(name, _)| Place::CertificateKey(name.to_owned()));
        let orders = self.certificates.orders().map(|(name, _)| Place::Order(name.to_owned()));
        let accounts = self.certificates.accounts().map(|directory| Place::Account(directory.to_owned()));
        let tickets = self.ticket_keys.keys().map(|key| Place::TicketKey(key.generation));
        let places = sealed.chain(secrets).chain(keys).chain(orders).chain(accounts).chain(tickets);
        let there = places.chain([Place::Subjects]).filter_map(|place| {
            let bytes = self.sealed_at(&place)?.to_vec();
            (!bytes.is_empty()).then_some((place, bytes))
        });
        there.collect()
    }

    fn sealed_at(&self, place: &Place) -> Option<&[u8]> {
        match place {
            Place::Sealed(name) => self.sealed.bytes(name),
            Place::Secret(name) => self.later.secrets.by_name(name).map(|secret| secret.sealed.as_slice()),
            Place::CertificateKey(name) => self.certificates.by_name(name).map(|it| it.sealed_key.as_slice()),
            Place::Order(name) => self.certificates.order(name).map(|it| it.sealed.as_slice()),
            Place::Account(directory) => self.certificates.account(directory).map(|(sealed, _)| sealed),
            Place::TicketKey(generation) => {
                self.ticket_keys.keys().find(|key| key.generation == *generation).map(|key| key.sealed.as_slice())
            }
            Place::Subjects => Some(self.later.cluster_keys.subjects()),
        }
    }

    /// `false`: it is not what it was, or too long.
    pub fn reseal(&mut self, new: &Resealed) -> bool {
        let is_same = self.sealed_at(&new.place).is_some_and(|bytes| *blake3::hash(bytes).as_bytes() == new.was);
        if !is_same || LONGEST < new.sealed.len() {
            return false;
        }
        let sealed = new.sealed.clone();
        match &new.place {
            Place::Sealed(name) => self.sealed.reseal(name, sealed),
            Place::Secret(name) => self.later.secrets.reseal(name, sealed),
            Place::CertificateKey(name) => self.certificates.reseal_key(name, sealed),
            Place::Order(name) => self.certificates.reseal_order(name, sealed),
            Place::Account(directory) => self.certificates.reseal_account(directory, sealed),
            Place::TicketKey(generation) => self.ticket_keys.reseal(*generation, sealed),
            Place::Subjects => self.later.cluster_keys.subjects = sealed,
        }
        true
    }

    pub(crate) fn step_cluster_key(&mut self, step: &Step, at: Millis) -> (Outcome, Vec<Change>) {
        let known = self.members.node_ids();
        let keys = &mut self.later.cluster_keys;
        let conflict = (Outcome::Conflict { current: Revision(keys.rotations) }, Vec::new());
        let next = keys.next.as_ref().map(|next| next.mark);
        let is_good = keys.next.as_ref().is_some_and(|next| !next.spoiled);
        match step {
            Step::Begin { rotations, replaces, mark, subjects } => {
                if keys.rotations != *rotations || next != *replaces || keys.replaced_at.is_some() {
                    return conflict;
                }
                keys.next = Some(Next { mark: *mark, begun_at: at, holders: BTreeSet::new(), spoiled: false });
                if keys.subjects.is_empty() && subjects.len() <= LONGEST {
                    keys.subjects.clone_from(subjects);
                }
            }
            Step::Hold { node, mark } => match &mut keys.next {
                Some(next) if next.mark == *mark && known.contains(node) => _ = next.holders.insert(*node),
                _ => return (Outcome::NotFound, Vec::new()),
            },
            Step::Use { mark } if next == Some(*mark) && is_good => {
                keys.rotations = keys.rotations.saturating_add(1);
                (keys.current, keys.next, keys.replaced_at) = (Some(*mark), None, Some(at));
            }
            Step::Forget { rotations } if keys.rotations == *rotations => keys.replaced_at = None,
            Step::Use { .. } | Step::Forget { .. } => return conflict,
            Step::Reseal(all) => {
                let done = all.iter().take(AT_ONCE).filter(|new| self.reseal(new));
                return (Outcome::Done, done.map(|new| new.place.change()).collect());
            }
        }
        (Outcome::Done, vec![Change::ClusterKeys])
    }
}

#[cfg(test)]
mod tests;
