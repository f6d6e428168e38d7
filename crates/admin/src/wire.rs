//! What the admin API says and hears, as types: the handlers fill them, the CLI reads them, OpenAPI describes them.
//!
//! Owns shapes, no behaviour. Fields are only ever added; a reader ignores what it does not know.

mod audit;
mod cache;
mod certificate;
mod cluster;
mod document;
mod key;
mod model;
mod quota;
mod refusal;
mod secret;
mod token;
mod upstream;
mod usage;

pub use audit::{AuditActor, AuditRecord, AuditReply};
pub use cache::{CachePurge, CachePurged, CacheStats, KeptResponse, KeptResponses, NodeCache, RedisState};
pub use certificate::{CertificateChanged, CertificateList, CertificateState, ImportCertificate};
pub use cluster::{
    BackupRequest, ClusterKeyRotated, ClusterKeyState, ClusterStatus, Group, JoinToken, JoinTokenRequest, Node,
    NodeCertificate, NodeRole, Readiness, ReadyReply, Removed, TicketKeysRotated, TransferRequest, Transferred,
};
pub use document::{
    Change, CheckReply, DiffReply, DocumentReply, HistoryReply, NodeApplied, Problem, PublishReply, RevisionInfo,
    Severity,
};
pub use key::{CreateKey, IssuedKey, Key, KeyPlan, KeyState, Keys, RevokedKey, RotateKey};
pub use model::{DeploymentState, Deployments};
pub use quota::{
    GetQuota, OrderQuota, QuotaCount, QuotaEvent, QuotaHolder, QuotaOrder, QuotaOrdered, QuotaOrders, QuotaSubject,
    QuotaTop, QuotaTopEntry,
};
pub use refusal::{ErrorBody, ErrorReply};
pub use secret::{PutSecret, SecretChanged, SecretList, SecretState};
pub use token::{AdminToken, AdminTokens, CreateToken, IssuedToken, RevokedToken, Role};
pub use upstream::{EndpointSet, EndpointState, SetEndpoint, Upstreams};
pub use usage::{UsageAmounts, UsageProjection, UsageReply, UsageRow};
