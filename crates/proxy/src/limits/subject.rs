//! Whom a limit counts: the values of its scope, hashed. What clients choose is bounded, and never a way out: what is
//! missing does as the limit says, what is too long is refused.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method};
use tidegate_limiter::{Hashing, Limiter};
use tidegate_model::Subject;
use tidegate_policy::defaults::{MAX_END_USER_BYTES, MAX_SUBJECT_BYTES};
use tidegate_policy::{Attached, Dimension, Limit, OnMissing, Prefix};

use super::Scope;
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
    // The tenant is part of every counter but the cluster's own.
    if !limit.per.is_empty() {
        hashing.value(scope.tenant());
    }
    for part in &limit.per {
        if !scope.add(part, &mut hashing)? {
            match limit.on_missing {
                OnMissing::Share => hashing.value(&[]),
                OnMissing::Skip => return Ok(None),
                OnMissing::Refuse => return Err(Refusal::SubjectMissing),
            }
        }
    }
    Ok(Some(hashing.finish()))
}

impl Scope<'_> {
    fn tenant(&self) -> &[u8] {
        self.caller.map_or(&*self.route.tenant, |caller| &caller.consumer.tenant).as_bytes()
    }

    /// The consumer's name; nobody's is empty.
    fn consumer(&self) -> &[u8] {
        self.caller.map_or(&[], |caller| caller.consumer.name.as_bytes())
    }

    /// Adds the call's value for one part. `false`: it has none, and nothing, or what the call does have, was added.
    #[inline]
    fn add(&self, part: &Dimension, to: &mut Hashing) -> Result<bool, Refusal> {
        let value = match part {
            Dimension::Tenant => self.tenant(),
            Dimension::Team => match self.caller.and_then(|caller| caller.consumer.team.as_deref()) {
                Some(team) => team.as_bytes(),
                None => return Ok(false),
            },
            Dimension::Consumer if self.caller.is_none() => return Ok(false),
            Dimension::Consumer => self.consumer(),
            Dimension::Key => match self.caller {
                Some(caller) => {
                    to.value(&caller.key.0.to_be_bytes());
                    return Ok(true);
                }
                None => return Ok(false),
            },
            Dimension::EndUser => {
                // Two consumers' end users are not the same, nor are those that they do not name.
                to.value(self.consumer());
                match self.end_user()? {
                    Some(value) => value,
                    None => return Ok(false),
                }
            }
            Dimension::Route => self.route.id.as_bytes(),
            Dimension::Product => match &self.route.limits.product {
                Some(product) => product.as_bytes(),
                None => return Ok(false),
            },
            Dimension::Method => method(self.method),
            Dimension::Host => {
                let name = self.host.name();
                if !name.is_empty() {
                    to.value(name.as_bytes());
                }
                return Ok(!name.is_empty());
            }
            Dimension::Ip(prefix) => {
                let network = Network::of(self.address, *prefix);
                to.value(network.bytes());
                return Ok(true);
            }
            Dimension::Header(name) => return self.header(name, to),
        };
        to.value(value);
        Ok(true)
    }

    /// All lines of a header: whoever reads only the last would see another value than who reads only the first.
    fn header(&self, name: &HeaderName, to: &mut Hashing) -> Result<bool, Refusal> {
        let lines = || self.headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let mut length = None;
        for line in lines() {
            length = Some(length.unwrap_or(0) + line.len());
        }
        match length {
            None => Ok(false),
            Some(length) if length > MAX_SUBJECT_BYTES => Err(Refusal::SubjectInvalid),
            Some(_) => {
                to.list(lines);
                Ok(true)
            }
        }
    }

    /// The one name in the header that the consumer, or else the route, says.
    fn end_user(&self) -> Result<Option<&[u8]>, Refusal> {
        let of_consumer = self.caller.and_then(|caller| caller.consumer.limits.end_user.as_ref());
        let name = of_consumer.or(self.route.limits.end_user.as_ref()).unwrap_or(&END_USER);
        let mut lines = self.headers.get_all(name).iter();
        let Some(value) = lines.next() else { return Ok(None) };
        let value = value.as_bytes().trim_ascii();
        if lines.next().is_some() || value.len() > MAX_END_USER_BYTES {
            return Err(Refusal::SubjectInvalid);
        }
        Ok((!value.is_empty()).then_some(value))
    }
}

/// A HEAD is a GET without its body, and nobody gets a counter of his own by making up a method.
fn method(method: &Method) -> &'static [u8] {
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
struct Network {
    octets: [u8; 16],
    length: usize,
}

impl Network {
    fn of(address: IpAddr, prefix: Prefix) -> Self {
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
