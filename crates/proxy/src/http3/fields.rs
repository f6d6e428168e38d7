//! What RFC 9114 asks of the fields of a request and the h3 crate does not look at: pseudo fields come first, each once, only those
//! of a request, and none in trailers; fields of one connection do not come at all.
//!
//! The first is lost once a block is decoded, so the block itself is read (RFC 9204 § 4.5), as far as its names go. Nothing of it
//! refers to a dynamic table: we offer none. What cannot be read here cannot be decoded either, and h3 ends the connection.

use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Head,
    Trailers,
}

/// The malformed request, in a word.
pub(super) type Malformed = &'static str;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Pseudo {
    Authority = 1,
    Method = 2,
    Path = 4,
    Scheme = 8,
    Protocol = 16,
    /// `:status`, and what nobody has defined.
    Other = 32,
}

/// With their names in Huffman's code, which has one spelling for each.
const NAMES: [(Pseudo, &[u8], &[u8]); 5] = [
    (Pseudo::Authority, b":authority", b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f"),
    (Pseudo::Method, b":method", b"\xb9\x49\x53\x39\xe4"),
    (Pseudo::Path, b":path", b"\xb9\x58\xd3\x3f"),
    (Pseudo::Scheme, b":scheme", b"\xb8\x82\x4e\x5a\x4b"),
    (Pseudo::Protocol, b":protocol", b"\xb9\x5d\x87\x49\xc8\x7a\x3f"),
];

pub(super) fn judge(block: &[u8], what: Block) -> Result<(), Malformed> {
    let mut rest = Rest(block);
    if rest.integer(8).is_none() || rest.integer(7).is_none() {
        return Ok(());
    }
    let (mut seen, mut regular) = (0_u8, false);
    while let Some((pseudo, empty)) = rest.line() {
        let Some(pseudo) = pseudo else {
            regular = true;
            continue;
        };
        let bit = pseudo as u8;
        if what == Block::Trailers {
            return Err("a pseudo field in trailers");
        }
        if regular {
            return Err("a pseudo field behind others");
        }
        if seen & bit != 0 {
            return Err("a pseudo field twice");
        }
        if pseudo == Pseudo::Other {
            return Err("a pseudo field that no request has");
        }
        if empty {
            return Err("an empty pseudo field");
        }
        seen |= bit;
    }
    Ok(())
}

/// § 4.2: they concern one connection of HTTP/1.1.
const OF_A_CONNECTION: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Of a request whose head was decoded.
pub(super) fn vet(parts: &Parts) -> Result<(), Malformed> {
    no_connection(&parts.headers)?;
    if parts.headers.get_all(TE).iter().any(|te| !te.as_bytes().trim_ascii().eq_ignore_ascii_case(b"trailers")) {
        return Err("`te` with more than `trailers`");
    }
    let whole = parts.uri.scheme().is_some() && parts.uri.path_and_query().is_some();
    if parts.method != Method::CONNECT && !whole {
        return Err("a pseudo field is missing");
    }
    Ok(())
}

fn no_connection(headers: &HeaderMap) -> Result<(), Malformed> {
    let named = [CONNECTION, TRANSFER_ENCODING, UPGRADE].iter().any(|name| headers.contains_key(name));
    if named || OF_A_CONNECTION.iter().any(|name| headers.contains_key(*name)) {
        return Err("a field of one connection");
    }
    Ok(())
}

/// The length of its body, as it says. Two that differ are malformed.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut told = headers.get_all(http::header::CONTENT_LENGTH).iter().map(number);
    let Some(first) = told.next() else { return Ok(None) };
    match first {
        Some(length) if told.all(|other| other == Some(length)) => Ok(Some(length)),
        _ => Err("a length that is none"),
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    sound.then(|| value.to_str().ok()?.parse().ok()).flatten()
}

struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    /// One field line: which pseudo field it is, if it is one, and whether it has no value. `None`: there is no more, or it
    /// cannot be read.
    fn line(&mut self) -> Option<(Option<Pseudo>, bool)> {
        let first = *self.0.first()?;
        match first {
            // Indexed, of the static table.
            0xc0.. => Some((of_table(self.integer(6)?), false)),
            // A value, with a name of the static table.
            0x50..=0x5f | 0x70..=0x7f => {
                let name = of_table(self.integer(4)?);
                Some((name, self.string(7)?.is_empty()))
            }
            // Both.
            0x20..=0x3f => {
                let coded = first & 0x08 != 0;
                let name = named(self.string(3)?, coded);
                Some((name, self.string(7)?.is_empty()))
            }
            _ => None,
        }
    }

    /// § 4.1.1: an integer in the low `bits` of a byte, and what follows.
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let (first, mut rest) = self.0.split_first()?;
        let most = (1_u64 << bits) - 1;
        let mut value = u64::from(*first) & most;
        if value == most {
            for shift in (0..63).step_by(7) {
                let (next, behind) = rest.split_first()?;
                rest = behind;
                value = value.checked_add(u64::from(next & 0x7f) << shift)?;
                if next & 0x80 == 0 {
                    self.0 = rest;
                    return Some(value);
                }
            }
            return None;
        }
        self.0 = rest;
        Some(value)
    }

    /// A string whose length stands in the low `bits`.
    fn string(&mut self, bits: u32) -> Option<&[u8]> {
        let length = usize::try_from(self.integer(bits)?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}

/// RFC 9204, appendix A.
fn of_table(at: u64) -> Option<Pseudo> {
    match at {
        0 => Some(Pseudo::Authority),
        1 => Some(Pseudo::Path),
        15..=21 => Some(Pseudo::Method),
        22 | 23 => Some(Pseudo::Scheme),
        24..=28 | 63..=71 => Some(Pseudo::Other),
        _ => None,
    }
}

fn named(name: &[u8], coded: bool) -> Option<Pseudo> {
    // In Huffman's code a colon is the seven bits 1011100.
    let colon = if coded { name.first().is_some_and(|b| b >> 1 == 0x5c) } else { name.first() == Some(&b':') };
    let known = || NAMES.iter().find(|(_, plain, huffman)| name == if coded { *huffman } else { *plain });
    colon.then(|| known().map_or(Pseudo::Other, |(pseudo, ..)| *pseudo))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `GET https /`, by the static table.
    const GET: [u8; 5] = [0, 0, 0xc0 | 17, 0xc0 | 23, 0xc0 | 1];

    fn head(more: &[u8]) -> Result<(), Malformed> {
        judge(&[&GET, more].concat(), Block::Head)
    }

    /// A name and a value as they are.
    fn literal(name: &str, value: &str) -> Vec<u8> {
        let long = |bits: u8, first: u8, length: usize| {
            let most = (1 << bits) - 1;
            let length = u8::try_from(length).unwrap();
            if length < most { vec![first | length] } else { vec![first | most, length - most] }
        };
        let mut line = long(3, 0x20, name.len());
        line.extend(name.as_bytes());
        line.extend(long(7, 0, value.len()));
        line.extend(value.as_bytes());
        line
    }

    #[test]
    fn pseudo_fields_come_first_and_once() {
        let authority = literal(":authority", "a");
        assert_eq!(head(&authority), Ok(()));
        assert_eq!(head(&[0x50, 1, b'a']), Ok(()), "by the table's name");
        let coded = [&[0x28 | 7, 1][..], NAMES[0].2, &[1, b'a']].concat();
        assert_eq!(head(&coded), Ok(()), "in Huffman's code");
        assert_eq!(head(&[&authority[..], &coded].concat()), Err("a pseudo field twice"));
        assert_eq!(head(&[0xc0 | 20]), Err("a pseudo field twice"));
        let late = [literal("x", "1"), authority.clone()].concat();
        assert_eq!(head(&late), Err("a pseudo field behind others"));
        assert_eq!(head(&[&[0xc0 | 2][..], &authority].concat()), Err("a pseudo field behind others"), "behind `age`");
        assert_eq!(head(&literal(":status", "200")), Err("a pseudo field that no request has"));
        assert_eq!(head(&[0xc0 | 25]), Err("a pseudo field that no request has"));
        assert_eq!(head(&literal(":odd", "1")), Err("a pseudo field that no request has"));
        assert_eq!(head(&literal(":authority", "")), Err("an empty pseudo field"));
        assert_eq!(judge(&[&[0, 0][..], &literal("x", "1")].concat(), Block::Trailers), Ok(()));
        assert_eq!(judge(&[&[0, 0][..], &authority].concat(), Block::Trailers), Err("a pseudo field in trailers"));
    }

    #[test]
    fn what_cannot_be_read_is_left_to_who_decodes() {
        for cut in 0..GET.len() {
            assert_eq!(judge(&GET[..cut], Block::Head), Ok(()));
        }
        assert_eq!(head(&[0x27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Ok(()));
        assert_eq!(head(&[0x80]), Ok(()), "of a dynamic table");
    }

    #[test]
    fn a_length_is_one_number() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("content-length", HeaderValue::from_static(line));
            }
            length(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["3", "3"]), Ok(Some(3)));
        for lines in [&["3", "4"][..], &["+3"], &["-1"], &[""], &["3, 3"], &["99999999999999999999"]] {
            assert!(of(lines).is_err(), "{lines:?}");
        }
    }
}
