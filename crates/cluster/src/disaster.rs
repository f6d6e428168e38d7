//! When a cluster is lost: backups made while it serves, a new cluster from a backup, a new cluster from one survivor.
//!
//! ```text
//!   backup    control state + budgets + cluster key ──► one sealed file         (a running node)
//!   restore   file + backup key ──► an empty data folder: one node, new cluster id
//!   recover   a survivor's data folder ──► the same folder: one node, new cluster id     (no process runs)
//! ```
//! Both make a *new* cluster of the old one's state, by one way: `found` writes two snapshots and an identity aside, and
//! `install` puts them in place by renames that any later start completes. Whoever is of the old cluster is refused: its
//! id is another one.

pub(crate) mod archive;
mod backup;
mod found;
pub(crate) mod install;
mod key;
mod offline;
mod recover;
mod restore;

pub(crate) use backup::lasting_here;

pub use archive::{Broken, Counts, Manifest, Section};
pub use key::{BackupKey, Recipient};
pub use recover::{Recovered, Standing, Survivor, recover, survey};
pub use restore::{Restored, Wish, inspect, restore};
