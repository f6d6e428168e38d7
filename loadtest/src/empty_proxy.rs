//! What hyper-util costs before anyone writes a gateway: it passes requests to one backend and does nothing else.
//! No routing, no header work, no timeouts, no log. Tidegate is measured against this in both layouts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Layout {
    /// A current-thread runtime per worker, each with its own listener (`SO_REUSEPORT`) and its own upstream pool.
    PerWorker,
    /// One work-stealing runtime, one listener, one upstream pool.
    Shared,
}

/// Where it listens, and what is behind it.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) http: SocketAddr,
    pub(crate) tls: Option<Tls>,
    pub(crate) upstream: SocketAddr,
}

/// A listener with rustls as it comes, and tickets.
#[derive(Clone)]
pub(crate) struct Tls {
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

impl Tls {
    pub(crate) fn of(address: SocketAddr, certificate: &Path, key: &Path) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(key)?;
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self { address, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

/// Serves until the process is ended.
pub(crate) fn serve(layout: Layout, workers: usize, site: Site) -> Result<()> {
    match layout {
        Layout::Shared => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(workers).enable_all().build()?.block_on(accept(site))
        }
        Layout::PerWorker => {
            let worker = |site| thread::spawn(move || worker(site));
            let threads: Vec<_> = (0..workers).map(|_| worker(site.clone())).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            }
            Ok(())
        }
    }
}

fn worker(site: Site) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(accept(site))
}

async fn accept(site: Site) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1024).build(connector);
    let upstream = site.upstream;
    if let Some(tls) = site.tls {
        let (listener, client) = (listen(tls.address)?, client.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, client) = (tls.acceptor.clone(), client.clone());
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    if let Ok(stream) = acceptor.accept(stream).await {
                        relay(stream, client, upstream).await;
                    }
                });
            }
        });
    }
    let listener = listen(site.http)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(relay(stream, client.clone(), upstream));
    }
}

async fn relay(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: Client<HttpConnector, Incoming>,
    upstream: SocketAddr,
) {
    let relay = service_fn(move |request| client.request(towards(request, upstream)));
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), relay).await;
}

fn listen(http: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(http), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&http.into()).with_context(|| format!("cannot listen on {http}"))?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn towards(mut request: Request<Incoming>, upstream: SocketAddr) -> Request<Incoming> {
    let path = request.uri().path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
    *request.uri_mut() = Uri::builder()
        .scheme("http")
        .authority(upstream.to_string())
        .path_and_query(path)
        .build()
        .expect("its parts are valid: an address, and a path that was parsed before");
    // Whatever the client speaks: the upstream speaks HTTP/1.1.
    *request.version_mut() = Version::HTTP_11;
    request
}
