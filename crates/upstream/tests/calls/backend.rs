//! Backends on loopback that do what a test says, and the upstreams that name them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_policy::{Balance, Endpoint, Protocol, Retries, Timeouts, Upstream, UpstreamTimeouts, UpstreamTls};
use tidegate_upstream::{Answer, BoxError, Call, CallFailed, Upstreams};
use tokio::net::{TcpListener, TcpStream};

pub(crate) type Reply = Response<BoxBody<Bytes, BoxError>>;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) requests: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) at: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

impl Backend {
    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    pub(crate) async fn until_open(&self, expected: usize) {
        let wait = async {
            while self.seen.open.load(SeqCst) != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the connections change in time");
    }
}

pub(crate) fn full(text: impl Into<Bytes>) -> BoxBody<Bytes, BoxError> {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn reply(status: u16, text: impl Into<Bytes>) -> Reply {
    Response::builder().status(status).body(full(text)).unwrap()
}

/// HTTP/1.1, one task per connection.
pub(crate) async fn http1<F>(answer: impl Fn(Request<Incoming>, usize) -> F + Send + Sync + Clone + 'static) -> Backend
where
    F: Future<Output = Reply> + Send + 'static,
{
    accept(move |socket, seen| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let number = seen.requests.fetch_add(1, SeqCst);
                let reply = answer(request, number);
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            let _ = builder.serve_connection(TokioIo::new(socket), service).with_upgrades().await;
        }
    })
    .await
}

/// HTTP/2 with prior knowledge.
pub(crate) async fn http2<F>(
    streams: u32,
    answer: impl Fn(Request<Incoming>, usize) -> F + Send + Sync + Clone + 'static,
) -> Backend
where
    F: Future<Output = Reply> + Send + 'static,
{
    accept(move |socket, seen| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let number = seen.requests.fetch_add(1, SeqCst);
                let reply = answer(request, number);
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.max_concurrent_streams(streams).serve_connection(TokioIo::new(socket), service).await;
        }
    })
    .await
}

/// Whatever the test makes of a connection.
pub(crate) async fn accept<F>(serve: impl Fn(TcpStream, Arc<Seen>) -> F + Send + 'static) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.connections.fetch_add(1, SeqCst);
            counted.open.fetch_add(1, SeqCst);
            let served = serve(socket, Arc::clone(&counted));
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                served.await;
                counted.open.fetch_sub(1, SeqCst);
            });
        }
    });
    Backend { at, seen }
}

/// A port nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn upstream(at: &[SocketAddr]) -> Upstream {
    Upstream {
        id: "test".into(),
        endpoints: at.iter().map(|at| endpoint(*at, 1)).collect(),
        balance: Balance::RoundRobin,
        protocol: Protocol::Auto,
        timeouts: UpstreamTimeouts {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(10),
            total: None,
            idle: Duration::from_secs(10),
        },
        retries: Retries { max: 0, budget: 0.2, on: Vec::new(), unsafe_methods: false },
        max_connections: 1_000,
        max_idle: 100,
        idle_timeout: Duration::from_secs(60),
        tls: UpstreamTls::default(),
        breaker: None,
        overload: None,
        hedge: None,
        health: None,
        announce: None,
    }
}

pub(crate) fn endpoint(at: SocketAddr, weight: u32) -> Endpoint {
    Endpoint::Url { https: false, host: at.ip().to_string(), port: at.port(), weight }
}

pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::builder().uri(path).header("host", "test.example").body(Empty::new()).unwrap()
}

pub(crate) fn post<B>(body: B) -> Request<B> {
    Request::builder().method("POST").uri("/").header("host", "test.example").body(body).unwrap()
}

pub(crate) async fn call<B>(
    ups: &Upstreams,
    upstream: &Arc<Upstream>,
    request: Request<B>,
) -> Result<Answer, CallFailed>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let upgrade = request.headers().contains_key("upgrade");
    ups.call(Call { upgrade, ..Call::alone(upstream, request, Timeouts::default()) }).await
}

/// Status and whole body.
pub(crate) async fn read(answer: Result<Answer, CallFailed>) -> (u16, String) {
    let answer = answer.expect("an answer");
    let status = answer.response.status().as_u16();
    let body = answer.response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
