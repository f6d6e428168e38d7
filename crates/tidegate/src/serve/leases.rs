//! The limiter's way to the quota group.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::Cluster;
use tidegate_limiter::{Leases, Limiter, Unreachable};
use tidegate_quota::protocol::{Batch, Key, Reply};

pub(super) struct QuotaGroup(pub(super) Cluster);

/// How often a node asks who shares the limits with it.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// `RateLimit` headers show a node's share of what is free: who cannot ask keeps to what it knew.
pub(super) async fn know_sharers(cluster: Cluster, limiter: Arc<Limiter>) {
    loop {
        if let Some(live) = cluster.live_nodes(ASK_EVERY).await {
            limiter.share_with(live.len());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

impl Leases for QuotaGroup {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move { self.0.exchange(batch).await.map_err(|why| Unreachable(why.to_string())) })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(self.0.recalled())
    }
}
