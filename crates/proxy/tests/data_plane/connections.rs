//! Connections: kept, counted, ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use tidegate_proxy::{Count, Http3, Listener, bind, listen, serve};
use tokio::io::AsyncWriteExt;

use crate::backend;
use crate::harness::{Reply, Setup, h2_get, h2c, rest, route, soon, until, upstream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n";

#[tokio::test]
async fn a_connection_serves_many_requests_pipelined_or_not() {
    let (backend, seen) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let mut socket = world.connect().await;
    for _ in 0..3 {
        socket.write_all(GET).await.unwrap();
        until(&mut socket, "}").await;
    }
    socket.write_all(&GET.repeat(5)).await.unwrap();
    for _ in 0..5 {
        until(&mut socket, "}").await;
    }
    assert_eq!((seen.requests.load(Ordering::SeqCst), world.gate.connections.now()), (8, 1));
}

#[tokio::test]
async fn h2_in_clear_text_is_spoken_with_prior_knowledge() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let mut client = h2c(&world).await;
    let many = (0..50).map(|n| client.send_request(h2_get(&format!("/{n}")))).collect::<Vec<_>>();
    for (n, answer) in futures_util::future::join_all(many).await.into_iter().enumerate() {
        let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told["target"], format!("/{n}"));
        let headers = told["headers"].as_array().unwrap();
        assert!(headers.iter().any(|h| h[0] == "host" && h[1] == "gate.test"), "{told}");
    }
    assert_eq!(world.gate.connections.now(), 1);
}

#[tokio::test]
async fn a_head_that_dribbles_is_given_up_with_408() {
    let setup = Setup::routes(vec![]).bounds(|b| b.head_timeout = Duration::from_millis(200));
    let world = setup.start().await;
    let mut socket = world.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let (mut read, mut write) = socket.into_split();
    let dribble = tokio::spawn(async move {
        while write.write_all(b"x-slow: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let head = until(&mut read, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    dribble.abort();
    soon("it is closed", || world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn silence_ends_a_connection_before_and_between_requests() {
    let (backend, _) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]).bounds(|b| {
        b.head_timeout = Duration::from_millis(150);
        b.idle_timeout = Duration::from_millis(300);
    });
    let world = setup.start().await;
    let mut silent = world.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    let mut idle = world.connect().await;
    idle.write_all(GET).await.unwrap();
    until(&mut idle, "}").await;
    assert_eq!(rest(&mut idle).await, "");
    let mut h2 = h2c(&world).await;
    assert_eq!(h2.send_request(h2_get("/")).await.unwrap().status(), 200);
    soon("the idle h2 client is told to go", || world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let (backend, seen) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]);
    let world = setup.bounds(|b| b.send_timeout = Duration::from_millis(300)).start().await;
    let mut socket = world.connect().await;
    socket.write_all(b"GET /flood HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    soon("it is dropped", || seen.given_up.load(Ordering::SeqCst) == 1 && world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn more_connections_or_requests_than_allowed_are_turned_away() {
    let (backend, seen) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]).bounds(|b| {
        b.connections = 2;
        b.in_flight = 1;
    });
    let world = setup.start().await;
    let mut first = world.connect().await;
    first.write_all(b"GET /never HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    soon("the first is in flight", || seen.requests.load(Ordering::SeqCst) == 1).await;
    let reply = world.get("/").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "overloaded"));
    soon("that one is gone", || world.gate.connections.now() == 1).await;
    let _second = world.connect().await;
    soon("two are open", || world.gate.connections.now() == 2).await;
    let mut third = world.connect().await;
    let text = rest(&mut third).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text:?}");
    assert_eq!(world.gate.connections.now(), 2);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let (backend, seen) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let mut idle = world.connect().await;
    idle.write_all(GET).await.unwrap();
    until(&mut idle, "}").await;
    let mut busy = world.connect().await;
    busy.write_all(b"POST / HTTP/1.1\r\nhost: gate.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        .await
        .unwrap();
    let mut h2 = h2c(&world).await;
    let streaming = h2.send_request(h2_get("/trickle")).await.unwrap();
    soon("both are at the backend", || seen.requests.load(Ordering::SeqCst) == 3).await;

    world.drain.begin();
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed at once");
    soon("nobody listens", || std::net::TcpStream::connect(world.address).is_err()).await;
    busy.write_all(b"2\r\ncd\r\n0\r\n\r\n").await.unwrap();
    let reply = Reply::parse(&rest(&mut busy).await);
    assert_eq!((reply.status, &reply.json()["length"]), (200, &4.into()));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(!world.serving.is_finished(), "the h2 stream still runs");

    assert!(!world.drain.finish(Duration::from_millis(200)).await, "the stream had to be cut");
    world.serving.await.unwrap().unwrap();
    assert!(streaming.into_body().collect().await.is_err());
    assert_eq!((world.gate.connections.now(), world.gate.in_flight.now()), (0, 0));
}

#[tokio::test]
async fn an_h2_stream_whose_window_stays_closed_does_not_hold_the_upstream_for_ever() {
    let (backend, seen) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]);
    let setup = setup.bounds(|b| {
        b.stall_timeout = Duration::from_millis(300);
        b.idle_timeout = Duration::from_millis(200); // How often a busy connection is looked at.
    });
    let world = setup.start().await;
    let mut client = h2c(&world).await;
    let _unread = client.send_request(h2_get("/flood")).await.unwrap();
    soon("it is dropped", || seen.given_up.load(Ordering::SeqCst) == 1 && world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn runtimes_of_their_own_share_one_address() {
    let (backend, _) = backend::start().await;
    let world = Setup::routes(vec![route("/", &upstream(backend))]).start().await;
    let first = bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
    let address = first.local_addr().unwrap();
    let sockets = [first, bind(address, true).unwrap()];
    sockets.iter().for_each(|socket| listen(socket).unwrap());
    let connections = Count::default();
    let cores = sockets.map(|socket| {
        let (gate, draining) = (world.gate.clone(), world.drain.listen());
        let listener = Listener {
            name: "http".into(),
            socket,
            tls: None,
            connections: connections.clone(),
            http3: Http3::default(),
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, gate, draining)).unwrap();
        })
    });
    for _ in 0..40 {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut socket).await.starts_with("HTTP/1.1 200 "));
    }
    assert!(world.drain.finish(Duration::from_secs(5)).await);
    for core in cores {
        core.join().unwrap();
    }
}
