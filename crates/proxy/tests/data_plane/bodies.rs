//! Bodies: streamed both ways, bounded, given up when they stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend;
use crate::harness::{Reply, Setup, World, h2_get, h2c, rest, route, soon, until, upstream, upstream_with};

async fn world() -> (World, std::sync::Arc<backend::Seen>) {
    let (backend, seen) = backend::start().await;
    (Setup::routes(vec![route("/", &upstream(backend))]).start().await, seen)
}

#[tokio::test]
async fn a_body_arrives_whole_sized_or_chunked() {
    let (world, _) = world().await;
    let body = "x".repeat(300_000);
    let head = "POST / HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n";
    let sized = world.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(Reply::parse(&sized).json()["length"], 300_000);
    let chunked = world.raw(format!("{head}transfer-encoding: chunked\r\n\r\n493e0\r\n{body}\r\n0\r\n\r\n")).await;
    assert_eq!(Reply::parse(&chunked).json()["length"], 300_000);
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_the_body_is_wanted_and_not_before_a_refusal() {
    let (world, seen) = world().await;
    let ask = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut socket = world.connect().await;
    socket.write_all(ask(3).as_bytes()).await.unwrap();
    assert_eq!(until(&mut socket, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"abc").await.unwrap();
    let reply = Reply::parse(&rest(&mut socket).await);
    assert_eq!((reply.status, &reply.json()["length"]), (200, &3.into()));
    assert!(reply.sent("expect").is_empty());

    let mut socket = world.connect().await;
    socket.write_all(ask(9_000_000).as_bytes()).await.unwrap();
    let reply = Reply::parse(&rest(&mut socket).await);
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    for (says, status) in [("magic", 417), ("100-continue, magic", 417), ("", 200), ("100-continue, 100-Continue", 200)]
    {
        assert_eq!(world.ask("GET", "/", &format!("expect: {says}\r\n")).await.status, status, "{says}");
    }
}

#[tokio::test]
async fn a_chunked_body_over_the_bound_is_cut_with_413() {
    let (world, _) = world().await;
    let mut socket = world.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let (mut read, mut write) = socket.split();
    let send = async {
        for _ in 0..64 {
            if write.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let receive = async { until(&mut read, "\r\n\r\n").await };
    let ((), head) = tokio::join!(send, receive);
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_given_up_with_408() {
    let (backend, _) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]);
    let world = setup.bounds(|b| b.body_timeout = Duration::from_millis(150)).start().await;
    let half = "POST / HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 10\r\n\r\nhalf";
    let reply = Reply::parse(&world.raw(half).await);
    assert_eq!((reply.status, reply.code().as_str()), (408, "body_timeout"));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (world, _) = world().await;
    let with = "POST / HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\
                trailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let reply = Reply::parse(&world.raw(with).await);
    assert_eq!(reply.json()["trailers"][0][1], "7", "{}", reply.body);
    let back = world.ask("GET", "/trailers", "te: trailers\r\n").await;
    assert!(back.body.contains("\r\n0\r\nx-checksum: abc\r\n"), "{}", back.body);

    let mut client = h2c(&world).await;
    let mut ask = h2_get("/trailers");
    ask.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let answer = client.send_request(ask).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-checksum"], "abc");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("8"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"abc"))), Ok(Frame::trailers(trailers))];
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    let request = Request::post("http://gate.test/").header("trailer", "x-sum").body(body).unwrap();
    let answer = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(told["trailers"][0][1], "8");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_backend_back() {
    let (world, seen) = world().await;
    let mut socket = world.connect().await;
    socket.write_all(b"GET /flood HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    until(&mut socket, "\r\n\r\n").await;
    // The flood stops when every buffer on the way is full: wait until it makes no more.
    let mut before = 0;
    soon("the flood stands still", || {
        std::thread::sleep(Duration::from_millis(100));
        let made = seen.made.load(Ordering::SeqCst);
        std::mem::replace(&mut before, made) == made && made > 0
    })
    .await;
    assert!(before < 40 << 20, "{before} bytes were taken for a client that reads none");
    let mut taken = vec![0; 1 << 20];
    for _ in 0..64 {
        socket.read_exact(&mut taken).await.unwrap();
    }
    assert!(seen.made.load(Ordering::SeqCst) > 60 << 20);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_upstream_call_with_it() {
    let (world, seen) = world().await;
    for path in ["/never", "/trickle", "/flood"] {
        let before = seen.given_up.load(Ordering::SeqCst);
        let asked = seen.requests.load(Ordering::SeqCst);
        let mut socket = world.connect().await;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: gate.test\r\n\r\n").as_bytes()).await.unwrap();
        soon("the backend has it", || seen.requests.load(Ordering::SeqCst) > asked).await;
        drop(socket);
        soon(path, || seen.given_up.load(Ordering::SeqCst) > before).await;
    }
    soon("nothing is in flight", || world.gate.in_flight.now() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_behind_what_it_asked_for_next() {
    let (world, seen) = world().await;
    for next in ["G", "GET /next HTTP/1.1\r\nhost: gate.test\r\n\r\n"] {
        let (before, asked) = (seen.given_up.load(Ordering::SeqCst), seen.requests.load(Ordering::SeqCst));
        let mut socket = world.connect().await;
        let ask = format!("GET /never HTTP/1.1\r\nhost: gate.test\r\n\r\n{next}");
        socket.write_all(ask.as_bytes()).await.unwrap();
        soon("the backend has it", || seen.requests.load(Ordering::SeqCst) > asked).await;
        drop(socket);
        soon(next, || seen.given_up.load(Ordering::SeqCst) > before).await;
        assert_eq!(seen.requests.load(Ordering::SeqCst), asked + 1, "what follows is not asked for");
    }
    soon("nothing is in flight", || world.gate.in_flight.now() == 0).await;
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_504_and_one_that_is_not_there_502() {
    let (backend, _) = backend::start().await;
    let slow = upstream_with(backend, |u| u.timeouts.first_byte = Duration::from_millis(100));
    let gone = upstream_with("127.0.0.1:1".parse().unwrap(), |u| u.id = "gone".into());
    let world = Setup::routes(vec![route("/never", &slow), route("/gone", &gone)]).start().await;
    let late = world.get("/never").await;
    assert_eq!((late.status, late.code().as_str()), (504, "upstream_timeout"));
    let gone = world.get("/gone").await;
    assert_eq!((gone.status, gone.code().as_str()), (502, "upstream_connect"));
}

#[tokio::test]
async fn nonsense_from_an_upstream_is_502_and_a_broken_body_ends_the_connection() {
    let nonsense = backend::canned(b"SMTP hello\r\n\r\n").await;
    let short = backend::canned(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let closed = backend::canned(b"").await;
    let world = Setup::routes(vec![
        route("/nonsense", &upstream(nonsense)),
        route("/short", &upstream(short)),
        route("/closed", &upstream(closed)),
    ])
    .start()
    .await;
    assert_eq!(world.get("/nonsense").await.status, 502);
    let reset = world.get("/closed").await;
    assert_eq!((reset.status, reset.code().as_str()), (502, "upstream_reset"));
    let cut = Reply::parse(&world.raw("GET /short HTTP/1.1\r\nhost: gate.test\r\n\r\n").await);
    assert_eq!((cut.status, cut.body.as_str()), (200, "half"), "a length that was promised is not met");
}

/// Over h2 another task has the rest of the request, and drops it when the answer has come.
#[tokio::test]
async fn an_early_answer_over_h2_ends_a_connection_whose_client_pauses() {
    let (backend, _) = backend::start().await;
    let spoken = upstream_with(backend, |up| up.protocol = tidegate_policy::Protocol::Http2);
    let world = Setup::routes(vec![route("/", &spoken)]).start().await;
    let mut socket = world.connect().await;
    let head = "POST /early HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 1000000\r\n\r\n";
    socket.write_all(format!("{head}{}", "x".repeat(100_000)).as_bytes()).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), rest(&mut socket)).await;
    assert!(told.expect("it ends, though the client says nothing more").contains("\r\n\r\nearly"));
}
