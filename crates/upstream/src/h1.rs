//! An HTTP/1.1 connection to an upstream, one exchange after the other. It has no task of its own: whoever uses it polls it, so
//! bytes go from the socket to him without a channel or another turn of the scheduler, and all that has come is read before
//! any of it is written. Only what is left of a request behind an early answer is sent by a task (`line.rs`).
//!
//! ```text
//! begin(request) ─> poll_head ─> poll_frame … None ─> may it be used again?
//!                   writes what there is of the request, reads what there is of the answer
//! ```

mod ask;
mod line;
mod reader;
mod switched;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::Handle;

use tidegate_http1::{Encoder, Malformed, Outbox, Unsent, poll_send};

use self::reader::Reader;
use crate::BoxError;
use crate::endpoint::Address;
use crate::outgoing::Outgoing;
use crate::wire::Wire;

pub(crate) use line::One;
pub use switched::{Switched, Upgraded};

/// Read at once; more where more comes.
const READ: usize = 8 << 10;
const READ_MOST: usize = 64 << 10;
/// How long a TLS peer may take to hear that we leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    Malformed(Malformed),
    /// The connection broke.
    Broke(BoxError),
    /// The request's body did.
    Body(BoxError),
}

/// A connection and what is under way on it.
pub(crate) struct Exchange {
    /// `None`: another protocol is spoken on it now, by somebody else.
    wire: Option<Wire>,
    reader: Reader,
    /// Read at once.
    room: usize,
    /// More than that was made room for.
    grown: bool,
    out: Outbox,
    encoder: Encoder,
    body: Outgoing,
    /// The request's head, should it have to go out again.
    asked: Option<Parts>,
    /// Something that is written may wait within TLS.
    unflushed: bool,
    /// Writing failed: it is no good for another exchange.
    failed: Option<io::Error>,
    says_goodbye: bool,
}

