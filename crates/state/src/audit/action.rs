//! What of a command goes into the record: the one table of actions. Whoever adds a command says here what is told of it.

use tidegate_model::Millis;

use super::{Actor, Told};
use crate::cluster_keys::Step;
use crate::orders::{Draft, What, Whom, Withdrawn};
use crate::secrets::How;
use crate::{Command, CreateKey, Outcome, Publish, Purge, Role, endpoints, lineage};

/// The action's name. `None`: this is the machinery at work, and nobody's change.
pub(super) fn name(command: &Command, actor: &Actor) -> Option<&'static str> {
    let by_itself = matches!(actor, Actor::Node(_));
    Some(match command {
        Command::Form(_) => "cluster.form",
        Command::PublishDocument(_) => "document.publish",
        Command::CreateKey(_) | Command::CreateKeyOnPlan { .. } => "key.create",
        Command::RevokeKey { .. } => "key.revoke",
        Command::RotateKey { .. } => "key.rotate",
        Command::SetKeyPlan { .. } => "key.plan",
        Command::Join(_) => "cluster.join",
        Command::UpdateNode { .. } => "cluster.update",
        Command::RemoveNode { .. } => "cluster.remove",
        Command::CreateJoinToken { .. } => "cluster.token",
        Command::RevokeJoinToken { .. } => "cluster.token_revoke",
        Command::CreateAdminToken { .. } => "token.create",
        Command::RevokeAdminToken { .. } => "token.revoke",
        Command::PutSealed { .. } => "sealed.put",
        Command::RemoveSealed { .. } => "sealed.remove",
        Command::PutSecret(put) => match put.how {
            How::New => "secret.put",
            How::Again => "secret.rotate",
        },
        Command::RemoveSecret { .. } => "secret.remove",
        Command::SetZone { .. } => "cluster.zone",
        Command::SetEndpoint { .. } => "upstream.set",
        Command::Purge(_) => "cache.purge",
        Command::GiveOrder(Draft { what, .. }) => match what {
            What::Max(_) | What::Rate { .. } => "quota.set",
            What::Extra(_) => "quota.grant",
            What::Reset => "quota.reset",
            What::Block => "quota.block",
        },
        Command::WithdrawOrder { what, .. } => match what {
            Withdrawn::Max => "quota.unset",
            Withdrawn::Extra => "quota.ungrant",
            Withdrawn::Block => "quota.unblock",
        },
        Command::ImportCertificate { .. } => "cert.import",
        Command::RemoveCertificate { .. } => "cert.remove",
        Command::StepOrder(step) if step.issued.is_some() => "cert.issue",
        Command::StepOrder(_) if by_itself => return None,
        Command::StepOrder(_) => "cert.renew",
        Command::KeepAccount { .. } => "cert.account",
        Command::RotateTicketKeys { .. } if by_itself => return None,
        Command::RotateTicketKeys { .. } => "cluster.tickets",
        Command::ClusterKey(Step::Begin { .. }) => "cluster.rotate_key",
        Command::ClusterKey(Step::Use { .. }) => "cluster.use_key",
        Command::ClusterKey(Step::Forget { .. }) => "cluster.forget_key",
        Command::ClusterKey(Step::Hold { .. } | Step::Reseal(_)) => return None,
        Command::JudgeEndpoints(_) | Command::LapseOrders | Command::ReportUsage(_) => return None,
    })
}

pub(super) fn of(command: &Command, actor: &Actor, outcome: &Outcome) -> Option<Told> {
    let action = name(command, actor)?;
    // Whoever holds a token that is used up could push all else out of the records.
    if matches!(command, Command::Join(_)) && !matches!(outcome, Outcome::Joined { .. }) {
        return None;
    }
    let (target, detail) = about(command, outcome);
    Some(Told { action, target, detail, result: result(outcome) })
}

/// Of a cluster that takes the place of another: no command does that.
pub(super) fn anew(how: lineage::Ending, old: &str) -> Told {
    let action = match how {
        lineage::Ending::Restored => "cluster.restore",
        lineage::Ending::Recovered => "cluster.recover",
    };
    Told { action, target: format!("cluster {old}"), detail: String::new(), result: "done".to_owned() }
}

