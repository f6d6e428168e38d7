//! Keys of providers that callers bring themselves. Each goes to the one provider it is of, never into a log, and a call
//! that brings one is never paid for with ours.

use std::borrow::Cow;

use http::HeaderName;
use http::request::Parts;
use tidegate_auth::{MAX_KEY_BYTES, presented};
use tidegate_policy::{CallerKeys, Model, Provider, Route};

use super::told::No;
use crate::refusal::Refusal;

/// `KEY`, `PROVIDER=KEY`, several with commas or in several lines.
const OWN: HeaderName = HeaderName::from_static("x-tidegate-provider-key");
const MOST: usize = 16;

/// What a call brings along.
#[derive(Default)]
pub(super) struct OwnKeys<'a> {
    /// By the provider's name; `None`: of whom, it does not say.
    keys: Vec<(Option<&'a str>, Cow<'a, str>)>,
    any: bool,
}

impl<'a> OwnKeys<'a> {
    /// # Errors
    /// What it brings cannot be told apart, or is brought where nobody takes it.
    pub(super) fn of(parts: &'a Parts, route: &Route, model: &'a Model) -> Result<Self, No> {
        let takes = model.deployments.iter().map(|to| &*to.provider);
        let takes: Vec<&Provider> = takes.filter(|provider| provider.caller_keys != CallerKeys::Never).collect();
        if takes.is_empty() { Ok(Self::default()) } else { Self::read(parts, route, &takes) }
    }

    /// `takes`: whose keys callers may bring.
    fn read(parts: &'a Parts, route: &Route, takes: &[&'a Provider]) -> Result<Self, No> {
        let mut keys = Vec::new();
        for line in parts.headers.get_all(OWN) {
            let line = line.to_str().map_err(|_| wrong("has characters that no key has"))?;
            for item in line.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                let named =
                    item.split_once('=').filter(|(name, _)| takes.iter().any(|provider| *provider.name == **name));
                let (name, key) = named.map_or((None, item), |(name, key)| (Some(name), key));
                if key.is_empty() || key.len() > MAX_KEY_BYTES || keys.len() == MOST {
                    return Err(wrong("holds at most 16 keys of 512 bytes"));
                }
                keys.push((name, Cow::Borrowed(key)));
            }
        }
        // Where nobody has to prove himself to us, what a call carries is meant for the provider.
        if keys.is_empty() && route.auth.is_empty() {
            let carried = presented(parts).ok().flatten().and_then(|found| match found.secret {
                Cow::Borrowed(secret) => std::str::from_utf8(secret).ok().map(Cow::Borrowed),
                Cow::Owned(secret) => String::from_utf8(secret).ok().map(Cow::Owned),
            });
            keys.extend(carried.map(|key| (None, key)));
        }
        let mut names: Vec<&str> = takes.iter().map(|provider| &*provider.name).collect();
        names.dedup();
        if keys.iter().any(|(name, _)| name.is_none()) && (names.len() > 1 || keys.len() > 1) {
            let names = names.join(", ");
            return Err(wrong(&format!("has to say whose key it is: `PROVIDER=KEY`, PROVIDER is one of {names}")));
        }
        Ok(Self { any: !keys.is_empty(), keys })
    }

    /// Of a call that goes to one provider as it is.
    ///
    /// # Errors
    /// It must bring one.
    pub(super) fn alone(parts: &'a Parts, route: &Route, provider: &'a Provider) -> Result<Option<String>, No> {
        if provider.caller_keys == CallerKeys::Never {
            return Ok(None);
        }
        let keys = Self::read(parts, route, &[provider])?;
        match keys.with(provider) {
            Some(own) => Ok(own.map(str::to_owned)),
            None => Err(keys.missing()),
        }
    }

    /// May this provider be asked, and with which key of the caller's?
    pub(super) fn with(&self, provider: &Provider) -> Option<Option<&str>> {
        let own = || {
            let mut keys = self.keys.iter();
            keys.find(|(name, _)| name.is_none_or(|name| *name == *provider.name)).map(|(_, key)| &**key)
        };
        match (provider.caller_keys, self.any) {
            (CallerKeys::Never | CallerKeys::May, false) => Some(None),
            (CallerKeys::Never, true) | (CallerKeys::Must, false) => None,
            (CallerKeys::May | CallerKeys::Must, true) => own().map(Some),
        }
    }

    /// Does the call bring any?
    pub(super) fn are_there(&self) -> bool {
        self.any
    }

    /// Nobody could be asked.
    pub(super) fn missing(&self) -> No {
        wrong("must bring a key of the provider's: this model is not served with ours")
    }
}

fn wrong(what: &str) -> No {
    No::told(Refusal::CallInvalid, format!("The header {OWN} {what}."), None)
}
