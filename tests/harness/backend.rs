//! A backend that remembers which requests it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
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

#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    /// `/stream?parts=N&pause_ms=M` streams; anything else answers `ok` at once.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = backend.seen.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let seen = seen.clone();
                socket.set_nodelay(true).unwrap();
                let answer = service_fn(move |request| {
                    let seen = seen.clone();
                    async move { Ok::<_, Infallible>(answer(&seen, &request)) }
                });
                let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
                tokio::spawn(async move {
                    let _client_left = serve.await;
                });
            }
        });
        backend
    }

    /// The request ids seen so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(seen: &Mutex<Vec<String>>, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    if let Some(id) = request.headers().get("x-request-id") {
        seen.lock().unwrap().push(id.to_str().unwrap().to_owned());
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
