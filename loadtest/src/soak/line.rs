//! Connections to nodes: in clear text or TLS, HTTP/1.1 or h2. hyper speaks; nothing here knows what is asked.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types};

use super::upload::Upload;

/// What nodes are called by whoever asks them.
pub(super) const HOST: &str = "soak.test";
const PATIENCE: Duration = Duration::from_secs(20);

/// A node as clients see it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    /// It has been told to drain: connections to it may end between two requests.
    pub(super) leaving: AtomicBool,
}

impl Target {
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Plain,
    Tls,
    /// h2 from the first byte, in clear text.
    H2,
    H2Tls,
}

impl Wire {
    pub(super) const ALL: [Self; 4] = [Self::Plain, Self::Tls, Self::H2, Self::H2Tls];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "h1",
            Self::Tls => "h1 TLS",
            Self::H2 => "h2",
            Self::H2Tls => "h2 TLS",
        }
    }

    pub(super) fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::H2Tls)
    }
}

/// What clients trust. Sessions are resumed where a node remembers them.
#[derive(Clone)]
pub(super) struct Trust {
    h1: TlsConnector,
    h2: TlsConnector,
}

impl Trust {
    pub(super) fn of(certificate_pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(pki_types::CertificateDer::from_pem_slice(certificate_pem.as_bytes()).context("no certificate")?)?;
        let connector = |alpn: &[u8]| {
            let mut config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self { h1: connector(b"http/1.1"), h2: connector(b"h2") })
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Bytes to a node, and no word of HTTP yet.
pub(super) async fn stream(target: &Target, wire: Wire, trust: &Trust) -> io::Result<Box<dyn Stream>> {
    let open = async {
        let tls = match wire {
            Wire::Plain | Wire::H2 => None,
            Wire::Tls => Some(&trust.h1),
            Wire::H2Tls => Some(&trust.h2),
        };
        let socket = TcpStream::connect(if tls.is_some() { target.https } else { target.http }).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Box::new(socket) as Box<dyn Stream>) };
        let name = ServerName::try_from(HOST).expect("a host name");
        Ok(Box::new(tls.connect(name, socket).await?) as Box<dyn Stream>)
    };
    timeout(PATIENCE, open).await.map_err(io::Error::from).flatten()
}

/// A connection that HTTP is spoken on.
pub(super) struct Line {
    pub(super) target: Arc<Target>,
    pub(super) wire: Wire,
    /// Requests so far.
    pub(super) asked: u32,
    sender: Sender,
    driver: JoinHandle<()>,
}

enum Sender {
    H1(http1::SendRequest<Upload>),
    H2(http2::SendRequest<Upload>),
}

impl Line {
    pub(super) async fn open(target: Arc<Target>, wire: Wire, trust: &Trust) -> io::Result<Self> {
        let io = TokioIo::new(stream(&target, wire, trust).await?);
        let (sender, driver) = if wire.is_h2() {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) =
                builder.timer(TokioTimer::new()).handshake(io).await.map_err(io::Error::other)?;
            (Sender::H2(sender), tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            (Sender::H1(sender), tokio::spawn(async move { drop(connection.await) }))
        };
        Ok(Self { target, wire, asked: 0, sender, driver })
    }

    /// Waits until what was asked last is off its hands; `false`: it takes no more.
    pub(super) async fn is_ready(&mut self) -> bool {
        let ready = async {
            match &mut self.sender {
                Sender::H1(sender) => sender.ready().await.is_ok(),
                Sender::H2(sender) => sender.ready().await.is_ok(),
            }
        };
        timeout(PATIENCE, ready).await.unwrap_or(false)
    }

    /// The head of the answer, when it comes.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<> {
        self.asked += 1;
        let answer: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = match &mut self.sender {
            Sender::H1(sender) => Box::pin(sender.send_request(request)),
            Sender::H2(sender) => Box::pin(sender.send_request(request)),
        };
        answer
    }

    /// The same request in the form that this connection speaks.
    pub(super) fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        let scheme = if matches!(self.wire, Wire::Tls | Wire::H2Tls) { "https" } else { "http" };
        match self.wire.is_h2() {
            true => Request::builder().method(method).version(Version::HTTP_2).uri(format!("{scheme}://{HOST}{path}")),
            false => Request::builder().method(method).uri(path).header("host", HOST),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // With it goes the socket, whatever is still on its way.
        self.driver.abort();
    }
}
