//! An origin in this process that counts what it is asked, and is slow, sick or gone when a scenario wants it to be;
//! and hyper answering a constant, as a process of its own, to compare with.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Where health checks come.
pub(super) const HEALTH: &str = "/health";

/// Ends, with all its connections, when dropped.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    asked: AtomicU64,
    checks: AtomicU64,
    delay_millis: AtomicU64,
    sick: AtomicU64,
}

impl Origin {
    /// `GET /BYTES/…` is answered with so many bytes, everything else with twelve; all of it may be kept for a day.
    pub(super) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, runtime: Some(runtime) })
    }

    /// Since the start, health checks apart.
    pub(super) fn asked(&self) -> u64 {
        self.state.asked.load(Relaxed)
    }

    pub(super) fn checks(&self) -> u64 {
        self.state.checks.load(Relaxed)
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.state.delay_millis.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// From now on it answers 503.
    pub(super) fn fall_sick(&self) {
        self.state.sick.store(1, Relaxed);
    }

    /// From now on its port is closed.
    pub(super) fn vanish(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.vanish();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(request, Arc::clone(&state)));
        tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if path == HEALTH {
        state.checks.fetch_add(1, Relaxed);
    } else {
        state.asked.fetch_add(1, Relaxed);
        let delay = state.delay_millis.load(Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }
    if state.sick.load(Relaxed) != 0 {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    let bytes = path.split('/').nth(1).and_then(|size| size.parse().ok()).unwrap_or(12);
    let mut response = Response::new(Full::new(text(bytes)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    Ok(response)
}

/// Text that compresses about as well as JSON does.
pub(super) fn text(bytes: usize) -> Bytes {
    let mut text = String::with_capacity(bytes + 64);
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < bytes {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let _ = writeln!(text, "{{\"id\": {}, \"name\": \"{dice:x}\"}},", text.len());
    }
    text.truncate(bytes);
    text.into()
}

/// Serves until the process is ended: one thread, every request answered alike.
pub(crate) fn constant(http: SocketAddr, bytes: usize) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(http).await.with_context(|| format!("cannot listen on {http}"))?;
        let body = text(bytes);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            let service =
                service_fn(move |_| std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body.clone())))));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}
