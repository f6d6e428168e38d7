//! Tokens (JWT in JWS compact form, RFC 7515 and 7519): who signed one, until when it holds, what it says.
//!
//! Nothing of a token is believed before its signature is checked, but which issuer it claims to be of. The algorithm is the
//! key's: a token's header only chooses among what key and issuer both allow. Pure: the caller brings `now`.

mod claims;
mod jws;
mod keys;
mod memo;
mod place;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use tidegate_policy::{ClaimRule, Issuer};

pub use self::claims::{Claim, Claims, NotCounted};
use self::jws::Parts;
pub use self::keys::{BadKeys, KeySet};
pub use self::memo::Memo;
pub use self::place::{find, looks_like_one, strip, strip_query as strip_token_query};
pub use self::ring::{Ring, RingFacts};

/// Longer ones are nobody's.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// A caller has no time to wait for more, nor have we to check them.
const MOST_KEYLESS: usize = 8;

/// Why a token is not good. Clients are told no more than its [`Invalid::told`]; the record says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    TooLong,
    Malformed,
    /// It asks for something that must be understood, and is not (`crit`).
    Critical,
    /// Not allowed, or not by the key it names.
    Algorithm,
    Issuer,
    /// No key of the issuer is the one it names.
    UnknownKey,
    Signature,
    Expired,
    NotYet,
    Audience,
    /// This claim is not there.
    Incomplete(Box<str>),
    /// The issuer's keys are not known, or for too long not looked at.
    NoKeys,
}

impl Invalid {
    /// For the record.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::TooLong => format!("the token is longer than {MAX_TOKEN_BYTES} bytes"),
            Self::Malformed => "the token is no JWT in compact form".to_owned(),
            Self::Critical => "the token has a `crit` header".to_owned(),
            Self::Algorithm => "the token's algorithm is not allowed, or not its key's".to_owned(),
            Self::Issuer => "the token is of no issuer of this route".to_owned(),
            Self::UnknownKey => "the token names a key that its issuer has not".to_owned(),
            Self::Signature => "the token's signature is wrong".to_owned(),
            Self::Expired => "the token has expired".to_owned(),
            Self::NotYet => "the token is not valid yet".to_owned(),
            Self::Audience => "the token is meant for another audience".to_owned(),
            Self::Incomplete(claim) => format!("the token has no usable claim `{claim}`"),
            Self::NoKeys => "the keys of the token's issuer are not known here".to_owned(),
        }
    }
}

/// A good token. `Debug` shows none of it.
pub struct Token {
    pub issuer: Arc<Issuer>,
    pub claims: Claims,
    /// Seconds since 1970, leeway included: from then on it is no longer good.
    pub until: u64,
    /// The consumer it names.
    pub consumer: Option<Box<str>>,
    pub end_user: Option<Box<str>>,
    /// What the upstream reads of it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who shares what is kept of answers to it: as different as its issuer, subject, consumer and headers. No name is
    /// like it.
    pub home: Box<str>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("issuer", &self.issuer.name).finish_non_exhaustive()
    }
}

/// A token taken apart; nothing of it is proven.
pub struct Unproven<'t> {
    text: &'t str,
    parts: Parts<'t>,
    claims: Claims,
}

impl<'t> Unproven<'t> {
    /// # Errors
    /// It is no token.
    pub fn read(text: &'t str) -> Result<Self, Invalid> {
        let parts = Parts::of(text)?;
        let claims = Claims::read(&parts.payload).ok_or(Invalid::Malformed)?;
        Ok(Self { text, parts, claims })
    }

    /// Does it say that it is of this issuer?
    #[must_use]
    pub fn is_of(&self, issuer: &Issuer) -> bool {
        issuer
            .iss
            .as_deref()
            .is_none_or(|iss| matches!(self.claims.top("iss"), Some(Claim::Text(text)) if **text == *iss))
    }

    /// Checks it. `now`: seconds since 1970.
    ///
    /// # Errors
    /// Why it is not good. Its signature is looked at before anything that it says.
    pub fn prove(self, issuer: &Arc<Issuer>, keys: &KeySet, now: u64) -> Result<Token, Invalid> {
        if !self.is_of(issuer) {
            return Err(Invalid::Issuer);
        }
        let algorithm = self.parts.header.algorithm.ok_or(Invalid::Algorithm)?;
        if !issuer.algorithms.contains(&algorithm) {
            return Err(Invalid::Algorithm);
        }
        keys.check(&self.parts, algorithm)?;
        let until = self.in_time(issuer, now)?;
        self.for_us(issuer)?;
        for claim in &issuer.required {
            if self.claims.find(claim).is_none_or(Claim::is_empty) {
                return Err(Invalid::Incomplete(claim.as_str().into()));
            }
        }
        Ok(self.made(issuer, until))
    }