/// To what it was done, and more about it.
fn about(command: &Command, outcome: &Outcome) -> (String, String) {
    let nothing = String::new;
    match command {
        Command::Form(form) => (format!("cluster {}", form.cluster), format!("first node {}", form.name)),
        Command::PublishDocument(publish) => published(publish, outcome),
        Command::CreateKey(key) => key_of(key, outcome),
        Command::CreateKeyOnPlan { key, plan } => {
            let (target, detail) = key_of(key, outcome);
            (target, format!("{detail}, plan {plan}"))
        }
        Command::RevokeKey { id } => (format!("key {id}"), nothing()),
        Command::RotateKey { id, prefix, grace_until, .. } => {
            (format!("key {id}"), format!("now {prefix}…, the old one until {} ms", grace_until.0))
        }
        Command::SetKeyPlan { id, plan } => (format!("key {id}"), plan.as_ref().map_or_else(nothing, plan_of)),
        Command::Join(join) => match outcome {
            Outcome::Joined { node } => (format!("node {node}"), join.name.clone()),
            _ => ("node".to_owned(), join.name.clone()),
        },
        Command::UpdateNode { id, addresses, feature_level } => {
            (format!("node {id}"), format!("at {}, feature level {feature_level}", addresses.peer))
        }
        Command::RemoveNode { id } => (format!("node {id}"), nothing()),
        Command::CreateJoinToken { hash, expires_at, uses } => {
            (format!("join token {}", brief(hash)), format!("{uses} uses{}", until(*expires_at)))
        }
        Command::RevokeJoinToken { hash } => (format!("join token {}", brief(hash)), nothing()),
        Command::CreateAdminToken { name, role, expires_at, .. } => {
            let id = if let Outcome::AdminTokenCreated { id } = outcome { format!(" {id}") } else { nothing() };
            (format!("admin token{id} {name}"), format!("role {}{}", role.as_str(), until(*expires_at)))
        }
        Command::RevokeAdminToken { id } => (format!("admin token {id}"), nothing()),
        Command::PutSealed { name, .. } | Command::RemoveSealed { name } => (format!("sealed {name}"), nothing()),
        Command::PutSecret(put) => (format!("secret {}", put.name), nothing()),
        Command::RemoveSecret { name } => (format!("secret {name}"), nothing()),
        Command::SetZone { id, zone } => (format!("node {id}"), format!("zone {zone}")),
        Command::SetEndpoint { place, set } => (format!("{} of {}", place.endpoint, place.upstream), set_to(*set)),
        Command::Purge(what) => purged(what),
        Command::GiveOrder(draft) => (whom(&draft.whom), ordered(draft)),
        Command::WithdrawOrder { whom: about, .. } => (whom(about), nothing()),
        Command::ImportCertificate { name, issued } => (format!("certificate {name}"), chain(&issued.chain)),
        Command::RemoveCertificate { name } => (format!("certificate {name}"), nothing()),
        Command::StepOrder(step) => {
            let issued = step.issued.as_ref().map(|issued| chain(&issued.chain));
            (format!("certificate {}", step.name), issued.unwrap_or_default())
        }
        Command::KeepAccount { directory, .. } => (format!("account at {}", without_query(directory)), nothing()),
        Command::RotateTicketKeys { after, .. } => ("keys of TLS session tickets".to_owned(), format!("after {after}")),
        Command::ClusterKey(step) => cluster_key(step),
        Command::JudgeEndpoints(_) | Command::LapseOrders | Command::ReportUsage(_) => (nothing(), nothing()),
    }
}

/// The key that seals everything secret, by its generation and the mark that it is known by.
fn cluster_key(step: &Step) -> (String, String) {
    let (key, mark) = ("the cluster's key".to_owned(), |mark| format!("mark {}", brief(mark)));
    match step {
        Step::Begin { rotations, mark: new, .. } => {
            (key, format!("generation {}, {}", rotations.saturating_add(2), mark(new)))
        }
        Step::Use { mark: new } => (key, mark(new)),
        Step::Forget { rotations } => (key, format!("those before generation {}", rotations.saturating_add(1))),
        Step::Hold { .. } | Step::Reseal(_) => (key, String::new()),
    }
}

