//! What an issuer's signatures are checked with. Whether keys are keys is for `auth` to say, on each node.

use std::time::Duration;

use http::Uri;
use tidegate_policy::defaults::{JWKS_MAX_STALE, JWKS_REFRESH};
use tidegate_policy::{Keys, Url};

use super::super::secret::Secrets;
use super::super::{Report, certificate, host, references};
use crate::decode::short;
use crate::document::{IssuerRule, JwksRule};
use crate::inputs::{Inputs, Need};
use crate::path::Path;
use crate::units::Span;

const LARGEST_SET: usize = 512 * 1024;
const ONE: &str = "write one of `jwks: {url: https://…}`, `public_key: FILE`, `secret: ${secrets.NAME}`";

pub(super) fn compile(
    rule: &IssuerRule,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Keys> {
    if rule.secret_base64 && rule.secret.is_none() {
        report.error(&path.field("secret_base64"), "means nothing without `secret`");
    }
    match (&rule.jwks, &rule.public_key, &rule.secret) {
        (Some(jwks), None, None) => self::jwks(jwks, inputs, &path.field("jwks"), report),
        (None, Some(file), None) => {
            certificate::pem(file, "PUBLIC KEY", inputs, &path.field("public_key"), report).map(Keys::Pem)
        }
        (None, None, Some(text)) => secret(text, rule.secret_base64, secrets, &path.field("secret"), report),
        _ => {
            report.hinted(path, "an issuer has exactly one of `jwks`, `public_key`, `secret`", ONE);
            None
        }
    }
}

fn secret(text: &str, base64: bool, secrets: &Secrets<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Keys> {
    let whole = text.starts_with("${secrets.") && text.find('}') == Some(text.len() - 1) && references(text).len() == 1;
    if !whole {
        // What stands there may be the secret: it is not repeated.
        report.hinted(path, "a secret does not belong into the document", "write `${secrets.NAME}`");
        return None;
    }
    let filled = secrets.fill_with(text, path, report, str::to_owned);
    if !filled.known {
        return None;
    }
    let bytes = if base64 { decoded(&filled.text) } else { Some(filled.text.into_bytes()) };
    match bytes {
        Some(bytes) if bytes.len() >= 32 => Some(Keys::Secret(bytes)),
        Some(_) => {
            report.hinted(path, "a secret for tokens has at least 32 bytes", "RFC 7518 § 3.2: as many as its hash");
            None
        }
        None => {
            report.error(path, "it is not base64");
            None
        }
    }
}

/// In either alphabet, padded or not.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for c in text.trim().trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xfff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).expect("eight bits"));
        }
    }
    Some(bytes)
}

fn jwks(rule: &JwksRule, inputs: &Inputs, path: &Path<'_>, report: &Report<'_>) -> Option<Keys> {
    let JwksRule { url, ca, refresh, max_stale, file, json } = rule;
    if url.is_none() {
        for (set, field) in [(ca.is_some(), "ca"), (refresh.is_some(), "refresh"), (max_stale.is_some(), "max_stale")] {
            if set {
                report.error(&path.field(field), "means nothing without `url`");
            }
        }
    }
    match (url, file, json) {
        (Some(text), None, None) => {
            let at = path.field("url");
            let url = self::url(text)
                .map_err(|why| report.hinted(&at, format!("`{}` is no place of a JWK set", short(text)), why))
                .ok()?;
            let roots =
                ca.as_ref().map(|file| certificate::pem(file, "CERTIFICATE", inputs, &path.field("ca"), report));
            if ca.is_some() && !url.https {
                report.error(&path.field("ca"), "the URL is not spoken to over TLS");
            }
            let refresh = refresh.map_or(JWKS_REFRESH, |Span(refresh)| refresh);
            if !(Duration::from_secs(5)..=Duration::from_secs(7 * 86_400)).contains(&refresh) {
                report.error(&path.field("refresh"), "5s to 7d");
            }
            let max_stale = max_stale.map_or_else(|| JWKS_MAX_STALE.max(refresh), |Span(max_stale)| max_stale);
            if max_stale < refresh {
                report.hinted(
                    &path.field("max_stale"),
                    "shorter than `refresh`",
                    "keys would run out before they are fetched",
                );
            }
            Some(Keys::Url { url, ca: roots.flatten(), refresh, max_stale })
        }
        (None, Some(file), None) => {
            let at = path.field("file");
            match inputs.value(&Need::File(file.clone())) {
                Ok(bytes) => set(bytes?, &at, report),
                Err(why) => {
                    report.hinted(&at, why, "every node needs it");
                    None
                }
            }
        }
        (None, None, Some(text)) => set(text.as_bytes(), &path.field("json"), report),
        _ => {
            report.hinted(path, "a JWK set has exactly one of `url`, `file`, `json`", "write `url: https://…`");
            None
        }
    }
}

fn set(json: &[u8], path: &Path<'_>, report: &Report<'_>) -> Option<Keys> {
    let read = serde_json::from_slice::<serde_json::Value>(json).ok();
    let keys = read.as_ref().and_then(|set| set.get("keys")?.as_array());
    if json.len() > LARGEST_SET || keys.is_none_or(Vec::is_empty) {
        report.hinted(path, "it is no JWK set", "write `{\"keys\": [{\"kty\": …}]}`, at most 512KiB");
        return None;
    }
    if keys.into_iter().flatten().any(|key| key.get("d").is_some() || key.get("k").is_some()) {
        report.hinted(path, "it holds a private key", "write down public keys alone; a shared one goes to `secret`");
        return None;
    }
    Some(Keys::Set(json.to_vec()))
}

pub(in crate::compile) fn url(text: &str) -> Result<Url, &'static str> {
    const SHAPE: &str = "write `https://id.example.com/jwks.json`";
    let uri: Uri = text.parse().map_err(|_| SHAPE)?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(SHAPE),
    };
    let authority = uri.authority().ok_or(SHAPE)?;
    if authority.as_str().contains('@') {
        return Err("credentials do not belong here: a JWK set is public");
    }
    let name = authority.host().to_ascii_lowercase();
    let explicit = authority.as_str().len() > authority.host().len();
    let port = match authority.port_u16() {
        Some(0) => return Err(SHAPE),
        Some(port) => port,
        None if explicit => return Err(SHAPE),
        None => {
            if https {
                443
            } else {
                80
            }
        }
    };
    if !host::is_host(&name) {
        return Err(SHAPE);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Url {
        https,
        host: name.trim_matches(['[', ']']).to_owned(),
        port,
        authority: authority.as_str().to_ascii_lowercase(),
        path: path.to_owned(),
    })
}
