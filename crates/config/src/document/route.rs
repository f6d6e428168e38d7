//! Routes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::consumer::default_tenant;
use super::{
    AuthKind, CacheRule, ClassKind, CompressionRule, CorsRule, HeaderChanges, LlmRule, Match, RedirectRule,
    RespondRule, RewriteRule, TargetRef,
};
use crate::units::{Size, Span};

/// Takes the requests that `match` describes and does one of `to`, `redirect`, `respond`, `llm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// Unique. Counters and metrics are kept by it.
    pub name: String,
    /// The tenant whose route this is.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Which requests. Default: all.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// Higher first among routes with the same host and path. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Upstreams, drawn by weight for each request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<TargetRef>,
    /// Send the client elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectRule>,
    /// Answer here: a fixed response, a maintenance page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<RespondRule>,
    /// Serve language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<LlmRule>,
    /// With `to`: what the upstream sees instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<RewriteRule>,
    /// Who may: `[key]` asks for a valid key, in `Authorization: Bearer`, `x-api-key`, `api-key`, `x-goog-api-key` or
    /// `?key=`; `[jwt]` for a token of any of the `issuers`, `["jwt:NAME"]` of this one; `[key, jwt]` for either. Empty: anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<AuthKind>,
    /// By claim, what a token must say; else the answer is 403: one of the values. Of `scope` and `scp`, `read write` asks
    /// for both words. Keys have no claims, and need none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
    /// Names of limits; a request is admitted by all or by none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// By limit, wherever it comes from: what one call costs of it; 0: nothing. Default: as its product says, or 1 of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u64>,
    /// The header that consumers name their end users in, for limits `per: [end_user]`. Default: `x-end-user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_user: Option<String>,
    /// Which other origins' pages may call this in a browser. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsRule>,
    /// Changes to the request's headers, with `to` or `llm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderChanges>,
    /// Changes to the response's headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderChanges>,
    /// Instead of the upstream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
    /// A larger request body is refused with 413. Default: 10MiB; with `llm` 32MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Size>,
    /// Bytes per second. A request body that is waited for and comes more slowly on average, once that took 10s in all, is refused
    /// with 408. 0: any rate. Calls of gRPC have none, nor what still comes when its answer has begun. Default: 240.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_body_rate: Option<u32>,
    /// May a client switch protocols (WebSocket)?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
    /// Pass on the informational answers (1xx) of HTTP/1.1 upstreams, as 103 Early Hints, with their `Link` fields, to clients of
    /// HTTP/1.1. Some of those take the first for the answer (Python's `http.client`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early_hints: bool,
    /// May browsers call gRPC here (gRPC-Web, binary or text)? They go on as gRPC, to upstreams with `protocol: http2`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc_web: bool,
    /// With `to`: requests that come compressed go on as they were before, for upstreams that cannot read them. What grows beyond
    /// `max_body`, or beyond all measure, is refused. (Calls of `llm` are always read so.)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decompress: bool,
    /// Compress answers. Default: as `compression` of the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionRule>,
    /// How soon its requests are served, and how late they are shed, while there is too little room; the caller's own class and
    /// that of his plan come before it. Default: normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassKind>,
    /// Keep responses and reuse them. Default: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheRule>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

/// Bounds on waiting, for this route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeouts {
    /// The whole exchange, retries included. Default: the upstream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Span>,
    /// From the end of the request head to the response head. Default: the upstream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Span>,
}
