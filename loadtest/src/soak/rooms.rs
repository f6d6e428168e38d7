//! WebSockets: clients that stay for some seconds, send frames of all sizes and want each of them back. By hand, so that
//! every byte is known (RFC 6455).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::backend::{ACCEPT, KEY};
use super::crowd::Client;
use super::line::{self, HOST, Stream, Wire};
use super::listed::Kind;
use super::pattern::{Dice, SEEDS, body};

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
/// Of a frame.
const LONGEST: usize = 60_000;
const LONGEST_HEAD: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn visit(mut client: Client, wire: Wire) {
    while client.goes_on() {
        let target = client.world.target(&mut client.dice);
        let frames = 10 + client.dice.below(60);
        let mut step = "connecting";
        let visited = converse(&client, &target, wire, frames, &mut step).await;
        let (outcome, detail) = match visited {
            Ok(outcome) => (outcome, String::new()),
            Err(why) => ("cut".to_owned(), format!("{why} while {step}")),
        };
        client
            .world
            .tally
            .note(Kind::Rooms, &target.name, &outcome, || format!("{frames} frames over {}: {detail}", wire.name()));
        sleep(Duration::from_millis(200)).await;
    }
}

async fn converse(
    client: &Client,
    target: &line::Target,
    wire: Wire,
    frames: usize,
    step: &mut &'static str,
) -> io::Result<String> {
    let mut dice = client.dice.clone();
    let mut socket = line::stream(target, wire, &client.world.trust).await?;
    *step = "asking for it";
    let ask = format!(
        "GET /rooms/{frames} HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    );
    socket.write_all(ask.as_bytes()).await?;
    let head = within(head(&mut *socket)).await?;
    if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
        return Ok(format!("{} {}", head.get(9..12).unwrap_or_default(), "refused"));
    }
    *step = "talking";
    for _ in 0..frames {
        let longest = LONGEST >> dice.below(8);
        let payload = body(dice.below(SEEDS), dice.below(longest));
        socket.write_all(&masked(BINARY, &payload, &mut dice)).await?;
        let (kind, back) = within(frame(&mut *socket)).await?;
        if kind != BINARY || back != payload {
            return Ok("101 wrong".to_owned());
        }
        sleep(Duration::from_millis(dice.below(150) as u64)).await;
    }
    *step = "parting";
    socket.write_all(&masked(CLOSE, b"\x03\xe8", &mut dice)).await?;
    let (kind, _) = within(frame(&mut *socket)).await?;
    if kind != CLOSE {
        return Ok("101 wrong".to_owned());
    }
    *step = "hanging up";
    let rest = within(async { socket.read_u8().await.map(Some).or_else(ended) }).await?;
    Ok(if rest.is_none() { "101" } else { "101 wrong" }.to_owned())
}

/// An end is what was wanted; TLS says so in its own way.
fn ended(why: io::Error) -> io::Result<Option<u8>> {
    if why.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(why) }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, step).await.map_err(io::Error::from)?
}

/// Byte by byte: what follows it is not ours to take.
async fn head(socket: &mut dyn Stream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        head.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn masked(kind: u8, payload: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut wire = Vec::with_capacity(payload.len() + 8);
    wire.push(kind);
    match u8::try_from(payload.len()) {
        Ok(short @ ..126) => wire.push(0x80 | short),
        _ => {
            wire.push(0x80 | 126);
            let length = u16::try_from(payload.len()).expect("frames are bounded");
            wire.extend_from_slice(&length.to_be_bytes());
        }
    }
    let [a, b, c, d, ..] = dice.throw().to_le_bytes();
    wire.extend_from_slice(&[a, b, c, d]);
    wire.extend(payload.iter().zip([a, b, c, d].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    wire
}

async fn frame(socket: &mut dyn Stream) -> io::Result<(u8, Vec<u8>)> {
    let kind = socket.read_u8().await?;
    let length = match socket.read_u8().await? {
        126 => usize::from(socket.read_u16().await?),
        short => usize::from(short & 0x7f),
    };
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_every_length_come_back_from_the_backend_as_they_were() {
        let (listener, mut dice) =
            (tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback"), Dice::new(3));
        let address = listener.local_addr().expect("bound");
        let talks = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("accepts");
            crate::soak::backend::talk(socket).await
        });
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("connects");
        assert!(head(&mut socket).await.expect("a head").contains(ACCEPT));
        for length in [0, 1, 125, 126, 127, 65_535] {
            socket.write_all(&masked(BINARY, &body(5, length), &mut dice)).await.expect("writes");
            let (kind, back) = frame(&mut socket).await.expect("a frame");
            assert!(kind == BINARY && back == body(5, length), "{length}");
        }
        drop(socket);
        talks.await.expect("no panic").expect("an end is no error");
    }
}
