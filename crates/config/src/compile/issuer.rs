//! Issuers of tokens, and what routes ask of them.

mod keys;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tidegate_policy::defaults::TOKEN_LEEWAY;
use tidegate_policy::{Algorithm, AuthScheme, ClaimPath, ClaimRule, Issuer, Stranger, TokenPlace};

use super::secret::Secrets;
use super::{Names, Report, header};
use crate::decode::short;
use crate::document::{AuthKind, IssuerRule, RouteRule, TokenSource, UnknownConsumer};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::Span;

pub(super) use self::keys::url;

const MOST: usize = 32;
const MOST_CLAIMS: usize = 16;
const LONGEST_LEEWAY: Duration = Duration::from_secs(300);
const USUAL: [Algorithm; 5] =
    [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

/// The document's issuers, and what routes have of them.
pub(super) struct Issuers<'d> {
    names: Names<'d>,
    built: Vec<Option<Arc<Issuer>>>,
    /// Headers that only this gate writes.
    pub(super) headers: Arc<[HeaderName]>,
}

impl<'d> Issuers<'d> {
    pub(super) fn compile(
        rules: &'d [IssuerRule],
        secrets: &Secrets<'_>,
        inputs: &Inputs,
        report: &Report<'_>,
    ) -> Self {
        let names = Names::collect("issuers", "issuer", rules.iter().map(|rule| rule.name.as_str()), report);
        let list = Path::Root.field("issuers");
        if rules.len() > MOST {
            report.error(&list, format!("at most {MOST} issuers"));
        }
        let built: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(i, rule)| one(rule, secrets, inputs, &list.item(i), report).map(Arc::new))
            .collect();
        let headers = built.iter().flatten().flat_map(|issuer| issuer.headers.iter().map(|(name, _)| name.clone()));
        let mut headers: Vec<HeaderName> = headers.collect();
        headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        headers.dedup();
        Self { names, built, headers: headers.into() }
    }

    pub(super) fn into_list(self) -> Vec<Arc<Issuer>> {
        self.built.into_iter().flatten().collect()
    }

    /// A route's `auth`.
    pub(super) fn auth(&self, kinds: &[AuthKind], path: &Path<'_>, report: &Report<'_>) -> Vec<AuthScheme> {
        let (mut key, mut issuers): (bool, Vec<usize>) = (false, Vec::new());
        for (i, kind) in kinds.iter().enumerate() {
            let item = path.item(i);
            let found = match kind {
                AuthKind::Key if key => {
                    report.error(&item, "`key` is named twice here");
                    continue;
                }
                AuthKind::Key => {
                    key = true;
                    continue;
                }
                AuthKind::Jwt(None) => {
                    if self.built.is_empty() {
                        report.hinted(&item, "the document has no issuers of tokens", "list one under `issuers`");
                    }
                    (0..self.built.len()).collect()
                }
                AuthKind::Jwt(Some(name)) => self.names.find(name, &item, report).into_iter().collect::<Vec<_>>(),
            };
            for at in found {
                if issuers.contains(&at) {
                    report.error(&item, format!("`{kind}` is named twice here"));
                } else {
                    issuers.push(at);
                }
            }
        }
        let issuers = issuers.into_iter().filter_map(|at| self.built.get(at)?.clone()).map(AuthScheme::Jwt);
        key.then_some(AuthScheme::Key).into_iter().chain(issuers).collect()
    }
}

/// A route's `claims`.
pub(super) fn claims(rule: &RouteRule, path: &Path<'_>, report: &Report<'_>) -> Vec<ClaimRule> {
    let path = path.field("claims");
    if !rule.claims.is_empty() && !rule.auth.iter().any(|kind| matches!(kind, AuthKind::Jwt(_))) {
        report.hinted(&path, "this route asks for no token", "add `auth: [jwt]`");
    }
    if rule.claims.len() > MOST_CLAIMS {
        report.error(&path, format!("at most {MOST_CLAIMS} claims"));
    }
    let rules = rule.claims.iter().filter_map(|(name, values)| {
        let at = path.field(name);
        let claim = claim(name, &at, report)?;
        let split = |value: &String| value.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
        let is_scope = matches!(name.rsplit('.').next(), Some("scope" | "scp"));
        let any: Vec<Vec<Box<str>>> =
            values.iter().map(|value| if is_scope { split(value) } else { vec![value.as_str().into()] }).collect();
        if any.is_empty() || any.iter().any(Vec::is_empty) || values.len() > 64 {
            report.hinted(&at, "a list of 1 to 64 values, of which one must be there", "write `scope: [read]`");
        }
        Some(ClaimRule { claim, any })
    });
    rules.collect()
}

