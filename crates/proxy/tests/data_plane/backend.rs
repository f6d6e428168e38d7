//! The backend behind the gate: says what it was sent, and misbehaves by path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Counts what the backend saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    /// Answers that were given up before they were whole.
    pub(crate) given_up: AtomicUsize,
    /// Bytes of `/flood` that were made.
    pub(crate) made: AtomicUsize,
}

pub(crate) async fn start() -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let told = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let seen = told.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| answer(request, seen.clone()));
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection_with_upgrades(TokioIo::new(socket), service).await);
            });
        }
    });
    (address, seen)
}

/// A backend that answers every connection with these bytes, then closes.
pub(crate) async fn canned(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                drop(socket.read(&mut request).await);
                drop(socket.write_all(bytes).await);
                drop(socket.shutdown().await);
            });
        }
    });
    address
}

struct OnDrop(Arc<Seen>, bool);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if !self.1 {
            self.0.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Body>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let mut guard = OnDrop(seen.clone(), false);
    let response = match path.as_str() {
        "/never" => std::future::pending().await,
        "/flood" => flood(seen, guard),
        "/trickle" => trickle(guard),
        "/trailers" => trailers(),
        "/hop" => hop(),
        "/early" => Response::new(full("early")),
        "/ws" => upgrade(request),
        "/status/204" => status(StatusCode::NO_CONTENT),
        "/status/304" => status(StatusCode::NOT_MODIFIED),
        _ => {
            let told = echo(request).await;
            guard.1 = true;
            told
        }
    };
    Ok(response)
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let broken = collected.is_err();
    let (trailers, length) = match collected {
        Ok(body) => (body.trailers().cloned(), body.to_bytes().len()),
        Err(_) => (None, 0),
    };
    let list = |headers: &HeaderMap| {
        headers.iter().map(|(n, v)| serde_json::json!([n.as_str(), v.to_str().unwrap_or("?")])).collect::<Vec<_>>()
    };
    let told = serde_json::json!({
        "method": parts.method.as_str(),
        "target": parts.uri.path_and_query().map(|p| p.as_str()),
        "version": format!("{:?}", parts.version),
        "headers": list(&parts.headers),
        "length": length,
        "broken": broken,
        "trailers": trailers.as_ref().map(list),
    });
    Response::new(full(told.to_string()))
}

/// Without end, as fast as it is taken.
fn flood(seen: Arc<Seen>, guard: OnDrop) -> Response<Body> {
    let chunk = Bytes::from(vec![b'x'; 16 << 10]);
    let stream = futures_util::stream::unfold((seen, guard), move |(seen, guard)| {
        let chunk = chunk.clone();
        async move {
            seen.made.fetch_add(chunk.len(), Ordering::SeqCst);
            Some((Ok(Frame::data(chunk)), (seen, guard)))
        }
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(Box::pin(stream))))
}

/// One byte, then nothing more, ever.
fn trickle(guard: OnDrop) -> Response<Body> {
    let stream = futures_util::stream::unfold((0, guard), |(n, guard)| async move {
        if n > 0 {
            std::future::pending::<()>().await;
        }
        Some((Ok(Frame::data(Bytes::from_static(b"x"))), (n + 1, guard)))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(Box::pin(stream))))
}

fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames))));
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
    response
}

fn hop() -> Response<Body> {
    let mut response = Response::new(full("hop"));
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("x-one-hop"));
    headers.insert("x-one-hop", HeaderValue::from_static("1"));
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    headers.insert("proxy-connection", HeaderValue::from_static("keep-alive"));
    headers.insert("x-kept", HeaderValue::from_static("1"));
    response
}

fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let connection = request.headers().get("connection").cloned();
    let Some(protocol) = request.headers().get("upgrade").cloned().filter(|_| connection.is_some()) else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    let switched = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(switched.await.unwrap()));
        drop(tokio::io::copy(&mut read, &mut write).await);
        drop(write.shutdown().await);
    });
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    response.headers_mut().insert("upgrade", protocol);
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response
}
