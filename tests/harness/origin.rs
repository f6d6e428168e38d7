//! A backend that answers as a spec says, and counts what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Answer = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Origin {
    pub(crate) async fn start<F>(answer: impl Fn(Parts, Bytes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let answer: Arc<dyn Fn(Parts, Bytes) -> Answer + Send + Sync> =
            Arc::new(move |parts, body| Box::pin(answer(parts, body)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&origin.asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = Arc::clone(&answer);
                    let line = format!("{} {}", request.method(), request.uri().path());
                    *asked.lock().unwrap().entry(line).or_default() += 1;
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        Ok::<_, Infallible>(answer(parts, body).await)
                    }
                });
                tokio::spawn(async move {
                    let serve = hyper::server::conn::http1::Builder::new();
                    let _client_left = serve.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        origin
    }

    /// How often it was asked `GET /path`.
    pub(crate) fn asked(&self, line: &str) -> usize {
        self.asked.lock().unwrap().get(line).copied().unwrap_or_default()
    }
}

/// 200 with these headers.
pub(crate) fn answer(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body.into())).unwrap()
}