pub(super) fn claim(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<ClaimPath> {
    let claim = ClaimPath::new(text);
    if claim.is_none() {
        report.hinted(
            path,
            format!("`{}` is not the name of a claim", short(text)),
            "write `sub` or `realm_access.roles`",
        );
    }
    claim
}

fn one(
    rule: &IssuerRule,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Issuer> {
    let IssuerRule {
        name,
        issuer,
        audiences,
        jwks: _, // These four in `keys`.
        public_key: _,
        secret: _,
        secret_base64: _,
        algorithms: _, // In `algorithms`.
        leeway,
        require,
        from,
        forward_token,
        consumer_claim,
        unknown_consumer,
        end_user_claim,
        headers,
    } = rule;
    if issuer.as_ref().is_some_and(String::is_empty) {
        report.hinted(&path.field("issuer"), "no token has an empty `iss`", "leave it out to take any");
    }
    let list = path.field("audiences");
    for (i, _) in audiences.iter().enumerate().filter(|(_, audience)| audience.is_empty()) {
        report.error(&list.item(i), "an audience has a name");
    }
    let leeway = leeway.map_or(TOKEN_LEEWAY, |Span(leeway)| leeway);
    if leeway > LONGEST_LEEWAY {
        report.hinted(&path.field("leeway"), "at most 5m", "clocks that differ by more should be mended");
    }
    let list = path.field("require");
    let required: Vec<_> =
        require.iter().enumerate().filter_map(|(i, text)| claim(text, &list.item(i), report)).collect();
    let named = |text: &Option<String>, field| text.as_ref().and_then(|text| claim(text, &path.field(field), report));
    let consumer = named(consumer_claim, "consumer_claim");
    if consumer_claim.is_none() && *unknown_consumer != UnknownConsumer::Refuse {
        report.error(&path.field("unknown_consumer"), "means nothing without `consumer_claim`");
    }
    let map = path.field("headers");
    if headers.len() > MOST_CLAIMS || required.len() > MOST_CLAIMS {
        report.error(path, format!("at most {MOST_CLAIMS} claims in `require` and in `headers`"));
    }
    let mut into: Vec<(HeaderName, ClaimPath)> = Vec::new();
    for (text, of) in headers {
        let at = map.field(text);
        let (Some(name), Some(of)) = (header::changeable(text, &at, report), claim(of, &at, report)) else { continue };
        if into.iter().any(|(known, _)| *known == name) {
            report.error(&at, format!("`{name}` is here twice, in different spellings"));
        }
        let ours = ["x-tidegate-", "x-forwarded-", "forwarded", "x-real-ip", "x-request-id", "via"];
        let credentials = ["authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"];
        if credentials.contains(&name.as_str()) || ours.iter().any(|start| name.as_str().starts_with(start)) {
            report.error(&at, format!("`{name}` means something else"));
        }
        into.push((name, of));
    }
    Some(Issuer {
        name: name.as_str().into(),
        iss: issuer.clone(),
        audiences: audiences.clone(),
        algorithms: algorithms(rule, &path.field("algorithms"), report),
        leeway,
        required,
        places: places(from, &path.field("from"), report),
        forward: *forward_token,
        consumer,
        stranger: match unknown_consumer {
            UnknownConsumer::Refuse => Stranger::Refuse,
            UnknownConsumer::Anonymous => Stranger::Anonymous,
        },
        end_user: named(end_user_claim, "end_user_claim"),
        headers: into,
        keys: Arc::new(keys::compile(rule, secrets, inputs, path, report)?),
    })
}

fn algorithms(rule: &IssuerRule, path: &Path<'_>, report: &Report<'_>) -> Vec<Algorithm> {
    let shared = rule.secret.is_some();
    if rule.algorithms.is_empty() {
        return if shared { vec![Algorithm::Hs256] } else { USUAL.into() };
    }
    let mut list = Vec::new();
    for (i, text) in rule.algorithms.iter().enumerate() {
        let item = path.item(i);
        match Algorithm::of(text) {
            None if text.eq_ignore_ascii_case("none") => {
                report.hinted(&item, "a token that nobody signed proves nothing", "leave it out");
            }
            None => {
                let known = Algorithm::ALL.map(Algorithm::name).join(", ");
                report.hinted(&item, format!("`{}` is no algorithm that tokens are checked by", short(text)), known);
            }
            Some(algorithm) if algorithm.is_shared() != shared => {
                let reason =
                    if shared { "a secret is checked by HS256, HS384 or HS512" } else { "it needs a `secret`" };
                report.hinted(&item, reason, "whoever knows a public key could sign with it");
            }
            Some(algorithm) if list.contains(&algorithm) => report.error(&item, "named twice here"),
            Some(algorithm) => list.push(algorithm),
        }
    }
    list
}

/// What is logged of a request hides values by their names: a token may only be where they are hidden.
fn places(from: &[TokenSource], path: &Path<'_>, report: &Report<'_>) -> Vec<TokenPlace> {
    if from.is_empty() {
        return vec![TokenPlace::Bearer];
    }
    let mut places = Vec::new();
    for (i, source) in from.iter().enumerate() {
        let item = path.item(i);
        let hidden = |name: &str| {
            let lower = name.to_ascii_lowercase();
            if lower != "jwt" && !["token", "secret", "credential", "signature"].iter().any(|word| lower.contains(word))
            {
                let hint = "name it `jwt`, or so that `token` is part of the name: `x-access-token`";
                report.hinted(
                    &item,
                    format!("logs would show the token: `{}` does not say that it is one", short(name)),
                    hint,
                );
            }
        };
        let sane = |name: &str| {
            let sane = HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !sane {
                report.error(&item, format!("`{}` is not a name", short(name)));
            }
            sane
        };
        let place = match source {
            TokenSource::Bearer => TokenPlace::Bearer,
            TokenSource::Header(name) => match header::changeable(name, &item, report) {
                Some(name) if name == http::header::AUTHORIZATION => {
                    report.hinted(&item, "the `Authorization` header has schemes", "write `bearer`");
                    continue;
                }
                Some(name) => {
                    hidden(name.as_str());
                    TokenPlace::Header(name)
                }
                None => continue,
            },
            // Cookies are never logged.
            TokenSource::Cookie(name) if sane(name) => TokenPlace::Cookie(name.as_str().into()),
            TokenSource::Query(name) if sane(name) => {
                hidden(name);
                TokenPlace::Query(name.as_str().into())
            }
            TokenSource::Cookie(_) | TokenSource::Query(_) => continue,
        };
        if places.contains(&place) {
            report.error(&item, "named twice here");
        } else {
            places.push(place);
        }
    }
    places
}
