//! A request's head out of bytes (RFC 9112 §§ 2, 3, 5, 6). What is no head is told from what is too large; what it asks for is
//! judged elsewhere.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use httparse::{ParserConfig, Status};
use smallvec::SmallVec;

use crate::decode::Decoder;
use crate::length::{is_whole_since, length};

/// So many fields are read without a block of memory of their own.
const ON_STACK: usize = 100;
/// Longer targets are nobody's.
const TARGET: usize = u16::MAX as usize - 1;

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    Malformed,
    /// The request line, or its target.
    TargetTooLong,
    /// More bytes or more fields than are read.
    TooLarge,
    /// A request of HTTP/2.0, or of any major version but 1 (RFC 9110 § 15.6.6).
    OtherVersion,
}

/// What is read of a head at most.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub bytes: usize,
    pub fields: usize,
}

/// A request's head, and what it says of its connection.
#[derive(Debug)]
pub struct Head {
    pub parts: Parts,
    /// `None`: it has no body.
    pub body: Option<Decoder>,
    /// The connection may be used again (§ 9.3).
    pub stays: bool,
    /// An interim answer is waited for (RFC 9110 § 10.1.1).
    pub expects: bool,
    /// Another protocol would do (RFC 9110 § 7.8).
    pub upgrades: bool,
    /// Trailers are understood (RFC 9110 § 6.5.1).
    pub takes_trailers: bool,
}

/// Where a field's name and value begin and end.
type Place = [u32; 4];

/// The head at the beginning of `bytes`, taken from them. `None`: more of it is needed. `looked`: so many bytes were there when it
/// was not whole; kept by the caller, and only for this.
///
/// # Errors
/// It is none, or larger than `most`.
pub fn head(bytes: &mut BytesMut, looked: &mut usize, most: Heads) -> Result<Option<Head>, Bad> {
    if skip_empty_lines(bytes) {
        *looked = 0;
    }
    if bytes.is_empty() || (*looked > 0 && !is_whole_since(bytes, *looked)) {
        return wait(bytes, looked, most);
    }
    match read(bytes, most)? {
        None => wait(bytes, looked, most),
        whole => {
            *looked = 0;
            Ok(whole)
        }
    }
}

fn wait(bytes: &BytesMut, looked: &mut usize, most: Heads) -> Result<Option<Head>, Bad> {
    *looked = bytes.len();
    if *looked < most.bytes {
        return Ok(None);
    }
    Err(too_large(bytes, most))
}

#[cold]
fn too_large(bytes: &[u8], most: Heads) -> Bad {
    let line = bytes.iter().take(most.bytes).any(|byte| *byte == b'\n');
    if line { Bad::TooLarge } else { Bad::TargetTooLong }
}

/// Before a request line they mean nothing (§ 2.2). `true`: there were some.
fn skip_empty_lines(bytes: &mut BytesMut) -> bool {
    let mut empty = 0;
    loop {
        match &bytes[empty..] {
            [b'\r', b'\n', ..] => empty += 2,
            [b'\n', ..] => empty += 1,
            _ => break,
        }
    }
    bytes.advance(empty);
    empty > 0
}

fn read(bytes: &mut BytesMut, most: Heads) -> Result<Option<Head>, Bad> {
    let (mut few, mut many) = ([const { MaybeUninit::uninit() }; ON_STACK], Vec::new());
    let fields = match few.get_mut(..most.fields) {
        Some(few) => few,
        None => {
            many.resize_with(most.fields, MaybeUninit::uninit);
            &mut many[..]
        }
    };
    let mut parsed = httparse::Request::new(&mut []);
    let length = match ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, bytes, fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Bad::TooLarge),
        Err(httparse::Error::Version) => return other_version(bytes, most),
        Err(_) => return Err(Bad::Malformed),
    };
    if length > most.bytes {
        return Err(too_large(bytes, most));
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(Bad::Malformed) };
    if target.len() > TARGET {
        return Err(Bad::TargetTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Bad::Malformed)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let start = bytes.as_ptr().addr();
    let at = |part: &[u8]| {
        let from = part.as_ptr().addr() - start;
        (from as u32, (from + part.len()) as u32) // Below `most.bytes`.
    };
    let (target, target_end) = at(target.as_bytes());
    let places: SmallVec<[Place; 32]> = parsed
        .headers
        .iter()
        .map(|field| {
            let ((name, name_end), (value, value_end)) = (at(field.name.as_bytes()), at(field.value));
            [name, name_end, value, value_end]
        })
        .collect();
    let text = bytes.split_to(length).freeze();
    let part = |from: u32, to: u32| text.slice(from as usize..to as usize);
    let mut uri = Uri::from_maybe_shared(part(target, target_end)).map_err(|_| Bad::Malformed)?;
    if method == Method::OPTIONS && uri.scheme().is_some() {
        uri = of_the_whole_server(uri, &text[target as usize..target_end as usize]);
    }
    let mut hop = Hop { lasting: version == Version::HTTP_11, ..Hop::default() };
    let mut headers = HeaderMap::with_capacity(places.len());
    for [name, name_end, value, value_end] in places {
        let name = HeaderName::from_bytes(&text[name as usize..name_end as usize]).map_err(|_| Bad::Malformed)?;
        let value = HeaderValue::from_maybe_shared(part(value, value_end)).map_err(|_| Bad::Malformed)?;
        if hop.hear(&name, &value, version)? {
            headers.append(name, value);
        }
    }
    let mut parts = Request::new(()).into_parts().0;
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    let (body, stays) = (hop.body()?, hop.stays());
    let Hop { expects, upgrades, takes_trailers, .. } = hop;
    Ok(Some(Head { parts, body, stays, expects, upgrades, takes_trailers }))
}

