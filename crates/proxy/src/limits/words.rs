//! Subjects in words: as people name them when they ask about a counter, and as a node tells whom a counter is of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidegate_limiter::Limiter;
use tidegate_model::{KeyId, Subject};
use tidegate_policy::{ClaimPath, Dimension, Limit};
use tidegate_telemetry::is_secret;

use super::subject::{Claimed, Network, Values, add_all, method};
use crate::refusal::Refusal;

/// Longest value that is told, in characters.
const LONGEST: usize = 64;

/// A subject as people name it. What is not said is `None`; an empty text says: those that have none.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Empty: `default`.
    pub tenant: String,
    pub team: Option<String>,
    pub consumer: Option<String>,
    pub key: Option<KeyId>,
    pub end_user: Option<String>,
    pub route: Option<String>,
    pub product: Option<String>,
    pub method: Option<Method>,
    pub host: Option<String>,
    pub address: Option<IpAddr>,
    pub model: Option<String>,
    pub headers: HeaderMap,
    /// The issuer of the token whose claims these are.
    pub issuer: Option<String>,
    /// Values by claim; one empty value: those without the claim.
    pub claims: BTreeMap<String, Vec<String>>,
}

/// Why some words name no subject of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unclear {
    /// These parts of the limit's scope are not said.
    Missing(Vec<String>),
    /// These are said, and the limit does not count by them.
    Idle(Vec<String>),
    /// The limit does not hold for calls without a value, or refuses them.
    Nobody,
    TooLong,
}

impl Words {
    /// Whom the limit counts by these words, and in words of its scope.
    ///
    /// # Errors
    /// [`Unclear`], if that is no one subject.
    pub fn subject(&self, limiter: &Limiter, limit: &Limit) -> Result<(Subject, String), Unclear> {
        let missing: Vec<String> =
            limit.per.iter().filter(|part| !self.says(part)).map(|part| flag(part).into_owned()).collect();
        if !missing.is_empty() {
            return Err(Unclear::Missing(missing));
        }
        let idle = self.idle(limit);
        if !idle.is_empty() {
            return Err(Unclear::Idle(idle));
        }
        let mut hashing = limiter.hashing(limit);
        match add_all(limit, self, &mut hashing) {
            Ok(true) => Ok((hashing.finish(), told(limit, self))),
            Ok(false) | Err(Refusal::SubjectMissing) => Err(Unclear::Nobody),
            Err(_) => Err(Unclear::TooLong),
        }
    }

    /// Is anybody named at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            tenant,
            team,
            consumer,
            key,
            end_user,
            route,
            product,
            method,
            host,
            address,
            model,
            headers,
            issuer,
            claims,
        } = self;
        let said = [team, consumer, end_user, route, product, host, model, issuer].into_iter().any(Option::is_some);
        tenant.is_empty()
            && !said
            && key.is_none()
            && method.is_none()
            && address.is_none()
            && headers.is_empty()
            && claims.is_empty()
    }

    fn says(&self, part: &Dimension) -> bool {
        match part {
            Dimension::Tenant => true,
            Dimension::Team => self.team.is_some(),
            Dimension::Consumer => self.consumer.is_some(),
            Dimension::Key => self.key.is_some(),
            Dimension::EndUser => self.end_user.is_some() && self.consumer.is_some(),
            Dimension::Route => self.route.is_some(),
            Dimension::Product => self.product.is_some(),
            Dimension::Method => self.method.is_some(),
            Dimension::Host => self.host.is_some(),
            Dimension::Ip(_) => self.address.is_some(),
            Dimension::Model => self.model.is_some(),
            Dimension::Header(name) => self.headers.contains_key(name),
            Dimension::Claim(claim) => {
                let values = self.claims.get(claim.as_str());
                values.is_some_and(|values| self.issuer.is_some() || values.iter().all(String::is_empty))
            }
        }
    }

    /// What the limit does not count by. A tenant is part of each, and whose a key is may be said.
    fn idle(&self, limit: &Limit) -> Vec<String> {
        let by = |fit: fn(&Dimension) -> bool| limit.per.iter().any(fit);
        let mut idle = Vec::new();
        let mut of = |said: bool, used: bool, flag: &str| {
            if said && !used {
                idle.push(flag.to_owned());
            }
        };
        of(!self.tenant.is_empty(), !limit.per.is_empty(), "--tenant");
        of(self.team.is_some(), by(|part| *part == Dimension::Team), "--team");
        let of_consumer = |part: &Dimension| matches!(part, Dimension::Consumer | Dimension::Key | Dimension::EndUser);
        of(self.consumer.is_some(), by(of_consumer), "--consumer");
        of(self.end_user.is_some(), by(|part| *part == Dimension::EndUser), "--end-user");
        of(self.route.is_some(), by(|part| *part == Dimension::Route), "--route");
        of(self.product.is_some(), by(|part| *part == Dimension::Product), "--product");
        of(self.method.is_some(), by(|part| *part == Dimension::Method), "--method");
        of(self.host.is_some(), by(|part| *part == Dimension::Host), "--host");
        of(self.model.is_some(), by(|part| *part == Dimension::Model), "--model");
        of(self.address.is_some(), by(|part| matches!(part, Dimension::Ip(_))), "--ip");
        for name in self.headers.keys() {
            of(true, limit.per.contains(&Dimension::Header(name.clone())), &format!("--header {name}=…"));
        }
        let by_claim = |part: &Dimension| matches!(part, Dimension::Claim(_));
        of(self.issuer.is_some(), by(by_claim), "--issuer");
        for name in self.claims.keys() {
            let used = limit.per.iter().any(|part| matches!(part, Dimension::Claim(claim) if claim.as_str() == name));
            of(true, used, &format!("--claim {name}=…"));
        }
        idle
    }
}

