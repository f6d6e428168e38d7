//! What a certificate's CA says of it (OCSP, RFC 6960), from a file, to be stapled to handshakes: read as far as it takes to
//! tell that it is about this certificate and until when it holds. Its signature is for clients to verify.
//!
//! ```text
//! OCSPResponse      ::= SEQ { status ENUM, [0] SEQ { type OID, OCTETS { BasicOCSPResponse } } }
//! BasicOCSPResponse ::= SEQ { ResponseData, algorithm, signature, … }
//! ResponseData      ::= SEQ { [0] version?, responder [1]|[2], produced TIME, SEQ OF SingleResponse, … }
//! SingleResponse    ::= SEQ { CertID, [0] good | [1] revoked | [2] unknown, this TIME, [0] { next TIME }?, … }
//! CertID            ::= SEQ { SEQ { OID, … }, hash of the issuer's name, hash of its key, serial INT }
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use tracing::warn;

/// What may be stapled, and in which seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staple {
    pub(crate) der: Vec<u8>,
    pub(crate) from: u64,
    /// Exclusive. `None`: it does not say.
    pub(crate) until: Option<u64>,
}

/// Ahead of ours a CA's clock may be.
const SKEW: u64 = 300;

const SEQUENCE: u8 = 0x30;
const ENUMERATED: u8 = 0x0a;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const TIME: u8 = 0x18;
const ZERO: u8 = 0xa0;
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
const UNKNOWN: u8 = 0x82;
/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

impl Staple {
    pub(crate) fn holds(&self, now: u64) -> bool {
        self.from <= now + SKEW && self.until.is_none_or(|until| now < until)
    }
}

/// Reads the response about `certificate` (DER). `None`: it says nothing that helps clients; a warning says what.
///
/// # Errors
/// It is no successful OCSP response, or of other certificates.
pub(crate) fn read(of: &str, certificate: &[u8], der: &[u8]) -> Result<Option<Staple>, String> {
    let responses = responses(der)?;
    let (serial, issuer) = identity(certificate).ok_or("the certificate's own serial number cannot be read")?;
    let mut list = responses;
    while !list.is_empty() {
        let single = Single::read(take(&mut list, SEQUENCE).ok_or(MALFORMED)?).ok_or(MALFORMED)?;
        if !single.is_about(serial, issuer) {
            continue;
        }
        let staple = Staple { der: der.to_vec(), from: single.from, until: single.until };
        return Ok(usable(of, &single, staple));
    }
    Err("it is about other certificates than this one".into())
}

const MALFORMED: &str = "it is no OCSP response in DER (`openssl ocsp -respout` writes one)";

fn usable(of: &str, single: &Single<'_>, staple: Staple) -> Option<Staple> {
    match single.status {
        REVOKED => warn!(%of, "its OCSP response says that it is revoked: nothing is stapled"),
        UNKNOWN => warn!(%of, "its OCSP response says that its CA does not know it: nothing is stapled"),
        _ if !staple.holds(now()) => {
            warn!(%of, "its OCSP response is over, or not valid yet: nothing is stapled until there is a fresh one");
        }
        _ => return Some(staple),
    }
    None
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The inside of the list of single responses.
fn responses(der: &[u8]) -> Result<&[u8], String> {
    let mut rest = der;
    let mut outer = take(&mut rest, SEQUENCE).filter(|_| rest.is_empty()).ok_or(MALFORMED)?;
    match take(&mut outer, ENUMERATED) {
        Some([0]) => {}
        Some([status]) => {
            return Err(format!("the responder refused to answer (OCSP status {status}): ask it again"));
        }
        _ => return Err(MALFORMED.into()),
    }
    basic(outer).ok_or_else(|| MALFORMED.into())
}

fn basic(mut outer: &[u8]) -> Option<&[u8]> {
    let mut bytes = take(&mut take(&mut outer, ZERO)?, SEQUENCE)?;
    if take(&mut bytes, OID)? != BASIC {
        return None;
    }
    let mut data = take(&mut take(&mut take(&mut bytes, OCTETS)?, SEQUENCE)?, SEQUENCE)?;
    if data.first() == Some(&ZERO) {
        any(&mut data)?;
    }
    any(&mut data)?; // Who responds.
    take(&mut data, TIME)?; // When.
    take(&mut data, SEQUENCE)
}

struct Single<'a> {
    algorithm: &'a [u8],
    issuer: &'a [u8],
    serial: &'a [u8],
    status: u8,
    from: u64,
    until: Option<u64>,
}

