//! What an upstream says, out of the bytes of its connection (RFC 9112): one head, its body, nothing behind it. Pure: knows no
//! socket. Strict where two readers could disagree; what cannot be read in one way is no answer.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::Frame;
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use tidegate_http1::{Decoder, Malformed, is_whole_since, length};

use crate::interim;

/// As over HTTP/2.
const HEAD: usize = 64 << 10;
const FIELDS: usize = 100;
/// Interim answers (1xx) before one.
const INTERIM: u32 = 64;

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) bytes: BytesMut,
    /// So much of a head was there when it was looked at, and it was not whole.
    looked: usize,
    interim: u32,
    /// They are told to whoever listens.
    tells_interim: bool,
    /// The request was a HEAD: no body comes.
    head_alone: bool,
    pub(crate) decoder: Decoder,
}

/// A head and what comes behind it.
enum Behind {
    Interim,
    Nothing,
    Body(Decoder),
}

/// Where a field's name and value begin and end.
type Place = [u16; 4];

impl Reader {
    pub(crate) fn new() -> Self {
        let (bytes, decoder) = (BytesMut::new(), Decoder::Length(0));
        Self { bytes, looked: 0, interim: 0, tells_interim: false, head_alone: false, decoder }
    }

    /// The answer to another request comes.
    pub(crate) fn begin(&mut self, head_alone: bool, tells_interim: bool) {
        (self.looked, self.interim, self.tells_interim, self.head_alone) = (0, 0, tells_interim, head_alone);
        self.decoder = Decoder::Length(0);
    }

    /// The answer's head, once it has come; interim ones are told at most.
    pub(crate) fn head(&mut self) -> Result<Option<Response<()>>, Malformed> {
        while !self.bytes.is_empty() {
            if self.looked > 0 && !is_whole_since(&self.bytes, self.looked) {
                return self.wait();
            }
            let Some((response, behind)) = parse(&mut self.bytes, self.head_alone)? else { return self.wait() };
            self.looked = 0;
            match behind {
                Behind::Interim => {
                    self.interim += 1;
                    if self.interim > INTERIM {
                        return Err(Malformed("more than 64 interim answers"));
                    }
                    if self.tells_interim {
                        interim::tell(response.status(), response.headers());
                    }
                }
                Behind::Nothing => return Ok(Some(response)),
                Behind::Body(decoder) => {
                    self.decoder = decoder;
                    return Ok(Some(response));
                }
            }
        }
        Ok(None)
    }

    fn wait(&mut self) -> Result<Option<Response<()>>, Malformed> {
        self.looked = self.bytes.len();
        if self.looked >= HEAD { Err(Malformed("a head beyond 64 KiB")) } else { Ok(None) }
    }

    /// The connection ended before a head did: was what came the beginning of one?
    pub(crate) fn is_sound(&mut self) -> bool {
        self.bytes.is_empty() || parse(&mut self.bytes, self.head_alone).is_ok()
    }

    pub(crate) fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Malformed> {
        self.decoder.next(&mut self.bytes)
    }
}

/// `None`: it is not whole yet.
fn parse(bytes: &mut BytesMut, head_alone: bool) -> Result<Option<(Response<()>, Behind)>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut places: [Place; FIELDS] = [[0; 4]; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let whole = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    let length = match whole {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(why) => return Err(of(why)),
    };
    if length >= HEAD {
        return Err(Malformed("a head beyond 64 KiB"));
    }
    // RFC 9110 § 15: there are five classes.
    let code = parsed.code.filter(|code| *code < 600);
    let status = code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed("no status"))?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    // As it was said; the usual one says nothing.
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let start = bytes.as_ptr().addr();
    let count = parsed.headers.len();
    for (field, place) in parsed.headers.iter().zip(&mut places) {
        let at = |part: &[u8]| {
            let from = part.as_ptr().addr() - start;
            (from as u16, (from + part.len()) as u16) // Below HEAD.
        };
        let ((name, name_end), (value, value_end)) = (at(field.name.as_bytes()), at(field.value));
        *place = [name, name_end, value, value_end];
    }
    let head = bytes.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(count);
    for [name, name_end, value, value_end] in &places[..count] {
        let name = HeaderName::from_bytes(&head[usize::from(*name)..usize::from(*name_end)]);
        let value = HeaderValue::from_maybe_shared(head.slice(usize::from(*value)..usize::from(*value_end)));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Malformed("a field that is none")) };
        headers.append(name, value);
    }
    let behind = behind(status, version, &headers, head_alone)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    Ok(Some((response, behind)))
}

fn of(why: httparse::Error) -> Malformed {
    Malformed(match why {
        httparse::Error::HeaderName => "a field's name is none",
        httparse::Error::HeaderValue => "a field's value is none",
        httparse::Error::NewLine => "a line that does not end in CRLF",
        httparse::Error::Status => "the status line is none",
        httparse::Error::TooManyHeaders => "more than 100 fields",
        httparse::Error::Version => "not HTTP/1.1 or HTTP/1.0",
        httparse::Error::Token => "a character that may not stand there",
    })
}

/// How long the body is (RFC 9112 § 6.3).
fn behind(status: StatusCode, version: Version, headers: &HeaderMap, head_alone: bool) -> Result<Behind, Malformed> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Behind::Nothing);
    }
    if status.is_informational() {
        return Ok(Behind::Interim);
    }
    // What would frame a body is judged where none comes, too: the client is told of it.
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    if chunked && version == Version::HTTP_10 {
        return Err(Malformed("a transfer coding in HTTP/1.0"));
    }
    let decoder = match announced(headers)? {
        _ if chunked => Decoder::chunked(), // Of any other the caller wants to know nothing.
        Some(length) => Decoder::Length(length),
        None => Decoder::Close,
    };
    let none_comes = head_alone || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if none_comes { Behind::Nothing } else { Behind::Body(decoder) })
}

/// One length, however often it is told.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(None) };
    let length = length(first.as_bytes())
        .filter(|length| lengths.all(|other| tidegate_http1::length(other.as_bytes()) == Some(*length)));
    length.map(Some).ok_or(Malformed("lengths that are none, or differ"))
}
