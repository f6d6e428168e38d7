//! Certificates from an authority: that it may be asked, and for what. Whether it gives them is for the running cluster to say.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use http::Uri;
use tidegate_policy::{Acme, AcmeCertificate, AcmeChallenge, AcmeExternal, AcmeKey, Hidden};

use super::secret::Secrets;
use super::{Report, certificate, host, name, references};
use crate::decode::short;
use crate::document::{AcmeCertificateRule, AcmeChallengeKind, AcmeExternalRule, AcmeKeyKind, AcmeRules};
use crate::inputs::Inputs;
use crate::path::Path;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const MOST_CERTIFICATES: usize = 1_000;
/// As Let's Encrypt.
const MOST_HOSTS: usize = 100;
const MOST_CONTACTS: usize = 8;

pub(super) fn compile(rules: &AcmeRules, secrets: &Secrets<'_>, inputs: &Inputs, report: &Report<'_>) -> Acme {
    let AcmeRules { directory, terms_agreed, contacts, certificates, challenges, key, ca, external_account } = rules;
    let path = Path::Root.field("acme");
    if !terms_agreed {
        let hint = "read them, then write `terms_agreed: true`";
        report.hinted(&path.field("terms_agreed"), "the authority's terms are not agreed to", hint);
    }
    let directory = directory.as_deref().unwrap_or(LETS_ENCRYPT);
    let is_url = directory.parse::<Uri>().is_ok_and(|url| url.scheme_str() == Some("https") && url.host().is_some());
    if !is_url || directory.len() > 1_024 || directory.contains(['@', '#']) {
        let reason = format!("`{}` is no directory of an authority", short(directory));
        report.hinted(&path.field("directory"), reason, "write `https://host/path`");
    }
    let at = path.field("contacts");
    if contacts.len() > MOST_CONTACTS {
        report.error(&at, format!("at most {MOST_CONTACTS}"));
    }
    for (i, contact) in contacts.iter().enumerate().filter(|(_, contact)| !is_address(contact)) {
        let reason = format!("`{}` is no e-mail address", short(contact));
        report.hinted(&at.item(i), reason, "write `ops@example.com`, without `mailto:`");
    }
    let external =
        external_account.as_ref().map(|rule| external(rule, secrets, &path.field("external_account"), report));
    Acme {
        directory: directory.to_owned(),
        contacts: contacts.clone(),
        ca_pem: ca.as_ref().and_then(|file| certificate::pem(file, "CERTIFICATE", inputs, &path.field("ca"), report)),
        key: match key {
            AcmeKeyKind::EcdsaP256 => AcmeKey::P256,
            AcmeKeyKind::EcdsaP384 => AcmeKey::P384,
        },
        challenges: kinds(challenges),
        external,
        certificates: list(certificates, &path.field("certificates"), report),
    }
}

fn kinds(challenges: &[AcmeChallengeKind]) -> Vec<AcmeChallenge> {
    let all = [AcmeChallengeKind::Http01, AcmeChallengeKind::TlsAlpn01];
    let mut kinds = Vec::new();
    for kind in if challenges.is_empty() { &all } else { challenges } {
        let kind = match kind {
            AcmeChallengeKind::Http01 => AcmeChallenge::Http01,
            AcmeChallengeKind::TlsAlpn01 => AcmeChallenge::TlsAlpn01,
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn list(rules: &[AcmeCertificateRule], path: &Path<'_>, report: &Report<'_>) -> Vec<AcmeCertificate> {
    if rules.len() > MOST_CERTIFICATES {
        report.error(path, format!("at most {MOST_CERTIFICATES}"));
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    let each = rules.iter().enumerate().map(|(i, AcmeCertificateRule { name, hosts })| {
        let item = path.item(i);
        name::check(name, &item.field("name"), report);
        if names.insert(name, i).is_some() {
            let reason = format!("another certificate is named `{}` already", short(name));
            report.hinted(&item.field("name"), reason, "names are unique; rename one");
        }
        let field = item.field("hosts");
        if hosts.is_empty() || hosts.len() > MOST_HOSTS {
            report.error(&field, format!("1 to {MOST_HOSTS} hosts"));
        }
        let mut known: Vec<String> = Vec::new();
        for (j, text) in hosts.iter().enumerate() {
            known.extend(one(text, &field.item(j), report));
        }
        known.sort();
        known.dedup();
        AcmeCertificate { name: name.clone(), hosts: known }
    });
    each.collect()
}

fn one(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with('*') {
        let hint = "name the hosts one by one, or import a certificate: `tidegate cert import`";
        report.hinted(path, "authorities prove wildcards by DNS alone (dns-01), which is not done here", hint);
        return None;
    }
    if !host::is_name(&lower) || lower.parse::<Ipv4Addr>().is_ok() || lower.contains('_') {
        report.error(path, format!("`{}` is no host name that an authority would certify", short(text)));
        return None;
    }
    Some(lower)
}

fn is_address(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '?' | '<' | '>' | ':');
    text.len() <= 254
        && !text.contains(odd)
        && text
            .split_once('@')
            .is_some_and(|(user, domain)| !user.is_empty() && host::is_name(&domain.to_ascii_lowercase()))
}

fn external(rule: &AcmeExternalRule, secrets: &Secrets<'_>, path: &Path<'_>, report: &Report<'_>) -> AcmeExternal {
    let AcmeExternalRule { kid, hmac } = rule;
    if kid.is_empty() || kid.len() > 1_024 || kid.chars().any(char::is_control) {
        report.error(&path.field("kid"), "1 to 1024 characters");
    }
    let at = path.field("hmac");
    let is_reference = hmac.starts_with("${secrets.") && hmac.ends_with('}') && references(hmac).len() == 1;
    if !is_reference {
        report.hinted(&at, "a key does not belong into the document", "write `${secrets.NAME}`");
    }
    let filled = secrets.fill_with(hmac, &at, report, str::to_owned);
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=');
    if is_reference && filled.known && (filled.text.is_empty() || !filled.text.bytes().all(is_base64)) {
        report.error(&at, "the secret is no key in base64url");
    }
    AcmeExternal { kid: kid.clone(), hmac: Hidden::new(filled.text) }
}
