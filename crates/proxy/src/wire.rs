//! The socket as hyper sees it, with an ear on it. Two things hyper does not tell are heard here: when a request head
//! began (slow clients) and whether it carried both `Content-Length` and `Transfer-Encoding` (hyper drops the length). On h2 a
//! [`Judge`] listens.

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

mod frames;
mod judge;

pub use judge::fuzz;
#[cfg(feature = "h3")]
pub(crate) use judge::{Bucket, FRAME};
use judge::{Found, Judge, Verdict};

/// `first` was read to tell HTTP/1.1 from h2 and is read again.
pub(crate) struct Wire<S> {
    socket: S,
    first: Bytes,
    client: Arc<Client>,
    ear: Option<Ear>,
    /// Of h2.
    judge: Option<Box<Judge>>,
    verdict: Option<Verdict>,
    /// What the client sends is not read any more.
    deaf: bool,
    /// The client says no more.
    left: bool,
    /// A refusal of ours on its way, in place of one of hyper's.
    ours: Bytes,
    replaced: bool,
    /// We have said all we have to say.
    shut: bool,
    /// TLS has taken what the socket does not take: in clear a write would say so.
    unflushed: bool,
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
/// Behind GOAWAY: who heeds it closes at once.
const LINGER_H2: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 20;

/// A ping of a stream, which there is not: the h2 crate answers it with GOAWAY, whatever it was in the middle of
/// (RFC 9113 § 6.7, § 6.10), and reads no further. It offers no other way to make it say so.
const LAST_WORD: &[u8] = b"\0\0\x08\x06\0\0\0\0\x01--------";

impl<S> Wire<S> {
    /// `heads`: HTTP/1.1, whose heads are text.
    pub(crate) fn new(socket: S, first: Bytes, client: Arc<Client>, heads: bool) -> Self {
        let judge = (!heads).then(|| Box::new(Judge::new(&client.gate.bounds)));
        Self {
            socket,
            first,
            client,
            ear: heads.then(Ear::default),
            judge,
            verdict: None,
            deaf: false,
            left: false,
            ours: Bytes::new(),
            replaced: false,
            shut: false,
            unflushed: false,
            linger: None,
        }
    }

    /// All that was read has been handed on.
    pub(crate) fn into_socket(self) -> S {
        self.socket
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        if this.first.is_empty() {
            if this.deaf {
                return Poll::Ready(Ok(()));
            }
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
        } else if !this.deaf {
            this.listen(into, before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Wire<S> {
    /// Frames came, from `before` on.
    fn listen(&mut self, into: &mut ReadBuf<'_>, before: usize) {
        let Some(judge) = &mut self.judge else { return };
        let heard = &into.filled()[before..];
        self.left |= heard.is_empty();
        let found = judge.hear(heard, &|| self.client.now());
        if judge.is_in_block() {
            self.client.head_began();
        } else {
            self.client.head_ended();
        }
        match found {
            Found::Nothing => {}
            Found::Named(verdict) => self.verdict = Some(verdict),
            Found::Ends(verdict, place) => {
                self.client.is_at_fault(verdict.reason);
                into.set_filled(before + place);
                let now = if place == 0 { LAST_WORD.len().min(into.remaining()) } else { 0 };
                into.put_slice(&LAST_WORD[..now]);
                self.first = Bytes::from_static(&LAST_WORD[now..]);
                (self.verdict, self.deaf) = (Some(verdict), true);
            }
        }
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

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// h2's frames on their way out, looked at as far as the socket takes them.
    fn poll_say(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        let Some(judge) = &mut self.judge else { return socket.poll_write_vectored(cx, parts) };
        if let Some(verdict) = self.verdict {
            let mut renamed = parts.iter().find(|part| !part.is_empty()).map_or_else(Vec::new, |part| part.to_vec());
            judge.rename(&mut renamed, verdict.code);
            let sent = std::task::ready!(socket.poll_write(cx, &renamed))?;
            judge.say(&renamed[..sent]);
            return Poll::Ready(Ok(sent));
        }
        let sent = match parts {
            [only] => std::task::ready!(socket.poll_write(cx, only))?,
            parts => std::task::ready!(socket.poll_write_vectored(cx, parts))?,
        };
        let mut left = sent;
        for part in parts {
            let taken = part.len().min(left);
            judge.say(&part[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(sent))
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    #[cold]
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let within = if self.judge.is_some() { LINGER_H2 } else { LINGER };
        let linger = self
            .linger
            .get_or_insert_with(|| Box::new(Linger { end: Box::pin(tokio::time::sleep(within)), left: LINGER_BYTES }));
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
        let sent = match self.judge {
            None => Pin::new(&mut self.socket).poll_write(cx, bytes),
            Some(_) => self.poll_say(cx, &[io::IoSlice::new(bytes)]),
        };
        self.client.wrote(sent.is_ready() && !self.unflushed);
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
        let sent = match self.judge {
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, parts),
            Some(_) => self.poll_say(cx, parts),
        };
        self.client.wrote(sent.is_ready() && !self.unflushed);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_ours(cx))?;
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if flushed.is_pending() || self.unflushed {
            self.unflushed = flushed.is_pending();
            self.client.wrote(!self.unflushed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.shuts();
        std::task::ready!(self.poll_ours(cx))?;
        if !self.shut {
            std::task::ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.shut = true;
        }
        let unread = match self.judge {
            None => self.client.has_unread(),
            Some(_) => !self.left && !self.client.draining.is_leaving(),
        };
        if unread { self.poll_linger(cx).map(Ok) } else { Poll::Ready(Ok(())) }
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
        let room = NAME - self.length.min(NAME);
        let kept = part.len().min(room);
        self.line[self.length.min(NAME)..][..kept].copy_from_slice(&part[..kept]);
        self.length = (self.length + part.len()).min(NAME);
    }

    fn end_of_line(&mut self) -> bool {
        let length = std::mem::take(&mut self.length);
        let line = self.line;
        // A CR before the LF that came apart from it is of the line only if another byte is.
        self.line(if line[..length] == *b"\r" { b"" } else { &line[..length] })
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
