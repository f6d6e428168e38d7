//! What the cluster agrees on: documents, keys, members, tokens, sealed secrets, sick endpoints, purges, orders about limits,
//! usage of language models by day, certificates and orders of them, keys of TLS session tickets, clusters it took the place of,
//! operators' secrets, the zones that nodes are in, and who changed what.
//!
//! Owns the control group's commands and what each of them does. Knows no clock, no network, no disk, no document
//! schema: a document is text here. `cluster` replicates [`Proposal`]s and calls [`State::apply`]; everybody reads.
//!
//! Same state, same proposal, same outcome: on every node, on every replay. `apply` is total: what people may get
//! wrong is an [`Outcome`], never an error. Entries are positional on disk and on the wire: append variants and
//! fields, never reorder or remove them.

pub mod audit;
pub mod certificates;
pub mod cluster_keys;
mod command;
mod digest;
mod documents;
pub mod endpoints;
mod key_plans;
mod keys;
mod later;
pub mod lineage;
mod members;
pub mod orders;
mod outcome;
mod purges;
mod recent;
mod sealed;
pub mod secrets;
pub mod tickets;
mod tokens;
pub mod usage;
pub mod zones;

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_model::Millis;

pub use audit::Audit;
pub use certificates::Certificates;
pub use cluster_keys::ClusterKeys;
pub use command::{Command, CreateKey, Form, Join, Proposal, Publish};
pub use documents::{Documents, Format, MAX_DOCUMENT, Published};
pub use endpoints::Endpoints;
pub use key_plans::KeyPlans;
pub use keys::{Key, Keys};
pub use later::Later;
pub use lineage::Lineage;
pub use members::{Addresses, ClusterId, Members, Node};
pub use orders::Orders;
pub use outcome::{Change, Outcome};
pub use purges::{Purge, Purges};
pub use recent::RequestId;
pub use sealed::Sealed;
pub use secrets::Secrets;
pub use tickets::TicketKeys;
pub use tokens::{AdminToken, JoinToken, Role, Tokens};
pub use usage::Usage;
pub use zones::Zones;

/// The state of the control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    pub members: Members,
    pub documents: Documents,
    pub keys: Keys,
    pub tokens: Tokens,
    pub sealed: Sealed,
    recent: recent::Recent,
    /// The newest wall time any proposal carried: proposals with a clock running behind do not turn time back.
    now: Millis,
    #[serde(deserialize_with = "added_later")]
    pub endpoints: Endpoints,
    #[serde(deserialize_with = "added_later")]
    pub purges: Purges,
    #[serde(deserialize_with = "added_later")]
    pub key_plans: KeyPlans,
    #[serde(deserialize_with = "added_later")]
    pub orders: Orders,
    #[serde(deserialize_with = "added_later")]
    pub usage: Usage,
    #[serde(deserialize_with = "added_later")]
    pub certificates: Certificates,
    #[serde(deserialize_with = "added_later")]
    pub ticket_keys: TicketKeys,
    /// Left out while all of it is empty: so states are written as they were before it. It has to stay the last field for that,
    /// and what is added is added to it.
    #[serde(deserialize_with = "added_later", skip_serializing_if = "Later::is_empty")]
    pub later: Later,
}

/// For fields that the first states did not have: those end before them.
fn added_later<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(T::deserialize(from).unwrap_or_default())
}