    /// RFC 7519 § 4.1.4 and 4.1.5. A token without an end would be good for ever: it is not good at all.
    fn in_time(&self, issuer: &Issuer, now: u64) -> Result<u64, Invalid> {
        let leeway = issuer.leeway.as_secs();
        let time = |name| match self.claims.top(name) {
            None => Ok(None),
            Some(claim) => claim.time().map(Some).ok_or_else(|| Invalid::Incomplete(Box::from(name))),
        };
        let until = time("exp")?.ok_or_else(|| Invalid::Incomplete("exp".into()))?.saturating_add(leeway);
        if until <= now {
            return Err(Invalid::Expired);
        }
        if time("nbf")?.is_some_and(|from| from > now.saturating_add(leeway)) {
            return Err(Invalid::NotYet);
        }
        Ok(until)
    }

    /// RFC 7519 § 4.1.3.
    fn for_us(&self, issuer: &Issuer) -> Result<(), Invalid> {
        let names_us =
            |claim: &Claim| matches!(claim, Claim::Text(text) if issuer.audiences.iter().any(|us| *us == **text));
        let ours = match self.claims.top("aud") {
            _ if issuer.audiences.is_empty() => true,
            Some(Claim::List(list)) => list.iter().any(names_us),
            Some(claim) => names_us(claim),
            None => false,
        };
        if ours { Ok(()) } else { Err(Invalid::Audience) }
    }

    fn made(self, issuer: &Arc<Issuer>, until: u64) -> Token {
        let text = |claim: &Claim| claim.scalar().filter(|text| !text.is_empty()).map(|text| Box::from(&*text));
        let named = |path: &Option<_>| path.as_ref().and_then(|path| self.claims.find(path)).and_then(text);
        let headers = issuer.headers.iter().filter_map(|(name, path)| {
            let value = HeaderValue::from_maybe_shared(bytes(self.claims.find(path)?)).ok()?;
            Some((name.clone(), value))
        });
        let (consumer, end_user, headers) =
            (named(&issuer.consumer), named(&issuer.end_user), headers.collect::<Vec<_>>());
        let home = self.home(issuer, consumer.as_deref(), &headers);
        Token { issuer: Arc::clone(issuer), until, consumer, end_user, headers, home, claims: self.claims }
    }

    /// A token without a subject shares with nobody.
    fn home(&self, issuer: &Issuer, consumer: Option<&str>, headers: &[(HeaderName, HeaderValue)]) -> Box<str> {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        };
        add(issuer.name.as_bytes());
        match self.claims.top("sub") {
            Some(Claim::Text(subject)) if !subject.is_empty() => add(subject.as_bytes()),
            _ => add(self.text.as_bytes()),
        }
        add(consumer.unwrap_or_default().as_bytes());
        for (name, value) in headers {
            add(name.as_str().as_bytes());
            add(value.as_bytes());
        }
        format!("token\0{}", hasher.finalize().to_hex()).into()
    }
}

fn bytes(claim: &Claim) -> bytes::Bytes {
    claim.told().into_bytes().into()
}

impl Token {
    /// Does it say what a route asks for?
    #[must_use]
    pub fn meets(&self, rules: &[ClaimRule]) -> bool {
        rules.iter().all(|rule| self.claims.find(&rule.claim).is_some_and(|claim| meets(claim, rule)))
    }
}

fn meets(claim: &Claim, rule: &ClaimRule) -> bool {
    // RFC 8693 § 4.2: a scope is words with spaces between them; some issuers write `scp`, or a list.
    let is_scope = matches!(rule.claim.as_str().rsplit('.').next(), Some("scope" | "scp"));
    let says = |wanted: &str| match claim {
        Claim::List(list) => list.iter().any(|one| one.scalar().is_some_and(|text| *text == *wanted)),
        Claim::Text(text) if is_scope => text.split(' ').any(|word| word == wanted),
        one => one.scalar().is_some_and(|text| *text == *wanted),
    };
    rule.any.iter().any(|all| all.iter().all(|wanted| says(wanted)))
}
