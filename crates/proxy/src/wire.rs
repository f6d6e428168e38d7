//! The socket as hyper sees it, with an ear on it. Two things hyper does not tell are heard here: when a request head
//! began (slow clients) and whether it carried both `Content-Length` and `Transfer-Encoding` (hyper drops the length).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::connection::Client;
use crate::malformed;

/// `first` was read to tell HTTP/1.1 from h2 and is read again.
pub(crate) struct Wire<S> {
    socket: S,
    first: Bytes,
    client: Arc<Client>,
    ear: Option<Ear>,
    /// A refusal of ours on its way, in place of one of hyper's.
    ours: Bytes,
    replaced: bool,
    /// We have said all we have to say.
    shut: bool,
    linger: Option<Box<Linger>>,
}

/// A socket closed with bytes unread is reset, and the reset may overtake our answer (RFC 9112 § 9.6): so what still comes
/// is read and thrown away for a while.
struct Linger {
    end: Pin<Box<Sleep>>,
    left: usize,
}

/// As nginx's `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;

impl<S> Wire<S> {
    /// `heads`: HTTP/1.1, whose heads are text.
    pub(crate) fn new(socket: S, first: Bytes, client: Arc<Client>, heads: bool) -> Self {
        Self {
            socket,
            first,
            client,
            ear: heads.then(Ear::default),
            ours: Bytes::new(),
            replaced: false,
            shut: false,
            linger: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        if this.first.is_empty() {
            std::task::ready!(Pin::new(&mut this.socket).poll_read(cx, into))?;
        } else {
            let part = this.first.len().min(into.remaining());
            into.put_slice(&this.first[..part]);
            this.first.advance(part);
            if this.first.is_empty() {
                this.first = Bytes::new(); // Not to hold its buffer for as long as the connection stands.
            }
        }
        if let Some(ear) = &mut this.ear {
            ear.hear(&into.filled()[before..], &this.client);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// hyper answers what it cannot parse with a bare 400, 414 or 431. Clients are promised our shape, and operators a
    /// record: it is swapped here. `true`: the bytes are taken care of.
    fn swaps(&mut self, bytes: &[u8]) -> bool {
        if self.replaced || self.ear.is_none() || !self.client.is_idle() {
            return false;
        }
        let early = self.ear.as_ref().is_some_and(Ear::hears_the_first_line);
        let Some(ours) = malformed::instead_of(bytes, &self.client, early) else { return false };
        self.client.leaves_unread();
        (self.ours, self.replaced) = (ours, true);
        true
    }

    fn poll_ours(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ours.is_empty() {
            let sent = std::task::ready!(Pin::new(&mut self.socket).poll_write(cx, &self.ours))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ours.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    #[cold]
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self
            .linger
            .get_or_insert_with(|| Box::new(Linger { end: Box::pin(tokio::time::sleep(LINGER)), left: LINGER_BYTES }));
        let mut thrown = [0; 4 << 10];
        loop {
            if linger.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut into = ReadBuf::new(&mut thrown);
            let read = std::task::ready!(Pin::new(&mut self.socket).poll_read(cx, &mut into));
            linger.left = linger.left.saturating_sub(into.filled().len());
            if read.is_err() || into.filled().is_empty() || linger.left == 0 {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.swaps(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        std::task::ready!(self.poll_ours(cx))?;
        let sent = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.client.wrote(sent.is_ready());
        sent
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = parts
            && self.swaps(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        std::task::ready!(self.poll_ours(cx))?;
        let sent = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.client.wrote(sent.is_ready());
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ours(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ours(cx))?;
        if !self.shut {
            std::task::ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.shut = true;
        }
        if self.client.has_unread() { self.poll_linger(cx).map(Ok) } else { Poll::Ready(Ok(())) }
    }
}

/// Follows lines until the empty one that ends a head, then sleeps until the client's next head is due. Pipelined heads
/// may pass unheard: then nothing is claimed about them, and hyper's own rule (chunked wins, then close) holds.
#[derive(Debug, Default)]
struct Ear {
    /// Which head is being heard; another number at the client means: begin anew.
    head: u32,
    /// Bytes of the current line, up to what tells the field names apart.
    line: [u8; NAME],
    length: usize,
    begun: bool,
    asleep: bool,
    sized: bool,
}

/// `content-length:`
const NAME: usize = 15;

impl Ear {
    fn hear(&mut self, bytes: &[u8], client: &Client) {
        let due = client.head_due();
        if due != self.head {
            *self = Self { head: due, ..Self::default() };
        }
        if self.asleep || bytes.is_empty() {
            return;
        }
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            // Nearly every line comes whole, and need not be gathered.
            let ended = if self.length == 0 {
                self.line(line.strip_suffix(b"\r").unwrap_or(line))
            } else {
                self.keep(line);
                self.end_of_line()
            };
            if ended {
                self.asleep = true;
                return client.head_heard(self.head, self.sized);
            }
        }
        self.keep(rest);
        client.head_began();
    }

    fn hears_the_first_line(&self) -> bool {
        !self.begun && self.length > 0
    }

    fn keep(&mut self, part: &[u8]) {
        let part = if let [part @ .., b'\r'] = part { part } else { part };
        let room = NAME - self.length.min(NAME);
        let kept = part.len().min(room);
        self.line[self.length.min(NAME)..][..kept].copy_from_slice(&part[..kept]);
        self.length = (self.length + part.len()).min(NAME);
    }

    fn end_of_line(&mut self) -> bool {
        let length = std::mem::take(&mut self.length);
        let line = self.line;
        self.line(&line[..length])
    }

    /// The empty line after a head ends it; empty lines before one are skipped (RFC 9112 § 2.2).
    fn line(&mut self, line: &[u8]) -> bool {
        let Some(first) = line.first() else { return self.begun };
        self.begun = true;
        if matches!(first, b'c' | b'C') {
            self.sized |= line.get(..NAME).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"));
        }
        false
    }
}
