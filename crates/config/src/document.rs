//! The document as people write it: `version: 1` and lists of named things. One file per family; no behaviour but
//! reading and writing. `compile` turns it into policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::{Notes, decode};
use crate::tree::{Node, Value};

mod acme;
mod action;
mod alerts;
mod answers;
mod backups;
mod cache;
mod catalogue;
mod certificate;
mod compression;
mod consumer;
mod headers;
mod holder;
mod issuer;
mod limit;
mod llm;
mod matching;
mod network;
mod otlp;
mod overload;
mod route;
mod routing;
mod sick;
mod upstream;

pub use acme::{AcmeCertificateRule, AcmeChallengeKind, AcmeExternalRule, AcmeKeyKind, AcmeRules};
pub use action::{RedirectRule, RespondRule, RewriteRule, TargetRef};
pub use alerts::{AlertRules, WebhookRule};
pub use answers::{AnswerEnd, AnswerRule, AnswerSharing, BodyRule};
pub use backups::{BackupRules, S3Rule};
pub use cache::{CacheDefaults, CacheKeyRule, CacheRule, CookieKind, PartitionKind, PostRule, RedisRule, TtlRule};
pub use catalogue::{AboveRule, CatalogueRow, PriceRule};
pub use certificate::{CertificateFiles, ClientsRule, TlsVersions};
pub use compression::{Algorithm, CompressionRule};
pub use consumer::{ConsumerEntry, Secret};
pub use headers::{CorsRule, HeaderChanges};
pub use holder::{LimitRef, OfferRule, OwnMax, Plan, ProductRule, TeamRule, TenantRule};
pub use issuer::{AuthKind, IssuerRule, JwksRule, TokenSource, UnknownConsumer};
pub use limit::{
    BeyondRule, BudgetPeriod, BudgetRule, CalendarPeriod, CostRule, CostSource, LimitMode, LimitRule, ScopePart,
    UnpricedRule, WhenMissing, WhenUnavailable,
};
pub use llm::{
    Ability, AwsRule, CallerKeyRule, DeploymentRule, GoogleRule, HangUp, LlmRule, LossRule, ModelRule, ProviderKind,
    ProviderRule,
};
pub use matching::{Match, ValueRule, ValueTest};
pub use network::{AccessLogFormat, AccessLogRule, Http3Rule, Listeners, TelemetryRules};
pub use otlp::{OtlpRule, OtlpWire};
pub use overload::{AfterRule, BesideRule, ClassKind, ConcurrencyRule, OverloadRule, QueueRule};
pub use route::{RouteRule, RouteTimeouts};
pub use routing::{ConditionRule, HedgeRule, OnErrorRule, ReactionRule, StickyRule, StrategyKind, ThenKind};
pub use sick::{BreakerRule, HealthRule, SlowRule, StatusRange};
pub use upstream::{
    BalanceKind, EndpointAddress, ProtocolKind, ProxyProtocolKind, RetryCause, RetryRules, UpstreamRule, UpstreamTimes,
    UpstreamTlsRule,
};

/// One versioned whole. It replaces the one before it; what it does not name is gone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Values that are not written here but fetched by each node. Used in headers as `${secrets.NAME}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Applications and people. Their keys are not here: `tidegate key create`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<ConsumerEntry>,
    /// Whose tokens (JWT) routes accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<IssuerRule>,
    /// Tenants of which there is more to say than their name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantRule>,
    /// Groups of consumers that have limits together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<TeamRule>,
    /// Named sets of limits for consumers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<Plan>,
    /// Routes that are offered together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<ProductRule>,
    /// Limits, exact over the whole cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitRule>,
    /// Where requests go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<UpstreamRule>,
    /// Who answers calls of language models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderRule>,
    /// The language models that callers name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelRule>,
    /// What models cost and can do, where that is not what the built-in catalogue knows: `tidegate catalogue ls`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogue: Vec<CatalogueRow>,
    /// Which requests are taken and what happens to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteRule>,
    /// Certificates for the TLS listeners, chosen by the name a client asks for (SNI).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateFiles>,
    /// An authority that is asked for certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeRules>,
    /// What holds for all listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Listeners>,
    /// Compress answers of routes that say nothing of their own about it. Default: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionRule>,
    /// What is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryRules>,
    /// What holds for all kept responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheDefaults>,
    /// Who is told when a budget passes a threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertRules>,
    /// Backups that the cluster makes by itself. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<BackupRules>,
}

const FIELDS: [&str; 22] = [
    "version",
    "secrets",
    "consumers",
    "issuers",
    "tenants",
    "teams",
    "plans",
    "products",
    "limits",
    "upstreams",
    "providers",
    "models",
    "catalogue",
    "routes",
    "certificates",
    "acme",
    "listeners",
    "compression",
    "telemetry",
    "cache",
    "alerts",
    "backups",
];

impl Document {
    /// What of `root` fits; the rest goes to `notes`.
    pub(crate) fn read(root: &Node, notes: &Notes) -> Self {
        let mut document = Self { version: 1, ..Self::default() };
        let entries = match &root.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => {
                notes.leave_out(root, "the document is empty; it begins with `version: 1`");
                return document;
            }
            _ => {
                notes.leave_out(root, "a document is a map: `version: 1`, `routes:`, …");
                return document;
            }
        };
        let mut versioned = false;
        for (key, node) in entries {
            match key.text.as_str() {
                "version" => {
                    versioned = true;
                    document.version = decode(node, notes).unwrap_or(1);
                }
                "secrets" => document.secrets = list(node, notes),
                "consumers" => document.consumers = list(node, notes),
                "issuers" => document.issuers = list(node, notes),
                "tenants" => document.tenants = list(node, notes),
                "teams" => document.teams = list(node, notes),
                "products" => document.products = list(node, notes),
                "plans" => document.plans = list(node, notes),
                "limits" => document.limits = list(node, notes),
                "upstreams" => document.upstreams = list(node, notes),
                "providers" => document.providers = list(node, notes),
                "models" => document.models = list(node, notes),
                "catalogue" => document.catalogue = list(node, notes),
                "routes" => document.routes = list(node, notes),
                "certificates" => document.certificates = list(node, notes),
                "acme" => document.acme = decode::<Option<_>>(node, notes).flatten(),
                "listeners" => document.listeners = decode::<Option<_>>(node, notes).flatten(),
                "compression" => document.compression = decode::<Option<_>>(node, notes).flatten(),
                "telemetry" => document.telemetry = decode::<Option<_>>(node, notes).flatten(),
                "cache" => document.cache = decode::<Option<_>>(node, notes).flatten(),
                "alerts" => document.alerts = decode::<Option<_>>(node, notes).flatten(),
                "backups" => document.backups = decode::<Option<_>>(node, notes).flatten(),
                _ => notes.unknown_field(root, key, &FIELDS),
            }
        }
        if !versioned {
            notes.leave_out(root, "`version` is missing; write `version: 1`");
        }
        document
    }
}

/// Each item for itself, so that one bad item hides no other.
fn list<T: serde::de::DeserializeOwned>(node: &Node, notes: &Notes) -> Vec<T> {
    match &node.value {
        Value::Null => Vec::new(),
        Value::List(items) => items.iter().filter_map(|item| decode(item, notes)).collect(),
        Value::Map(_) | Value::Scalar { .. } => {
            notes.leave_out(node, "expected a list: each item begins with `- name:`");
            Vec::new()
        }
    }
}
