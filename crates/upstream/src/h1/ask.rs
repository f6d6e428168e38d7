//! A request as it goes out (RFC 9112 §§ 3, 6, 7.1): its head, and its body framed as it has to be. Pure but for the last step,
//! which hands what is ready to a socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::reader::length;
use crate::BoxError;
use crate::endpoint::Address;
use crate::head::{endpoints_name, is_allowed_in_trailers};
use crate::outgoing::Outgoing;

/// So much is gathered before it is written.
const GATHERED: usize = 16 << 10;
/// What is longer is not copied.
const COPIED: usize = 4 << 10;

/// How the body's end is told, and how far it is.
#[derive(Debug)]
pub(crate) enum Encoder {
    Done,
    /// So many bytes are owed.
    Length(u64),
    /// With the trailers that were announced.
    Chunked(Vec<HeaderName>),
}

/// Bytes on their way out, in this order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    text: Vec<u8>,
    /// Of the text: this much is out.
    at: usize,
    part: Bytes,
    tail: &'static [u8],
    /// A byte of this request is out.
    pub(crate) begun: bool,
    /// Something was written since somebody last took note of it.
    pub(crate) wrote: bool,
}

/// The body is shorter than was said.
#[derive(Debug)]
pub(crate) struct Short;

/// Writes the head. The authority goes into `Host`, path and query into the request line.
pub(crate) fn head(out: &mut Outbox, head: &Parts, body: &Outgoing, to: &Address) -> Encoder {
    let text = &mut out.text;
    text.reserve(64 + head.headers.len() * 40);
    text.extend_from_slice(head.method.as_str().as_bytes());
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    text.extend_from_slice(if target.starts_with(['/', '*']) { b" " } else { b" /" });
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut named, mut chunked, mut announced) = (false, false, false);
    let (mut sized, mut told) = (false, None);
    for (name, value) in &head.headers {
        match *name {
            CONTENT_LENGTH => {
                let again = length(value.as_bytes());
                told = if sized && again != told { None } else { again };
                sized = true;
                continue;
            }
            TRANSFER_ENCODING => {
                chunked = true;
                continue;
            }
            HOST => named = true,
            TRAILER => announced = true,
            _ => {}
        }
        field(text, name, value.as_bytes());
    }
    if !named {
        name_somebody(text, head, to);
    }
    let encoder = match body {
        // A length without a body would take the next request for one: it ends the exchange before a byte is out.
        Outgoing::Empty => match told {
            None => Framing::None,
            Some(0) => Framing::Told(0),
            Some(length) => Framing::Length(length),
        },
        _ if chunked => Framing::Chunked,
        _ => told.or_else(|| body.size_hint().exact()).map_or(Framing::Chunked, Framing::Length),
    };
    let encoder = match encoder {
        Framing::None => Encoder::Done,
        Framing::Told(length) => {
            content_length(text, length);
            Encoder::Done
        }
        Framing::Length(length) => {
            content_length(text, length);
            if length == 0 { Encoder::Done } else { Encoder::Length(length) }
        }
        Framing::Chunked => {
            text.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Encoder::Chunked(if announced { trailers_of(&head.headers) } else { Vec::new() })
        }
    };
    text.extend_from_slice(b"\r\n");
    encoder
}

enum Framing {
    None,
    /// Though there is no body.
    Told(u64),
    Length(u64),
    Chunked,
}

