//! The backend of the soak, written by hand on sockets, because half of what it does no HTTP library would: what a path
//! asks for, it does. In this process; an endpoint of it dies, with all its connections, when it is dropped.

mod faults;
mod head;
mod rooms;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::pattern;
use head::Head;

pub(super) use faults::{Fault, PROMISED};
#[cfg(test)]
pub(super) use rooms::talk_from_the_start as talk;
pub(super) use rooms::{ACCEPT, KEY};

/// Of a chunked body.
const PIECE: usize = 16 << 10;
/// Between two events of a stream.
const EVENT_EVERY: Duration = Duration::from_millis(40);

/// One endpoint.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// What all endpoints saw together.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Requests, health checks apart.
    pub(super) requests: AtomicU64,
    pub(super) checks: AtomicU64,
    /// Answers that said nothing but 304.
    pub(super) unchanged: AtomicU64,
}

impl Endpoint {
    /// On any port.
    pub(super) fn start(runtime: &Handle, seen: &Arc<Seen>) -> Result<Self> {
        Self::at(runtime, (Ipv4Addr::LOCALHOST, 0).into(), seen)
    }

    /// Where it was before.
    pub(super) fn at(runtime: &Handle, address: SocketAddr, seen: &Arc<Seen>) -> Result<Self> {
        let listener = runtime.block_on(TcpListener::bind(address)).context("the backend cannot listen")?;
        let address = listener.local_addr()?;
        let accepting = runtime.spawn(accept(listener, Arc::clone(seen)));
        Ok(Self { address, accepting })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort(); // and with it the set of connections
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let _ = socket.set_nodelay(true);
                let seen = Arc::clone(&seen);
                connections.spawn(async move {
                    let _gateway_left = serve(socket, &seen).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut socket: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(8 << 10);
    while let Some(head) = Head::read(&mut socket, &mut buffer).await? {
        if head.path == "/health" {
            seen.checks.fetch_add(1, Relaxed);
            answer(&mut socket, "200 OK", "", b"well").await?;
            continue;
        }
        seen.requests.fetch_add(1, Relaxed);
        let parts: Vec<&str> = head.path.split(['/', '?']).skip(1).collect();
        let number = |nth: usize| parts.get(nth).and_then(|part| part.parse::<usize>().ok()).unwrap_or(0);
        match parts.first().copied().unwrap_or_default() {
            "rooms" => return rooms::talk(socket, buffer).await,
            "faulty" => {
                let fault = Fault::named(parts.get(1).copied().unwrap_or_default());
                let Some(fault) = fault else { return Ok(()) };
                if !faults::commit(fault, &mut socket, &head, &mut buffer).await? {
                    return Ok(());
                }
            }
            "echo" => {
                let body = head.body(&mut socket, &mut buffer).await?;
                answer(&mut socket, "200 OK", "", &body).await?;
            }
            what => {
                head.body(&mut socket, &mut buffer).await?;
                match what {
                    "bytes" => answer(&mut socket, "200 OK", "", &pattern::body(number(1), number(2))).await?,
                    "chunks" => chunks(&mut socket, &pattern::body(number(1), number(2))).await?,
                    "events" => events(&mut socket, number(1)).await?,
                    "kept" => kept(&mut socket, number(1), &head, seen).await?,
                    _ => answer(&mut socket, "404 Not Found", "", b"nothing here").await?,
                }
            }
        }
    }
    Ok(())
}

async fn answer(socket: &mut TcpStream, status: &str, more: &str, body: &[u8]) -> io::Result<()> {
    let mut wire = format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\n\r\n", body.len()).into_bytes();
    if body.len() <= PIECE {
        wire.extend_from_slice(body);
        return socket.write_all(&wire).await;
    }
    socket.write_all(&wire).await?;
    socket.write_all(body).await
}

async fn chunks(socket: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for piece in body.chunks(PIECE) {
        chunk(socket, piece).await?;
    }
    socket.write_all(b"0\r\n\r\n").await
}

async fn chunk(socket: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
    let mut wire = format!("{:x}\r\n", piece.len()).into_bytes();
    wire.extend_from_slice(piece);
    wire.extend_from_slice(b"\r\n");
    socket.write_all(&wire).await
}

/// `data: 0`, `data: 1` and so on.
async fn events(socket: &mut TcpStream, count: usize) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    for nth in 0..count.min(10_000) {
        chunk(socket, event(nth).as_bytes()).await?;
        sleep(EVENT_EVERY).await;
    }
    socket.write_all(b"0\r\n\r\n").await
}

fn event(nth: usize) -> String {
    format!("data: {nth}\n\n")
}

/// All events of a stream, one after the other.
pub(super) fn all_events(count: usize) -> Bytes {
    (0..count).map(event).collect::<String>().into()
}

/// May be kept for a second, and is the same afterwards.
async fn kept(socket: &mut TcpStream, nth: usize, head: &Head, seen: &Seen) -> io::Result<()> {
    let more = format!("cache-control: public, max-age=1\r\netag: {}\r\n", etag(nth));
    if head.none_match.as_deref() == Some(&etag(nth)) {
        seen.unchanged.fetch_add(1, Relaxed);
        return socket.write_all(format!("HTTP/1.1 304 Not Modified\r\n{more}\r\n").as_bytes()).await;
    }
    answer(socket, "200 OK", &more, &kept_body(nth)).await
}

pub(super) fn etag(nth: usize) -> String {
    format!("\"kept-{nth}\"")
}

/// One in sixteen is large.
pub(super) fn kept_body(nth: usize) -> Bytes {
    let length = if nth.is_multiple_of(16) { 96 << 10 } else { 600 + nth };
    pattern::body(nth, length)
}
