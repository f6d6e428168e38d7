//! The arithmetic of limits: exact across the cluster, with no network on the hot path (docs/quota.md).
//!
//! Pure: no clock, no I/O, no randomness; whoever calls brings the time. Three parts meet here and are tested together:
//! the [`Ledger`] that the quota group replicates, the [`protocol`] between nodes and its leader, and what a node holds:
//! the [`Cell`] that requests take permits from and the [`Holding`] that reports and refills it.

pub mod calendar;
pub mod cell;
pub mod evidence;
pub mod guard;
pub mod holding;
mod kind;
pub mod ledger;
pub mod owner;
mod pace;
pub mod protocol;
pub mod reserve;
pub mod stamps;
mod subject;
pub mod window;

pub use cell::Cell;
pub use holding::Holding;
pub use ledger::Ledger;
pub use stamps::Stamps;
pub use subject::{Hashing, SubjectHasher};