impl<'a> Single<'a> {
    fn read(mut from: &'a [u8]) -> Option<Self> {
        let mut id = take(&mut from, SEQUENCE)?;
        let algorithm = take(&mut take(&mut id, SEQUENCE)?, OID)?;
        let (issuer, _key, serial) = (take(&mut id, OCTETS)?, take(&mut id, OCTETS)?, take(&mut id, INTEGER)?);
        let (status, _) = any(&mut from)?;
        let begins = seconds(take(&mut from, TIME)?)?;
        let ends = match from.first() {
            Some(&ZERO) => Some(seconds(take(&mut take(&mut from, ZERO)?, TIME)?)?),
            _ => None,
        };
        matches!(status, GOOD | REVOKED | UNKNOWN).then_some(Self {
            algorithm,
            issuer,
            serial,
            status,
            from: begins,
            until: ends,
        })
    }

    /// By its serial number, and the name of who gave it; that one is not compared under a hash we do not know.
    fn is_about(&self, serial: &[u8], issuer: &[u8]) -> bool {
        let named = hash(self.algorithm).is_none_or(|by| digest::digest(by, issuer).as_ref() == self.issuer);
        self.serial == serial && named
    }
}

fn hash(oid: &[u8]) -> Option<&'static Algorithm> {
    match oid {
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Some(&SHA1_FOR_LEGACY_USE_ONLY),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1] => Some(&SHA256),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2] => Some(&SHA384),
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3] => Some(&SHA512),
        _ => None,
    }
}

/// A certificate's serial number, and its issuer's name as it is encoded (RFC 5280 § 4.1).
fn identity(mut certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut told = take(&mut take(&mut certificate, SEQUENCE)?, SEQUENCE)?;
    if told.first() == Some(&ZERO) {
        any(&mut told)?;
    }
    let serial = take(&mut told, INTEGER)?;
    take(&mut told, SEQUENCE)?; // The algorithm it is signed with.
    let before = told;
    take(&mut told, SEQUENCE)?;
    Some((serial, &before[..before.len() - told.len()]))
}

/// The content of the next element, which has this tag.
fn take<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    any(from).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

fn any<'a>(from: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = from.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        short @ 0..=0x7f => (short, rest),
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some((tag, content))
}

