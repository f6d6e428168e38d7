//! What goes wrong behind the gateway, each by its name.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::head::Head;
use super::{answer, chunk};
use crate::soak::pattern;

/// Longer than the route's upstream waits for anything.
const TOO_LONG: Duration = Duration::from_secs(4);
/// What a broken answer promises, and what comes of it.
pub(in crate::soak) const PROMISED: usize = 40_000;
const KEPT: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::soak) enum Fault {
    /// Closes instead of answering.
    Close,
    /// Resets instead of answering.
    Reset,
    /// What comes is no HTTP.
    Garbage,
    /// Two lengths that contradict each other.
    Contradiction,
    /// Nothing comes.
    Late,
    /// Its own 500.
    Error,
    /// Its own 503.
    Busy,
    /// A chunked body without its end.
    Truncated,
    /// A chunk that says a size nobody can read.
    BadChunk,
    /// Half of what the length says, then the end.
    Short,
    /// Half of what the length says, then silence.
    Stalled,
    /// Answers before it has read the request's body, and closes.
    Early,
}

impl Fault {
    pub(in crate::soak) const ALL: [Self; 12] = [
        Self::Close,
        Self::Reset,
        Self::Garbage,
        Self::Contradiction,
        Self::Late,
        Self::Error,
        Self::Busy,
        Self::Truncated,
        Self::BadChunk,
        Self::Short,
        Self::Stalled,
        Self::Early,
    ];

    pub(in crate::soak) fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Garbage => "garbage",
            Self::Contradiction => "contradiction",
            Self::Late => "late",
            Self::Error => "error",
            Self::Busy => "busy",
            Self::Truncated => "truncated",
            Self::BadChunk => "bad-chunk",
            Self::Short => "short",
            Self::Stalled => "stalled",
            Self::Early => "early",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// Does the connection go on?
pub(super) async fn commit(
    fault: Fault,
    socket: &mut TcpStream,
    head: &Head,
    buffer: &mut Vec<u8>,
) -> io::Result<bool> {
    if fault == Fault::Early {
        answer(socket, "200 OK", "connection: close\r\n", b"enough").await?;
        return Ok(false);
    }
    head.body(socket, buffer).await?;
    let begun = pattern::body(0, KEPT);
    match fault {
        Fault::Close | Fault::Early => {}
        Fault::Reset => SockRef::from(&*socket).set_linger(Some(Duration::ZERO))?,
        Fault::Garbage => socket.write_all(b"\x00\x01\x02 no answer at all \xff\xfe\r\n\r\n").await?,
        Fault::Contradiction => {
            let lengths = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc";
            socket.write_all(lengths).await?;
        }
        Fault::Late => sleep(TOO_LONG).await,
        Fault::Error => answer(socket, "500 Internal Server Error", "", b"the backend's own").await?,
        Fault::Busy => answer(socket, "503 Service Unavailable", "", b"the backend's own").await?,
        Fault::Truncated | Fault::BadChunk => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            chunk(socket, &begun).await?;
            if fault == Fault::BadChunk {
                socket.write_all(b"no size\r\nabc\r\n").await?;
            }
        }
        Fault::Short | Fault::Stalled => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {PROMISED}\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&begun).await?;
            if fault == Fault::Stalled {
                sleep(TOO_LONG).await;
            }
        }
    }
    Ok(matches!(fault, Fault::Error | Fault::Busy))
}