impl Exchange {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            says_goodbye: wire.is_tls(),
            wire: Some(wire),
            reader: Reader::new(),
            room: READ,
            grown: false,
            out: Outbox::default(),
            encoder: Encoder::Done,
            body: Outgoing::Empty,
            asked: None,
            unflushed: false,
            failed: None,
        }
    }

    /// The next request. `interim`: informational answers to it are told.
    pub(crate) fn begin(&mut self, request: Request<Outgoing>, to: &Address, interim: bool) {
        let (head, body) = request.into_parts();
        self.reader.begin(head.method == Method::HEAD, interim);
        self.out.clear();
        self.encoder = ask::head(&mut self.out, &head, &body, to);
        (self.asked, self.body) = (Some(head), body);
        self.room = READ;
    }

    /// The request's head, for another sending, and whether nothing of the request went out.
    pub(crate) fn take_asked(&mut self) -> Option<(Parts, bool)> {
        self.asked.take().map(|head| (head, !self.out.begun))
    }

    /// It will not go out again.
    pub(crate) fn forget_asked(&mut self) {
        self.asked = None;
    }

    /// Sends what there is of the request, and reads until the answer's head is there.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Lost>> {
        if !self.is_sent()
            && self.failed.is_none()
            && let Poll::Ready(Err(Unsent::Body(why))) = self.poll_send(cx)
        {
            return Poll::Ready(Err(Lost::Body(why)));
        }
        loop {
            match self.reader.head() {
                Ok(None) => {}
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Err(why) => return Poll::Ready(Err(Lost::Malformed(why))),
            }
            // Whoever cannot write may still be told something.
            match ready!(self.poll_read(cx)) {
                Ok(0) if !self.reader.is_sound() => {
                    return Poll::Ready(Err(Lost::Malformed(Malformed("it ended before its head did"))));
                }
                Ok(0) => return Poll::Ready(Err(Lost::Broke(self.ended()))),
                Ok(_) => {}
                Err(why) => return Poll::Ready(Err(Lost::Broke(self.failed.take().unwrap_or(why).into()))),
            }
        }
    }

    fn ended(&mut self) -> BoxError {
        match self.failed.take() {
            Some(why) => why.into(),
            None => "it was closed before an answer".into(),
        }
    }

    /// The next frame of the answer.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match self.reader.frame() {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(why) => return Poll::Ready(Some(Err(why.into()))),
            }
            if self.reader.decoder.is_ended() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => {
                    // Not to be used again, whatever ended with it.
                    self.failed = Some(io::ErrorKind::UnexpectedEof.into());
                    let whole = self.reader.decoder.close();
                    return Poll::Ready((!whole).then(|| Err("it was closed in the middle of a body".into())));
                }
                Ok(_) => {}
                Err(why) => return Poll::Ready(Some(Err(why.into()))),
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.reader.decoder.is_ended()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.reader.decoder.size_hint()
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.encoder.is_done() && self.out.is_empty() && !self.unflushed
    }

    /// Both ways all is said, and nothing else.
    pub(crate) fn is_over(&self) -> bool {
        self.is_sent()
            && self.reader.decoder.is_ended()
            && self.reader.bytes.is_empty()
            && self.failed.is_none()
            && self.wire.is_some()
    }

    /// It lies idle from now on, with no more memory than it needs.
    pub(crate) fn rest(&mut self) {
        (self.asked, self.body) = (None, Outgoing::Empty);
        // What is split off does not count as capacity, and is there even so.
        if std::mem::take(&mut self.grown) || self.reader.bytes.capacity() > 2 * READ {
            self.reader.bytes = BytesMut::new();
        }
        self.out.clear();
    }

    /// Of one that is idle: did the peer close it, or say what nobody asked for?
    pub(crate) fn is_closed(&mut self) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        let mut byte = [0];
        Pin::new(wire).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// Ready: all of the request is out, or no more of it will be.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let sent = self.poll_send_more(cx);
        if let Poll::Ready(Err(Unsent::Wire(why))) = &sent {
            self.failed = Some(io::Error::new(why.kind(), why.to_string()));
        }
        sent
    }

    fn poll_send_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(Ok(())) };
        let sent = poll_send(&mut self.encoder, &mut self.out, &mut self.body, wire, cx);
        if !matches!(sent, Poll::Ready(Err(_))) && self.out.is_empty() && std::mem::take(&mut self.out.wrote) > 0 {
            self.unflushed |= self.says_goodbye;
        }
        if self.unflushed && self.out.is_empty() {
            ready!(Pin::new(&mut *wire).poll_flush(cx))?;
            self.unflushed = false;
        }
        sent
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(Ok(0)) };
        let bytes = &mut self.reader.bytes;
        let free = bytes.capacity() - bytes.len();
        if free < self.room / 2 {
            let room = self.room.max(self.reader.decoder.certain().min(READ_MOST));
            self.grown |= room > 2 * READ;
            bytes.reserve(room);
        }
        let free = bytes.capacity() - bytes.len();
        let read = ready!(pin!(wire.read_buf(bytes)).poll(cx))?;
        if read == free {
            self.room = (self.room * 2).min(READ_MOST);
        }
        Poll::Ready(Ok(read))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.says_goodbye
            && let Some(mut wire) = self.wire.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                let _in_time = tokio::time::timeout(GOODBYE, wire.shutdown()).await;
            });
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("decoder", &self.reader.decoder).finish_non_exhaustive()
    }
}

/// What an upstream says, and how it is cut: the same is read of it (docs/fuzzing.md).
pub fn fuzz(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let (head_alone, step) = (first & 1 == 1, usize::from(first >> 1) + 1);
    let (whole, cut) = (read(bytes, usize::MAX, head_alone), read(bytes, step, head_alone));
    assert_eq!(whole, cut, "other cuts, another answer");
}

/// What a connection that ends behind these bytes comes to: the head, the body, trailers, and what was wrong.
fn read(bytes: &[u8], step: usize, head_alone: bool) -> Told {
    let mut reader = Reader::new();
    reader.begin(head_alone, false);
    let (mut pieces, mut told) = (bytes.chunks(step.max(1)), Told::default());
    let head = loop {
        match reader.head() {
            Ok(Some(head)) => break head,
            Ok(None) => match pieces.next() {
                Some(piece) => reader.bytes.extend_from_slice(piece),
                None => {
                    told.broken = Some(if reader.is_sound() { "ended" } else { "malformed" });
                    return told;
                }
            },
            Err(_) => {
                told.broken = Some("malformed");
                return told;
            }
        }
    };
    told.head = Some((head.status().as_u16(), head.headers().clone()));
    loop {
        match reader.frame() {
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => told.body.extend_from_slice(&data),
                Err(frame) => told.trailers = frame.into_trailers().ok(),
            },
            Ok(None) if reader.decoder.is_ended() => return told,
            Ok(None) => match pieces.next() {
                Some(piece) => reader.bytes.extend_from_slice(piece),
                None => {
                    told.broken = (!reader.decoder.close()).then_some("ended");
                    return told;
                }
            },
            Err(why) => {
                told.broken = Some(why.0);
                return told;
            }
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Told {
    head: Option<(u16, HeaderMap)>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    broken: Option<&'static str>,
}
