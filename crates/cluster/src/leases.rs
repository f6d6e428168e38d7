//! Node leases: who is alive, and who has put which control entry into effect. Not in the log: the control leader keeps
//! them in memory and judges by its own clock; every node renews each half second, and at once when it got further.
//!
//! ```text
//! holder    |-- sent --------------------- 2 s / (1 + 2ρ) --| lapsed, on its boot clock
//! leader         |-- received ------------------------------------ 2 s --| lapsed, on its raw clock
//! ```
//! So a holder knows that it lost its lease before the leader counts it as gone. A new leader knows nobody: for the
//! first two seconds it counts everybody as alive, since the old one may have renewed them up to its last moment.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate_model::{Nanos, NodeId};

use crate::raft::LeaderId;
use crate::wire::{LeaseView, Renewal};

/// How long a node lease lives, for the leader.
pub(crate) const LEASE: Nanos = Nanos(2_000_000_000);
/// How long it lives for its holder: divided by 1 + 2ρ, ρ = 0.1.
const HOLDER: Nanos = Nanos(LEASE.0 * 10 / 12);

/// The leader's side.
#[derive(Default)]
pub(crate) struct LeaseTable(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// Whose table this is, and when that leadership began.
    leadership: Option<(LeaderId, Nanos)>,
    renewals: BTreeMap<NodeId, (Nanos, Renewal)>,
}

impl LeaseTable {
    pub(crate) fn renew(&self, leadership: LeaderId, renewal: Renewal) {
        let now = tidegate_clock::raw();
        let mut table = self.0.lock().expect("no panic while locked");
        table.lead(leadership, now);
        table.renewals.insert(renewal.node, (now, renewal));
    }

    /// How each of these nodes stands. Nodes that are no members are forgotten.
    pub(crate) fn views(&self, leadership: LeaderId, members: &[NodeId]) -> BTreeMap<NodeId, LeaseView> {
        let now = tidegate_clock::raw();
        let mut table = self.0.lock().expect("no panic while locked");
        table.lead(leadership, now);
        table.renewals.retain(|node, _| members.contains(node));
        members.iter().map(|node| (*node, table.view(*node, now))).collect()
    }
}

impl Table {
    fn lead(&mut self, leadership: LeaderId, now: Nanos) {
        if self.leadership.is_none_or(|(held, _)| held != leadership) {
            self.leadership = Some((leadership, now));
            self.renewals.clear();
        }
    }

    fn view(&self, node: NodeId, now: Nanos) -> LeaseView {
        let since = self.leadership.map_or(now, |(_, since)| since);
        let found = self.renewals.get(&node);
        let age = now.saturating_sub(found.map_or(since, |(at, _)| *at));
        LeaseView {
            live: age < LEASE,
            unknown: found.is_none(),
            age_ms: age.0 / 1_000_000,
            renewal: found.map(|(_, renewal)| renewal.clone()),
        }
    }
}

/// The holder's side: until when this node may believe that it is a live one, on its boot clock.
#[derive(Debug, Default)]
pub(crate) struct Held {
    until: AtomicU64,
    /// Entries up to here may have been acknowledged everywhere without this node, which was counted as gone.
    missed: AtomicU64,
    /// This node has let its cluster go.
    ended: AtomicBool,
}

impl Held {
    /// The leader kept the lease in answer to a renewal sent at `sent`; all up to `committed` is committed.
    pub(crate) fn kept(&self, sent: Nanos, committed: u64) {
        // Judged now and not at `sent`: the renewal may have been long on its way. Told before the lease is.
        if !self.is_live() {
            self.missed.fetch_max(committed, Ordering::AcqRel);
        }
        self.until.fetch_max(sent.saturating_add(HOLDER).0, Ordering::AcqRel);
    }

    /// With all in effect that was acknowledged while this node was gone.
    pub(crate) fn is_current(&self, in_effect: u64) -> bool {
        self.is_live() && self.missed.load(Ordering::Acquire) <= in_effect
    }

    /// Never since this process began, or not for so long.
    pub(crate) fn is_missing_for(&self, time: Nanos) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == 0 || until.saturating_add(time.0) < tidegate_clock::boot().0
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.ended.load(Ordering::Acquire) && tidegate_clock::boot().0 < self.until.load(Ordering::Acquire)
    }

    /// For good, whatever is still kept: nobody hears here any more what is acknowledged.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewal(node: u64) -> Renewal {
        Renewal {
            node: NodeId(node),
            applied: 1,
            in_effect: 1,
            feature_level: 1,
            addresses: tidegate_state::Addresses::default(),
            ready: true,
            draining: false,
            revision: tidegate_model::Revision(0),
            version: String::new(),
        }
    }

    #[test]
    fn a_new_leader_counts_everybody_as_alive_at_first() {
        let table = LeaseTable::default();
        let view = &table.views(LeaderId { term: 1, node_id: 1 }, &[NodeId(2)])[&NodeId(2)];
        assert!(view.live && view.unknown);
    }

    #[test]
    fn renewals_of_an_older_leadership_are_forgotten() {
        let table = LeaseTable::default();
        table.renew(LeaderId { term: 1, node_id: 1 }, renewal(2));
        assert!(!table.views(LeaderId { term: 1, node_id: 1 }, &[NodeId(2)])[&NodeId(2)].unknown);
        assert!(table.views(LeaderId { term: 2, node_id: 1 }, &[NodeId(2)])[&NodeId(2)].unknown);
    }

    #[test]
    fn a_holder_gives_up_before_the_leader_does() {
        let held = Held::default();
        assert!(!held.is_live());
        held.kept(tidegate_clock::boot(), 0);
        assert!(held.is_live());
        const { assert!(HOLDER.0 < LEASE.0) }
    }

    #[test]
    fn a_holder_that_was_gone_is_current_once_it_has_what_it_missed() {
        let held = Held::default();
        held.kept(tidegate_clock::boot(), 7);
        assert!(held.is_live() && !held.is_current(6) && held.is_current(7));
        held.kept(tidegate_clock::boot(), 9);
        assert!(held.is_current(7), "it was there: nothing is acknowledged without it");
        held.until.store(0, Ordering::Relaxed);
        assert!(!held.is_current(9), "gone");
        held.kept(tidegate_clock::boot(), 12);
        assert!(!held.is_current(11) && held.is_current(12));
        held.end();
        held.kept(tidegate_clock::boot(), 12);
        assert!(!held.is_live() && !held.is_current(12), "the answer to a renewal may come late");
    }
}
