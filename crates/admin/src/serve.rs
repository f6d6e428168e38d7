//! Serves a router on the admin port: HTTP/1.1 and HTTP/2, bounded in time and number. The binary binds the port (and
//! decides whether it may be reached from elsewhere); this owns what happens on its connections.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::Listener;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::{mpsc, watch};

use crate::access::Peer;
use crate::places::Places;

/// For the first request of a connection, for the head of each, and for a silent connection between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_STREAMS: u32 = 64;
/// What open requests get after `shutdown`.
const GRACE: Duration = Duration::from_secs(5);
/// What they get when the certificates of a connection are outdated: longer than any request takes.
const OUTDATED_GRACE: Duration = Duration::from_secs(360);
/// Between two lines about connections that found no place.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Turns true when the connection is to end: streams that would go on for ever end then.
#[derive(Clone)]
pub(crate) struct Closing(pub(crate) watch::Receiver<bool>);

/// Serves until `shutdown` is ready, then lets open requests end for a moment.
///
/// `listener` may speak TLS: anything that yields byte streams and where they come from.
pub async fn serve<L>(mut listener: L, router: Router, shutdown: impl Future<Output = ()> + Send)
where
    L: Listener,
    L::Addr: Into<Peer>,
{
    let server = server();
    let places = Places::default();
    let (close, closed) = watch::channel(false);
    // Closed when no connection has its end any more.
    let (open, mut ended) = mpsc::channel::<()>(1);
    let mut told: Option<Instant> = None;
    let mut shutdown = pin!(shutdown);
    loop {
        let (io, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let peer: Peer = peer.into();
        let address = peer.address;
        let Some(place) = places.take(address.ip()) else {
            if told.is_none_or(|told| BETWEEN_LINES <= told.elapsed()) {
                told = Some(Instant::now());
                tracing::warn!(%address, "too many connections to the admin port at once; closing further ones");
            }
            continue;
        };
        let (router, outdated, asked) = (router.clone(), peer.outdated.clone(), Arc::new(AtomicBool::new(false)));
        let (end, ending) = watch::channel(false);
        let service = hyper::service::service_fn({
            let asked = Arc::clone(&asked);
            move |mut request: Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(peer.clone());
                request.extensions_mut().insert(Closing(ending.clone()));
                let mut router = router.clone();
                // A router is always ready.
                async move { tower_call(&mut router, request).await }
            }
        });
        let connection = server.serve_connection(TokioIo::new(io), service).into_owned();
        let (closed, open) = (closed.clone(), open.clone());
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                () = hold(connection.as_mut(), &asked) => {}
                limit = wanted(closed, outdated) => {
                    let _ = end.send(true);
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(limit, hold(connection, &AtomicBool::new(true))).await;
                }
            }
            drop((place, open));
        });
    }
    drop((listener, open));
    let _ = close.send(true);
    if tokio::time::timeout(GRACE, ended.recv()).await.is_err() {
        tracing::debug!("admin requests were still open at the end");
    }
}

/// A connection until it ends, or was silent for too long at its begin: of how it begins hyper keeps no time.
async fn hold<C>(mut connection: Pin<&mut C>, asked: &AtomicBool)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let ended = match tokio::time::timeout(HEAD_TIMEOUT, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) if asked.load(Ordering::Relaxed) => connection.await,
        Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}

/// Ready when a connection is to end, and how long what is open on it may go on.
async fn wanted(closed: watch::Receiver<bool>, outdated: Option<watch::Receiver<bool>>) -> Duration {
    tokio::select! {
        () = turned(closed) => GRACE,
        () = async { match outdated {
            Some(outdated) => turned(outdated).await,
            None => std::future::pending().await,
        } } => OUTDATED_GRACE,
    }
}

async fn turned(mut signal: watch::Receiver<bool>) {
    // An error means whoever would tell is gone: it is time as well.
    let _ = signal.wait_for(|turned| *turned).await;
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
