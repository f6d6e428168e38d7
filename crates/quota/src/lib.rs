//! The arithmetic of limits: exact across the cluster, with no network on the hot path (docs/quota.md).
//!
//! Pure: no clock, no I/O, no randomness. Three parts meet here and are tested together:
//! the [`Ledger`] that the quota group replicates, the [`protocol`] between nodes and its leader, and the cell a node
//! takes permits from.

pub mod ledger;
pub mod protocol;

pub use ledger::Ledger;
