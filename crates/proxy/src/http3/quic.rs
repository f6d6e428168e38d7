//! A connection of quinn's as the h3 crate wants it, in place of h3-quinn: each stream's frames are judged on their way
//! ([`Frames`]), a stream can be given up at any time, and one that is dropped is ended with the code that says why.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, WriteError};

use super::frames::{Fault, Frames, Purse, Role, integer};
use super::line::{Common, Line};
use super::{code, varint};

type Coming<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>>;

/// When its client has had all of an answer, or wants no more of it.
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request's stream, for who answers it.
pub(super) type Asked = (Arc<Line>, Stopped);

pub(super) struct Quic {
    conn: quinn::Connection,
    common: Arc<Common>,
    bidi: Coming<(quinn::SendStream, quinn::RecvStream)>,
    uni: Coming<quinn::RecvStream>,
    opening: Coming<quinn::SendStream>,
    /// What was accepted last.
    last: Arc<Mutex<Option<Asked>>>,
}

impl Quic {
    pub(super) fn new(common: &Arc<Common>) -> (Self, Last) {
        let (conn, common, last) = (common.quic.clone(), Arc::clone(common), Arc::default());
        let told = Last(Arc::clone(&last));
        (Self { conn, common, bidi: None, uni: None, opening: None, last }, told)
    }
}

/// Gives what h3 keeps to itself.
pub(super) struct Last(Arc<Mutex<Option<Asked>>>);

impl Last {
    /// Of the request that was accepted just now.
    pub(super) fn take(&self) -> Option<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<B: Buf> quic::Connection<B> for Quic {
    type RecvStream = Receiving;
    type OpenStreams = Self;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let conn = &self.conn;
        let uni = self.uni.get_or_insert_with(|| {
            let conn = conn.clone();
            Box::pin(async move { conn.accept_uni().await })
        });
        let accepted = ready!(uni.as_mut().poll(cx));
        self.uni = None;
        let stream = accepted.map_err(lost)?;
        if !self.common.pays() {
            self.common.fails("control_flood", code::EXCESSIVE_LOAD, "too many streams of one direction");
        }
        Poll::Ready(Ok(Receiving::new(stream, None, &Line::new(&self.common))))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both<B>, ConnectionErrorIncoming>> {
        let conn = &self.conn;
        let bidi = self.bidi.get_or_insert_with(|| {
            let conn = conn.clone();
            Box::pin(async move { conn.accept_bi().await })
        });
        let accepted = ready!(bidi.as_mut().poll(cx));
        self.bidi = None;
        let (send, receive) = accepted.map_err(lost)?;
        let line = Line::new(&self.common);
        self.common.is_asked();
        let stopped = send.stopped();
        let stopped: Stopped = Box::pin(async move { drop(stopped.await) });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&line), stopped));
        let send = Sending { stream: send, writing: None, line: Some(Arc::clone(&line)), wrote: false };
        Poll::Ready(Ok(Both { send, receive: Receiving::new(receive, Some(Role::Request), &line) }))
    }

    /// A client's matter.
    fn opener(&self) -> Self {
        Self::new(&self.common).0
    }
}

impl<B: Buf> quic::OpenStreams<B> for Quic {
    type BidiStream = Both<B>;
    type SendStream = Sending<B>;

