//! Backups that the cluster makes by itself. What stands in the document is no secret: the store's key is a reference.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_policy::{AwsKeys, BackupPlace, Backups, Hidden, S3Place};

use super::secret::Secrets;
use super::{Report, certificate, references};
use crate::document::{BackupRules, S3Rule};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::Span;

const EVERY: Duration = Duration::from_secs(3_600);
const KEEP: u32 = 24;
const DAY: Duration = Duration::from_secs(86_400);
/// `tgbp1-`, 32 bytes, a sum of 4.
const KEY: [usize; 2] = [64, 8];

pub(super) fn compile(
    rules: &BackupRules,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    report: &Report<'_>,
) -> Option<Backups> {
    let BackupRules { to, key, every, keep, s3 } = rules;
    let path = Path::Root.field("backups");
    let every = every.map_or(EVERY, |Span(span)| span);
    if !(Duration::from_secs(60)..=31 * DAY).contains(&every) {
        report.hinted(&path.field("every"), "between two backups are 1m to 31d", "leave it out for 1h");
    }
    let keep = keep.unwrap_or(KEEP);
    if !(1..=10_000).contains(&keep) {
        report.hinted(&path.field("keep"), "1 to 10000 backups are kept", "leave it out for 24");
    }
    if key.starts_with("tgb1-") {
        // It is not repeated.
        let why = "this is the backup key itself, which no node shall see";
        report.hinted(&path.field("key"), why, "write its public half, which begins with `tgbp1-`, and make a new key");
        return None;
    }
    if !is_key(key) {
        let hint = "`tidegate cluster backup-key` makes one and prints its public half";
        report.hinted(&path.field("key"), "not the public half of a backup key", hint);
    }
    let to = match (to.strip_prefix("s3://"), s3) {
        (Some(place), Some(rule)) => store(place, rule, secrets, inputs, &path, report).map(BackupPlace::S3),
        (Some(_), None) => {
            report.hinted(&path, "`s3` is missing", "write `s3: {endpoint: https://…, access_key_id: …, …}`");
            None
        }
        (None, Some(_)) => {
            report.hinted(&path.field("s3"), "means nothing with a folder", "write `to: s3://BUCKET/PREFIX`");
            None
        }
        (None, None) if to.is_empty() || to.contains("://") => {
            report.hinted(&path.field("to"), "not a folder", "write a path, or `s3://BUCKET/PREFIX`");
            None
        }
        (None, None) => Some(BackupPlace::Folder(PathBuf::from(to))),
    };
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    Some(Backups { every, keep, key: key.as_str().into(), to: to? })
}

fn is_key(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("tgbp1-") else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().all(hex) && parts.iter().map(|part| part.len()).eq(KEY)
}

fn store(
    place: &str,
    rule: &S3Rule,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<S3Place> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(plain) || !prefix.chars().all(|c| plain(c) || c == '/') {
        let why = "a bucket and a prefix have letters, digits, `-`, `.`, `_`";
        report.hinted(&path.field("to"), why, "write `s3://BUCKET/PREFIX`");
        return None;
    }
    let S3Rule { endpoint, region, access_key_id, secret_access_key, ca } = rule;
    let path = path.field("s3");
    let at = path.field("secret_access_key");
    if references(secret_access_key).is_empty() {
        report.hinted(&at, "a key does not stand in the document", "write `${secrets.NAME}`");
        return None;
    }
    let (access, _) = secrets.fill(access_key_id, &path.field("access_key_id"), report);
    let (secret, _) = secrets.fill(secret_access_key, &at, report);
    let ca = match ca {
        None => None,
        Some(file) => Some(certificate::pem(file, "CERTIFICATE", inputs, &path.field("ca"), report)?),
    };
    let endpoint = endpoint_of(endpoint).map_err(|why| {
        report.hinted(&path.field("endpoint"), why, "write `https://HOST` or `https://HOST:PORT`");
    });
    let region = region.as_deref().unwrap_or("us-east-1");
    let keys = AwsKeys {
        access: Hidden::new(access),
        secret: Hidden::new(secret),
        session: None,
        region: region.into(),
        service: "s3".into(),
    };
    Some(S3Place { endpoint: endpoint.ok()?, bucket: bucket.into(), prefix: prefix.into(), keys, ca })
}

fn endpoint_of(text: &str) -> Result<http::Uri, &'static str> {
    let uri: http::Uri = text.parse().map_err(|_| "not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("neither http nor https");
    }
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if uri.host().is_none_or(str::is_empty) || has_user || uri.path() != "/" || uri.query().is_some() {
        return Err("more than a scheme, a host and a port");
    }
    Ok(uri)
}