/// How a part of a scope is said on the command line.
fn flag(part: &Dimension) -> Cow<'static, str> {
    Cow::Borrowed(match part {
        Dimension::Tenant => "--tenant NAME",
        Dimension::Team => "--team NAME",
        Dimension::Consumer => "--consumer NAME",
        Dimension::Key => "--key ID",
        Dimension::EndUser => "--consumer NAME --end-user NAME",
        Dimension::Route => "--route NAME",
        Dimension::Product => "--product NAME",
        Dimension::Method => "--method NAME",
        Dimension::Host => "--host NAME",
        Dimension::Ip(_) => "--ip ADDRESS",
        Dimension::Model => "--model NAME",
        Dimension::Header(name) => return format!("--header {name}=VALUE").into(),
        Dimension::Claim(name) => return format!("--issuer NAME --claim {name}=VALUE").into(),
    })
}

fn filled(text: Option<&String>) -> Option<&[u8]> {
    text.map(String::as_bytes).filter(|text| !text.is_empty())
}

impl Values for Words {
    fn tenant(&self) -> &[u8] {
        if self.tenant.is_empty() { b"default" } else { self.tenant.as_bytes() }
    }

    fn team(&self) -> Option<&[u8]> {
        filled(self.team.as_ref())
    }

    fn consumer(&self) -> Option<&[u8]> {
        filled(self.consumer.as_ref())
    }

    fn key(&self) -> Option<KeyId> {
        self.key.filter(|key| key.0 != 0)
    }

    fn end_user(&self) -> Result<Option<&[u8]>, Refusal> {
        Ok(filled(self.end_user.as_ref()))
    }

    fn route(&self) -> Option<&[u8]> {
        filled(self.route.as_ref())
    }

    fn product(&self) -> Option<&[u8]> {
        filled(self.product.as_ref())
    }

    fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    fn host(&self) -> Cow<'_, str> {
        self.host.as_ref().map_or_else(String::new, |host| host.to_ascii_lowercase()).into()
    }

    fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn model(&self) -> Option<&[u8]> {
        filled(self.model.as_ref())
    }

    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        // One empty line: those without the header.
        let lines = self.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let empty = self.headers.get(name).is_some_and(HeaderValue::is_empty);
        lines.filter(move |_| !empty)
    }

    fn claim(&self, path: &ClaimPath) -> Result<Option<Claimed<'_>>, Refusal> {
        let Some(values) = self.claims.get(path.as_str()) else { return Ok(None) };
        let mut values: Vec<Cow<'_, str>> = values.iter().map(Cow::from).collect();
        values.sort_unstable();
        values.dedup();
        let some = !values.iter().all(|value| value.is_empty());
        Ok(some.then(|| (self.issuer.as_deref().unwrap_or_default(), values)))
    }
}