impl State {
    /// Applies one committed proposal, the entry of the log with this index. A request id that was seen before changes nothing
    /// and has the same outcome.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> (Outcome, Vec<Change>) {
        if let Some(outcome) = self.recent.outcome(proposal.request) {
            return (outcome.clone(), Vec::new());
        }
        self.now = self.now.max(proposal.at);
        let (outcome, changes) = self.decide(&proposal.command, self.now);
        self.recent.remember(proposal.request, outcome.clone());
        self.later.audit.note(index, proposal, &outcome);
        (outcome, changes)
    }

    /// Was it applied already, lately? Then asking again changes nothing.
    #[must_use]
    pub fn has_applied(&self, request: RequestId) -> bool {
        self.recent.outcome(request).is_some()
    }

    /// The newest wall time of any applied proposal.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Equal on all replicas that applied the same entries; different means a non-deterministic `apply`.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        digest::of(self)
    }

    fn decide(&mut self, command: &Command, at: Millis) -> (Outcome, Vec<Change>) {
        match command {
            Command::Form(form) => self.form(form, at),
            Command::PublishDocument(publish) => self.documents.publish(publish, at),
            Command::CreateKey(create) => self.keys.create(create, at),
            Command::RevokeKey { id } => self.keys.revoke(*id, at),
            Command::RotateKey { id, hash, prefix, grace_until } => {
                self.keys.rotate(*id, *hash, prefix, *grace_until, at)
            }
            Command::Join(join) => self.join(join, at),
            Command::UpdateNode { id, addresses, feature_level } => self.members.update(*id, addresses, *feature_level),
            Command::RemoveNode { id } => {
                self.usage.forget(*id);
                self.later.zones.forget(*id);
                if self.members.node(*id).is_some() {
                    self.later.cluster_keys.without(*id);
                }
                self.members.remove(*id)
            }
            Command::CreateJoinToken { hash, expires_at, uses } => {
                self.tokens.create_join(*hash, *expires_at, *uses, at)
            }
            Command::RevokeJoinToken { hash } => self.tokens.revoke_join(*hash),
            Command::CreateAdminToken { hash, name, role, expires_at } => {
                self.tokens.create_admin(*hash, name, *role, *expires_at, at)
            }
            Command::RevokeAdminToken { id } => self.tokens.revoke_admin(*id),
            Command::PutSealed { name, bytes } => self.sealed.put(name, bytes),
            Command::RemoveSealed { name } => self.sealed.remove(name),
            Command::JudgeEndpoints(verdicts) => self.endpoints.judge(verdicts, at),
            Command::SetEndpoint { place, set } => self.endpoints.set(place, *set, at),
            Command::Purge(what) => self.purges.purge(what),
            Command::CreateKeyOnPlan { key, plan } => self.create_on_plan(key, plan, at),
            Command::SetKeyPlan { id, plan } => self.key_plans.set(&self.keys, *id, plan.as_deref()),
            Command::GiveOrder(draft) => self.orders.give(draft, at),
            Command::WithdrawOrder { whom, what, author } => self.orders.withdraw(whom, *what, author, at),
            Command::LapseOrders => self.orders.lapse(at),
            // Of a node that was removed nothing is heard any more: its last report came before, or is lost.
            Command::ReportUsage(report) if self.members.node(report.node).is_none() => (Outcome::NotFound, Vec::new()),
            Command::ReportUsage(report) => self.usage.report(report, at),
            Command::ImportCertificate { name, issued } => self.certificates.import(name, issued, at),
            Command::RemoveCertificate { name } => self.certificates.remove(name),
            Command::StepOrder(step) => self.certificates.step(step, at),
            Command::KeepAccount { directory, replaces, sealed } => {
                self.certificates.keep_account(directory, *replaces, sealed)
            }
            Command::RotateTicketKeys { after, sealed } => self.ticket_keys.rotate(*after, sealed, at),
            Command::PutSecret(put) => self.later.secrets.put(put, at),
            Command::ClusterKey(step) => self.step_cluster_key(step, at),
            Command::RemoveSecret { name } => self.later.secrets.remove(name),
            Command::SetZone { id, .. } if self.members.node(*id).is_none() => (Outcome::NotFound, Vec::new()),
            Command::SetZone { id, zone } => self.later.zones.set(*id, zone),
        }
    }

    fn form(&mut self, form: &command::Form, at: Millis) -> (Outcome, Vec<Change>) {
        let Some(node) = self.members.form(form, at) else {
            return (Outcome::Conflict { current: self.documents.current() }, Vec::new());
        };
        self.sealed.put(CA_KEY, &form.sealed_ca_key);
        self.tokens.create_admin(form.admin_token, "bootstrap", Role::Admin, None, at);
        (Outcome::Joined { node }, vec![Change::Members, Change::AdminTokens, Change::Sealed(CA_KEY.into())])
    }

    fn create_on_plan(&mut self, create: &CreateKey, plan: &str, at: Millis) -> (Outcome, Vec<Change>) {
        if plan.is_empty() || MAX_NAME < plan.len() {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        let (outcome, changes) = self.keys.create(create, at);
        if let Outcome::KeyCreated { id } = &outcome {
            self.key_plans.set(&self.keys, *id, Some(plan));
        }
        (outcome, changes)
    }

    fn join(&mut self, join: &command::Join, at: Millis) -> (Outcome, Vec<Change>) {
        if let Err(refusal) = self.tokens.check_join(join.token, at) {
            return (refusal, Vec::new());
        }
        let Some(node) = self.members.join(join, at) else {
            return (Outcome::Full, Vec::new());
        };
        self.tokens.use_join(join.token);
        (Outcome::Joined { node }, vec![Change::Members, Change::JoinTokens])
    }
}

/// The name under which the cluster CA's private key is sealed.
pub const CA_KEY: &str = "cluster-ca-key";

/// Longest name of anything: longer ones are refused, so that a list of names stays readable and bounded.
pub const MAX_NAME: usize = 256;
