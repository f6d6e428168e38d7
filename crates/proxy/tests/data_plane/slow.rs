//! Clients whose requests are slow: they hold nothing of an upstream before they have begun, and not for long at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tidegate_policy::{Protocol, Timeouts};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::backend;
use crate::harness::{Reply, Setup, World, h2c, rest, route, soon, until, upstream, upstream_with};

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

/// A body that comes as a test sends it.
fn coming(path: &str) -> (Sender, Request<http_body_util::combinators::BoxBody<Bytes, std::io::Error>>) {
    let (send, mut take) = mpsc::unbounded_channel();
    let frames = futures_util::stream::poll_fn(move |cx| take.poll_recv(cx));
    (send, Request::post(format!("http://gate.test{path}")).body(BodyExt::boxed(StreamBody::new(frames))).unwrap())
}

/// An upstream of one connection, and a route that asks for a rate.
async fn narrow(rate: u32, grace: Duration) -> (World, Arc<backend::Seen>) {
    let (backend, seen) = backend::start().await;
    let mut at = route("/", &upstream_with(backend, |upstream| upstream.max_connections = 1));
    at.min_body_rate = rate;
    (Setup::routes(vec![at]).bounds(|bounds| bounds.body_grace = grace).start().await, seen)
}

/// Reads of a flood, always a little, until the end.
async fn sipping(socket: &mut tokio::net::TcpStream) {
    let mut sip = vec![0; 64 << 10];
    while tokio::io::AsyncReadExt::read(socket, &mut sip).await.is_ok_and(|read| read > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_takes_an_answer_too_slowly_on_average_is_left_though_he_never_stops() {
    let (backend, _) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]).bounds(|bounds| {
        bounds.send_timeout = Duration::from_secs(2);
        bounds.send_rate = u32::MAX;
        bounds.idle_timeout = Duration::from_millis(200); // How often a busy connection is looked at.
    });
    let world = setup.start().await;
    let mut socket = world.connect().await;
    socket.write_all(b"GET /flood HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    let ended = tokio::time::timeout(LATER, sipping(&mut socket)).await;
    assert!(ended.is_ok(), "it goes on for ever");
    soon("it is counted", || {
        world.gate.telemetry.render().contains("tidegate_connections_ended_total{reason=\"slow_reader\"} 1")
    })
    .await;
}

const LATER: Duration = Duration::from_secs(60);

#[tokio::test]
async fn who_has_only_promised_a_body_takes_no_connection_of_its_upstream() {
    let (world, seen) = narrow(240, LATER).await;
    let mut promising = Vec::new();
    for head in
        ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n", "content-length: 100000\r\n\r\n1"]
    {
        let mut socket = world.connect().await;
        socket.write_all(format!("POST /echo HTTP/1.1\r\nhost: gate.test\r\n{head}").as_bytes()).await.unwrap();
        promising.push(socket);
    }
    let (mut client, mut streams) = (h2c(&world).await, Vec::new());
    for _ in 0..5 {
        let (send, request) = coming("/echo");
        streams.push((send, tokio::spawn(client.send_request(request))));
    }
    soon("all of them are here", || world.gate.in_flight.now() == 8).await;
    for _ in 0..3 {
        assert_eq!(world.get("/echo").await.status, 200);
    }
    assert_eq!(seen.requests.load(Ordering::SeqCst), 3, "nobody else was asked for");
    // Whoever goes on is served.
    promising[0].write_all(b" whole").await.unwrap();
    assert!(until(&mut promising[0], "}").await.contains(r#""length":10"#));
    let (send, answer) = streams.pop().unwrap();
    send.send(Ok(Frame::data(Bytes::from_static(b"abc")))).unwrap();
    drop(send);
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn what_came_before_is_sent_first_and_whole_trailers_included() {
    let (world, _) = narrow(240, LATER).await;
    let mut socket = world.connect().await;
    let head = "POST /echo HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n";
    // Byte by byte, as far as the upstream waits for it, and beyond.
    socket.write_all(format!("{head}content-length: 40000\r\n\r\n").as_bytes()).await.unwrap();
    for _ in 0..2_000 {
        socket.write_all(b"a").await.unwrap();
        tokio::task::yield_now().await;
    }
    socket.write_all(&[b'b'; 38_000]).await.unwrap();
    let told = Reply::parse(&rest(&mut socket).await).json();
    assert_eq!((&told["length"], &told["broken"]), (&40_000.into(), &false.into()));
    let trailing = format!("{head}transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n0\r\nx-sum: 7\r\n\r\n");
    let told = Reply::parse(&world.raw(trailing).await).json();
    assert_eq!((&told["length"], &told["trailers"][0][1]), (&0.into(), &"7".into()));
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_on_average_is_refused_with_408_and_counted() {
    let (world, _) = narrow(100_000, Duration::from_millis(300)).await;
    let mut socket = world.connect().await;
    let head = b"POST /echo HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 100000\r\n\r\n";
    socket.write_all(head).await.unwrap();
    let (mut read, mut write) = socket.split();
    let drip = async {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answer = tokio::select! {
        () = drip => panic!("it is told before it is left"),
        answer = until(&mut read, "}}") => Reply::parse(&answer),
    };
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
    drop(socket);
    soon("it is counted", || {
        world.gate.telemetry.render().contains("tidegate_connections_ended_total{reason=\"body_timeout\"} 1")
    })
    .await;
}

#[tokio::test]
async fn a_rate_of_0_asks_for_none() {
    let (world, _) = narrow(0, Duration::from_millis(1)).await;
    let mut socket = world.connect().await;
    let head = b"POST /echo HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";
    socket.write_all(head).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        socket.write_all(b"a").await.unwrap();
    }
    assert_eq!(Reply::parse(&rest(&mut socket).await).status, 200);
}

#[tokio::test]
async fn what_comes_when_the_answer_has_begun_may_take_its_time() {
    let (world, _) = narrow(1_000_000, Duration::from_millis(100)).await;
    let mut client = h2c(&world).await;
    let (send, request) = coming("/trickle");
    send.send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        send.send(Ok(Frame::data(Bytes::from_static(b"x")))).unwrap();
    }
    assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    assert!(answer.body_mut().frame().now_or_never().is_none(), "it goes on");
}

#[tokio::test]
async fn a_client_of_grpc_may_wait_for_the_first_message_and_others_over_http2_as_long_as_it_likes() {
    let (backend, seen) = backend::start().await;
    let mut at = route("/", &upstream_with(backend, |upstream| upstream.protocol = Protocol::Http2));
    at.min_body_rate = 1_000_000;
    let world = Setup::routes(vec![at]).bounds(|bounds| bounds.body_grace = Duration::from_millis(50)).start().await;
    let mut client = h2c(&world).await;
    let (send, mut request) = coming("/trickle");
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200, "before it said anything");
    assert!(answer.body_mut().frame().await.unwrap().is_ok());
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    drop(send);
    // It waits for an answer to be begun, and is not hurried.
    let (send, mut request) = coming("/echo");
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = tokio::spawn(client.send_request(request));
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(send);
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn the_time_of_the_whole_exchange_holds_before_the_body_has_begun() {
    let (backend, seen) = backend::start().await;
    let mut at = route("/", &upstream(backend));
    at.timeouts = Timeouts { total: Some(Duration::from_millis(200)), first_byte: None }.into();
    let world = Setup::routes(vec![at]).start().await;
    let reply = world.raw("POST /echo HTTP/1.1\r\nhost: gate.test\r\ncontent-length: 5\r\n\r\n1").await;
    assert_eq!(Reply::parse(&reply).code(), "body_timeout");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
}
