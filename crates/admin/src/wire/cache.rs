//! The response cache: what is void, and what the nodes keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::NodeApplied;

/// What is to be void: at least one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CachePurge {
    /// Default: `default`. With `all`: only this tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `https://example.com/a?b`, scheme or not: in all variants and partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// `example.com/a`: all URLs that begin so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// It is void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CachePurged {
    /// By the count of all purges: what was fetched before is void.
    pub epoch: u64,
    /// Of the entry in the control log.
    pub index: u64,
    pub nodes: Vec<NodeApplied>,
    /// No live node serves what is purged.
    pub complete: bool,
}

/// The cache of every live node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct CacheStats {
    pub nodes: Vec<NodeCache>,
}

/// One node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCache {
    pub node: u64,
    /// `false`: it is cut off, or not caught up, and does without its cache.
    pub serves: bool,
    /// In memory.
    pub responses: u64,
    pub bytes: u64,
    /// `bytes` never exceeds it.
    pub bound: u64,
    /// Thrown out for room, since it started.
    pub evicted: u64,
    /// Fetches under way that others may join.
    pub fetching: u64,
    /// Remembered one by one.
    pub purges: u64,
    /// Of the newest purge it knows.
    pub purge_epoch: u64,
    /// What was fetched before this epoch is void.
    pub purge_floor: u64,
    /// `hits`, `misses`, … since it started: docs/cache.md.
    pub counters: BTreeMap<String, u64>,
    /// `null`: it has none.
    pub redis: Option<RedisState>,
}

/// How a node stands with Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedisState {
    /// Is it asked at the moment?
    pub up: bool,
    /// Times it was not asked for a while.
    pub given_up: u64,
    pub queued_bytes: u64,
    /// `hits`, `late`, … since the node started.
    pub counters: BTreeMap<String, u64>,
}

/// What is kept of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptResponses {
    pub tenant: String,
    /// `host/path?query`
    pub url: String,
    pub responses: Vec<KeptResponse>,
}

/// A response in a node's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptResponse {
    pub node: u64,
    /// As it is named in keys: a route may sort the query or drop parts of it.
    pub url: String,
    pub status: u16,
    /// Of its body.
    pub bytes: u64,
    pub age_seconds: u64,
    /// Negative: it is out of date.
    pub ttl_seconds: i64,
    pub tags: Vec<String>,
    /// Fields of requests: one response for each of their values.
    pub varies_by: Vec<String>,
    /// `false`: for one caller.
    pub for_all: bool,
    pub etag: Option<String>,
    pub fetched_at: String,
    /// The newest purge its node knew when it began to fetch it.
    pub purge_epoch: u64,
}
