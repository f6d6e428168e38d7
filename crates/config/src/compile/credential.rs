//! What a provider knows us by: a header, keys to sign with, or where tokens come from.

use std::sync::Arc;

use http::Uri;
use serde_json::Value;
use tidegate_policy::{AwsKeys, Credential, GoogleTokens, Hidden, KeyPlace, ProviderKind, ServiceAccount};

use super::secret::Secrets;
use super::{Report, issuer, references};
use crate::decode::short;
use crate::document::{AwsRule, GoogleRule, ProviderRule};
use crate::path::Path;

const SECRET: &str = "list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them";
const TOKEN_OF_METADATA: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// Where a provider is whose region or project is known: its address, and the path before all others.
pub(super) fn place(
    rule: &ProviderRule,
    kind: ProviderKind,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<(String, String)> {
    if let (ProviderKind::Bedrock, Some(region)) = (kind, rule.aws.as_ref().and_then(|aws| aws.region.as_ref())) {
        let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        return is_label(region).then(|| (format!("https://bedrock-runtime.{region}.{end}"), String::new()));
    }
    let publisher = match kind {
        ProviderKind::Vertex => "google",
        ProviderKind::VertexAnthropic => "anthropic",
        _ => return None,
    };
    let GoogleRule { project, location, .. } = rule.google.as_ref()?;
    let location = location.as_deref().unwrap_or("global");
    if !is_label(location) {
        report.hinted(&path.field("google").field("location"), "this is no location", "write `europe-west4`");
        return None;
    }
    let host = match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        // Regions of several countries have a name of their own.
        "eu" | "us" => format!("aiplatform.{location}.rep.googleapis.com"),
        _ => format!("{location}-aiplatform.googleapis.com"),
    };
    let has_path = rule.url.as_ref().and_then(|url| url.parse::<Uri>().ok()).is_some_and(|uri| uri.path() != "/");
    let sane = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    match project {
        Some(project) if !project.is_empty() && project.len() <= 128 && project.chars().all(sane) => {
            let base = format!("/v1/projects/{project}/locations/{location}/publishers/{publisher}");
            Some((format!("https://{host}"), base))
        }
        None if has_path => None,
        _ => {
            report.hinted(
                &path.field("google").field("project"),
                "the project's id is needed",
                "write `project: my-project`",
            );
            None
        }
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

pub(super) fn compile(
    rule: &ProviderRule,
    kind: ProviderKind,
    url: Option<&str>,
    secrets: &Secrets<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Credential> {
    let ProviderRule { key, token, aws, google, .. } = rule;
    let of_kinds = [
        (aws.is_some() && kind != ProviderKind::Bedrock, "aws", "means nothing but for `bedrock`"),
        (
            google.is_some() && !matches!(kind, ProviderKind::Vertex | ProviderKind::VertexAnthropic),
            "google",
            "means nothing but for `vertex` and `vertex_anthropic`",
        ),
    ];
    for (_, field, reason) in of_kinds.into_iter().filter(|(wrong, ..)| *wrong) {
        report.error(&path.field(field), reason);
    }
    let fetched = google.as_ref().filter(|google| google.service_account.is_some() || google.metadata.is_some());
    if [key.is_some(), token.is_some(), aws.is_some(), fetched.is_some()].into_iter().filter(|set| *set).count() > 1 {
        report.hinted(
            path,
            "a provider is shown one proof of who we are",
            "keep one of `key`, `token`, `aws`, `google`",
        );
        return None;
    }
    match (key, token, aws, fetched) {
        (Some(key), ..) => self::key(key, kind.key_place(), secrets, &path.field("key"), report),
        (_, Some(token), ..) => self::key(token, KeyPlace::Bearer, secrets, &path.field("token"), report),
        (_, _, Some(aws), _) => self::aws(aws, url, secrets, &path.field("aws"), report),
        (.., Some(google)) => self::google(google, secrets, &path.field("google"), report),
        _ => None,
    }
}

/// The header as the provider wants it.
pub(super) fn key(
    key: &str,
    place: KeyPlace,
    secrets: &Secrets<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Credential> {
    if references(key).is_empty() {
        report.hinted(path, "a key does not stand in the document", SECRET);
        return None;
    }
    let (key, _) = secrets.fill(key, path, report);
    let Some((name, value)) = place.header(&key) else {
        report.error(path, "the secret has line ends or other control characters");
        return None;
    };
    Some(Credential::Header(name, value))
}

fn aws(
    rule: &AwsRule,
    url: Option<&str>,
    secrets: &Secrets<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Credential> {
    let AwsRule { access_key_id, secret_access_key, session_token, region } = rule;
    let (access, _) = secrets.fill(access_key_id, &path.field("access_key_id"), report);
    let secret = hidden(secret_access_key, secrets, &path.field("secret_access_key"), report);
    let session = session_token.as_ref().map(|text| hidden(text, secrets, &path.field("session_token"), report));
    let told = region.as_deref().or_else(|| url.and_then(region_of));
    let Some(region) = told.filter(|region| is_label(region)) else {
        let reason = "the address does not say which region it is in";
        report.hinted(&path.field("region"), reason, "write `region: eu-central-1`");
        return None;
    };
    if access.bytes().any(|b| !b.is_ascii_alphanumeric()) {
        report.error(&path.field("access_key_id"), "an access key's id has letters and digits only");
    }
    let session = match session {
        None => None,
        Some(session) => Some(session?),
    };
    let (access, region) = (Hidden::new(access), region.into());
    Some(Credential::Aws(AwsKeys { access, secret: secret?, session, region, service: "bedrock".into() }))
}

/// `bedrock-runtime.REGION.amazonaws.com`, with whatever stands around it.
fn region_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("bedrock-runtime")?;
    let (_, rest) = rest.split_once('.')?;
    let (region, rest) = rest.split_once('.')?;
    (rest.contains("amazonaws.com")).then_some(region)
}

fn hidden(text: &str, secrets: &Secrets<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Hidden> {
    if references(text).is_empty() {
        report.hinted(path, "a secret does not stand in the document", SECRET);
        return None;
    }
    let filled = secrets.fill(text, path, report).0;
    if filled.chars().any(char::is_control) {
        report.error(path, "the secret has line ends or other control characters");
        return None;
    }
    Some(Hidden::new(filled))
}

fn google(rule: &GoogleRule, secrets: &Secrets<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Credential> {
    let GoogleRule { project: _, location: _, service_account, metadata } = rule;
    let tokens = match (service_account, metadata) {
        (Some(text), None) => GoogleTokens::Account(account(text, secrets, &path.field("service_account"), report)?),
        (None, Some(text)) => {
            let url = issuer::url(&format!("{}{TOKEN_OF_METADATA}", text.trim_end_matches('/')));
            let at = path.field("metadata");
            let why = |_| {
                report.hinted(
                    &at,
                    format!("`{}` is no address", short(text)),
                    "write `http://metadata.google.internal`",
                )
            };
            GoogleTokens::Metadata(url.map_err(why).ok()?)
        }
        _ => {
            report.hinted(path, "tokens come from one place", "keep one of `service_account`, `metadata`");
            return None;
        }
    };
    Some(Credential::Google(Arc::new(tokens)))
}

fn account(text: &str, secrets: &Secrets<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<ServiceAccount> {
    if references(text).is_empty() {
        report.hinted(path, "a secret does not stand in the document", SECRET);
        return None;
    }
    let filled = secrets.fill_with(text, path, report, str::to_owned);
    if !filled.known {
        return None;
    }
    let file: Value = serde_json::from_str(&filled.text).unwrap_or_default();
    let field = |name: &str| file[name].as_str().filter(|text| !text.is_empty());
    let (email, key) = (field("client_email"), field("private_key"));
    let audience = field("token_uri").unwrap_or("https://oauth2.googleapis.com/token");
    let (Some(email), Some(key)) = (email, key.filter(|key| key.contains("-----BEGIN PRIVATE KEY-----"))) else {
        let reason = "the secret is not the JSON file of a service account";
        report.hinted(path, reason, "it has `client_email` and `private_key`: create a key of type JSON");
        return None;
    };
    let Ok(token_url) = issuer::url(audience) else {
        report.error(path, "its `token_uri` is no address");
        return None;
    };
    Some(ServiceAccount {
        email: email.into(),
        key: Hidden::new(key.to_owned()),
        key_id: field("private_key_id").map(Into::into),
        audience: audience.into(),
        token_url,
    })
}
