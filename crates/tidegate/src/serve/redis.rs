//! Which Redis this node shares responses through: its own settings' if they say anything, else the document's.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tidegate_cache::Cache;
use tidegate_cache::remote::Settings;
use tidegate_cluster::Cluster;
use tidegate_policy::Redis;
use tidegate_proxy::Gate;

use super::args::RedisHere;

/// What the node's own settings say.
pub(super) fn of_node(here: &RedisHere, cluster: &Cluster) -> anyhow::Result<Option<Settings>> {
    let RedisHere::At(at) = here else { return Ok(None) };
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("reading the certificates in {}", path.display()))
    };
    let mut redis = Settings::new(&at.url, &cluster.id().to_string());
    redis.authority = at.authority.as_ref().map(read).transpose()?;
    Ok(Some(redis))
}

/// The document's Redis, where it is this node's.
pub(super) struct Published {
    /// `None`: the node has a say of its own.
    cache: Option<Arc<Cache>>,
    /// Other clusters on the same Redis have other names.
    namespace: String,
    used: Mutex<Option<Arc<Redis>>>,
}

impl Published {
    pub(super) fn new(here: &RedisHere, cluster: &Cluster, gate: &Gate) -> Self {
        let cache = gate.cache.clone().filter(|_| matches!(here, RedisHere::AsPublished));
        Self { cache, namespace: cluster.id().to_string(), used: Mutex::new(None) }
    }

    /// Uses what the document says now. What did not change is left alone: its connections, its breaker.
    pub(super) fn follow(&self, wanted: Option<&Arc<Redis>>) -> Result<(), String> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.as_ref() == wanted {
            return Ok(());
        }
        cache.use_redis(wanted.map(|redis| {
            let mut settings = Settings::new(&redis.url, &self.namespace);
            settings.authority.clone_from(&redis.authority);
            settings
        }))?;
        tracing::info!(redis = wanted.is_some(), "kept responses are shared as the document says");
        *used = wanted.cloned();
        Ok(())
    }
}
