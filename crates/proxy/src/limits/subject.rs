//! Whom a limit counts: the values of its scope, hashed. What clients choose is bounded, and never a way out: what is
//! missing does as the limit says, what is too long is refused.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method};
use tidegate_auth::token::NotCounted;
use tidegate_limiter::{Hashing, Limiter};
use tidegate_model::{KeyId, Subject};
use tidegate_policy::defaults::{MAX_END_USER_BYTES, MAX_SUBJECT_BYTES};
use tidegate_policy::{Attached, ClaimPath, Dimension, Limit, OnMissing, Prefix};

use super::Scope;
use crate::identify::Caller;
use crate::refusal::Refusal;

/// Where nobody says otherwise.
static END_USER: HeaderName = HeaderName::from_static("x-end-user");

/// `Ok(None)`: the limit does not hold for this call.
#[inline]
pub(super) fn of(
    limiter: &Limiter,
    limit: &Limit,
    held: &Attached,
    scope: &Scope<'_>,
) -> Result<Option<Subject>, Refusal> {
    let Some(fixed) = held.subject() else { return hashed(limiter, limit, scope) };
    if let Some(subject) = fixed.get() {
        return Ok(Some(*subject));
    }
    let subject = hashed(limiter, limit, scope)?;
    Ok(subject.map(|subject| *fixed.get_or_init(|| subject)))
}

fn hashed(limiter: &Limiter, limit: &Limit, scope: &Scope<'_>) -> Result<Option<Subject>, Refusal> {
    let mut hashing = limiter.hashing(limit);
    Ok(add_all(limit, scope, &mut hashing)?.then(|| hashing.finish()))
}

/// Adds the values of a limit's scope. `false`: it does not hold. One function for calls, and for people who ask about a
/// counter: both come to the same subject.
#[inline]
pub(super) fn add_all(limit: &Limit, of: &impl Values, to: &mut Hashing) -> Result<bool, Refusal> {
    // The tenant is part of every counter but the cluster's own.
    if !limit.per.is_empty() {
        to.value(of.tenant());
    }
    for part in &limit.per {
        if !add(part, of, to)? {
            match limit.on_missing {
                OnMissing::Share => to.value(&[]),
                OnMissing::Skip => return Ok(false),
                OnMissing::Refuse => return Err(Refusal::SubjectMissing),
            }
        }
    }
    Ok(true)
}

/// What a limit may count by, of a call or as people name it. `None`: there is none.
pub(super) trait Values {
    fn tenant(&self) -> &[u8];
    fn team(&self) -> Option<&[u8]>;
    fn consumer(&self) -> Option<&[u8]>;
    fn key(&self) -> Option<KeyId>;
    fn end_user(&self) -> Result<Option<&[u8]>, Refusal>;
    fn route(&self) -> Option<&[u8]>;
    fn product(&self) -> Option<&[u8]>;
    fn method(&self) -> Option<&Method>;
    fn host(&self) -> Cow<'_, str>;
    fn address(&self) -> Option<IpAddr>;
    fn model(&self) -> Option<&[u8]>;
    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;
    /// Of the caller's token: its issuer, and the claim's values as they are counted.
    fn claim(&self, path: &ClaimPath) -> Result<Option<Claimed<'_>>, Refusal>;
}

pub(super) type Claimed<'a> = (&'a str, Vec<Cow<'a, str>>);

