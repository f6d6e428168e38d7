//! Header names and values, and changes to them.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};
use tidegate_policy::{HeaderEdit, HeaderEdits};

use super::Report;
use super::secret::Secrets;
use crate::decode::short;
use crate::document::HeaderChanges;
use crate::path::Path;

/// RFC 9110 § 7.6.1 and what frames a message: the gate's own business, on each connection anew.
const OWN: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

pub(super) fn name(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    if name.is_none() {
        report.error(path, format!("`{}` is not a header name", short(text)));
    }
    name
}

pub(super) fn names(texts: &[String], path: &Path<'_>, report: &Report<'_>) -> Vec<HeaderName> {
    texts.iter().enumerate().filter_map(|(i, text)| name(text, &path.item(i), report)).collect()
}

/// A value without secrets.
pub(super) fn value(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        report.error(path, "a header value has no line ends or other control characters");
    }
    value
}

/// A name that a document may change.
pub(super) fn changeable(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<HeaderName> {
    let name = name(text, path, report)?;
    if OWN.contains(&name.as_str()) {
        let reason = format!("`{name}` belongs to one connection; it is made and stripped by the gate");
        report.hinted(path, reason, if name == header::UPGRADE { "use `upgrade: true`" } else { "leave it out" });
        return None;
    }
    if name == header::HOST {
        report.hinted(path, "`host` is not changed as a header", "use `rewrite: {host: …}`");
        return None;
    }
    Some(name)
}

/// `secrets`: only where the values go to an upstream, not to a client.
pub(super) fn edits(
    changes: &HeaderChanges,
    secrets: Option<&Secrets<'_>>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> HeaderEdits {
    let HeaderChanges { set, add, remove } = changes;
    let mut edits = Vec::new();
    let list = path.field("remove");
    for (i, text) in remove.iter().enumerate() {
        edits.extend(changeable(text, &list.item(i), report).map(HeaderEdit::Remove));
    }
    let mut values =
        |texts: &BTreeMap<String, String>, field: &'static str, edit: fn(HeaderName, HeaderValue) -> HeaderEdit| {
            let map = path.field(field);
            let mut seen: Vec<HeaderName> = Vec::new();
            for (text, value) in texts {
                let at = map.field(text);
                let Some(name) = changeable(text, &at, report) else { continue };
                if seen.contains(&name) {
                    report.error(&at, format!("`{name}` is here twice, in different spellings"));
                }
                seen.push(name.clone());
                edits.extend(filled(value, secrets, &at, report).map(|value| edit(name, value)));
            }
        };
    values(set, "set", HeaderEdit::Set);
    values(add, "add", HeaderEdit::Add);
    HeaderEdits(edits)
}

pub(super) fn filled(
    text: &str,
    secrets: Option<&Secrets<'_>>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<HeaderValue> {
    let Some(secrets) = secrets else {
        if !super::references(text).is_empty() {
            report.hinted(path, "a secret would be sent to clients", "secrets go into `request_headers` only");
            return None;
        }
        return value(text, path, report);
    };
    let (text, secret) = secrets.fill(text, path, report);
    let mut value = value(&text, path, report)?;
    value.set_sensitive(secret);
    Some(value)
}

/// Headers whose values are never shown.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(&*name, "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
        || ["key", "token", "secret", "password", "credential", "signature"].iter().any(|word| name.contains(word))
}
