//! Raw bytes that want to be read in two ways.

use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;

use crate::backend;
use crate::harness::{Reply, Setup, h2_get, h2c, rest, route, upstream};

/// Each is sent alone; the gate must answer with this status and the backend must see nothing of it.
const REFUSED: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
    ("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400),
    ("GET /a%00b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /a%5cb HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /a\\b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /a%zz HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /a\x01b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
    // Framing.
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    // Fields.
    ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx\x00y: 1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb: c\r\n\r\n", 400),
    ("GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505),
    ("GET /\r\n\r\n", 400),
    ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
];

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_goes_no_further() {
    let (backend, seen) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    for (bytes, status) in REFUSED {
        let mut socket = world.connect().await;
        socket.write_all(bytes.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let text = rest(&mut socket).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?} got {text:?}");
        let reply = Reply::parse(&text);
        assert!(!reply.code().is_empty() && reply.header("x-request-id").is_some(), "{bytes:?} got {text:?}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{bytes:?} got two answers: {text:?}");
    }
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_hidden_behind_double_framing_is_never_served() {
    let (backend, seen) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    // The first request makes the connection an old one; the second carries the third inside.
    let first = "GET /one HTTP/1.1\r\nhost: a\r\n\r\n";
    let double = "POST /two HTTP/1.1\r\nhost: a\r\ncontent-length: 44\r\ntransfer-encoding: chunked\r\n\r\n\
                  0\r\n\r\nGET /three HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut socket = world.connect().await;
    socket.write_all(first.as_bytes()).await.unwrap();
    crate::harness::until(&mut socket, "}").await;
    socket.write_all(double.as_bytes()).await.unwrap();
    let text = rest(&mut socket).await;
    assert!(text.contains("HTTP/1.1 400 ") && !text.contains("three"), "{text}");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    // All at once: hyper's rule holds, chunked wins and the connection ends.
    let text = world.raw(format!("{first}{double}")).await;
    assert!(!text.contains("three"), "{text}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_own_code() {
    let world = Setup::routes(vec![]).start().await;
    let long = world.get(&format!("/{}", "a".repeat(9_000))).await;
    assert_eq!((long.status, long.code().as_str()), (414, "uri_too_long"));
    let wide = format!("x-wide: {}\r\n", "a".repeat(70_000));
    let reply = world.raw(format!("GET / HTTP/1.1\r\nhost: a\r\n{wide}\r\n")).await;
    assert!(reply.starts_with("HTTP/1.1 431 ") && reply.contains("headers_too_large"), "{reply}");
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let reply = world.raw(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert!(reply.starts_with("HTTP/1.1 431 ") && reply.contains("headers_too_large"), "{reply}");
}

#[tokio::test]
async fn h2_requests_are_judged_alike() {
    let (backend, seen) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let mut client = h2c(&world).await;
    let mut two_hosts = h2_get("/");
    two_hosts.headers_mut().insert("host", "other.test".parse().unwrap());
    assert_eq!(client.send_request(two_hosts).await.unwrap().status(), 400);
    let mut trace = h2_get("/");
    *trace.method_mut() = http::Method::TRACE;
    assert_eq!(client.send_request(trace).await.unwrap().status(), 405);
    let mut connect = h2_get("/");
    *connect.method_mut() = http::Method::CONNECT;
    *connect.uri_mut() = "gate.test:443".parse().unwrap();
    assert_eq!(client.send_request(connect).await.unwrap().status(), 405);
    assert_eq!(client.send_request(h2_get("/%00")).await.unwrap().status(), 400);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
    assert_eq!(client.send_request(h2_get("/ok")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_old_client_without_a_host_is_served_on_routes_for_any_host() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let reply = Reply::parse(&world.raw("GET /old HTTP/1.0\r\n\r\n").await);
    assert_eq!((reply.status, reply.target().as_str()), (200, "/old"));
}
