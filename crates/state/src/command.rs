//! The commands of the control log. Positional: append variants and fields, never reorder.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_model::{Feature, KeyId, Millis, NodeId, Revision};

use crate::audit::By;
use crate::certificates::{Issued, Step};
use crate::cluster_keys;
use crate::documents::Format;
use crate::endpoints::{Place, Set, Verdict};
use crate::members::{Addresses, ClusterId};
use crate::orders::{Draft, Whom, Withdrawn};
use crate::purges::Purge;
use crate::recent::RequestId;
use crate::secrets::Put;
use crate::tokens::Role;
use crate::usage::Report;

/// One entry of the control log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Drawn by whoever asks; asking again with the same id is harmless.
    pub request: RequestId,
    /// The proposer's wall clock, for people and expiries of tokens; never for limits.
    pub at: Millis,
    pub command: Command,
    /// Whose doing it is; what has none leaves no record. Not written when there is none, and only with [`Feature::Audit`]: a
    /// release before that reads no such field.
    #[serde(deserialize_with = "crate::added_later", skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// What can be asked of the cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a cluster: its identity and first node.
    Form(Form),
    PublishDocument(Publish),
    CreateKey(CreateKey),
    RevokeKey {
        id: KeyId,
    },
    /// The old credential keeps working until `grace_until`.
    RotateKey {
        id: KeyId,
        hash: [u8; 32],
        prefix: String,
        grace_until: Millis,
    },
    Join(Join),
    /// A node came back with other addresses or another release.
    UpdateNode {
        id: NodeId,
        addresses: Addresses,
        feature_level: u32,
    },
    /// The node left for good. Its id is never given out again.
    RemoveNode {
        id: NodeId,
    },
    CreateJoinToken {
        hash: [u8; 32],
        expires_at: Option<Millis>,
        uses: u32,
    },
    RevokeJoinToken {
        hash: [u8; 32],
    },
    CreateAdminToken {
        hash: [u8; 32],
        name: String,
        role: Role,
        expires_at: Option<Millis>,
    },
    RevokeAdminToken {
        id: u64,
    },
    /// A secret, already sealed with the cluster key.
    PutSealed {
        name: String,
        bytes: Vec<u8>,
    },
    RemoveSealed {
        name: String,
    },
    /// What the judge of sick endpoints came to.
    JudgeEndpoints(Vec<Verdict>),
    /// An endpoint's weight or drain, set by hand.
    SetEndpoint {
        place: Place,
        set: Set,
    },
    /// Kept responses that are void from now on, all at once.
    Purge(Vec<Purge>),
    /// A key with a plan of its own.
    CreateKeyOnPlan {
        key: CreateKey,
        plan: String,
    },
    /// Another plan of its own for a key, or none: then its consumer's.
    SetKeyPlan {
        id: KeyId,
        plan: Option<String>,
    },
    /// About a limit or a caller, by an operator.
    GiveOrder(Draft),
    /// Such orders are taken back: all of this kind about the same.
    WithdrawOrder {
        whom: Whom,
        what: Withdrawn,
        author: String,
    },
    /// Orders that have ended by the proposal's wall clock are no longer in force.
    LapseOrders,
    /// What was used of language models, by one process of a node.
    ReportUsage(Report),
    /// A certificate that all nodes serve, its key sealed.
    ImportCertificate {
        name: String,
        issued: Issued,
    },
    RemoveCertificate {
        name: String,
    },
    /// How far a certificate is that an authority is asked for.
    StepOrder(Step),
    /// The account at an authority, sealed.
    KeepAccount {
        directory: String,
        replaces: u64,
        sealed: Vec<u8>,
    },
    /// A new key of TLS session tickets, already sealed; the oldest is forgotten. Nothing happens unless `after` is the
    /// newest generation.
    RotateTicketKeys {
        after: u64,
        sealed: Vec<u8>,
    },
    /// An operator's secret, already sealed: a new one, or a new value.
    PutSecret(Put),
    RemoveSecret {
        name: String,
    },
    /// Where a node says it is; empty: it does not say.
    SetZone {
        id: NodeId,
        zone: String,
    },
    /// The cluster's key is replaced.
    ClusterKey(cluster_keys::Step),
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    pub cluster: ClusterId,
    pub name: String,
    pub addresses: Addresses,
    pub feature_level: u32,
    /// DER of the cluster CA's certificate: public.
    pub ca: Vec<u8>,
    pub sealed_ca_key: Vec<u8>,
    /// Fingerprint of the first node's public key.
    pub public_key: [u8; 32],
    /// Hash of the first admin token.
    pub admin_token: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Exactly as people wrote it.
    pub document: Arc<str>,
    pub format: Format,
    /// Compare-and-set: refused unless this is the current revision. `None`: whatever is there.
    pub replaces: Option<Revision>,
    pub author: String,
    pub note: String,
    /// The revision of the limit policies in the quota log that this document was compiled with.
    pub policies: Revision,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKey {
    pub tenant: String,
    pub consumer: String,
    pub name: String,
    /// Only the hash is ever kept.
    pub hash: [u8; 32],
    /// The first characters, to show to people.
    pub prefix: String,
    pub expires_at: Option<Millis>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Hash of the join token that was presented.
    pub token: [u8; 32],
    pub name: String,
    pub addresses: Addresses,
    pub feature_level: u32,
    /// Fingerprint of the joiner's public key.
    pub public_key: [u8; 32],
}

