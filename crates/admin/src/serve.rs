//! Serves a router on the admin port: HTTP/1.1 and HTTP/2, bounded in time and number. The binary binds the port (and
//! decides whether it may be reached from elsewhere); this owns what happens on its connections.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::{Semaphore, watch};

use crate::access::Peer;

/// Connections at once; the next ones are closed as they come.
const MAX_CONNECTIONS: usize = 512;
/// For the head of a request, and for a silent connection between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_STREAMS: u32 = 64;
/// What open requests get after `shutdown`.
const GRACE: Duration = Duration::from_secs(5);

/// Turns true when the port is to close: streams that would go on for ever end then.
#[derive(Clone)]
pub(crate) struct Closing(pub(crate) watch::Receiver<bool>);

/// Serves until `shutdown` is ready, then lets open requests end for a moment.
///
/// `listener` may speak TLS: anything that yields byte streams and where they come from.
pub async fn serve<L>(mut listener: L, router: Router, shutdown: impl Future<Output = ()> + Send)
where
    L: Listener<Addr = SocketAddr>,
{
    let server = server();
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (close, closing) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let (io, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (router, closing) = (router.clone(), Closing(closing.clone()));
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(closing.clone());
            let mut router = router.clone();
            // A router is always ready.
            async move { tower_call(&mut router, request).await }
        });
        let connection = server.serve_connection(TokioIo::new(io), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, error = %error, "admin connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    let _ = close.send(true);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("admin requests were still open at the end");
    }
}

async fn tower_call(
    router: &mut Router,
    request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    use tonic::codegen::Service;
    router.call(request).await
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    server
}
