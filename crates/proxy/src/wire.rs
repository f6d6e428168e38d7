//! The socket of an h2 connection as hyper sees it. A [`Judge`] listens to what comes and goes, and what hyper does not tell is heard:
//! when a request's head began (slow clients).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Client;
use crate::linger::Linger;

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
    judge: Box<Judge>,
    verdict: Option<Verdict>,
    /// What the client sends is not read any more.
    deaf: bool,
    /// The client says no more.
    left: bool,
    /// We have said all we have to say.
    shut: bool,
    /// TLS has taken what the socket does not take: in clear a write would say so.
    unflushed: bool,
    linger: Option<Linger>,
}

/// Behind GOAWAY: who heeds it closes at once.
const LINGER_H2: Duration = Duration::from_secs(1);

/// A ping of a stream, which there is not: the h2 crate answers it with GOAWAY, whatever it was in the middle of
/// (RFC 9113 § 6.7, § 6.10), and reads no further. It offers no other way to make it say so.
const LAST_WORD: &[u8] = b"\0\0\x08\x06\0\0\0\0\x01--------";

impl<S> Wire<S> {
    pub(crate) fn new(socket: S, first: Bytes, client: Arc<Client>) -> Self {
        let judge = Box::new(Judge::new(&client.gate.bounds));
        let (verdict, deaf, left, shut, unflushed, linger) = (None, false, false, false, false, None);
        Self { socket, first, client, judge, verdict, deaf, left, shut, unflushed, linger }
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
        if !this.deaf {
            this.listen(into, before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Wire<S> {
    /// Frames came, from `before` on.
    fn listen(&mut self, into: &mut ReadBuf<'_>, before: usize) {
        let judge = &mut self.judge;
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
    /// h2's frames on their way out, looked at as far as the socket takes them.
    fn poll_say(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        let judge = &mut self.judge;
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = self.poll_say(cx, parts);
        let taken = if let Poll::Ready(Ok(taken)) = &sent { *taken } else { 0 };
        self.client.wrote((sent.is_ready() && !self.unflushed).then_some(taken));
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if flushed.is_pending() || self.unflushed {
            self.unflushed = flushed.is_pending();
            self.client.wrote((!self.unflushed).then_some(0));
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.client.shuts();
        if !this.shut {
            std::task::ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            this.shut = true;
        }
        if this.left || this.client.draining.is_leaving() {
            return Poll::Ready(Ok(()));
        }
        this.linger.get_or_insert_with(|| Linger::new(LINGER_H2)).poll(&mut this.socket, cx).map(Ok)
    }
}
