//! From purges as the cluster agreed on them to purges as the cache of this node knows them.
//!
//! A purge names a URL as people write it. Routes may sort or drop parts of queries before they look anything up
//! (`cache.key.query`), so a URL is purged under every name that a route of the document gives it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_cache::Cache;
use tidegate_cache::purge::{Epoch, Purge, PurgeEntry};
use tidegate_cache::rules::key::{self, Url, UrlDigest};
use tidegate_cluster::Cluster;
use tidegate_policy::{QueryKey, Snapshot};
use tidegate_state as agreed;

pub(super) struct Purges {
    cluster: Cluster,
    cache: Option<Arc<Cache>>,
    /// All up to here are in effect.
    done: Mutex<u64>,
}

impl Purges {
    pub(super) fn new(cluster: &Cluster, cache: Option<&Arc<Cache>>) -> Self {
        Self { cluster: cluster.clone(), cache: cache.cloned(), done: Mutex::new(0) }
    }

    /// Puts into effect what is new. When it returns, nothing that is purged gets out of this node's cache.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done = self.since(*done, snapshot).max(*done);
    }

    /// All of them once more, with the routes of a document that is about to be served.
    pub(super) fn again(&self, snapshot: &Snapshot) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done = self.since(0, snapshot).max(*done);
    }

    fn since(&self, epoch: u64, snapshot: &Snapshot) -> u64 {
        let Some(cache) = &self.cache else { return 0 };
        let (newest, floor, news) = self.cluster.read(|state| {
            let news: Vec<(agreed::Purge, u64)> =
                state.purges.since(epoch).map(|(what, at)| (what.clone(), at)).collect();
            (state.purges.epoch(), state.purges.floor(), news)
        });
        let rules = rules(snapshot);
        let entries: Vec<PurgeEntry> = news.iter().flat_map(|(what, at)| entries(what, *at, &rules)).collect();
        // The floor first: what outlived a newer purge is not asked about older ones again.
        if epoch < floor {
            cache.purge_before(Epoch(floor));
        }
        cache.purge_all(&entries);
        newest
    }
}

/// How the routes that keep responses name queries: a few at most.
fn rules(snapshot: &Snapshot) -> Vec<&QueryKey> {
    let mut rules: Vec<&QueryKey> = Vec::new();
    for route in snapshot.router.routes() {
        if let Some(cache) = &route.cache
            && !rules.contains(&&cache.key.query)
        {
            rules.push(&cache.key.query);
        }
    }
    rules
}

fn entries(what: &agreed::Purge, epoch: u64, rules: &[&QueryKey]) -> Vec<PurgeEntry> {
    let one = |what| vec![PurgeEntry { epoch: Epoch(epoch), what }];
    match what {
        agreed::Purge::All => one(Purge::All),
        agreed::Purge::Tenant(tenant) => one(Purge::Tenant(tenant.as_str().into())),
        agreed::Purge::Prefix { tenant, prefix } => {
            one(Purge::Prefix { tenant: tenant.as_str().into(), prefix: prefix.as_str().into() })
        }
        agreed::Purge::Tag { tenant, tag } => {
            one(Purge::Tag { tenant: tenant.as_str().into(), tag: tag.as_str().into() })
        }
        agreed::Purge::Url { tenant, url } => names(tenant, url, rules)
            .into_iter()
            .map(|url| PurgeEntry { epoch: Epoch(epoch), what: Purge::Url(url) })
            .collect(),
    }
}

/// Under which names routes keep `host/path?query`.
pub(super) fn names(tenant: &str, url: &str, rules: &[&QueryKey]) -> BTreeSet<UrlDigest> {
    let (place, query) = url.split_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let of = |query: Option<&str>| Url { tenant, host, path, query }.digest();
    let ruled = rules.iter().filter_map(|rule| key::query(rule, query));
    let mut names: BTreeSet<UrlDigest> =
        ruled.map(|query| of(Some(query.as_str()).filter(|q| !q.is_empty()))).collect();
    names.insert(of(query));
    names
}

/// Those of the document that is served.
pub(super) fn names_now(tenant: &str, url: &str, snapshot: &Snapshot) -> BTreeSet<UrlDigest> {
    names(tenant, url, &rules(snapshot))
}
