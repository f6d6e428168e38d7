//! What leases of processes that journal held when they lapsed. It counts as spent; how much of it was, the process says
//! late, or its journal after its death.

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, NodeId, Permits};

use super::super::count::Record;

/// Processes of one key, and lapsed leases of one process; of more the oldest stay spent.
const MOST: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lives(Vec<Life>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    node: NodeId,
    incarnation: Incarnation,
    lapsed: Vec<Lapsed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lapsed {
    epoch: u64,
    /// Of the newest batch applied.
    pub(crate) seq: u64,
    /// Reported.
    pub(crate) spent: Permits,
    /// Not reported: counted as spent.
    pub(crate) outstanding: Permits,
}

impl Lives {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, node: NodeId, incarnation: Incarnation) -> Option<&mut Life> {
        self.0.iter_mut().find(|life| life.node == node && life.incarnation == incarnation)
    }

    pub(crate) fn is_of(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.0.iter().any(|life| life.node == node && life.incarnation == incarnation)
    }

    pub(crate) fn begin(&mut self, node: NodeId, incarnation: Incarnation) {
        if self.is_of(node, incarnation) {
            return;
        }
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Life { node, incarnation, lapsed: Vec::new() });
    }

    pub(crate) fn lapse(&mut self, record: &Record) {
        let Record { node, incarnation, epoch, seq, spent, outstanding, .. } = *record;
        if let Some(life) = self.of(node, incarnation).filter(|_| outstanding != Permits::ZERO) {
            if life.lapsed.len() == MOST {
                life.lapsed.remove(0);
            }
            life.lapsed.push(Lapsed { epoch, seq, spent, outstanding });
        }
    }

    /// The lapsed lease of this epoch, which is none any more.
    pub(crate) fn take(&mut self, node: NodeId, incarnation: Incarnation, epoch: u64) -> Option<Lapsed> {
        let life = self.of(node, incarnation)?;
        let at = life.lapsed.iter().position(|lapsed| lapsed.epoch == epoch)?;
        Some(life.lapsed.remove(at))
    }

    /// As of a batch that is newer than what is known; `None`: it is not.
    pub(crate) fn take_before(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        epoch: u64,
        seq: u64,
    ) -> Option<Lapsed> {
        let known = self.of(node, incarnation)?.lapsed.iter().find(|lapsed| lapsed.epoch == epoch)?.seq;
        if known < seq { self.take(node, incarnation, epoch) } else { None }
    }

    /// The process is dead: what lapsed of it and was not told of.
    pub(crate) fn end(&mut self, node: NodeId, incarnation: Incarnation) -> Permits {
        let dead = self.0.extract_if(.., |life| life.node == node && life.incarnation == incarnation);
        let lapsed = dead.flat_map(|life| life.lapsed);
        lapsed.fold(Permits::ZERO, |sum, lapsed| sum.saturating_add(lapsed.outstanding))
    }
}
