//! A request as the gateway sends it: its head, and its body in either framing. It believes what it reads.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::soak::pattern::LONGEST;

const LONGEST_HEAD: usize = 64 << 10;

pub(super) struct Head {
    pub(super) path: String,
    pub(super) none_match: Option<String>,
    length: usize,
    chunked: bool,
}

impl Head {
    /// `None`: the connection ended between two requests.
    pub(super) async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Self>> {
        loop {
            if let Some((end, head)) = parse(buffer)? {
                buffer.drain(..end);
                return Ok(Some(head));
            }
            if buffer.len() > LONGEST_HEAD {
                return Err(io::Error::other("a head without an end"));
            }
            if socket.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// All of it, and no byte of the next request.
    pub(super) async fn body(&self, socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        if !self.chunked {
            return exactly(self.length.min(2 * LONGEST), socket, buffer).await;
        }
        let mut body = Vec::new();
        loop {
            let size = line(socket, buffer).await?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                while !line(socket, buffer).await?.is_empty() {} // trailers
                return Ok(body);
            }
            if body.len() + size > 2 * LONGEST {
                return Err(io::Error::other("a longer body than anybody sends"));
            }
            body.extend(exactly(size, socket, buffer).await?);
            line(socket, buffer).await?;
        }
    }
}

async fn exactly(length: usize, socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    while buffer.len() < length {
        more(socket, buffer).await?;
    }
    Ok(buffer.drain(..length).collect())
}

async fn line(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 2);
            return Ok(line);
        }
        more(socket, buffer).await?;
    }
}

async fn more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match socket.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(end) = parsed.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let value = |name: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let head = Head {
        path: parsed.path.unwrap_or_default().to_owned(),
        none_match: value("if-none-match").map(str::to_owned),
        length: value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
        chunked: value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")),
    };
    Ok(Some((end, head)))
}