    /// A server opens none.
    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server opens no such stream".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending<B>, StreamErrorIncoming>> {
        let conn = &self.conn;
        let opening = self.opening.get_or_insert_with(|| {
            let conn = conn.clone();
            Box::pin(async move { conn.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        let stream =
            opened.map_err(|why| StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(why) })?;
        Poll::Ready(Ok(Sending { stream, writing: None, line: None, wrote: false }))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.conn.close(varint(code.value()), reason);
    }
}

fn lost(why: ConnectionError) -> ConnectionErrorIncoming {
    match why {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn id(stream: quinn::StreamId) -> StreamId {
    u64::from(stream).try_into().unwrap_or_else(|_| unreachable!("quinn counts its streams in as many bits"))
}

/// A request's stream.
pub(super) struct Both<B: Buf> {
    send: Sending<B>,
    receive: Receiving,
}

impl<B: Buf> quic::BidiStream<B> for Both<B> {
    type SendStream = Sending<B>;
    type RecvStream = Receiving;

    fn split(self) -> (Sending<B>, Receiving) {
        (self.send, self.receive)
    }
}

impl<B: Buf> quic::RecvStream for Both<B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl<B: Buf> quic::SendStream<B> for Both<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

pub(super) struct Sending<B: Buf> {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<B>>,
    /// `None`: a stream of ours, which ends with the connection; or one that has ended.
    line: Option<Arc<Line>>,
    wrote: bool,
}

impl<B: Buf> quic::SendStream<B> for Sending<B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk())).map_err(unwritten)?;
                data.advance(written);
                self.wrote = true;
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("something is being written".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.line = None;
        Poll::Ready(self.stream.finish().map_err(|why| StreamErrorIncoming::Unknown(Box::new(why))))
    }

    fn reset(&mut self, code: u64) {
        self.line = None;
        let _gone = self.stream.reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

fn unwritten(why: WriteError) -> StreamErrorIncoming {
    match why {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(why) => StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(why) },
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

/// quinn would end it as if that were all of the answer.
impl<B: Buf> Drop for Sending<B> {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        let _gone = if self.wrote && !line.has_begun() {
            self.stream.finish() // h3's own 431.
        } else {
            let code = line.code();
            self.stream.reset(varint(if code == code::NO_ERROR { code::INTERNAL_ERROR } else { code }))
        };
    }
}

/// Bytes that are read from a stream at once.
const PIECE: usize = 8 << 10;

pub(super) struct Receiving {
    stream: quinn::RecvStream,
    what: What,
    line: Arc<Line>,
    /// Read, and not given on.
    read: Bytes,
    ended: bool,
}

enum What {
    /// A stream of one direction, whose first number says what it is.
    Unknown(Vec<u8>),
    Framed(Frames),
    /// QPACK's, and what h3 does not want.
    Plain,
}

/// § 6.2: what streams of one direction are for.
const CONTROL: u64 = 0;
const PUSH: u64 = 1;

impl Receiving {
    fn new(stream: quinn::RecvStream, role: Option<Role>, line: &Arc<Line>) -> Self {
        let most = line.common.client.gate.bounds.head_bytes;
        let what = role.map_or(What::Unknown(Vec::new()), |role| What::Framed(Frames::new(role, most)));
        Self { stream, what, line: Arc::clone(line), read: Bytes::new(), ended: false }
    }

    /// Of what was read. `None`: more has to be.
    fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        if let What::Unknown(first) = &mut self.what {
            while !self.read.is_empty() && integer(first).is_none() {
                first.push(self.read[0]);
                self.read.advance(1);
            }
            let Some((kind, _)) = integer(first) else { return Ok(None) };
            if kind == PUSH {
                let why = "a client that pushes";
                return Err(Fault::Connection { code: code::STREAM_CREATION_ERROR, why });
            }
            let most = self.line.common.client.gate.bounds.head_bytes;
            let first = std::mem::take(first);
            self.what = if kind == CONTROL { What::Framed(Frames::new(Role::Control, most)) } else { What::Plain };
            return Ok(Some(first.into()));
        }
        match &mut self.what {
            What::Framed(frames) => frames.next(&mut self.read, &*self.line.common),
            _ if self.read.is_empty() => Ok(None),
            _ => Ok(Some(std::mem::take(&mut self.read))),
        }
    }

    fn failed(&self, fault: Fault) -> StreamErrorIncoming {
        self.line.fails(fault);
        let (Fault::Stream { why, .. } | Fault::Connection { why, .. }) = fault;
        StreamErrorIncoming::Unknown(why.into())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamErrorIncoming>> {
        let mut space = [0; PIECE];
        match ready!(self.stream.poll_read(cx, &mut space)) {
            Ok(0) => {
                self.ended = true;
                if let What::Framed(frames) = &self.what {
                    frames.end().map_err(|fault| self.failed(fault))?;
                }
                Poll::Ready(Ok(false))
            }
            Ok(read) => {
                self.read = Bytes::copy_from_slice(&space[..read]);
                Poll::Ready(Ok(true))
            }
            Err(ReadError::Reset(code)) => {
                self.ended = true;
                self.line.is_given_up();
                Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }))
            }
            Err(ReadError::ConnectionLost(why)) => {
                Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(why) }))
            }
            Err(other) => Poll::Ready(Err(StreamErrorIncoming::Unknown(Box::new(other)))),
        }
    }
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(piece) = self.piece().map_err(|fault| self.failed(fault))? {
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.ended || !ready!(self.poll_read(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.ended = true;
        let _gone = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let What::Framed(frames) = &self.what {
            self.line.common.gathers(-frames.holds().cast_signed());
        }
        if !self.ended {
            let _gone = self.stream.stop(varint(self.line.code()));
        }
    }
}
