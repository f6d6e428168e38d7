//! What a route allows its responses to be reused for. The rules that read this are `crates/cache`'s.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// A route's `cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    pub ttl: Ttl,
    /// Bytes of a request body that may become part of the key: POST is cached. `None`: only GET and HEAD are.
    pub post: Option<u64>,
    /// Bytes of a response body; a larger one streams through unheld.
    pub max_object: u64,
    /// For responses that do not say it themselves.
    pub stale_while_revalidate: Duration,
    /// For responses that do not say it themselves.
    pub stale_if_error: Duration,
    /// Breakers of the route's upstreams let a response stand in so long for a backend that fails: it is kept for that.
    pub stand_in: Duration,
    /// How long a response of this status lives when it does not say it itself.
    pub negative: Vec<(StatusCode, Duration)>,
    /// Tags of every response of the route, beside those that the response names.
    pub tags: Vec<Box<str>>,
    /// Variants (`Vary`) kept per key.
    pub vary_limit: usize,
    pub key: CacheKey,
    pub partition: Partition,
    pub cookies: Cookies,
    /// Does a client's `Cache-Control` (and `Pragma`) count? An origin that must be protected says no.
    pub heed_clients: bool,
}

/// A Redis that nodes share responses through, where a node's own settings name none.
#[derive(Clone, PartialEq, Eq)]
pub struct Redis {
    /// With its password: never printed.
    pub url: String,
    /// Certificates (PEM) that sign the server's.
    pub authority: Option<Vec<u8>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// `Cache-Control` and its targeted forms, `Expires`, or a tenth of the time since `Last-Modified`.
    FromOrigin,
    /// Instead of the origin's lifetime. What the origin forbids stays forbidden.
    Fixed(Duration),
}

/// What besides tenant, scheme, route, host and path makes a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheKey {
    pub query: QueryKey,
    /// Values of these request headers.
    pub headers: Vec<HeaderName>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueryKey {
    /// As sent.
    #[default]
    Exact,
    /// Parameters in sorted order, without these.
    Sorted { ignore: Vec<Box<str>> },
    /// Of these parameters only, in sorted order.
    Only(Vec<Box<str>>),
}

/// Who shares a stored response. The tenant always is a wall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Partition {
    /// All callers; the answer to an authorised request only its own caller, unless the origin says it is for all.
    #[default]
    Auto,
    /// All callers, whoever they are to us. An `Authorization` that goes on to the origin still counts (RFC 9111 § 3.5).
    Tenant,
    /// Each caller its own.
    Consumer,
}

/// What becomes of a response that sets a cookie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cookies {
    /// Not stored, unless it says `s-maxage` or a targeted field lets it: a cookie is mostly one person's.
    #[default]
    Explicit,
    /// Stored without the cookie.
    Strip,
    /// Stored with the cookie (RFC 9111 § 7.3).
    Store,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Ttl::FromOrigin,
            post: None,
            max_object: 8 << 20,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stand_in: Duration::ZERO,
            negative: Vec::new(),
            tags: Vec::new(),
            vary_limit: 16,
            key: CacheKey::default(),
            partition: Partition::default(),
            cookies: Cookies::default(),
            heed_clients: true,
        }
    }
}
