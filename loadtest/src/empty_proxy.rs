//! What hyper-util costs before anyone writes a gateway: it passes requests to one backend and does nothing else.
//! No routing, no header work, no timeouts, no log. Tidegate is measured against this in both layouts.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Layout {
    /// A current-thread runtime per worker, each with its own listener (`SO_REUSEPORT`) and its own upstream pool.
    PerWorker,
    /// One work-stealing runtime, one listener, one upstream pool.
    Shared,
}

/// Serves until the process is ended.
pub(crate) fn serve(layout: Layout, workers: usize, http: SocketAddr, upstream: SocketAddr) -> Result<()> {
    match layout {
        Layout::Shared => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(workers).enable_all().build()?.block_on(accept(http, upstream))
        }
        Layout::PerWorker => {
            let threads: Vec<_> = (0..workers).map(|_| thread::spawn(move || worker(http, upstream))).collect();
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            }
            Ok(())
        }
    }
}

fn worker(http: SocketAddr, upstream: SocketAddr) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(accept(http, upstream))
}

async fn accept(http: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = listen(http)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1024).build(connector);
    let server = auto::Builder::new(TokioExecutor::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, server) = (client.clone(), server.clone());
        tokio::spawn(async move {
            let relay = service_fn(move |request| client.request(towards(request, upstream)));
            let _ = server.serve_connection(TokioIo::new(stream), relay).await;
        });
    }
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
    request
}
