//! Certificates that the cluster keeps. What is imported is looked at first, and its key sealed; it is never told again.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use tidegate_model::Millis;
use tidegate_state::certificates::{Issued, Order, Source, Step, Stored, key_name};
use tidegate_state::{Command, Outcome};
use tidegate_tls::Facts;

use super::publish::{REVOKE_WAIT, everywhere};
use super::said;
use crate::AppState;
use crate::access::wall_clock;
use crate::document::CertificateNames;
use crate::input::Hushed as Input;
use crate::refusal::Refusal;
use crate::wire::{CertificateChanged, CertificateList, CertificateState, ErrorReply, ImportCertificate};

const LONGEST_NAME: usize = 128;
const DAY: i64 = 86_400;

/// Every certificate: kept ones, those that an authority is asked for, and the document's own as this node read them
#[utoipa::path(get, path = "/v1/certificates", tag = "certificate",
    responses((status = 200, body = CertificateList), (status = 503, body = ErrorReply)))]
pub(super) async fn list(State(state): State<AppState>) -> Result<Json<CertificateList>, Refusal> {
    state.backend.catch_up().await?;
    let mut certificates = all(&state);
    certificates.extend(state.backend.file_certificates());
    certificates.sort_by(|a, b| (&a.name, &a.source).cmp(&(&b.name, &b.source)));
    Ok(Json(CertificateList { certificates }))
}

