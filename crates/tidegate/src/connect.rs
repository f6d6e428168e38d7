//! A connection to an admin port or a webhook: TCP, with TLS when the URL says https. For hyper's client and for tonic.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tidegate_policy::{TlsIdentity, UpstreamTls};
use tidegate_tls::rustls::ClientConfig;
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::tokio_rustls::TlsConnector;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::codegen::Service;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Connector {
    /// Set for https.
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn plain() -> Self {
        Self { tls: None }
    }

    /// Trusts `ca` (PEM), or the system's roots.
    pub(crate) fn tls(ca: Option<Vec<u8>>, alpn: &[&[u8]]) -> anyhow::Result<Self> {
        Self::tls_as(ca, None, alpn)
    }

    /// The same with a certificate of our own.
    pub(crate) fn tls_as(ca: Option<Vec<u8>>, own: Option<TlsIdentity>, alpn: &[&[u8]]) -> anyhow::Result<Self> {
        let trust = UpstreamTls { ca_pem: ca, identity: own, ..UpstreamTls::default() };
        let config = tidegate_tls::client(&trust, alpn).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { tls: Some(config) })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&uri, tls)).await;
            let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn connect(uri: &Uri, tls: Option<Arc<ClientConfig>>) -> io::Result<Stream> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let tcp = TcpStream::connect((host.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(Stream(Box::new(tcp))) };
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Stream(Box::new(TlsConnector::from(config).connect(name, tcp).await?)))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) struct Stream(Box<dyn Io>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