fn published(publish: &Publish, outcome: &Outcome) -> (String, String) {
    let target = match outcome {
        Outcome::Published { revision } => format!("revision {revision}"),
        _ => "document".to_owned(),
    };
    let hash = blake3::hash(publish.document.as_bytes());
    (target, format!("{} bytes, blake3 {}", publish.document.len(), hash.to_hex()))
}

fn key_of(key: &CreateKey, outcome: &Outcome) -> (String, String) {
    let CreateKey { tenant, consumer, name, hash: _, prefix, expires_at } = key;
    let target = if let Outcome::KeyCreated { id } = outcome { format!("key {id}") } else { "key".to_owned() };
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    (target, format!("{prefix}… of {tenant}/{consumer}{name}{}", until(*expires_at)))
}

fn plan_of(plan: &String) -> String {
    format!("plan {plan}")
}

fn until(end: Option<Millis>) -> String {
    end.map_or_else(String::new, |end| format!(", until {} ms", end.0))
}

fn set_to(set: endpoints::Set) -> String {
    match set {
        endpoints::Set::Weight(Some(weight)) => format!("weight {weight}"),
        endpoints::Set::Weight(None) => "weight of the document".to_owned(),
        endpoints::Set::Drained(true) => "drained".to_owned(),
        endpoints::Set::Drained(false) => "not drained".to_owned(),
    }
}

/// The first of them; queries of URLs are left out, for they may hold what is nobody's business.
fn purged(what: &[Purge]) -> (String, String) {
    let first = match what.first() {
        None => String::new(),
        Some(Purge::All) => "everything".to_owned(),
        Some(Purge::Tenant(tenant)) => format!("tenant {tenant}"),
        Some(Purge::Url { tenant, url }) => format!("{} of {tenant}", without_query(url)),
        Some(Purge::Prefix { tenant, prefix }) => format!("{}… of {tenant}", without_query(prefix)),
        Some(Purge::Tag { tenant, tag }) => format!("tag {tag} of {tenant}"),
    };
    let more = what.len().saturating_sub(1);
    (first, if more == 0 { String::new() } else { format!("and {more} more") })
}

fn whom(whom: &Whom) -> String {
    match whom {
        Whom::Limit { name, words, .. } if words.is_empty() => format!("limit {name}"),
        Whom::Limit { name, words, .. } => format!("limit {name} of {words}"),
        Whom::Key(id) => format!("key {id}"),
        Whom::Consumer { tenant, name } => format!("consumer {tenant}/{name}"),
    }
}

fn ordered(draft: &Draft) -> String {
    let what = match draft.what {
        What::Max(max) => format!("{max}"),
        What::Extra(extra) => format!("+{extra}"),
        What::Rate { permits, per, burst } => {
            let burst = burst.map_or_else(String::new, |burst| format!(", burst {burst}"));
            format!("{permits} each {} ns{burst}", per.0)
        }
        What::Reset | What::Block => String::new(),
    };
    format!("{what}{}", until(draft.until)).trim_start_matches(", ").to_owned()
}

fn chain(pem: &str) -> String {
    format!("chain blake3 {}", blake3::hash(pem.as_bytes()).to_hex())
}

/// Enough to tell one from another.
fn brief(hash: &[u8; 32]) -> String {
    hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn result(outcome: &Outcome) -> String {
    let why = match outcome {
        Outcome::Done
        | Outcome::Published { .. }
        | Outcome::KeyCreated { .. }
        | Outcome::Joined { .. }
        | Outcome::AdminTokenCreated { .. }
        | Outcome::Purged { .. }
        | Outcome::Ordered { .. }
        | Outcome::Stepped { .. } => return "done".to_owned(),
        Outcome::Conflict { current } => return format!("refused: somebody was faster, {current} is current"),
        Outcome::TooLarge { limit } => return format!("refused: longer than {limit} bytes"),
        Outcome::NotFound => "there is no such thing",
        Outcome::Duplicate => "it exists already",
        Outcome::Full => "there are as many as there may be",
        Outcome::TokenUnknown => "the token is unknown",
        Outcome::TokenExpired => "the token has expired",
        Outcome::TokenUsed => "the token is used up",
    };
    format!("refused: {why}")
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}
