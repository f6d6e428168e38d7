//! Connections that a load balancer announces: the PROXY protocol, versions 1 and 2, as bytes.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::backend;
use crate::harness::{Reply, Setup, World, rest, route, upstream};

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n";

async fn world(from: &str) -> World {
    let (backend, _) = backend::start().await;
    let mut setup = Setup::routes(vec![route("/", &upstream(backend))])
        .bounds(|bounds| bounds.head_timeout = Duration::from_millis(300));
    setup.snapshot.announced_by = vec![from.parse().unwrap()];
    setup.start().await
}

/// The same in version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

fn v6() -> Vec<u8> {
    let mut rest = [0_u8; 36];
    rest[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    (rest[15], rest[31], rest[34], rest[35]) = (7, 9, 0x20, 0xFB);
    rest.into()
}

#[tokio::test]
async fn who_is_announced_is_the_client() {
    let world = world("127.0.0.0/8").await;
    let v4 = [203, 0, 113, 9, 198, 51, 100, 1, 0xDC, 0x04, 0x01, 0xBB];
    let with_more = [&v4[..], &[0x04, 0x00, 0x02, 0xAA, 0xBB]].concat();
    let unknown = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff::2 65535 65535\r\n";
    let own = world.address.port().to_string();
    for (announced, client, port) in [
        (b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n".to_vec(), "203.0.113.9", "443"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::9 56324 8443\r\n".to_vec(), "2001:db8::7", "8443"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 80\r\n".to_vec(), "203.0.113.9", "80"),
        (unknown.to_vec(), "127.0.0.1", &own),
        (binary(0x21, 0x11, &v4), "203.0.113.9", "443"),
        (binary(0x21, 0x11, &with_more), "203.0.113.9", "443"),
        (binary(0x21, 0x21, &v6()), "2001:db8::7", "8443"),
        (binary(0x20, 0x00, &[]), "127.0.0.1", &own),
        (binary(0x21, 0x31, &[0; 216]), "127.0.0.1", &own),
    ] {
        let text = world.raw([&announced[..], ASK].concat()).await;
        let reply = Reply::parse(&text);
        assert_eq!(reply.sent("x-forwarded-for"), [client], "{}", announced.escape_ascii());
        assert_eq!(reply.sent("x-forwarded-port"), [port], "{}", announced.escape_ascii());
    }
}

#[tokio::test]
async fn an_announcement_may_come_byte_by_byte() {
    let world = world("127.0.0.1/32").await;
    for announced in [b"PROXY TCP4 203.0.113.9 198.51.100.1 1 2\r\n".to_vec(), binary(0x21, 0x21, &v6())] {
        let mut socket = world.connect().await;
        for byte in announced {
            socket.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        socket.write_all(ASK).await.unwrap();
        assert_eq!(Reply::parse(&rest(&mut socket).await).status, 200);
    }
}

#[tokio::test]
async fn a_connection_that_is_not_announced_as_it_should_be_is_closed() {
    let world = world("127.0.0.0/8").await;
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    for bytes in [
        ASK.to_vec(),
        b"PROXY TCP4 203.0.113.9 198.51.100.1 1 443\n".to_vec(),
        b"PROXY TCP4 203.0.113.9 198.51.100.1 1\r\n".to_vec(),
        long,
        binary(0x31, 0x11, &[0; 12]),
        binary(0x21, 0x11, &[0; 11]),
        binary(0x21, 0x11, &[0; 5_000]),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
    ] {
        let mut socket = world.connect().await;
        let _may_be_closed = socket.write_all(&[&bytes[..], ASK].concat()).await;
        assert!(is_closed(&mut socket).await, "{}", bytes.escape_ascii());
    }
    for silent in [&b""[..], b"PROXY TCP4 1.2.3.4", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"] {
        let mut socket = world.connect().await;
        socket.write_all(silent).await.unwrap();
        assert!(is_closed(&mut socket).await, "in time: {}", silent.escape_ascii());
    }
}

/// Without a word: a reset is as good as an end.
async fn is_closed(socket: &mut TcpStream) -> bool {
    rest(socket).await.is_empty()
}

#[tokio::test]
async fn nobody_else_can_announce_anything() {
    let world = world("192.0.2.0/24").await;
    assert_eq!(world.get("/").await.sent("x-forwarded-for"), ["127.0.0.1"]);
    let text = world.raw([b"PROXY TCP4 203.0.113.9 198.51.100.1 1 443\r\n", ASK].concat()).await;
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}

#[tokio::test]
async fn whom_the_document_trusts_to_announce_is_known_from_the_next_connection_on() {
    let world = world("192.0.2.0/24").await;
    let (backend, _) = backend::start().await;
    let mut next = Setup::routes(vec![route("/", &upstream(backend))]).snapshot;
    next.announced_by = vec!["127.0.0.1/32".parse().unwrap()];
    world.gate.snapshot.store(next.into());
    let text = world.raw([b"PROXY TCP4 203.0.113.9 198.51.100.1 1 443\r\n", ASK].concat()).await;
    assert_eq!(Reply::parse(&text).sent("x-forwarded-for"), ["203.0.113.9"]);
}
