//! A route: which requests it takes and what happens to them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::attached::RouteLimits;
use crate::cache::Cache;
use crate::compression::Compression;
use crate::issuer::{ClaimRule, Issuer};
use crate::llm::Llm;
use crate::overload::Class;
use crate::rare::Rare;
use crate::upstream::Upstream;

/// Stable across documents: the route's name.
pub type RouteId = Arc<str>;

/// Kept small, for of ten thousand routes a request finds none in a cache: what few routes have is [`Rare`].
#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    pub tenant: Arc<str>,
    /// Any of these; empty means every host.
    pub hosts: Rare<Vec<HostPattern>>,
    pub path: PathPattern,
    /// Any of these; empty means every method. `GET` includes `HEAD`.
    pub methods: Vec<Method>,
    /// All of these.
    pub headers: Rare<Vec<HeaderMatch>>,
    /// All of these.
    pub query: Rare<Vec<QueryMatch>>,
    /// Higher first among routes that match equally well; default 0.
    pub priority: i32,
    pub action: Action,
    /// Empty: anybody. Otherwise the caller must satisfy one.
    pub auth: Vec<AuthScheme>,
    /// What a token must say beside being good.
    pub claims: Rare<Vec<ClaimRule>>,
    /// Headers that only this gate writes, from tokens: a request's own are taken off.
    pub claim_headers: Arc<[HeaderName]>,
    pub limits: Rare<RouteLimits>,
    pub cors: Option<Box<Cors>>,
    pub request_headers: Rare<HeaderEdits>,
    pub response_headers: Rare<HeaderEdits>,
    pub timeouts: Rare<Timeouts>,
    /// Bytes of a request body; more is refused with 413.
    pub max_body: u64,
    /// Bytes per second of a request body, where it is waited for; 0: any.
    pub min_body_rate: u32,
    /// May a client switch protocols (WebSocket)?
    pub upgrade: bool,
    /// Informational answers go on to clients of HTTP/1.1.
    pub early_hints: bool,
    /// Calls of gRPC-Web go on as gRPC.
    pub grpc_web: bool,
    /// Compressed requests are decompressed before they go on.
    pub decompress: bool,
    /// Which answers are compressed for clients that take it.
    pub compression: Option<Arc<Compression>>,
    /// `None`: [`Class::Normal`].
    pub class: Option<Class>,
    /// May responses be reused?
    pub cache: Option<Arc<Cache>>,
}

impl Route {
    /// Asks memory for all of it at once: a request looks into every part, here and there, and among ten thousand routes would
    /// wait for each in turn.
    #[inline]
    pub(crate) fn fetch(&self) {
        let Self { id, tenant, methods, auth, claim_headers, limits, cors, action, .. } = self;
        let Self { headers, query, claims, request_headers, response_headers, timeouts, .. } = self;
        let lengths = (id.len(), tenant.len(), methods.len(), auth.len(), claim_headers.len());
        let conditions = (headers.is_some(), query.is_some(), claims.is_some(), limits.is_some(), cors.is_some());
        let further = (request_headers.is_some(), response_headers.is_some(), timeouts.is_some(), self.max_body);
        let to = match action {
            Action::Forward { to, rewrite } => to.len() + usize::from(rewrite.is_some()),
            Action::Redirect(_) | Action::Llm(_) | Action::Respond { .. } => 0,
        };
        let kept = (self.cache.is_some(), self.compression.is_some());
        std::hint::black_box((lengths, conditions, further, to, kept));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `api.example.com`, lower case, without port.
    Exact(String),
    /// `*.example.com`: holds `.example.com`; matches one or more labels before it.
    Suffix(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// `/v1/users/{id}`: matchit syntax; `{name}` is one segment, `{*rest}` the rest.
    Template(String),
    /// `/v1/*` in documents: `/v1` itself and everything below `/v1/`. Holds `/v1`; `/` (held as "") matches everything.
    Prefix(String),
}

#[derive(Debug, Clone)]
pub struct HeaderMatch {
    pub name: HeaderName,
    pub value: ValueMatch,
}

#[derive(Debug, Clone)]
pub struct QueryMatch {
    pub name: String,
    pub value: ValueMatch,
}

#[derive(Debug, Clone)]
pub enum ValueMatch {
    Present,
    Exact(String),
    Prefix(String),
    Regex(regex::Regex),
}

#[derive(Debug)]
pub enum Action {
    /// Weighted choice per request. Never empty, weights never all 0.
    Forward {
        to: Targets,
        rewrite: Rare<Rewrite>,
    },
    Redirect(Box<Redirect>),
    /// Calls of language models.
    Llm(Box<Llm>),
    /// A fixed response, or a maintenance page.
    Respond {
        status: StatusCode,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: bytes::Bytes,
    },
}

/// Nearly always one: it lies within the route.
pub type Targets = SmallVec<[Target; 1]>;

#[derive(Debug, Clone)]
pub struct Target {
    pub upstream: Arc<Upstream>,
    pub weight: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    pub strip_prefix: Option<String>,
    pub add_prefix: Option<String>,
    /// A whole new path; `{name}` is replaced by the template's capture. Excludes the two above.
    pub path: Option<String>,
    /// `None`: the `Host` the client sent is passed on.
    pub host: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// A whole new path (`{name}` as in [`Rewrite::path`]); `None` keeps the path. The query is kept.
    pub path: Option<String>,
}

#[derive(Debug, Clone)]
pub enum AuthScheme {
    /// A Tidegate key in `Authorization: Bearer`, `x-api-key`, `api-key`, `x-goog-api-key` or `?key=`.
    Key,
    /// A token of this issuer.
    Jwt(Arc<Issuer>),
}

#[derive(Debug, Clone, Default)]
pub struct HeaderEdits(pub Vec<HeaderEdit>);

#[derive(Debug, Clone)]
pub enum HeaderEdit {
    /// Replaces all values.
    Set(HeaderName, HeaderValue),
    /// Adds a value.
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

#[derive(Debug, Clone)]
pub struct Cors {
    /// `*` alone means any origin (never together with credentials); otherwise exact origins, or `https://*.example.com`.
    pub origins: Vec<String>,
    pub methods: Vec<Method>,
    /// Empty: what the preflight asks for is allowed.
    pub headers: Vec<HeaderName>,
    pub expose: Vec<HeaderName>,
    pub credentials: bool,
    pub max_age: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Overrides the upstream's `total`.
    pub total: Option<Duration>,
    /// Overrides the upstream's `first_byte`.
    pub first_byte: Option<Duration>,
}
