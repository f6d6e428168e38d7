//! Certificates: the files are there and are PEM. Whether key and chain fit is for `tls` to say.

use std::collections::HashMap;

use tidegate_policy::{Certificate, ClientCertificates, HostPattern, TlsPolicy};

use super::{Report, host};
use crate::decode::short;
use crate::document::{CertificateFiles, TlsVersions};
use crate::inputs::{Inputs, Need};
use crate::path::Path;

const LARGEST: usize = 1024 * 1024;

pub(super) fn compile(list: &[CertificateFiles], inputs: &Inputs, report: &Report<'_>) -> Vec<Certificate> {
    let family = Path::Root.field("certificates");
    let mut owners: HashMap<String, usize> = HashMap::new();
    let certificates = list.iter().enumerate().map(|(i, files)| {
        let CertificateFiles { name, hosts, file, key, stored, policy, ocsp, clients } = files;
        let path = family.item(i);
        let field = path.field("hosts");
        if hosts.is_empty() {
            report.hinted(&field, "no client can ask for this certificate", "name its hosts");
        }
        let mut patterns = Vec::new();
        for (j, text) in hosts.iter().enumerate() {
            let pattern = match host::pattern(text, &field.item(j), report) {
                Some(HostPattern::Exact(name)) => name,
                Some(HostPattern::Suffix(suffix)) => format!("*{suffix}"),
                None => continue,
            };
            if let Some(owner) = owners.insert(pattern.clone(), i) {
                let place = report.locations().place(&family.item(owner));
                report.error(&field.item(j), format!("`{}` has a certificate already: {place}", short(text)));
            }
            patterns.push(pattern);
        }
        let (mut chain_pem, mut key_pem) = (Vec::new(), Vec::new());
        if stored.is_none() {
            chain_pem = pem(file, "CERTIFICATE", inputs, &path.field("file"), report).unwrap_or_default();
            key_pem = pem(key, "PRIVATE KEY", inputs, &path.field("key"), report).unwrap_or_default();
        } else if !(file.is_empty() && key.is_empty()) {
            report.error(&path.field("stored"), "either `stored`, or `file` and `key`");
        }
        Certificate {
            name: name.clone(),
            hosts: patterns,
            stored: stored.clone(),
            chain_pem,
            key_pem,
            policy: match policy {
                TlsVersions::Modern => TlsPolicy::Modern,
                TlsVersions::Strict => TlsPolicy::Strict,
            },
            ocsp: ocsp.as_ref().and_then(|file| der(file, inputs, &path.field("ocsp"), report)),
            clients: clients.as_ref().and_then(|rule| {
                let ca = path.field("clients");
                let ca_pem = pem(&rule.ca, "CERTIFICATE", inputs, &ca.field("ca"), report)?;
                Some(ClientCertificates { ca_pem, optional: rule.optional })
            }),
        }
    });
    certificates.collect()
}

/// The file's bytes as they are: what they say is for `tls` to judge.
fn der(file: &str, inputs: &Inputs, path: &Path<'_>, report: &Report<'_>) -> Option<Vec<u8>> {
    match inputs.value(&Need::File(file.to_owned())) {
        Ok(bytes) => bytes.map(<[u8]>::to_vec),
        Err(why) => {
            report.hinted(path, why, "every node needs it");
            None
        }
    }
}

/// The file's bytes, when it holds at least one block whose label ends in `what`. Its text is never shown.
pub(super) fn pem(file: &str, what: &str, inputs: &Inputs, path: &Path<'_>, report: &Report<'_>) -> Option<Vec<u8>> {
    if file.is_empty() {
        report.error(path, "the name of a file is missing");
        return None;
    }
    let bytes = match inputs.value(&Need::File(file.to_owned())) {
        Ok(bytes) => bytes?,
        Err(why) => {
            report.hinted(path, why, "every node needs it");
            return None;
        }
    };
    let label = format!("{what}-----");
    let blocks = String::from_utf8_lossy(bytes);
    let found = blocks.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&label));
    if bytes.len() > LARGEST || !found {
        report.error(path, format!("the file {} holds no `-----BEGIN … {what}-----`", short(file)));
        return None;
    }
    Some(bytes.to_vec())
}
