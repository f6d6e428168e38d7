//! The compiled policy: what a request sees. Immutable, names resolved, patterns built, spans typed.
//!
//! `config::compile` makes a [`Snapshot`]; `proxy` asks it questions. It never loads anything, knows no clock and no
//! socket. Counters, health and connections live elsewhere, keyed by the stable ids found here, so that an edit
//! never resets one.

pub mod defaults;
pub mod path;

mod acme;
mod alerts;
mod answers;
mod attached;
mod backups;
mod cache;
mod compression;
pub mod condition;
mod consumer;
mod credential;
mod issuer;
mod limit;
mod listener;
mod llm;
mod otlp;
mod overload;
mod rare;
mod route;
mod router;
mod routing;
mod sick;
mod upstream;

use std::sync::Arc;

pub use acme::{Acme, AcmeCertificate, AcmeChallenge, AcmeExternal, AcmeKey};
pub use alerts::Webhook;
pub use answers::{Answers, Bodies, Step};
pub use attached::{Attached, ConsumerLimits, Plan, Plans, RouteLimits};
pub use backups::{BackupPlace, Backups, S3Place};
pub use cache::{Cache, CacheKey, Cookies, Partition, QueryKey, Redis, Ttl};
pub use compression::{Compression, MediaTypes};
pub use consumer::{Consumer, Consumers};
pub use credential::{AwsKeys, CallerKeys, Credential, GoogleTokens, Hidden, ServiceAccount};
pub use issuer::{Algorithm, ClaimPath, ClaimRule, Issuer, Keys, Stranger, TokenPlace, Url};
pub use limit::{Beyond, Cost, Dimension, Limit, Mode, OnMissing, OnUnavailable, Prefix, Terms, Unpriced};
pub use listener::{AccessLog, Certificate, ClientCertificates, Http3, Telemetry, TlsPolicy};
pub use llm::{Abilities, Deployment, Facts, KeyPlace, Known, Llm, Model, Provider, ProviderKind, Tongue};
pub use otlp::{Otlp, OtlpProtocol};
pub use overload::{After, Beside, Class, Concurrency, Overload, Waiting};
pub use rare::{Empty, Rare};
pub use route::{
    Action, AuthScheme, Cors, HeaderEdit, HeaderEdits, HeaderMatch, HostPattern, PathPattern, QueryMatch, Redirect,
    Rewrite, Route, RouteId, Target, Targets, Timeouts, ValueMatch,
};
pub use router::{Captured, Matched, Router};
pub use routing::{Choice, ChoiceTo, Hedge, OnError, Reaction, Routing, Sticky, StickyBy, Strategy, Then};
pub use sick::{Breaker, Check, Fallback, Health, Slow};
use tidegate_model::Revision;
pub use tidegate_quota::calendar::is_zone;
pub use tidegate_quota::protocol::{Budget, Kind, Nature, Period, Rate, Unit};
pub use upstream::{
    Announce, Balance, Endpoint, Protocol, Retries, RetryOn, TlsIdentity, Upstream, UpstreamId, UpstreamTimeouts,
    UpstreamTls,
};

/// One published document, compiled. A request takes one and keeps it to its end. The default one is empty: it is what
/// a node has before anything was published.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub revision: Revision,
    pub router: Router,
    /// By position: [`Attached`] holds indices into this list. First those that the document lists, then those of them that
    /// somebody has with a maximum of his own.
    pub limits: Vec<Arc<Limit>>,
    /// `plans.into()` indexes a list.
    pub plans: Plans,
    pub upstreams: Vec<Arc<Upstream>>,
    /// `consumers.into()` indexes a list.
    pub consumers: Consumers,
    /// Whose tokens are accepted, by those routes that name them.
    pub issuers: Vec<Arc<Issuer>>,
    pub certificates: Vec<Certificate>,
    /// An authority that is asked for certificates.
    pub acme: Option<Arc<Acme>>,
    pub telemetry: Telemetry,
    pub redis: Option<Arc<Redis>>,
    /// Who is told of alerts.
    pub webhooks: Arc<[alerts::Webhook]>,
    /// Those that the cluster makes by itself.
    pub backups: Option<Arc<Backups>>,
    /// Addresses whose `X-Forwarded-*` and `Forwarded` headers are believed (the load balancers in front).
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Peers whose connections begin with the PROXY protocol.
    pub announced_by: Vec<ipnet::IpNet>,
    /// Keys of TLS session tickets are renewed after this; `None`: [`defaults::TICKET_ROTATION`].
    pub ticket_rotation: Option<std::time::Duration>,
    /// HTTP/3 is spoken beside TLS.
    pub http3: Option<Http3>,
}

impl Snapshot {
    /// The consumer a key belongs to; `None` when the document no longer names it.
    #[must_use]
    pub fn consumer(&self, tenant: &str, name: &str) -> Option<&Arc<Consumer>> {
        self.consumers.find(tenant, name)
    }
}
