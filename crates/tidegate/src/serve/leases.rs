//! The limiter's way to the quota group.

use std::future::Future;
use std::pin::Pin;

use tidegate_cluster::Cluster;
use tidegate_limiter::{Leases, Unreachable};
use tidegate_quota::protocol::{Batch, Key, Reply};

pub(super) struct QuotaGroup(pub(super) Cluster);

impl Leases for QuotaGroup {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move { self.0.exchange(batch).await.map_err(|why| Unreachable(why.to_string())) })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(self.0.recalled())
    }
}
