//! The admin port behind TLS. Handshakes run beside each other, so a slow client holds up nobody.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_tls::tokio_rustls::TlsAcceptor;
use tidegate_tls::tokio_rustls::server::TlsStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const HANDSHAKE: Duration = Duration::from_secs(10);
const MOST_HANDSHAKES: usize = 64;

pub(super) struct Listener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Listener {
    pub(super) fn new(listener: TcpListener, acceptor: TlsAcceptor, address: SocketAddr) -> Self {
        let (done, ready) = mpsc::channel(MOST_HANDSHAKES);
        let accepting = tokio::spawn(async move {
            loop {
                // A place first: no more handshakes than places.
                let Ok(place) = done.clone().reserve_owned().await else { return };
                let Ok((socket, peer)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
                        Ok(Ok(stream)) => drop(place.send((stream, peer))),
                        Ok(Err(why)) => tracing::debug!(%peer, %why, "no TLS on the admin port"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake on the admin port timed out"),
                    }
                });
            }
        });
        Self { address, ready, accepting }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
