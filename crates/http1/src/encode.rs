//! A message as it goes out (RFC 9112 §§ 6, 7.1): its body framed as it has to be. Pure but for the last step, which hands what
//! is ready to a socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, MAX_FORWARDS,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::BoxError;

/// So much is gathered before it is written.
const GATHERED: usize = 16 << 10;
/// What is longer is not copied.
const COPIED: usize = 4 << 10;

/// How the body's end is told, and how far it is.
#[derive(Debug)]
pub enum Encoder {
    Done,
    /// So many bytes are owed.
    Length(u64),
    /// With the trailers that were announced.
    Chunked(Vec<HeaderName>),
    /// The connection's end is the body's.
    Close,
}

/// Bytes on their way out, in this order.
#[derive(Debug, Default)]
pub struct Outbox {
    text: Vec<u8>,
    /// Of the text: this much is out.
    at: usize,
    part: Bytes,
    tail: &'static [u8],
    /// A byte of this message is out.
    pub begun: bool,
    /// Bytes written since somebody last took note of it.
    pub wrote: usize,
}

/// The body is shorter than was said.
#[derive(Debug)]
pub struct Short;

/// A line of a head.
pub fn field(text: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    text.extend_from_slice(name.as_str().as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// The line that says how long the body is.
pub fn content_length(text: &mut Vec<u8>, length: u64) {
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

/// What `Trailer` says will come behind the body (RFC 9110 § 6.6.2).
#[cold]
#[must_use]
pub fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(TRAILER).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    lines.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// What frames, routes or changes a message may not come behind it (RFC 9110 § 6.5.1).
#[must_use]
pub fn is_allowed_in_trailers(name: &HeaderName) -> bool {
    !matches!(
        *name,
        AUTHORIZATION
            | CACHE_CONTROL
            | CONTENT_ENCODING
            | CONTENT_LENGTH
            | CONTENT_RANGE
            | CONTENT_TYPE
            | HOST
            | MAX_FORWARDS
            | SET_COOKIE
            | TRAILER
            | TRANSFER_ENCODING
            | TE
    )
}

/// Why the rest of a message does not go out.
#[derive(Debug)]
pub enum Unsent {
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
        Self::Body("the body is shorter than was said".into())
    }
}

/// Takes of the body and gives to the socket, as far as either goes. Ready: all of the message is written, though it may not be
/// flushed.
///
/// # Errors
/// The body or the socket broke.
pub fn poll_send<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin>(
    encoder: &mut Encoder,
    out: &mut Outbox,
    body: &mut B,
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
                Poll::Ready(Some(Err(why))) => return Poll::Ready(Err(Unsent::Body(why.into()))),
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
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// # Errors
    /// It ends, and is shorter than was said.
    pub fn put(&mut self, frame: Frame<Bytes>, out: &mut Outbox) -> Result<(), Short> {
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
            Self::Close => out.push(data, b""),
            Self::Chunked(_) => {
                number(&mut out.text, data.len() as u64, 16);
                out.text.extend_from_slice(b"\r\n");
                out.push(data, b"\r\n");
            }
        }
    }

    /// The body has no more.
    ///
    /// # Errors
    /// It is shorter than was said.
    pub fn end(&mut self, out: &mut Outbox) -> Result<(), Short> {
        match std::mem::replace(self, Self::Done) {
            Self::Done | Self::Close => Ok(()),
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
    /// Where heads are written.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// What is pushed next would have to wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // What is pushed goes before a part's tail: that has to be out as well.
        !self.part.is_empty() || !self.tail.is_empty() || self.text.len() >= GATHERED
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
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
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write(&mut self, socket: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        self.begun = true;
        self.wrote += written;
        let of_text = written.min(self.text.len() - self.at);
        self.at += of_text;
        let of_part = (written - of_text).min(self.part.len());
        self.part.advance(of_part);
        if self.part.is_empty() {
            self.part = Bytes::new(); // Or its block would be kept.
        }
        let of_tail = (written - of_text - of_part).min(self.tail.len());
        self.tail = &self.tail[of_tail..];
    }

    /// Nothing of another request may be left; nor more room than requests need.
    pub fn clear(&mut self) {
        (self.at, self.part, self.tail) = (0, Bytes::new(), b"");
        (self.begun, self.wrote) = (false, 0);
        self.text.clear();
        if self.text.capacity() > GATHERED {
            self.text = Vec::new();
        }
    }
}
