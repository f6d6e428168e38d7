//! Carries what response caches say to each other about who fetches what, and tells them which nodes are alive.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_cache::Peers;
use tidegate_cache::peers::{Message, Reply};
use tidegate_cluster::{Cluster, Topic, codec};
use tidegate_model::NodeId;
use tidegate_proxy::Gate;

/// Who is alive is asked this often, where responses are kept. Nodes that know it differently fetch twice; that is all.
const LOOK: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_millis(300);

/// The other nodes, as the cache sees them.
pub(super) struct Links {
    cluster: Cluster,
    live: ArcSwap<Box<[u64]>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("live", &self.live.load()).finish_non_exhaustive()
    }
}

impl Links {
    pub(super) fn new(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self { cluster: cluster.clone(), live: ArcSwap::default() })
    }

    /// From now on this node answers, and asks.
    pub(super) fn open(self: &Arc<Self>, gate: &Arc<Gate>) {
        let Some(cache) = &gate.cache else { return };
        let weak = Arc::downgrade(cache);
        self.cluster.listen(Topic::Fills, move |from, body| {
            let cache = weak.upgrade();
            async move {
                let reply = match (cache, codec::decode::<Message>(&body)) {
                    (Some(cache), Ok(message)) => cache.heard(from.0, message).await,
                    // A newer release says more than we know.
                    _ => Reply::Away,
                };
                codec::encode(&reply)
            }
        });
        self.cluster.spawn(Arc::clone(self).know_nodes(Arc::clone(gate)));
    }

    /// Who cannot ask has no lease soon, and then no cache.
    async fn know_nodes(self: Arc<Self>, gate: Arc<Gate>) {
        loop {
            let keeps = gate.snapshot.load().router.routes().iter().any(|route| route.cache.is_some());
            if keeps && let Some(live) = self.cluster.live_nodes(PATIENCE).await {
                let live: Box<[u64]> = live.into_iter().map(|node| node.0).collect();
                if **self.live.load() != live {
                    self.live.store(Arc::new(live));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Peers for Links {
    fn me(&self) -> u64 {
        self.cluster.node().0
    }

    fn live(&self) -> Arc<Box<[u64]>> {
        self.live.load_full()
    }

    fn ask(
        &self,
        to: u64,
        message: Message,
        patience: Duration,
    ) -> Pin<Box<dyn Future<Output = Option<Reply>> + Send>> {
        let cluster = self.cluster.clone();
        Box::pin(async move {
            let answer = cluster.tell(NodeId(to), Topic::Fills, codec::encode(&message), patience).await;
            answer.ok().and_then(|answer| codec::decode(&answer).ok())
        })
    }
}
