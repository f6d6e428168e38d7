//! Connections to the admin port that ask for nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::common::start;

/// A connection that says this and no more: does the port end it?
async fn ended(address: std::net::SocketAddr, words: &'static [u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words).await.unwrap();
    let mut told = Vec::new();
    tokio::time::timeout(Duration::from_secs(120), stream.read_to_end(&mut told)).await.is_ok()
}

#[tokio::test]
async fn a_connection_that_never_asks_is_ended_however_it_begins() {
    let port = start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let begins = [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET /heal", preface];
    let asking: Vec<_> = begins.map(|words| tokio::spawn(ended(port.address, words))).into();
    for (words, asked) in begins.iter().zip(asking) {
        assert!(asked.await.unwrap(), "{}", String::from_utf8_lossy(words));
    }
}

#[tokio::test]
async fn whoever_takes_all_connections_that_he_can_get_keeps_nobody_else_out() {
    let port = start().await;
    let mut held = Vec::new();
    for _ in 0..600 {
        held.push(TcpStream::connect(port.address).await.unwrap());
    }
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(port.address).await.unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut told = String::new();
    other.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
}
