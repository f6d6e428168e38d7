//! What the RFCs say about the corners of a message: cookies, trailers, lengths, codings, hosts, and how a connection ends.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tidegate_policy::{Rewrite, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend;
use crate::harness::{Reply, Setup, World, h2_get, h2c, rest, rewriting, route, until, upstream, upstream_with};

async fn world() -> World {
    let (backend, _) = backend::start().await;
    Setup::routes(vec![route("/", &upstream(backend))]).start().await
}

async fn told(answer: http::Response<hyper::body::Incoming>) -> serde_json::Value {
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

fn sent(told: &serde_json::Value, name: &str) -> Vec<String> {
    let pairs = told["headers"].as_array().unwrap().iter();
    pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn cookies_in_crumbs_are_put_together() {
    let world = world().await;
    let mut ask = h2_get("/");
    for crumb in ["a=1", "b=2", "c=3"] {
        ask.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    let told = told(h2c(&world).await.send_request(ask).await.unwrap()).await;
    assert_eq!(sent(&told, "cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn an_h2_get_of_unknown_length_keeps_its_body() {
    let world = world().await;
    let frames = [Ok(Frame::data(Bytes::from_static(b"abc")))];
    let mut ask = h2_get("/");
    *ask.body_mut() = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    let told = told(h2c(&world).await.send_request(ask).await.unwrap()).await;
    assert_eq!((told["length"].as_u64(), told["method"].as_str()), (Some(3), Some("GET")));
}

#[tokio::test]
async fn trailers_say_nothing_that_belongs_before_the_body() {
    let world = world().await;
    let mut trailers = HeaderMap::new();
    for name in ["x-checksum", "authorization", "x-forwarded-for", "content-length", "cookie"] {
        trailers.insert(name, "1".parse().unwrap());
    }
    let frames = [Ok(Frame::data(Bytes::from_static(b"abc"))), Ok(Frame::trailers(trailers))];
    let mut ask = h2_get("/");
    *ask.method_mut() = http::Method::POST;
    let announced = "x-checksum, authorization, x-forwarded-for, content-length, cookie";
    ask.headers_mut().insert("trailer", announced.parse().unwrap());
    *ask.body_mut() = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    let told = told(h2c(&world).await.send_request(ask).await.unwrap()).await;
    assert_eq!(told["trailers"], serde_json::json!([["x-checksum", "1"]]));
}

#[tokio::test]
async fn a_request_of_http_1_0_without_a_host_is_for_the_upstream() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let reply = Reply::parse(&world.raw("GET /x HTTP/1.0\r\n\r\n").await);
    assert_eq!((reply.status, reply.sent("host")), (200, vec![backend.to_string()]));
}

#[tokio::test]
async fn an_absolute_target_may_name_the_port_that_host_leaves_out() {
    let world = world().await;
    let reply = world.ask("GET", "http://gate.test:80/x", "host: gate.test\r\n").await;
    assert_eq!((reply.status, reply.sent("host")), (200, vec!["gate.test".to_owned()]));
    assert_eq!(world.ask("GET", "http://gate.test/x", "host: other.test\r\n").await.code(), "invalid_host");
}

#[tokio::test]
async fn a_path_is_rewritten_as_it_was_matched() {
    let (backend, _) = backend::start().await;
    let strip = Rewrite { strip_prefix: Some("/v1".into()), ..Rewrite::default() };
    let world = Setup::routes(vec![rewriting(route("/v1", &upstream(backend)), strip)]).start().await;
    for path in ["/v1/x", "//v1/x", "/v1//x", "///v1///x"] {
        assert_eq!(world.get(path).await.target(), "/x", "{path}");
    }
}

#[tokio::test]
async fn answers_that_contradict_themselves_are_mended_or_refused() {
    for (canned, status, body) in [
        ("200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "abc"),
        ("200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 502, ""),
    ] {
        let bytes: &'static str = Box::leak(format!("HTTP/1.1 {canned}").into_boxed_str());
        let backend = backend::canned(bytes.as_bytes()).await;
        let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
        let reply = world.get("/").await;
        assert_eq!(reply.status, status, "{}", reply.head);
        if status == 200 {
            assert_eq!((reply.header("content-length"), crate::harness::dechunk(&reply.body).as_str()), (None, body));
        } else {
            assert_eq!(reply.code(), "upstream_invalid");
        }
    }
}

#[tokio::test]
async fn an_answer_without_content_has_no_length_for_a_head_either() {
    let backend = backend::canned(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n").await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let reply = world.ask("HEAD", "/", "").await;
    assert_eq!((reply.status, reply.header("content-length")), (204, None));
}

#[tokio::test]
async fn a_switch_to_a_protocol_nobody_asked_for_is_refused() {
    let backend = backend::canned(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n").await;
    let mut socket = route("/", &upstream(backend));
    socket.upgrade = true;
    let world = Setup::routes(vec![socket]).start().await;
    let reply = world.ask("GET", "/", "connection: upgrade\r\nupgrade: websocket\r\n").await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "upstream_invalid"));
}

#[tokio::test]
async fn framing_that_cannot_be_trusted_ends_its_connection() {
    let world = world().await;
    for coding in ["chunked, chunked", "gzip, chunked"] {
        let mut socket = world.connect().await;
        let head = format!("POST / HTTP/1.1\r\nhost: gate.test\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
        socket.write_all(format!("{head}GET /smuggled HTTP/1.1\r\nhost: gate.test\r\n\r\n").as_bytes()).await.unwrap();
        let text = rest(&mut socket).await;
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        assert_eq!(Reply::parse(&text).header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let (backend, _) = backend::start().await;
    let mut small = route("/", &upstream(backend));
    small.max_body = 1_000;
    let world = Setup::routes(vec![small]).start().await;
    let (mut read, mut write) = world.connect().await.into_split();
    let length = 8 << 20;
    let head = format!("POST / HTTP/1.1\r\nhost: gate.test\r\ncontent-length: {length}\r\n\r\n");
    write.write_all(head.as_bytes()).await.unwrap();
    // Whoever sends all before it reads anything gets its answer as well: nothing is reset.
    write.write_all(&vec![b'x'; length]).await.unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).await.unwrap();
    let reply = Reply::parse(&text);
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
}

#[tokio::test]
async fn a_short_body_nobody_wants_does_not_cost_the_connection() {
    let world = Setup::routes(vec![]).start().await;
    let mut socket = world.connect().await;
    for _ in 0..3 {
        socket.write_all(b"POST / HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        let head = until(&mut socket, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 404 ") && !head.contains("connection: close"), "{head}");
        until(&mut socket, "}}\n").await;
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_was_called_for_ends_the_connection() {
    let world = Setup::routes(vec![]).start().await;
    let expecting = "POST / HTTP/1.1\r\nhost: gate.test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    let mut socket = world.connect().await;
    socket.write_all(expecting.as_bytes()).await.unwrap();
    let head = until(&mut socket, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("connection: close"), "{head}");
}

#[tokio::test]
async fn a_node_that_leaves_asks_its_clients_to_connect_elsewhere_before_it_closes() {
    let world = world().await;
    let mut idle = world.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    let head = until(&mut idle, "}").await;
    assert!(!head.contains("connection: close"), "{head}");
    world.drain.announce();
    // Still open, still served, for the last time.
    idle.write_all(b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    let reply = Reply::parse(&rest(&mut idle).await);
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    // New connections are taken as well.
    let mut fresh = world.connect().await;
    fresh.write_all(b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    assert_eq!(Reply::parse(&rest(&mut fresh).await).header("connection"), Some("close"));
}

#[tokio::test]
async fn a_target_that_does_not_end_is_too_long_and_not_too_large_a_header() {
    let world = Setup::routes(vec![]).start().await;
    let target = "a".repeat(80 << 10);
    let reply = Reply::parse(&world.raw(format!("GET /{target} HTTP/1.1\r\nhost: a\r\n\r\n")).await);
    assert_eq!((reply.status, reply.code().as_str()), (414, "uri_too_long"));
    let field = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {target}\r\n\r\n");
    assert_eq!(Reply::parse(&world.raw(field).await).code(), "headers_too_large");
}

#[tokio::test]
async fn a_trusted_proxy_may_say_forwarded_alone() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).trusting_loopback().start().await;
    let reply = world.ask("GET", "/", "forwarded: for=1.2.3.4;proto=https\r\n").await;
    assert_eq!(reply.sent("forwarded").len(), 1);
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_failed_try_is_recorded_with_its_endpoint_and_never_sent_more_often_than_allowed() {
    let (backend, seen) = backend::start().await;
    let patient = upstream_with(backend, |up| {
        (up.retries.max, up.retries.budget) = (2, 1.0);
        up.retries.on = vec![tidegate_policy::RetryOn::Timeout];
        up.timeouts.first_byte = Duration::from_millis(50);
    });
    let world = Setup::routes(vec![route("/", &patient)]).start().await;
    assert_eq!(world.get("/never").await.code(), "upstream_timeout");
    assert_eq!(seen.requests.load(std::sync::atomic::Ordering::SeqCst), 3);
}

/// Says hints, and its answer when it is told to.
async fn hinting(listener: tokio::net::TcpListener, mut go_on: tokio::sync::mpsc::Receiver<()>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        until(&mut socket, "\r\n\r\n").await;
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                       HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nset-cookie: a=b\r\nlink: </b.js>\r\n\r\n";
        socket.write_all(interim.as_bytes()).await.unwrap();
        go_on.recv().await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await.unwrap();
    }
}

/// RFC 9110 § 15.2, RFC 8297.
#[tokio::test]
async fn hints_go_on_where_the_route_says_so_before_there_is_an_answer() {
    const HINTS: &str = "HTTP/1.1 102 Processing\r\n\r\n\
                         HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = upstream(listener.local_addr().unwrap());
    let (go, go_on) = tokio::sync::mpsc::channel(8);
    tokio::spawn(hinting(listener, go_on));
    let passing = Route { early_hints: true, ..route("/hints", &to) };
    let world = Setup::routes(vec![passing, route("/plain", &to)]).start().await;

    let mut socket = world.connect().await;
    socket.write_all(b"GET /hints HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n").await.unwrap();
    assert_eq!(until(&mut socket, "</b.js>\r\n\r\n").await, HINTS);
    go.send(()).await.unwrap();
    let answer = rest(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");

    for asked in ["GET /hints HTTP/1.0\r\n\r\n", "GET /plain HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n"]
    {
        go.send(()).await.unwrap();
        let answer = world.raw(asked.to_owned()).await;
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
        assert!(answer.contains(" 200 OK\r\n") && !answer.contains("link:"), "{answer}");
    }
    // Over HTTP/2 they cannot be said.
    go.send(()).await.unwrap();
    let answer = h2c(&world).await.send_request(h2_get("/hints")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("link")), (200, None));
}
