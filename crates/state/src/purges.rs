//! Which kept responses are void by order of an operator. Each purge raises the epoch; a response carries the epoch that
//! its node knew when it began to fetch it, and is good only while no purge that matches it is younger.
//!
//! What matches what is known to `cache`; here a purge is words. The newest are kept one by one; beyond the bound the
//! older half becomes a floor: everything fetched before it is void.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

/// Purges kept one by one.
const MOST: usize = 4_096;
/// Longest URL or prefix, in bytes.
const MAX_URL: usize = 2_048;
/// Purges in one entry.
const AT_ONCE: usize = 1_000;

/// What is void. Positional: append only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purge {
    /// Everything of every tenant.
    All,
    Tenant(String),
    /// `host/path?query`, in all its variants and partitions.
    Url {
        tenant: String,
        url: String,
    },
    /// All URLs that begin so.
    Prefix {
        tenant: String,
        prefix: String,
    },
    Tag {
        tenant: String,
        tag: String,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Purges {
    /// Of the newest purge. Never turns back.
    epoch: u64,
    /// What was fetched before this epoch is void.
    floor: u64,
    known: BTreeMap<Purge, u64>,
}

impl Purges {
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everything fetched before this epoch is void.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Purges younger than an epoch, with theirs.
    pub fn since(&self, epoch: u64) -> impl Iterator<Item = (&Purge, u64)> {
        self.known.iter().filter(move |(_, of)| **of > epoch).map(|(what, of)| (what, *of))
    }

    pub(crate) fn purge(&mut self, what: &[Purge]) -> (Outcome, Vec<Change>) {
        if what.len() > AT_ONCE {
            return (Outcome::TooLarge { limit: AT_ONCE as u64 }, Vec::new());
        }
        if let Some(limit) = what.iter().find_map(too_long) {
            return (Outcome::TooLarge { limit: limit as u64 }, Vec::new());
        }
        if what.is_empty() {
            return (Outcome::Purged { epoch: self.epoch }, Vec::new());
        }
        self.epoch += 1;
        for what in what {
            if *what == Purge::All {
                // Says all that the others said.
                self.known.clear();
            }
            self.known.insert(what.clone(), self.epoch);
        }
        if MOST < self.known.len() {
            self.forget_half();
        }
        (Outcome::Purged { epoch: self.epoch }, vec![Change::Purges])
    }

    fn forget_half(&mut self) {
        let mut epochs: Vec<u64> = self.known.values().copied().collect();
        epochs.sort_unstable();
        let middle = epochs[epochs.len() / 2];
        self.floor = self.floor.max(middle);
        self.known.retain(|_, epoch| middle < *epoch);
    }
}

fn too_long(what: &Purge) -> Option<usize> {
    let (tenant, text, limit) = match what {
        Purge::All => return None,
        Purge::Tenant(tenant) => (tenant, "", 0),
        Purge::Url { tenant, url } => (tenant, url.as_str(), MAX_URL),
        Purge::Prefix { tenant, prefix } => (tenant, prefix.as_str(), MAX_URL),
        Purge::Tag { tenant, tag } => (tenant, tag.as_str(), MAX_NAME),
    };
    if tenant.len() > MAX_NAME {
        return Some(MAX_NAME);
    }
    (text.len() > limit).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(n: usize) -> Purge {
        Purge::Tag { tenant: "t".into(), tag: n.to_string() }
    }

    #[test]
    fn each_purge_has_an_epoch_and_the_newest_of_its_kind_counts() {
        let mut purges = Purges::default();
        assert_eq!(purges.purge(&[tag(1), tag(2)]), (Outcome::Purged { epoch: 1 }, vec![Change::Purges]));
        assert_eq!(purges.purge(&[tag(1)]).0, Outcome::Purged { epoch: 2 });
        assert_eq!(purges.since(1).collect::<Vec<_>>(), [(&tag(1), 2)]);
        assert_eq!(purges.purge(&[]), (Outcome::Purged { epoch: 2 }, Vec::new()));
        purges.purge(&[Purge::All]);
        assert_eq!(purges.since(0).collect::<Vec<_>>(), [(&Purge::All, 3)]);
    }

    #[test]
    fn beyond_the_bound_the_older_half_becomes_a_floor() {
        let mut purges = Purges::default();
        for n in 0..3 * MOST {
            purges.purge(&[tag(n)]);
            if n % 511 != 0 {
                continue;
            }
            assert!(purges.known.len() <= MOST);
            let known: Vec<u64> = purges.known.values().copied().collect();
            assert!(known.iter().all(|epoch| purges.floor < *epoch));
            let told = known.len() as u64 + purges.floor;
            assert_eq!(told, purges.epoch, "no purge is lost between the floor and what is known");
        }
    }

    #[test]
    fn what_is_too_long_changes_nothing() {
        let mut purges = Purges::default();
        let long = |n: usize| "x".repeat(n);
        for what in [
            vec![Purge::Tenant(long(MAX_NAME + 1))],
            vec![Purge::Url { tenant: "t".into(), url: long(MAX_URL + 1) }],
            vec![tag(1), Purge::Tag { tenant: "t".into(), tag: long(MAX_NAME + 1) }],
            vec![Purge::All; AT_ONCE + 1],
        ] {
            assert!(matches!(purges.purge(&what), (Outcome::TooLarge { .. }, changes) if changes.is_empty()));
        }
        assert_eq!(purges, Purges::default());
    }
}
