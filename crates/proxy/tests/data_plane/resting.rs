//! Connections that have been idle for a moment hold next to nothing, and are connections nevertheless.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend;
use crate::harness::{Setup, World, rest, route, soon, until, upstream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n";

async fn world(change: impl FnOnce(&mut tidegate_proxy::Bounds)) -> World {
    let (backend, _) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]);
    setup.bounds(|bounds| bounds.rest_after = Duration::from_millis(1)).bounds(change).start().await
}

/// A connection that has had an answer, and rests.
async fn resting(world: &World) -> TcpStream {
    let before = world.gate.resting.now();
    let mut socket = world.connect().await;
    socket.write_all(GET).await.unwrap();
    until(&mut socket, "}").await;
    soon("it rests", || world.gate.resting.now() == before + 1).await;
    socket
}

#[tokio::test]
async fn a_connection_that_rests_serves_what_comes_next_whole_or_in_pieces() {
    let world = world(|_| {}).await;
    let mut socket = resting(&world).await;
    for cut in [GET.len(), 1, 20, GET.len() - 1] {
        assert_eq!((world.gate.connections.now(), world.gate.resting.now()), (1, 1));
        socket.write_all(&GET[..cut]).await.unwrap();
        if cut < GET.len() {
            soon("it has heard the beginning", || world.gate.resting.now() == 0).await;
            socket.write_all(&GET[cut..]).await.unwrap();
        }
        assert!(until(&mut socket, "}").await.starts_with("HTTP/1.1 200 "), "cut at {cut}");
        soon("it rests again", || world.gate.resting.now() == 1).await;
    }
    // More than is read at once, and more than one request.
    let body = "x".repeat(100_000);
    let post = format!("POST / HTTP/1.1\r\nhost: gate.test\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(format!("{post}{post}").as_bytes()).await.unwrap();
    for _ in 0..2 {
        assert!(until(&mut socket, "}").await.contains("\"length\":100000"));
    }
}

#[tokio::test]
async fn lines_between_requests_are_nothing_and_the_beginning_of_a_head_is_kept() {
    let world = world(|_| {}).await;
    let mut socket = world.connect().await;
    socket.write_all(&[GET, b"\r\n"].concat()).await.unwrap();
    until(&mut socket, "}").await;
    soon("it rests behind an empty line", || world.gate.resting.now() == 1).await;
    socket.write_all(&[GET, &GET[..9]].concat()).await.unwrap();
    until(&mut socket, "}").await;
    let _other = resting(&world).await;
    assert_eq!(world.gate.resting.now(), 1, "only the other one: here a head has begun");
    socket.write_all(&GET[9..]).await.unwrap();
    assert!(until(&mut socket, "}").await.starts_with("HTTP/1.1 200 "));
}

/// What looks like the end of a head to one reader, and not to the other, neither rests nor lives for ever.
#[tokio::test]
async fn a_head_that_never_ends_is_given_up_wherever_its_line_ends_are_cut() {
    for cut in [b"\r".as_slice(), b"\r\r"] {
        let world = world(|bounds| {
            bounds.head_timeout = Duration::from_secs(1);
            bounds.idle_timeout = Duration::from_secs(2);
        })
        .await;
        let mut socket = resting(&world).await;
        let mut head = b"GET / HTTP/1.1\r\nhost: x\r\na: ".to_vec();
        head.resize(8_192 - 2 - cut.len(), b'a');
        head.extend([b"\r\n", cut].concat());
        socket.write_all(&head).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        socket.write_all(b"\r\n").await.unwrap();
        let mut all = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut all)).await;
        assert!(ended.is_ok(), "{cut:?}: it is given up");
        assert!(!all.starts_with(b"HTTP/1.1 200 "), "{cut:?}");
        soon("it is gone", || world.gate.connections.now() == 0).await;
    }
}

#[tokio::test]
async fn what_dribbles_after_a_rest_is_given_up_with_408() {
    let world = world(|bounds| bounds.head_timeout = Duration::from_secs(1)).await;
    let mut socket = resting(&world).await;
    socket.write_all(b"GET / HT").await.unwrap();
    assert!(rest(&mut socket).await.starts_with("HTTP/1.1 408 "));
    soon("it is closed", || world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn a_connection_that_rests_ends_when_its_client_leaves_or_says_nothing_for_too_long() {
    let world = world(|bounds| bounds.idle_timeout = Duration::from_secs(2)).await;
    let mut silent = resting(&world).await;
    assert_eq!(rest(&mut silent).await, "");
    soon("it is counted out", || world.gate.connections.now() == 0 && world.gate.resting.now() == 0).await;
    let text = world.gate.telemetry.render();
    assert!(text.contains("tidegate_connections_ended_total{reason=\"idle\"} 1"), "{text}");
    drop(resting(&world).await);
    soon("who leaves is counted out", || world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn a_node_that_drains_closes_what_rests_at_once() {
    let world = world(|_| {}).await;
    let (mut one, mut other) = (resting(&world).await, resting(&world).await);
    world.drain.begin();
    assert_eq!((rest(&mut one).await.as_str(), rest(&mut other).await.as_str()), ("", ""));
    world.serving.await.unwrap().unwrap();
    assert_eq!((world.gate.connections.now(), world.gate.resting.now()), (0, 0));
}

#[tokio::test]
async fn nothing_rests_while_something_is_on_its_way() {
    let world = world(|_| {}).await;
    let mut slow = world.connect().await;
    slow.write_all(b"GET /trickle HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
    until(&mut slow, "\r\n\r\n").await;
    let mut fresh = world.connect().await;
    let _rested = resting(&world).await;
    assert_eq!((world.gate.connections.now(), world.gate.resting.now()), (3, 1));
    assert!(slow.read_u8().await.is_ok());
    fresh.write_all(GET).await.unwrap();
    assert!(until(&mut fresh, "}").await.starts_with("HTTP/1.1 200 "));
}
