//! The client's side of a switch of protocols (RFC 9110 § 7.8): its connection, for who relays what is spoken from then on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// In the extensions of a request that would switch.
#[derive(Clone)]
pub(crate) struct Offer(Arc<Mutex<Option<oneshot::Receiver<Crossed>>>>);

/// A connection that will be given away, or not.
pub(crate) enum Crossing {
    /// HTTP/1.1.
    Own(oneshot::Receiver<Crossed>),
    /// A stream of h2 (RFC 8441).
    Hyper(OnUpgrade),
}

/// The socket, and what was read of it beyond the request.
pub(crate) enum Crossed {
    Own(BytesMut, Box<dyn Socket>),
    Hyper(TokioIo<Upgraded>),
}

pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

pub(super) fn offer() -> (oneshot::Sender<Crossed>, Offer) {
    let (send, receive) = oneshot::channel();
    (send, Offer(Arc::new(Mutex::new(Some(receive)))))
}

impl Offer {
    pub(crate) fn take(&self) -> Option<Crossing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(Crossing::Own)
    }
}

impl Crossed {
    pub(super) fn own<S: Socket + 'static>(first: BytesMut, socket: S) -> Self {
        // Not to hold its buffer for as long as the connection stands.
        let first = if first.is_empty() { BytesMut::new() } else { first };
        Self::Own(first, Box::new(socket))
    }
}

impl Crossing {
    /// Once the answer that says so is out. `None`: the client left before.
    pub(crate) async fn crossed(self) -> Option<Crossed> {
        match self {
            Self::Own(crossed) => crossed.await.ok(),
            Self::Hyper(upgrade) => upgrade.await.ok().map(|upgraded| Crossed::Hyper(TokioIo::new(upgraded))),
        }
    }
}

impl AsyncRead for Crossed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(first, socket) if first.is_empty() => Pin::new(&mut **socket).poll_read(cx, into),
            Self::Own(first, _) => {
                let part = first.len().min(into.remaining());
                into.put_slice(&first[..part]);
                first.advance(part);
                if first.is_empty() {
                    *first = BytesMut::new();
                }
                Poll::Ready(Ok(()))
            }
            Self::Hyper(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Crossed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Own(_, socket) => Pin::new(&mut **socket).poll_write(cx, bytes),
            Self::Hyper(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Own(_, socket) => Pin::new(&mut **socket).poll_write_vectored(cx, parts),
            Self::Hyper(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Own(_, socket) => socket.is_write_vectored(),
            Self::Hyper(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(_, socket) => Pin::new(&mut **socket).poll_flush(cx),
            Self::Hyper(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(_, socket) => Pin::new(&mut **socket).poll_shutdown(cx),
            Self::Hyper(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