fn field(text: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    text.extend_from_slice(name.as_str().as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

#[cold]
fn name_somebody(text: &mut Vec<u8>, head: &Parts, to: &Address) {
    let host = head.uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    if let Some(host) = host.or_else(|| endpoints_name(to)) {
        field(text, &HOST, host.as_bytes());
    }
}

fn content_length(text: &mut Vec<u8>, length: u64) {
    text.extend_from_slice(b"content-length: ");
    number(text, length, 10);
    text.extend_from_slice(b"\r\n");
}

fn number(text: &mut Vec<u8>, mut number: u64, radix: u64) {
    let (mut digits, mut from) = ([0; 20], 20);
    loop {
        from -= 1;
        digits[from] = b"0123456789abcdef"[(number % radix) as usize];
        number /= radix;
        if number == 0 {
            return text.extend_from_slice(&digits[from..]);
        }
    }
}

#[cold]
fn trailers_of(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(TRAILER).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    lines.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// Why the rest of a request does not go out.
#[derive(Debug)]
pub(crate) enum Unsent {
    Body(BoxError),
    Wire(io::Error),
}

impl From<io::Error> for Unsent {
    fn from(why: io::Error) -> Self {
        Self::Wire(why)
    }
}

impl From<Short> for Unsent {
    fn from(_: Short) -> Self {
        Self::Body("the request's body is shorter than it said".into())
    }
}

/// Takes of the body and gives to the socket, as far as either goes. Ready: all of the request is written, though it may not be
/// flushed.
pub(crate) fn poll_send(
    encoder: &mut Encoder,
    out: &mut Outbox,
    body: &mut (impl Body<Data = Bytes, Error = BoxError> + Unpin),
    socket: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
) -> Poll<Result<(), Unsent>> {
    loop {
        while !encoder.is_done() && !out.is_full() {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    encoder.put(frame, out)?;
                    if body.is_end_stream() {
                        encoder.end(out)?;
                    }
                }
                Poll::Ready(None) => encoder.end(out)?,
                Poll::Ready(Some(Err(why))) => return Poll::Ready(Err(Unsent::Body(why))),
                Poll::Pending => break,
            }
        }
        if out.is_empty() {
            return if encoder.is_done() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        ready!(out.poll_write(socket, cx))?;
    }
}

impl Encoder {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    pub(crate) fn put(&mut self, frame: Frame<Bytes>, out: &mut Outbox) -> Result<(), Short> {
        match frame.into_data() {
            Ok(data) => {
                self.data(data, out);
                Ok(())
            }
            Err(frame) => {
                if let (Self::Chunked(announced), Ok(trailers)) = (&*self, frame.into_trailers()) {
                    out.text.extend_from_slice(b"0\r\n");
                    for (name, value) in &trailers {
                        if announced.contains(name) && is_allowed_in_trailers(name) {
                            field(&mut out.text, name, value.as_bytes());
                        }
                    }
                    out.text.extend_from_slice(b"\r\n");
                    *self = Self::Done;
                }
                self.end(out)
            }
        }
    }

    fn data(&mut self, mut data: Bytes, out: &mut Outbox) {
        if data.is_empty() {
            return; // An empty chunk would be the last.
        }
        match self {
            Self::Done => {}
            Self::Length(left) => {
                // More than was said is nobody's.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                out.push(data, b"");
            }
            Self::Chunked(_) => {
                number(&mut out.text, data.len() as u64, 16);
                out.text.extend_from_slice(b"\r\n");
                out.push(data, b"\r\n");
            }
        }
    }

    /// The body has no more.
    pub(crate) fn end(&mut self, out: &mut Outbox) -> Result<(), Short> {
        match std::mem::replace(self, Self::Done) {
            Self::Done => Ok(()),
            Self::Length(_) => Err(Short),
            Self::Chunked(_) => {
                // Behind what is left of the last chunk's end.
                match out.tail.len() {
                    0 => out.text.extend_from_slice(b"0\r\n\r\n"),
                    left => out.tail = &b"\r\n0\r\n\r\n"[2_usize.saturating_sub(left)..],
                }
                Ok(())
            }
        }
    }
}

impl Outbox {
    /// What is pushed next would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        // What is pushed goes before a part's tail: that has to be out as well.
        !self.part.is_empty() || !self.tail.is_empty() || self.text.len() >= GATHERED
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.text.len() && self.part.is_empty() && self.tail.is_empty()
    }

    fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED {
            self.text.extend_from_slice(&data);
            self.text.extend_from_slice(tail);
        } else {
            (self.part, self.tail) = (data, tail);
        }
    }

    /// Ready: all is written.
    pub(crate) fn poll_write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let socket = Pin::new(&mut *socket);
            let text = &self.text[self.at..];
            let written = match self.part.is_empty() && self.tail.is_empty() {
                true => ready!(socket.poll_write(cx, text))?,
                false => {
                    let slices = [text, &self.part, self.tail].map(IoSlice::new);
                    ready!(socket.poll_write_vectored(cx, &slices))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.text.clear();
        self.at = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        (self.begun, self.wrote) = (true, true);
        let of_text = written.min(self.text.len() - self.at);
        self.at += of_text;
        let of_part = (written - of_text).min(self.part.len());
        self.part.advance(of_part);
        let of_tail = (written - of_text - of_part).min(self.tail.len());
        self.tail = &self.tail[of_tail..];
    }

    /// Nothing of another request may be left; nor more room than requests need.
    pub(crate) fn clear(&mut self) {
        (self.at, self.part, self.tail) = (0, Bytes::new(), b"");
        (self.begun, self.wrote) = (false, false);
        self.text.clear();
        if self.text.capacity() > GATHERED {
            self.text = Vec::new();
        }
    }
}