impl Command {
    /// What a node must understand to have it in its log. `None`: every release does.
    #[must_use]
    pub fn feature(&self) -> Option<Feature> {
        match self {
            Self::JudgeEndpoints(_) | Self::SetEndpoint { .. } => Some(Feature::Endpoints),
            Self::Purge(_) => Some(Feature::Purges),
            Self::GiveOrder(draft) if draft.what.rate().is_some() => Some(Feature::Rates),
            Self::GiveOrder(_) | Self::WithdrawOrder { .. } | Self::LapseOrders => Some(Feature::Orders),
            Self::CreateKeyOnPlan { .. } | Self::SetKeyPlan { .. } => Some(Feature::PlansOfKeys),
            Self::ReportUsage(_) => Some(Feature::Usage),
            Self::ImportCertificate { .. }
            | Self::RemoveCertificate { .. }
            | Self::StepOrder(_)
            | Self::KeepAccount { .. } => Some(Feature::Certificates),
            Self::RotateTicketKeys { .. } => Some(Feature::Tickets),
            Self::PutSecret(_) | Self::RemoveSecret { .. } => Some(Feature::Secrets),
            Self::SetZone { .. } => Some(Feature::Zones),
            Self::ClusterKey(_) => Some(Feature::ClusterKeys),
            Self::Form(_)
            | Self::PublishDocument(_) // Its text has features of its own: whoever compiles it looks.
            | Self::CreateKey(_)
            | Self::RevokeKey { .. }
            | Self::RotateKey { .. }
            | Self::Join(_)
            | Self::UpdateNode { .. }
            | Self::RemoveNode { .. }
            | Self::CreateJoinToken { .. }
            | Self::RevokeJoinToken { .. }
            | Self::CreateAdminToken { .. }
            | Self::RevokeAdminToken { .. }
            | Self::PutSealed { .. }
            | Self::RemoveSealed { .. } => None,
        }
    }
}

/// The name only: a command may carry hashes of secrets and sixteen megabytes of text.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form(_) => "Form",
            Self::PublishDocument(_) => "PublishDocument",
            Self::CreateKey(_) => "CreateKey",
            Self::RevokeKey { .. } => "RevokeKey",
            Self::RotateKey { .. } => "RotateKey",
            Self::Join(_) => "Join",
            Self::UpdateNode { .. } => "UpdateNode",
            Self::RemoveNode { .. } => "RemoveNode",
            Self::CreateJoinToken { .. } => "CreateJoinToken",
            Self::RevokeJoinToken { .. } => "RevokeJoinToken",
            Self::CreateAdminToken { .. } => "CreateAdminToken",
            Self::RevokeAdminToken { .. } => "RevokeAdminToken",
            Self::PutSealed { .. } => "PutSealed",
            Self::RemoveSealed { .. } => "RemoveSealed",
            Self::JudgeEndpoints(_) => "JudgeEndpoints",
            Self::SetEndpoint { .. } => "SetEndpoint",
            Self::Purge(_) => "Purge",
            Self::CreateKeyOnPlan { .. } => "CreateKeyOnPlan",
            Self::SetKeyPlan { .. } => "SetKeyPlan",
            Self::GiveOrder(_) => "GiveOrder",
            Self::WithdrawOrder { .. } => "WithdrawOrder",
            Self::LapseOrders => "LapseOrders",
            Self::ReportUsage(_) => "ReportUsage",
            Self::ImportCertificate { .. } => "ImportCertificate",
            Self::RemoveCertificate { .. } => "RemoveCertificate",
            Self::StepOrder(_) => "StepOrder",
            Self::KeepAccount { .. } => "KeepAccount",
            Self::RotateTicketKeys { .. } => "RotateTicketKeys",
            Self::PutSecret(_) => "PutSecret",
            Self::RemoveSecret { .. } => "RemoveSecret",
            Self::SetZone { .. } => "SetZone",
            Self::ClusterKey(_) => "ClusterKey",
        })
    }
}