/// Adds the value for one part. `false`: there is none, and nothing, or what there is, was added.
#[inline]
fn add(part: &Dimension, of: &impl Values, to: &mut Hashing) -> Result<bool, Refusal> {
    let value = match part {
        Dimension::Tenant => Some(of.tenant()),
        Dimension::Team => of.team(),
        Dimension::Consumer => of.consumer(),
        Dimension::Key => {
            let key = of.key();
            key.into_iter().for_each(|key| to.value(&key.0.to_be_bytes()));
            return Ok(key.is_some());
        }
        Dimension::EndUser => {
            // Two consumers' end users are not the same, nor are those that they do not name.
            to.value(of.consumer().unwrap_or_default());
            of.end_user()?
        }
        Dimension::Route => of.route(),
        Dimension::Product => of.product(),
        Dimension::Method => of.method().map(method),
        Dimension::Model => of.model(),
        Dimension::Host => {
            let name = of.host();
            if !name.is_empty() {
                to.value(name.as_bytes());
            }
            return Ok(!name.is_empty());
        }
        Dimension::Ip(prefix) => {
            let network = of.address().map(|address| Network::of(address, *prefix));
            network.iter().for_each(|network| to.value(network.bytes()));
            return Ok(network.is_some());
        }
        Dimension::Header(name) => return header(name, of, to),
        Dimension::Claim(path) => return claim(path, of, to),
    };
    value.into_iter().for_each(|value| to.value(value));
    Ok(value.is_some())
}

/// All lines of a header: whoever reads only the last would see another value than who reads only the first.
fn header(name: &HeaderName, of: &impl Values, to: &mut Hashing) -> Result<bool, Refusal> {
    let mut length = None;
    for line in of.lines(name) {
        length = Some(length.unwrap_or(0) + line.len());
    }
    match length {
        None => Ok(false),
        Some(length) if length > MAX_SUBJECT_BYTES => Err(Refusal::SubjectInvalid),
        Some(_) => {
            to.list(|| of.lines(name));
            Ok(true)
        }
    }
}

/// Two issuers' claims are never the same.
fn claim(path: &ClaimPath, of: &impl Values, to: &mut Hashing) -> Result<bool, Refusal> {
    let Some((issuer, values)) = of.claim(path)? else { return Ok(false) };
    if values.iter().map(|value| value.len()).sum::<usize>() > MAX_SUBJECT_BYTES {
        return Err(Refusal::SubjectInvalid);
    }
    to.value(issuer.as_bytes());
    to.list(|| values.iter().map(|value| value.as_bytes()));
    Ok(true)
}

impl Values for Scope<'_> {
    #[inline]
    fn tenant(&self) -> &[u8] {
        self.caller
            .and_then(|caller| caller.consumer)
            .map_or(&*self.route.tenant, |consumer| &consumer.tenant)
            .as_bytes()
    }

    fn team(&self) -> Option<&[u8]> {
        self.caller?.consumer?.team.as_ref().map(|team| team.as_bytes())
    }

    fn consumer(&self) -> Option<&[u8]> {
        Some(self.caller?.consumer?.name.as_bytes())
    }

    fn key(&self) -> Option<KeyId> {
        self.caller?.key()
    }

    /// The one name in the header that the consumer, or else the route, says.
    fn end_user(&self) -> Result<Option<&[u8]>, Refusal> {
        if let Some(token) = self.caller.and_then(Caller::token).filter(|it| it.issuer.end_user.is_some()) {
            let value = token.end_user.as_ref().map(|name| name.as_bytes());
            let short = value.is_none_or(|value| value.len() <= MAX_END_USER_BYTES);
            return if short { Ok(value) } else { Err(Refusal::SubjectInvalid) };
        }
        let of_consumer = self.caller.and_then(|caller| caller.consumer?.limits.end_user.as_ref());
        let name = of_consumer.or(self.route.limits.end_user.as_ref()).unwrap_or(&END_USER);
        let mut lines = self.headers.get_all(name).iter();
        let Some(value) = lines.next() else { return Ok(None) };
        let value = value.as_bytes().trim_ascii();
        if lines.next().is_some() || value.len() > MAX_END_USER_BYTES {
            return Err(Refusal::SubjectInvalid);
        }
        Ok((!value.is_empty()).then_some(value))
    }

    fn route(&self) -> Option<&[u8]> {
        Some(self.route.id.as_bytes())
    }

    fn product(&self) -> Option<&[u8]> {
        self.route.limits.product.as_ref().map(|product| product.as_bytes())
    }

    fn method(&self) -> Option<&Method> {
        Some(self.method)
    }

    fn host(&self) -> Cow<'_, str> {
        self.host.name()
    }

    fn address(&self) -> Option<IpAddr> {
        Some(self.address)
    }

    fn model(&self) -> Option<&[u8]> {
        self.spoken.map(|spoken| spoken.model.as_bytes())
    }

    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn claim(&self, path: &ClaimPath) -> Result<Option<Claimed<'_>>, Refusal> {
        let Some(token) = self.caller.and_then(Caller::token) else { return Ok(None) };
        let values = token.claims.counted(path).map_err(|NotCounted| Refusal::SubjectInvalid)?;
        Ok(values.map(|values| (&*token.issuer.name, values)))
    }
}