/// `20261121093000Z` as seconds since 1970; of years before it, none.
fn seconds(text: &[u8]) -> Option<u64> {
    let digits =
        text.strip_suffix(b"Z").filter(|digits| digits.len() == 14 && digits.iter().all(u8::is_ascii_digit))?;
    let number =
        |at: std::ops::Range<usize>| digits[at].iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let (hour, minute, second) = (number(8..10), number(10..12), number(12..14));
    let real = 1970 <= year && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !real || 23 < hour || 59 < minute || 60 < second {
        return None;
    }
    // Days of the civil calendar, with years that begin in March: the leap day is the last.
    let (y, m) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).expect("short");
        let [high, low] = length.to_be_bytes();
        let head = if length < 0x80 { vec![tag, low] } else { vec![tag, 0x82, high, low] };
        [head, content].concat()
    }

    const ISSUER: &[u8] = &[SEQUENCE, 0];
    const NOW: u64 = 1_795_253_400;

    fn certificate(serial: u8) -> Vec<u8> {
        let serial = element(INTEGER, &[&[serial]]);
        let version = element(ZERO, &[&element(INTEGER, &[&[2]])]);
        let told = element(SEQUENCE, &[&version, &serial, &element(SEQUENCE, &[]), ISSUER, &element(SEQUENCE, &[])]);
        element(SEQUENCE, &[&told, &element(SEQUENCE, &[])])
    }

    fn response(outer: u8, serial: u8, status: &[u8], issuer: &[u8], next: Option<&[u8]>) -> Vec<u8> {
        let name = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, issuer);
        let by = element(SEQUENCE, &[&element(OID, &[&[0x2b, 0x0e, 0x03, 0x02, 0x1a]]), &[5, 0]]);
        let id = element(
            SEQUENCE,
            &[&by, &element(OCTETS, &[name.as_ref()]), &element(OCTETS, &[b"key"]), &element(INTEGER, &[&[serial]])],
        );
        let next = next.map(|time| element(ZERO, &[&element(TIME, &[time])])).unwrap_or_default();
        let single = element(SEQUENCE, &[&id, status, &element(TIME, &[b"20200101000000Z"]), &next]);
        let data = element(
            SEQUENCE,
            &[&element(0xa2, &[b"who"]), &element(TIME, &[b"20200101000000Z"]), &element(SEQUENCE, &[&single])],
        );
        let basic = element(SEQUENCE, &[&data, &element(SEQUENCE, &[]), &element(3, &[b"signature"])]);
        let bytes = element(SEQUENCE, &[&element(OID, &[BASIC]), &element(OCTETS, &[&basic])]);
        element(SEQUENCE, &[&element(ENUMERATED, &[&[outer]]), &element(ZERO, &[&bytes])])
    }

    const FUTURE: Option<&[u8]> = Some(b"20991231235959Z");

    #[test]
    fn a_good_response_about_this_certificate_is_stapled_until_it_is_over() {
        let der = response(0, 7, &[GOOD, 0], ISSUER, FUTURE);
        let staple = read("x", &certificate(7), &der).expect("read").expect("good");
        assert_eq!((staple.der.clone(), staple.from, staple.until), (der, 1_577_836_800, Some(4_102_444_799)));
        assert!(staple.holds(NOW) && !staple.holds(4_102_444_799) && !staple.holds(1_577_836_800 - SKEW - 1));
        let endless = response(0, 7, &[GOOD, 0], ISSUER, None);
        assert_eq!(read("x", &certificate(7), &endless).expect("read").expect("good").until, None);
    }

    #[test]
    fn what_helps_no_client_is_not_stapled() {
        let revoked = element(REVOKED, &[&element(TIME, &[b"20200101000000Z"])]);
        for (status, next) in
            [(&revoked[..], FUTURE), (&[UNKNOWN, 0], FUTURE), (&[GOOD, 0], Some(&b"20200102000000Z"[..]))]
        {
            assert_eq!(read("x", &certificate(7), &response(0, 7, status, ISSUER, next)), Ok(None), "{status:?}");
        }
    }

    #[test]
    fn what_is_not_about_this_certificate_is_an_error() {
        let says = |der: &[u8]| read("x", &certificate(7), der).expect_err("an error");
        assert!(says(&response(0, 8, &[GOOD, 0], ISSUER, FUTURE)).contains("other certificates"));
        assert!(says(&response(0, 7, &[GOOD, 0], b"another", FUTURE)).contains("other certificates"));
        assert!(says(&response(3, 7, &[GOOD, 0], ISSUER, FUTURE)).contains("OCSP status 3"));
        assert!(says(b"-----BEGIN").contains("no OCSP response"));
    }

    #[test]
    fn no_bytes_make_it_fall_over() {
        let (good, cert) = (response(0, 7, &[GOOD, 0], ISSUER, FUTURE), certificate(7));
        for at in 0..good.len() {
            assert!(read("x", &cert, &good[..at]).is_err(), "cut at {at}");
            for to in [0, 1, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = good.clone();
                changed[at] = to;
                _ = read("x", &cert, &changed);
            }
        }
        (0..cert.len()).for_each(|at| _ = read("x", &cert[..at], &good));
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, at) in [
            ("19700101000000Z", Some(0)),
            ("20000229120000Z", Some(951_825_600)),
            ("20261121093000Z", Some(NOW)),
            ("20261321093000Z", None),
            ("19691231235959Z", None),
            ("20261121093000+", None),
            ("2026112109300Z", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), at, "{text}");
        }
    }
}
