//! A node's leases: [`Limiter::admit`] → [`Permit`] → committed, or given back when dropped.
//!
//! Decides without the network while a lease lasts. Talks to the quota group through [`Leases`], which `tidegate` fills
//! from `cluster`. Where is a rate limit decided? In `admit.rs`; what refills it is `tick.rs`.

mod admit;
mod bell;
mod decisions;
#[cfg(test)]
mod fixtures;
mod index;
pub mod journal;
#[cfg(all(test, loom))]
mod model;
mod orders;
mod owner;
mod permit;
mod room;
mod running;
mod silence;
mod slot;
mod standstill;
mod sync;
mod table;
mod tick;

use std::future::Future;
use std::pin::Pin;

pub use admit::{Ask, Counters, Limiter, Refused, Settings, Standing, Standings, Why};
pub use decisions::DecisionLog;
pub use journal::Journal;
pub use orders::{Ceiling, Ceilings, Quota};
pub use permit::Permit;
pub use running::Running;
use tidegate_model::NodeId;
pub use tidegate_quota::Hashing;
use tidegate_quota::owner::{Errand, Fetched};
pub use tidegate_quota::protocol::Key;
use tidegate_quota::protocol::{Batch, Reply};

/// The way to the quota group's leader.
pub trait Leases: Send + Sync + 'static {
    /// Sends one batch and waits for its outcome. An error means: nothing is known about it.
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>>;

    /// Asks another node, as the owner of these keys, and waits for its answers: one for each take. An error means: nothing
    /// is known about it. Nodes that cannot be asked are asked for nothing.
    fn send_errands(
        &self,
        to: NodeId,
        errands: Vec<Errand>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Fetched>, Unreachable>> + Send + '_>> {
        let errands = errands.len();
        Box::pin(async move { Err(Unreachable(format!("there is no way to {to} for {errands} errands"))) })
    }

    /// The next key that the leader asks this node to report on at once.
    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>>;
}

/// No leader answered: elected, cut off, or gone.
#[derive(Debug, Clone)]
pub struct Unreachable(pub String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the quota group's leader does not answer: {}", self.0)
    }
}

impl std::error::Error for Unreachable {}