/// Whoever asks for the options of `http://a` asks for those of the server, not of its root (§ 3.2.4).
#[cold]
fn of_the_whole_server(uri: Uri, target: &[u8]) -> Uri {
    let scheme = uri.scheme_str().unwrap_or_default().len();
    if target.get(scheme + "://".len()..).is_none_or(|rest| rest.iter().any(|byte| b"/?#".contains(byte))) {
        return uri;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// A higher minor version is read as the highest that we know (RFC 9110 § 2.5); what is no version is none.
#[cold]
fn other_version(bytes: &mut BytesMut, most: Heads) -> Result<Option<Head>, Bad> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    match line {
        [rest @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => {
            let at = rest.len() + b" HTTP/1.".len();
            bytes[at] = b'1';
            read(bytes, most)
        }
        [.., b' ', b'H', b'T', b'T', b'P', b'/', b'0' | b'2'..=b'9', b'.', b'0'..=b'9'] => Err(Bad::OtherVersion),
        _ => Err(Bad::Malformed),
    }
}

/// What the fields say that concerns the connection.
#[derive(Default)]
struct Hop {
    length: Option<u64>,
    coded: bool,
    chunked: bool,
    lasting: bool,
    leaves: bool,
    expects: bool,
    upgrades: bool,
    takes_trailers: bool,
}

impl Hop {
    /// `false`: the field says once more what was said.
    fn hear(&mut self, name: &HeaderName, value: &HeaderValue, version: Version) -> Result<bool, Bad> {
        match *name {
            TRANSFER_ENCODING => {
                if version == Version::HTTP_10 {
                    return Err(Bad::Malformed);
                }
                self.coded = true;
                let last = value.as_bytes().rsplit(|byte| *byte == b',').next();
                self.chunked = last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
            }
            CONTENT_LENGTH => {
                let number = value.as_bytes();
                let plain = number.iter().all(u8::is_ascii_digit);
                let length = length(number).filter(|length| plain && *length < u64::MAX - 2).ok_or(Bad::Malformed)?;
                match self.length.replace(length) {
                    Some(before) if before != length => return Err(Bad::Malformed),
                    before => return Ok(before.is_none()),
                }
            }
            CONNECTION => {
                let says = |token| has_token(value, token);
                self.leaves |= says(b"close");
                self.lasting |= version == Version::HTTP_10 && says(b"keep-alive");
            }
            EXPECT => self.expects |= has_token(value, b"100-continue"),
            UPGRADE => self.upgrades = version == Version::HTTP_11,
            TE => self.takes_trailers |= has_token(value, b"trailers"),
            _ => {}
        }
        Ok(true)
    }

    fn stays(&self) -> bool {
        self.lasting && !self.leaves && !(self.coded && self.length.is_some())
    }

    /// Both a length and chunks: chunks it is, whoever is asked refuses it, and nothing comes behind it (§ 6.3).
    fn body(&self) -> Result<Option<Decoder>, Bad> {
        match (self.coded, self.length) {
            (true, _) if self.chunked => Ok(Some(Decoder::chunked())),
            (true, _) => Err(Bad::Malformed),
            (false, None | Some(0)) => Ok(None),
            (false, Some(length)) => Ok(Some(Decoder::Length(length))),
        }
    }
}

fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
