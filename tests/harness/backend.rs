//! A backend that remembers which requests it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    /// What every request gets, unless 0: as the path says.
    status: Arc<AtomicU16>,
    hits: Arc<AtomicUsize>,
    /// Requests for `/health`.
    checks: Arc<AtomicUsize>,
    /// No answer comes any more.
    silent: Arc<AtomicBool>,
    gone: watch::Sender<bool>,
}

impl Backend {
    /// `/stream?parts=N&pause_ms=M` streams; anything else answers `ok` at once.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            status: Arc::default(),
            hits: Arc::default(),
            checks: Arc::default(),
            silent: Arc::default(),
            gone: watch::Sender::new(false),
        };
        let state = backend.clone();
        tokio::spawn(async move {
            let mut gone = state.gone.subscribe();
            loop {
                let socket = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = gone.wait_for(|gone| *gone) => return,
                };
                socket.set_nodelay(true).unwrap();
                let (state, mut gone) = (state.clone(), gone.clone());
                let answer = service_fn(move |request| {
                    let state = state.clone();
                    async move {
                        let answer = answer(&state, &request);
                        if state.silent.load(Relaxed) {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Infallible>(answer)
                    }
                });
                let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
                tokio::spawn(async move {
                    tokio::select! {
                        _client_left = serve => {}
                        _ = gone.wait_for(|gone| *gone) => {}
                    }
                });
            }
        });
        backend
    }

    /// From now on every request gets this status; 0: as before.
    pub(crate) fn answer_with(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    /// From now on requests arrive and are never answered.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Relaxed);
    }

    /// Closes its port and all connections.
    pub(crate) fn vanish(&self) {
        self.gone.send_replace(true);
    }

    /// Requests seen so far, checks apart.
    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Relaxed)
    }

    /// Checks of its health seen so far.
    pub(crate) fn checks(&self) -> usize {
        self.checks.load(Relaxed)
    }

    /// The request ids seen so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn with_status(status: u16) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::from("sick\n").boxed());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response
}

fn answer(state: &Backend, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let asked = request.headers().get("x-answer").and_then(|status| status.to_str().ok()?.parse().ok());
    let status = asked.unwrap_or_else(|| state.status.load(Relaxed));
    if request.uri().path() == "/health" {
        state.checks.fetch_add(1, Relaxed);
        return with_status(if status == 0 { 200 } else { status });
    }
    state.hits.fetch_add(1, Relaxed);
    if let Some(id) = request.headers().get("x-request-id") {
        state.seen.lock().unwrap().push(id.to_str().unwrap().to_owned());
    }
    if status != 0 {
        return with_status(status);
    }
    if !request.uri().path().ends_with("/stream") {
        return Response::new(Full::from("ok\n").boxed());
    }
    let number = |name: &str| -> u64 {
        let query = request.uri().query().unwrap_or_default();
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|text| text.parse().ok()).unwrap_or(10)
    };
    let (parts, pause) = (number("parts"), Duration::from_millis(number("pause_ms")));
    let (mut send, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for part in 0..parts {
            if send.send_data(Bytes::from(format!("part {part}\n"))).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    Response::new(body.boxed())
}
