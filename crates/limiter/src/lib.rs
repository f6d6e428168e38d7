//! A node's leases: `admit` → [`Permit`] → settled when dropped or finished. Decides without the network while a lease
//! lasts; talks to the quota group through [`Leases`], which `tidegate` fills from `cluster`.

mod admit;

use std::future::Future;
use std::pin::Pin;

pub use admit::{Ask, Limiter, Permit, Refused, Standing, Why};
use tidegate_quota::protocol::{Batch, Key, Reply};

/// The way to the quota group's leader.
pub trait Leases: Send + Sync + 'static {
    /// Sends one batch and waits for its outcome. An error means: nothing is known about it.
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>>;

    /// The next key that the leader asks this node to report on at once.
    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>>;
}

/// No leader answered: elected, cut off, or gone.
#[derive(Debug, Clone)]
pub struct Unreachable(pub String);
