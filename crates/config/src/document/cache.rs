//! What may be reused of a route's responses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::{Size, Span};

/// What holds for all kept responses. How much memory they have is the node's own business: `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheDefaults {
    /// A Redis through which nodes share kept responses, unless a node's own settings name another or none (`redis_url`).
    /// Default: each node has its memory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisRule>,
}

/// A Redis. It may be slow, die or lie: nobody notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisRule {
    /// `redis://:${secrets.NAME}@host:port/db`, `rediss://` for TLS, `redis+sentinel://host:port,host:port/master`,
    /// `redis+cluster://host:port,host:port`, `rediss+…` for those over TLS. A password is a reference to a secret; so may
    /// the whole URL be.
    pub url: String,
    /// With TLS: a file of certificates that sign the server's, on every node. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Responses to GET and HEAD are kept and reused, as RFC 9111 says, within the tenant. `cache: {}` is a start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheRule {
    /// `from_origin`: as long as the response says, or a tenth of the time since its last change. A span: that long,
    /// for successes and redirects; what the response forbids stays forbidden. Default: from_origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<TtlRule>,
    /// A larger body streams through and is not kept. Default: 8MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_object: Option<Size>,
    /// A response that says nothing about it may be served for so long while a new one is fetched. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate: Option<Span>,
    /// A response that says nothing about it may stand in for so long for an origin that fails. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<Span>,
    /// How long an error is kept that does not say it itself, by status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub negative: BTreeMap<String, Span>,
    /// Tags of all its responses, beside those of `Surrogate-Key` and `Cache-Tag`: `tidegate cache purge --tag`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Variants (`Vary`) kept per URL. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub vary_limit: Option<u32>,
    /// What tells requests apart beside tenant, scheme, host, path and query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CacheKeyRule>,
    /// Who shares a response. Default: auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionKind>,
    /// What becomes of a response with `Set-Cookie`. Default: explicit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookies: Option<CookieKind>,
    /// Keep answers to POST as well: the key holds a digest of the body. For queries that happen to be sent by POST: such
    /// a request changes nothing and voids nothing, and its answer must say how long it lives. Default: not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<PostRule>,
    /// Does `Cache-Control` of a request count (`no-cache`, `only-if-cached`, …)? Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heed_clients: Option<bool>,
}

/// Answers to POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostRule {
    /// A request with a larger body goes past the cache. Default: 64KiB; at most 1MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Size>,
}

/// Parts of the key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheKeyRule {
    /// Query parameters that mean nothing. The order of the others means nothing then either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_query: Vec<String>,
    /// The only query parameters that mean something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_query: Option<Vec<String>>,
    /// The order of query parameters means nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sort_query: bool,
    /// Request headers whose values tell requests apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PartitionKind {
    /// All callers; an answer to an authorised request only that caller, unless the origin says that it is for all.
    Auto,
    /// All callers, whoever they are to us.
    Tenant,
    /// Each caller its own.
    Consumer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CookieKind {
    /// Kept only if the response itself says how long it lives; a cookie that looks like a login (`HttpOnly`,
    /// `__Host-…`, a name like `session`) only if it says `s-maxage` or has a `CDN-Cache-Control`.
    Explicit,
    /// Kept without the cookie.
    Strip,
    /// Kept with the cookie.
    Store,
}

/// `from_origin` or a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlRule {
    FromOrigin,
    Fixed(Duration),
}

const FROM_ORIGIN: &str = "from_origin";

impl Serialize for TtlRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::FromOrigin => serializer.serialize_str(FROM_ORIGIN),
            Self::Fixed(span) => Span(*span).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TtlRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == FROM_ORIGIN {
            return Ok(Self::FromOrigin);
        }
        let span: Result<Span, de::value::Error> = Span::deserialize(text.as_str().into_deserializer());
        span.map(|Span(span)| Self::Fixed(span)).map_err(|why| de::Error::custom(format!("{why}, or `{FROM_ORIGIN}`")))
    }
}

impl JsonSchema for TtlRule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TtlRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "`from_origin`, or a span: `60s`, `5m`" })
    }
}
