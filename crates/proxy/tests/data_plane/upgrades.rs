//! Switching protocols.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend;
use crate::harness::{Reply, Setup, World, rest, route, soon, until, upstream};

const SWITCH: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: gate.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

async fn world(allowed: bool) -> World {
    let (backend, _) = backend::start().await;
    let mut socket = route("/", &upstream(backend));
    socket.upgrade = allowed;
    Setup::routes(vec![socket]).bounds(|b| b.tunnel_timeout = Duration::from_millis(500)).start().await
}

#[tokio::test]
async fn a_websocket_is_tunnelled_both_ways() {
    let world = world(true).await;
    let mut socket = world.connect().await;
    socket.write_all(SWITCH).await.unwrap();
    let head = until(&mut socket, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
    let mut back = vec![0; 100_000];
    let sent = vec![b'x'; 100_000];
    let (mut read, mut write) = socket.split();
    let (sent_ok, read_ok) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
    assert!(sent_ok.is_ok() && read_ok.is_ok() && back == sent);
    socket.shutdown().await.unwrap();
    assert_eq!(rest(&mut socket).await, "");
    soon("it is no longer counted", || world.gate.connections.now() == 0 && world.gate.in_flight.now() == 0).await;
}

#[tokio::test]
async fn a_silent_tunnel_is_closed_and_a_drain_cuts_it() {
    let world = world(true).await;
    let mut silent = world.connect().await;
    silent.write_all(SWITCH).await.unwrap();
    until(&mut silent, "\r\n\r\n").await;
    assert_eq!(rest(&mut silent).await, "");
    let mut open = world.connect().await;
    open.write_all(SWITCH).await.unwrap();
    until(&mut open, "\r\n\r\n").await;
    assert!(!world.drain.finish(Duration::from_millis(50)).await);
    assert_eq!(rest(&mut open).await, "");
    world.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_route_without_upgrade_says_so() {
    let world = world(false).await;
    let reply =
        Reply::parse(&world.raw(String::from_utf8(SWITCH.to_vec()).unwrap().replace("keep-alive,", "close,")).await);
    assert_eq!((reply.status, reply.code().as_str()), (403, "upgrade_not_allowed"));
    let h2c = world.ask("GET", "/", "upgrade: h2c\r\n").await;
    assert_eq!(h2c.status, 200, "an offer that need not be taken");
}
