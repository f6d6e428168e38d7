//! The other end of WebSockets: gives every frame back, unmasked (RFC 6455). Frames of up to 64 KiB, none in parts.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The nonce of RFC 6455 § 1.3, and what it is answered with: one is as good as another here.
pub(in crate::soak) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(in crate::soak) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const CLOSE: u8 = 0x88;

pub(super) async fn talk(mut socket: TcpStream, mut buffer: Vec<u8>) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    loop {
        let Some(frame) = frame(&mut socket, &mut buffer).await? else { return Ok(()) };
        let (kind, payload) = frame;
        socket.write_all(&unmasked(kind, &payload)).await?;
        if kind == CLOSE {
            return Ok(());
        }
    }
}

/// As if the request had been read already.
#[cfg(test)]
pub(in crate::soak) async fn talk_from_the_start(socket: TcpStream) -> io::Result<()> {
    talk(socket, Vec::new()).await
}

fn unmasked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![kind];
    match u8::try_from(payload.len()) {
        Ok(short @ ..126) => wire.push(short),
        _ => {
            wire.push(126);
            wire.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    wire.extend_from_slice(payload);
    wire
}

/// One masked frame; `None`: the other side has left.
async fn frame(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(u8, Vec<u8>)>> {
    loop {
        if let Some((end, frame)) = parse(buffer) {
            buffer.drain(..end);
            return Ok(Some(frame));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(usize, (u8, Vec<u8>))> {
    let (kind, short) = (*bytes.first()?, usize::from(*bytes.get(1)? & 0x7f));
    let (length, from) = match short {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        _ => (short, 2),
    };
    let mask: [u8; 4] = bytes.get(from..from + 4)?.try_into().ok()?;
    let payload = bytes.get(from + 4..from + 4 + length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((from + 4 + length, (kind, payload)))
}