/// A limit's scope and its values: `tenant=default key=7`. No secrets: headers that may hold one are not told.
pub(super) fn told(limit: &Limit, of: &impl Values) -> String {
    let mut told = String::new();
    if !limit.per.is_empty() {
        say(&mut told, "tenant", of.tenant());
    }
    for part in &limit.per {
        match part {
            Dimension::Tenant => {}
            Dimension::Team => say(&mut told, "team", of.team().unwrap_or_default()),
            Dimension::Consumer => say(&mut told, "consumer", of.consumer().unwrap_or_default()),
            Dimension::Key => {
                let key = of.key().map(|key| key.to_string());
                say(&mut told, "key", key.as_deref().unwrap_or_default().as_bytes());
            }
            Dimension::EndUser => {
                say(&mut told, "consumer", of.consumer().unwrap_or_default());
                say(&mut told, "end_user", of.end_user().ok().flatten().unwrap_or_default());
            }
            Dimension::Route => say(&mut told, "route", of.route().unwrap_or_default()),
            Dimension::Product => say(&mut told, "product", of.product().unwrap_or_default()),
            Dimension::Method => say(&mut told, "method", of.method().map(method).unwrap_or_default()),
            Dimension::Host => say(&mut told, "host", of.host().as_bytes()),
            Dimension::Model => say(&mut told, "model", of.model().unwrap_or_default()),
            Dimension::Ip(prefix) => {
                let network = of.address().map(|address| Network::of(address, *prefix).address().to_string());
                say(&mut told, "ip", network.as_deref().unwrap_or_default().as_bytes());
            }
            Dimension::Header(name) => {
                let lines: Vec<_> = of.lines(name).collect();
                let value = if is_secret(name.as_str()) { b"***".to_vec() } else { lines.join(&b',') };
                say(&mut told, &format!("header:{name}"), &value);
            }
            Dimension::Claim(name) => {
                let claimed = of.claim(name).ok().flatten().unwrap_or_default();
                say(&mut told, "issuer", claimed.0.as_bytes());
                let value = if is_secret(name.as_str()) { "***".to_owned() } else { claimed.1.join(",") };
                say(&mut told, &format!("claim:{name}"), value.as_bytes());
            }
        }
    }
    told
}

/// Names come from other people: bounded, and no control characters.
fn say(told: &mut String, name: &str, value: &[u8]) {
    let value = String::from_utf8_lossy(value);
    let mut clean = value.chars().map(|c| if c.is_control() || c == ' ' { '\u{fffd}' } else { c });
    let short: String = clean.by_ref().take(LONGEST).collect();
    let (before, after) = (if told.is_empty() { "" } else { " " }, if clean.next().is_some() { "…" } else { "" });
    let _infallible = write!(told, "{before}{name}={short}{after}");
}

#[cfg(test)]
mod tests {
    use tidegate_limiter::Settings;
    use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
    use tidegate_policy::{Kind, Mode, OnMissing, OnUnavailable, Prefix};

    use super::*;

    fn limit(per: &[Dimension]) -> Limit {
        Limit {
            id: LimitId(1),
            revision: Revision(1),
            name: "it".into(),
            max: Permits(1),
            kind: Kind::Sliding { window: Nanos::SECOND },
            per: per.to_vec(),
            mode: Mode::Enforce,
            on_unavailable: OnUnavailable::Deny,
            count_hits: true,
            on_missing: OnMissing::Share,
            terms: tidegate_policy::Terms::default(),
            cost: tidegate_policy::Cost::ONE,
        }
    }

    fn limiter() -> std::sync::Arc<Limiter> {
        let (node, incarnation) = (NodeId(1), Incarnation(1));
        Limiter::new(Settings { node, incarnation, secret: [7; 16], most_keys: 10, decisions: None })
    }

    #[test]
    fn what_the_limit_counts_by_and_is_not_said_is_named() {
        let limit = limit(&[Dimension::Key, Dimension::Header(HeaderName::from_static("x-y"))]);
        let words = Words { key: Some(KeyId(3)), ..Words::default() };
        let missing = words.subject(&limiter(), &limit).expect_err("a header");
        assert_eq!(missing, Unclear::Missing(vec!["--header x-y=VALUE".into()]));
        let words = Words { route: Some("r".into()), host: Some("h".into()), ..Words::default() };
        let idle = words.subject(&limiter(), &super::tests::limit(&[Dimension::Route])).expect_err("a host");
        assert_eq!(idle, Unclear::Idle(vec!["--host".into()]));
    }

    #[test]
    fn words_of_a_subject_are_bounded_and_hold_no_secret() {
        let names = ["x-plan", "authorization"].map(HeaderName::from_static);
        let scope = [Dimension::Tenant, Dimension::Consumer, Dimension::Ip(Prefix { v4: 24, v6: 64 })];
        let limit = limit(&[scope.as_slice(), &names.clone().map(Dimension::Header)].concat());
        let mut words = Words {
            tenant: "t".into(),
            consumer: Some("a b".into()),
            address: Some(IpAddr::from([10, 1, 2, 3])),
            ..Words::default()
        };
        words.headers.insert(&names[0], HeaderValue::from_str(&"x".repeat(200)).expect("text"));
        words.headers.insert(&names[1], HeaderValue::from_static("Bearer tg_1"));
        let (_, told) = words.subject(&limiter(), &limit).expect("all are said");
        let plan = "x".repeat(LONGEST);
        let secret = "header:authorization=***";
        assert_eq!(told, format!("tenant=t consumer=a\u{fffd}b ip=10.1.2.0 header:x-plan={plan}… {secret}"));
    }
}
