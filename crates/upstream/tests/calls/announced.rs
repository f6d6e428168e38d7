//! Upstreams that are told in the PROXY protocol for whom a connection is made: whose it is, nobody else's requests go on it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tidegate_policy::{Announce, Check, Health, Protocol, Upstream};
use tidegate_upstream::{Upstreams, Whom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::{Backend, accept, call, get, read, upstream};

type Lines = Arc<Mutex<Vec<String>>>;

/// Keeps the first line of each connection and answers each request with it.
async fn told() -> (Backend, Lines) {
    let lines = Lines::default();
    let kept = lines.clone();
    let backend = accept(move |mut socket, _| {
        let kept = kept.clone();
        async move {
            let Some(line) = line(&mut socket).await else { return };
            kept.lock().unwrap().push(line.clone());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            while let Some(asked) = line_of(&mut socket).await {
                if asked.is_empty() && socket.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (backend, lines)
}

async fn line(socket: &mut TcpStream) -> Option<String> {
    line_of(socket).await.filter(|line| line.starts_with("PROXY "))
}

async fn line_of(socket: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(socket.read_u8().await.ok()?);
    }
    String::from_utf8(line).ok().map(|line| line.trim_end().to_owned())
}

fn announcing(at: SocketAddr) -> Upstream {
    Upstream { announce: Some(Announce::V1), ..upstream(&[at]) }
}

fn from(port: u16) -> Request<Empty<Bytes>> {
    let (from, to) = (SocketAddr::from(([192, 0, 2, 1], port)), SocketAddr::from(([198, 51, 100, 1], 443)));
    let mut request = get("/");
    request.extensions_mut().insert(Arc::new(Whom::Client { from, to }));
    request
}

#[tokio::test]
async fn a_connection_is_kept_for_the_client_it_was_made_for() {
    let (backend, lines) = told().await;
    let (ups, up) = (Upstreams::new(), Arc::new(announcing(backend.at)));
    for port in [5, 6, 5, 6, 6, 5, 7] {
        let said = read(call(&ups, &up, from(port)).await).await;
        assert_eq!(said, (200, format!("PROXY TCP4 192.0.2.1 198.51.100.1 {port} 443")));
    }
    assert_eq!(backend.connections(), 3, "{:?}", lines.lock().unwrap());
    let said = read(call(&ups, &up, get("/")).await).await;
    assert_eq!(said, (200, "PROXY UNKNOWN".to_owned()), "nobody's request");
}

#[tokio::test]
async fn clients_that_are_gone_keep_nobody_waiting() {
    let (backend, _) = told().await;
    let mut up = announcing(backend.at);
    (up.max_connections, up.max_idle) = (3, 3);
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    for port in 1..40 {
        assert_eq!(read(call(&ups, &up, from(port)).await).await.0, 200, "client {port}");
    }
    assert!(ups.facts()[0].open <= 3);
    // The last ones are still kept, the first ones made room.
    let made = backend.connections();
    assert_eq!(read(call(&ups, &up, from(39)).await).await.0, 200);
    assert_eq!(backend.connections(), made);
    assert_eq!(read(call(&ups, &up, from(1)).await).await.0, 200);
    assert_eq!(backend.connections(), made + 1);
}

#[tokio::test]
async fn checks_speak_for_themselves() {
    let (backend, lines) = told().await;
    let mut up = announcing(backend.at);
    up.health = Some(Health {
        check: Check::Http { path: "/health".into(), host: None, statuses: vec![(200, 299)] },
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        healthy: 1,
        unhealthy: 2,
        slow_start: Duration::ZERO,
        panic_below: 0,
    });
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    ups.retain(std::slice::from_ref(&up));
    let mut seen = backend.connections();
    for _ in 0..200 {
        if seen >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = backend.connections();
    }
    assert!(seen >= 2);
    assert!(lines.lock().unwrap().iter().all(|line| line == "PROXY UNKNOWN"), "{lines:?}");
}

#[tokio::test]
async fn streams_of_two_clients_share_no_connection() {
    let backend = accept(|mut socket, seen| async move {
        let mut header = [0; 28];
        let read = socket.read_exact(&mut header).await;
        assert!(read.is_ok() && header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"));
        let port = u16::from_be_bytes([header[24], header[25]]);
        let service = hyper::service::service_fn(move |_| {
            seen.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { Ok::<_, std::convert::Infallible>(crate::backend::reply(200, port.to_string())) }
        });
        let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let _ended = builder.serve_connection(hyper_util::rt::TokioIo::new(socket), service).await;
    })
    .await;
    let up = Upstream { announce: Some(Announce::V2), protocol: Protocol::Http2, ..upstream(&[backend.at]) };
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    for port in [5, 6, 5, 6] {
        assert_eq!(read(call(&ups, &up, from(port)).await).await, (200, port.to_string()));
    }
    assert_eq!(backend.connections(), 2);
}
