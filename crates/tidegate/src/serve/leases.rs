//! The limiter's way to the quota group.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::{Cluster, Topic, codec};
use tidegate_limiter::{Leases, Limiter, Unreachable};
use tidegate_model::NodeId;
use tidegate_quota::owner::{Errand, Fetched};
use tidegate_quota::protocol::{Batch, Key, Reply};

use super::handover::Ways;

pub(super) struct QuotaGroup(pub(super) Arc<Ways>);

/// How often a node asks who shares the limits with it.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Who is there to take permits: whom to ask for those of small keys, and what a node's share of the free ones is in
/// `RateLimit` headers. Who cannot ask keeps to what it knew.
pub(super) async fn know_sharers(cluster: Cluster, limiter: Arc<Limiter>) {
    loop {
        if let Some(helpful) = cluster.helpful_nodes(ASK_EVERY).await {
            limiter.know_nodes(helpful);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Takes permits for other nodes, as the owner of their keys.
pub(super) fn serve_others(cluster: &Cluster, limiter: &Arc<Limiter>) {
    let weak = Arc::downgrade(limiter);
    cluster.listen(Topic::Permits, move |_, body| {
        let limiter = weak.upgrade();
        async move {
            let answers = match (limiter, codec::decode::<Vec<Errand>>(&body)) {
                (Some(limiter), Ok(errands)) => limiter.serve_errands(&errands).await,
                // A newer release asks for more than we know: it goes on without us.
                _ => Vec::new(),
            };
            codec::encode(&answers)
        }
    });
}

impl Leases for QuotaGroup {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move { self.0.exchange(batch).await.map_err(Unreachable) })
    }

    fn send_errands(
        &self,
        to: NodeId,
        errands: Vec<Errand>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Fetched>, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            let answer = self.0.errands(to, codec::encode(&errands)).await.map_err(Unreachable)?;
            codec::decode(&answer).map_err(|why| Unreachable(why.to_string()))
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(self.0.recalled())
    }
}
