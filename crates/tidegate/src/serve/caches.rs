//! What the response caches of all nodes hold, for people who ask: each node is asked for its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_admin::backend::cluster::{Answered, Caches as Asked};
use tidegate_admin::wire::{KeptResponse, NodeCache, RedisState};
use tidegate_cache::Cache;
use tidegate_cache::remote::Remote;
use tidegate_cache::stored::Stored;
use tidegate_cluster::{Cluster, Topic, codec};
use tidegate_model::Millis;
use tidegate_proxy::Gate;
use tokio::task::JoinSet;

/// A node that does not answer in this time is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Responses that a node tells of one URL.
const MOST: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Stats,
    /// `host/path?query`
    Kept {
        tenant: String,
        url: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Nothing,
    Stats(Box<NodeCache>),
    Kept(Vec<KeptResponse>),
}

pub(super) struct Caches {
    cluster: Cluster,
    gate: Arc<Gate>,
}

/// For the admin port.
pub(super) struct CachesOf(pub(super) Arc<Caches>);

impl Asked for CachesOf {
    fn stats(&self) -> Answered<Vec<NodeCache>> {
        let it = Arc::clone(&self.0);
        Box::pin(async move {
            let replies = it.ask_all(&Message::Stats).await.into_iter();
            let mut all: Vec<NodeCache> =
                replies.filter_map(|reply| if let Reply::Stats(stats) = reply { Some(*stats) } else { None }).collect();
            all.sort_by_key(|cache| cache.node);
            all
        })
    }

    fn kept(&self, tenant: &str, url: &str) -> Answered<Vec<KeptResponse>> {
        let it = Arc::clone(&self.0);
        let ask = Message::Kept { tenant: tenant.to_owned(), url: url.to_owned() };
        Box::pin(async move {
            let replies = it.ask_all(&ask).await.into_iter();
            let mut all: Vec<KeptResponse> =
                replies.flat_map(|reply| if let Reply::Kept(kept) = reply { kept } else { Vec::new() }).collect();
            all.sort_by_key(|kept| (kept.node, kept.age_seconds));
            all
        })
    }
}

impl Caches {
    pub(super) fn start(cluster: &Cluster, gate: &Arc<Gate>) -> Arc<Self> {
        let it = Arc::new(Self { cluster: cluster.clone(), gate: Arc::clone(gate) });
        let weak = Arc::downgrade(&it);
        cluster.listen(Topic::Cache, move |_, body| {
            let reply = weak.upgrade().map_or(Reply::Nothing, |it| it.answer(&body));
            async move { codec::encode(&reply) }
        });
        it
    }

    async fn ask_all(&self, message: &Message) -> Vec<Reply> {
        let live = self.cluster.live_nodes(PATIENCE).await.unwrap_or_else(|| vec![self.cluster.node()]);
        let body = codec::encode(message);
        let mut asks = JoinSet::new();
        for node in live {
            let (cluster, body) = (self.cluster.clone(), body.clone());
            asks.spawn(async move {
                let answer = cluster.tell(node, Topic::Cache, body, PATIENCE).await;
                answer.ok().and_then(|answer| codec::decode(&answer).ok())
            });
        }
        asks.join_all().await.into_iter().flatten().collect()
    }

    fn answer(&self, body: &[u8]) -> Reply {
        let Some(cache) = &self.gate.cache else { return Reply::Nothing };
        match codec::decode::<Message>(body) {
            Ok(Message::Stats) => Reply::Stats(Box::new(self.stats(cache))),
            Ok(Message::Kept { tenant, url }) => Reply::Kept(self.kept(cache, &tenant, &url)),
            Err(_) => Reply::Nothing,
        }
    }

    fn stats(&self, cache: &Cache) -> NodeCache {
        let (memory, (purges, floor)) = (cache.memory().facts(), cache.purges().facts());
        let short = |name: &str| name.strip_prefix("cache_").unwrap_or(name).to_owned();
        NodeCache {
            node: self.cluster.node().0,
            serves: self.cluster.is_current(),
            responses: memory.responses as u64,
            bytes: memory.bytes as u64,
            bound: memory.bound as u64,
            evicted: memory.evicted,
            fetching: cache.fetching() as u64,
            purges: purges as u64,
            purge_epoch: cache.purges().epoch().0,
            purge_floor: floor.0,
            counters: cache.counters.read().into_iter().map(|(name, value)| (short(name), value)).collect(),
            redis: cache.remote().map(|remote| redis(&remote)),
        }
    }

    fn kept(&self, cache: &Cache, tenant: &str, url: &str) -> Vec<KeptResponse> {
        let names = super::purges::names_now(tenant, url, &self.gate.snapshot.load());
        let kept = names.into_iter().flat_map(|name| cache.stored_as(name)).take(MOST);
        let (node, now) = (self.cluster.node().0, Millis(tidegate_clock::wall().0 / 1_000_000));
        kept.map(|stored| told(&stored, node, now)).collect()
    }
}

fn told(stored: &Stored, node: u64, now: Millis) -> KeptResponse {
    KeptResponse {
        node,
        url: stored.url.to_string(),
        status: stored.status.as_u16(),
        bytes: stored.body.len() as u64,
        age_seconds: stored.terms.age(now).0 / 1_000,
        ttl_seconds: stored.terms.ttl_seconds(now),
        tags: stored.tags.iter().map(ToString::to_string).collect(),
        // Names only: the values may be somebody's secret.
        varies_by: stored.selector.fields().iter().map(|(name, _)| name.to_string()).collect(),
        for_all: stored.terms.for_all,
        etag: stored.headers.get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned),
        fetched_at: tidegate_admin::backend::time(stored.asked),
        purge_epoch: stored.epoch.0,
    }
}

fn redis(remote: &Remote) -> RedisState {
    let c = &remote.counters;
    let all = [
        ("hits", &c.hits),
        ("misses", &c.misses),
        ("late", &c.late),
        ("errors", &c.errors),
        ("garbage", &c.garbage),
        ("shed", &c.shed),
        ("writes", &c.writes),
        ("dropped", &c.dropped),
        ("write_errors", &c.write_errors),
        ("invalidations", &c.invalidations),
    ];
    RedisState {
        up: remote.is_available(),
        given_up: remote.given_up(),
        queued_bytes: remote.queued() as u64,
        counters: all.into_iter().map(|(name, value)| (name.to_owned(), value.load(Ordering::Relaxed))).collect(),
    }
}
