//! What the parts of a node are told: its cluster, its limiter, its cache.

use std::sync::Arc;

use tidegate_cluster::{Acks, Cluster, Start};
use tidegate_limiter::DecisionLog;
use tidegate_model::Incarnation;

use super::args::Settings;
use super::listeners::Listeners;
use super::{fills, ready, redis};

pub(super) fn cache(
    settings: &Settings,
    cluster: &Cluster,
    links: &Arc<fills::Links>,
) -> anyhow::Result<Arc<tidegate_cache::Cache>> {
    let redis = redis::of_node(&settings.redis, cluster)?;
    let it = cluster.clone();
    let lease = Some(tidegate_cache::Lease(Arc::new(move || it.is_current())));
    let memory = settings.cache_memory;
    // A URL has a name for each way in which routes write queries: more than the state keeps of them.
    let purges = 3 * 4_096;
    let peers: Option<Arc<dyn tidegate_cache::Peers>> = Some(Arc::clone(links) as _);
    let wait = tidegate_cache::Settings::default().wait;
    let settings = tidegate_cache::Settings { memory, purges, wait, redis, lease, peers };
    tidegate_cache::Cache::start(settings).map_err(anyhow::Error::msg)
}

pub(super) fn cluster(
    settings: &Settings,
    listeners: &Listeners,
    admin: &ready::Admin,
    heir_of: Option<u32>,
) -> anyhow::Result<tidegate_cluster::Settings> {
    let start = match &settings.join {
        None if settings.initial_peers.is_empty() => Start::Bootstrap,
        None => Start::Gather { peers: settings.initial_peers.clone() },
        Some((address, token)) => {
            let token = tidegate_cluster::JoinToken::parse(&token.0).map_err(anyhow::Error::msg)?;
            Start::Join { address: address.clone(), token }
        }
    };
    let defaults = tidegate_cluster::Settings::new(&settings.data, start);
    Ok(tidegate_cluster::Settings {
        name: settings.name.clone(),
        certificate_life: settings.node_certificate_life.unwrap_or(defaults.certificate_life),
        key_grace: settings.cluster_key_grace.unwrap_or(defaults.key_grace),
        bind: settings.peer,
        advertise: settings.advertise.clone(),
        zone: settings.zone.clone(),
        http: listeners.first_address(),
        admin: admin.address().to_string(),
        feature_level: settings.feature_level,
        heir_of,
        acks: Acks::ByCaller,
        forget_after: settings.forget_after,
        secret: settings.secret.clone(),
        first_admin_token: settings
            .first_admin_token
            .as_ref()
            .map(|token| tidegate_cluster::FirstToken(token.0.clone())),
        ..defaults
    })
}

pub(super) fn limiter(settings: &Settings, cluster: &Cluster) -> anyhow::Result<tidegate_limiter::Settings> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|why| anyhow::anyhow!("no randomness from the kernel: {why}"))?;
    let (node, incarnation) = (cluster.node(), Incarnation(u128::from_le_bytes(random)));
    let decisions = settings
        .decision_log
        .then(|| DecisionLog::open(&settings.data.join("decisions"), node, incarnation))
        .transpose()?;
    let mut secret = [0; 16];
    secret.copy_from_slice(&cluster.subjects_key()[..16]);
    Ok(tidegate_limiter::Settings { node, incarnation, secret, most_keys: settings.limit_keys, decisions })
}
