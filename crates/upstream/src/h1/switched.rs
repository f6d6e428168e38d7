//! A connection on which another protocol is spoken from now on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::endpoint::InFlight;
use crate::lock;
use crate::wire::Wire;

/// In the extensions of a 101: the connection, for who takes it first.
#[derive(Clone)]
pub struct Switched(Arc<Mutex<Option<Upgraded>>>);

/// The request stays in flight until this is dropped.
pub struct Upgraded {
    /// Read behind the head.
    first: BytesMut,
    // Fields are dropped in this order: the socket is closed before its place is free.
    wire: Wire,
    _tunnel: InFlight,
}

impl Switched {
    pub(super) fn new(wire: Wire, first: BytesMut, tunnel: InFlight) -> Self {
        Self(Arc::new(Mutex::new(Some(Upgraded { first, wire, _tunnel: tunnel }))))
    }

    #[must_use]
    pub fn take(&self) -> Option<Upgraded> {
        lock(&self.0).take()
    }
}

impl std::fmt::Debug for Switched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switched")
    }
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upgraded")
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.wire).poll_read(cx, into);
        }
        let part = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..part]);
        self.first.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
