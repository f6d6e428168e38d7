//! A demo backend: says what it was asked, so that one sees what the gateway passed on.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// Serves on a free port of loopback until the process ends.
pub(super) async fn start(name: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _nagle = socket.set_nodelay(true);
            let answer = service_fn(move |request| async move { Ok::<_, Infallible>(echo(name, &request)) });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
            tokio::spawn(async move {
                let _client_left = connection.await;
            });
        }
    });
    Ok(address)
}

fn echo(name: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let said = json!({
        "backend": name,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "query": request.uri().query(),
        "headers": headers(request.headers()),
    });
    let mut response = Response::new(Full::from(format!("{said:#}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())
    };
    headers.iter().map(text).collect()
}