/// A HEAD is a GET without its body, and nobody gets a counter of his own by making up a method.
pub(super) fn method(method: &Method) -> &'static [u8] {
    match *method {
        Method::GET | Method::HEAD => b"GET",
        Method::POST => b"POST",
        Method::PUT => b"PUT",
        Method::PATCH => b"PATCH",
        Method::DELETE => b"DELETE",
        Method::OPTIONS => b"OPTIONS",
        _ => b"other",
    }
}

/// An address as limits count it: its leading bits.
pub(super) struct Network {
    octets: [u8; 16],
    length: usize,
}

impl Network {
    pub(super) fn of(address: IpAddr, prefix: Prefix) -> Self {
        let mut octets = [0; 16];
        let (bits, length) = match address.to_canonical() {
            IpAddr::V4(v4) => {
                octets[..4].copy_from_slice(&v4.octets());
                (u32::from(prefix.v4), 4)
            }
            IpAddr::V6(v6) => {
                octets = v6.octets();
                (u32::from(prefix.v6), usize::from(prefix.v6).div_ceil(8).clamp(8, 16))
            }
        };
        let all = u128::from_be_bytes(octets);
        let kept = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
        Self { octets: (all & kept).to_be_bytes(), length }
    }

    /// For people: the first address of the network.
    pub(super) fn address(&self) -> IpAddr {
        match self.length {
            4 => IpAddr::from([self.octets[0], self.octets[1], self.octets[2], self.octets[3]]),
            _ => IpAddr::from(self.octets),
        }
    }

    /// IPv4 in four bytes, IPv6 in eight or more: neither is ever taken for the other.
    fn bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str, v4: u8, v6: u8) -> Vec<u8> {
        Network::of(text.parse().expect("an address"), Prefix { v4, v6 }).bytes().to_vec()
    }

    #[test]
    fn neighbours_in_one_64_are_one_client() {
        let bytes = |text| bytes(text, 32, 64);
        assert_eq!(bytes("2001:db8::1"), bytes("2001:db8::ffff:1"));
        assert_ne!(bytes("2001:db8::1"), bytes("2001:db8:0:1::1"));
        assert_eq!(bytes("::ffff:10.0.0.1"), bytes("10.0.0.1"));
        assert_ne!(bytes("10.0.0.1"), bytes("10.0.0.2"));
    }

    #[test]
    fn a_prefix_may_end_within_a_byte_and_has_a_length_of_its_own_in_each_family() {
        assert_eq!(bytes("10.1.2.3", 24, 64), [10, 1, 2, 0]);
        assert_eq!(bytes("10.1.255.3", 20, 64), [10, 1, 240, 0]);
        assert_eq!(bytes("10.1.2.3", 1, 64), [0, 0, 0, 0]);
        assert_eq!(bytes("2001:db8:1:fff0::1", 32, 56), [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0xff, 0]);
        assert_eq!(bytes("2001:db8::1", 32, 128).len(), 16);
        assert_ne!(bytes("2001:db8::1", 32, 128), bytes("2001:db8::2", 32, 128));
        assert_eq!(bytes("a00::1", 32, 8).len(), 8, "10.0.0.0/8 and a00::/8 are not one network");
    }

    #[test]
    fn made_up_methods_are_one_method() {
        let made_up = |text: &str| method(&Method::from_bytes(text.as_bytes()).expect("a token"));
        assert_eq!(made_up("X1"), made_up("X2"));
        assert_eq!(made_up("HEAD"), made_up("GET"));
        assert_ne!(made_up("PUT"), made_up("POST"));
    }
}