/// Keep a certificate and its key, and serve it on every node
///
/// Replaces the one of this name; new handshakes go by it, connections are left alone.
#[utoipa::path(put, path = "/v1/certificates/{name}", tag = "certificate", request_body = ImportCertificate,
    params(("name" = String, Path)),
    responses((status = 200, body = CertificateChanged), (status = 400, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn import(
    State(state): State<AppState>,
    Path(name): Path<String>,
    Input(ask): Input<ImportCertificate>,
) -> Result<Json<CertificateChanged>, Refusal> {
    if !is_name(&name) {
        let why = format!("a name is 1 to {LONGEST_NAME} letters, digits and `-_.@:+/`");
        return Err(Refusal::BadRequest(why));
    }
    let ImportCertificate { chain, key } = ask;
    let facts = tidegate_tls::examine("this certificate", chain.as_bytes(), key.as_bytes());
    let facts = facts.map_err(|why| Refusal::BadRequest(why.to_string()))?;
    let now = wall_clock().0 / 1_000;
    if facts.not_after <= now {
        return Err(Refusal::BadRequest(format!(
            "this certificate has expired: it was good until {}",
            at(facts.not_after)
        )));
    }
    state.backend.catch_up().await?;
    if named(&state).ordered.iter().any(|(ordered, _)| *ordered == name) {
        return Err(Refusal::Rejected {
            reason: format!("the document asks an authority for `{name}` (acme.certificates): it would be replaced"),
            hint: Some("import it under another name, or take it out of the document first".to_owned()),
        });
    }
    let sealed_key = state.backend.seal(&key_name(&name), key.as_bytes())?;
    let issued = Issued { chain, sealed_key };
    change(&state, name.clone(), Command::ImportCertificate { name, issued }).await
}

/// Keep a certificate no longer
///
/// Refused while the document names it.
#[utoipa::path(delete, path = "/v1/certificates/{name}", tag = "certificate", params(("name" = String, Path)),
    responses((status = 200, body = CertificateChanged), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn remove(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<CertificateChanged>, Refusal> {
    state.backend.catch_up().await?;
    let names = named(&state);
    let users: Vec<String> = names.users(&name).collect();
    if !users.is_empty() {
        return Err(Refusal::Rejected {
            reason: format!("the document names the certificate `{name}`: {}", users.join(", ")),
            hint: Some("take it out of the document first: `tidegate apply`".to_owned()),
        });
    }
    change(&state, name.clone(), Command::RemoveCertificate { name }).await
}

/// Ask its authority for a certificate now, whenever it was due
#[utoipa::path(post, path = "/v1/certificates/{name}/renew", tag = "certificate", params(("name" = String, Path)),
    responses((status = 200, body = CertificateChanged), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply)))]
pub(super) async fn renew(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<CertificateChanged>, Refusal> {
    state.backend.catch_up().await?;
    if !named(&state).ordered.iter().any(|(ordered, _)| *ordered == name) {
        return Err(Refusal::NotFound(format!("the document asks no authority for `{name}` (acme.certificates)")));
    }
    let order = state.backend.read(|agreed| agreed.certificates.order(&name).map(|order| (**order).clone()));
    let Order { version, sealed, .. } = order.unwrap_or_default();
    let (failures, error) = (0, String::new());
    let next_at = Millis(1);
    let step = Step { name: name.clone(), replaces: version, sealed, failures, error, next_at, issued: None };
    change(&state, name, Command::StepOrder(step)).await
}

async fn change(state: &AppState, name: String, command: Command) -> Result<Json<CertificateChanged>, Refusal> {
    let applied = state.backend.propose(command).await?;
    match &applied.outcome {
        Outcome::Done | Outcome::Stepped { .. } => {}
        Outcome::Conflict { .. } => {
            let hint = Some("see `tidegate cert ls`, then ask again".to_owned());
            return Err(Refusal::Rejected { reason: format!("`{name}` is being ordered at this moment"), hint });
        }
        no => return Err(said::no(no, &format!("certificate `{name}`"))),
    }
    let (nodes, complete) = everywhere(state, applied.index, REVOKE_WAIT).await;
    let certificate = all(state).into_iter().find(|certificate| certificate.name == name);
    Ok(Json(CertificateChanged { name, certificate, nodes, complete }))
}

/// What the state has, and what the document asks an authority for.
fn all(state: &AppState) -> Vec<CertificateState> {
    let names = named(state);
    let (stored, orders) = state.backend.read(|agreed| {
        let stored: Vec<_> = agreed.certificates.stored().map(|(name, it)| (name.to_owned(), it.clone())).collect();
        let orders: Vec<_> = agreed.certificates.orders().map(|(name, it)| (name.to_owned(), it.clone())).collect();
        (stored, orders)
    });
    let order = |name: &str| orders.iter().find(|(known, _)| known == name).map(|(_, order)| &**order);
    let mut all: Vec<CertificateState> =
        stored.iter().map(|(name, stored)| kept(name, stored, order(name), &names)).collect();
    let there: BTreeSet<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    for (name, hosts) in names.ordered.iter().filter(|(name, _)| !there.contains(name.as_str())) {
        let (name, hosts, used_by) = (name.clone(), hosts.clone(), names.named_by(name));
        let mut pending = CertificateState { hosts, used_by, ..CertificateState::default() };
        (pending.source, pending.state) = ("acme".to_owned(), "pending".to_owned());
        follow(&mut pending, order(&name));
        all.push(CertificateState { name, ..pending });
    }
    all
}

fn kept(name: &str, stored: &Stored, order: Option<&Order>, names: &CertificateNames) -> CertificateState {
    let facts = tidegate_tls::facts(name, stored.chain.as_bytes()).ok();
    let mut it = facts.map(|facts| of_facts(name, &facts.hosts, &facts)).unwrap_or_default();
    it.name = name.to_owned();
    it.source = match stored.source {
        Source::Imported => "imported",
        Source::Acme => "acme",
    }
    .to_owned();
    it.used_by = names.named_by(name);
    if stored.source == Source::Acme {
        match names.ordered.iter().any(|(ordered, _)| ordered == name) {
            true => follow(&mut it, order),
            false => "removed".clone_into(&mut it.state),
        }
    }
    it
}

/// A certificate that the document brings in files.
#[must_use]
pub fn of_file(name: &str, hosts: &[String], facts: &Facts) -> CertificateState {
    let used_by = vec![format!("certificates.{name}")];
    CertificateState { source: "file".to_owned(), used_by, ..of_facts(name, hosts, facts) }
}

fn of_facts(name: &str, hosts: &[String], facts: &Facts) -> CertificateState {
    let seconds = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    let left = seconds(facts.not_after) - seconds(wall_clock().0 / 1_000);
    CertificateState {
        name: name.to_owned(),
        hosts: hosts.to_vec(),
        state: if left > 0 { "served" } else { "expired" }.to_owned(),
        issuer: Some(facts.issuer.clone()),
        serial: Some(facts.serial.clone()),
        key_type: Some(facts.key.clone()),
        not_before: Some(at(facts.not_before)),
        not_after: Some(at(facts.not_after)),
        days_left: Some(left.div_euclid(DAY)),
        ..CertificateState::default()
    }
}

fn follow(it: &mut CertificateState, order: Option<&Order>) {
    let Some(Order { version: _, sealed, failures, error, next_at }) = order else { return };
    it.ordering = !sealed.is_empty();
    it.failures = *failures;
    it.error = (!error.is_empty()).then(|| error.clone());
    it.next_at = Some(said::time(*next_at));
}

fn named(state: &AppState) -> CertificateNames {
    let text = state.backend.read(|agreed| agreed.documents.latest().map(|latest| latest.document.clone()));
    text.map(|text| crate::document::certificate_names(&text)).unwrap_or_default()
}

fn at(seconds: u64) -> String {
    said::time(Millis(seconds.saturating_mul(1_000)))
}

/// As names in the document.
fn is_name(text: &str) -> bool {
    let may = |b: u8| b.is_ascii_alphanumeric() || b"-_.@:+/".contains(&b);
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(may)
}
