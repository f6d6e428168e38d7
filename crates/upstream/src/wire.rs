//! A connected socket, in clear or TLS. Holds the connection's place in the pool's count, so that an upgraded connection
//! counts until it is really closed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_tls::tokio_rustls::client::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::pool::Open;

pub(crate) enum Socket {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(crate) struct Wire {
    socket: Socket,
    /// Told when the peer first speaks.
    heard: Option<oneshot::Sender<()>>,
    // Fields are dropped in this order: the socket is closed before its place is free.
    _open: Open,
}

impl Wire {
    pub(crate) fn new(socket: Socket, open: Open, heard: Option<oneshot::Sender<()>>) -> Self {
        Self { socket, heard, _open: open }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
    }
}

macro_rules! either {
    ($wire:expr, $socket:ident => $call:expr) => {
        match &mut $wire.get_mut().socket {
            Socket::Clear($socket) => $call,
            Socket::Tls($socket) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let polled = match &mut wire.socket {
            Socket::Clear(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        };
        if polled.is_ready()
            && let Some(heard) = wire.heard.take()
        {
            let _ = heard.send(()); // Nobody waits any more: fine.
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, socket => Pin::new(socket).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Clear(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}
