//! Clients that leave in the middle: of a head, of a body, of an answer, of a stream, of a handshake. Nobody waits for what
//! comes; what counts is that nothing of it stays behind.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::crowd::{Client, World};
use super::line::{self, HOST, Line, Target, Wire};
use super::listed::Kind;
use super::pattern::{Dice, LONGEST, body};
use super::upload::Upload;

/// Ways to leave.
const WAYS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn leave_in_the_middle(mut client: Client, wire: Wire) {
    while client.goes_on() {
        let target = client.world.target(&mut client.dice);
        let way = client.dice.below(WAYS);
        let left = timeout(PATIENCE, leave(&client.world, &target, wire, way, &mut client.dice)).await;
        let (outcome, detail) = match left.map_err(io::Error::from).flatten() {
            Ok(()) => ("left", String::new()),
            // It is we who leave it: that it was faster may be.
            Err(_) if target.is_leaving() => ("left", String::new()),
            Err(why) => ("cut", why.to_string()),
        };
        client
            .world
            .tally
            .note(Kind::HangUp, &target.name, outcome, || format!("way {way} over {}: {detail}", wire.name()));
        sleep(Duration::from_millis(250)).await;
    }
}

async fn leave(world: &Arc<World>, target: &Arc<Target>, wire: Wire, way: usize, dice: &mut Dice) -> io::Result<()> {
    if way == 0 {
        // Of the handshake, where there is one.
        let secure = matches!(wire, Wire::Tls | Wire::H2Tls);
        let mut socket = TcpStream::connect(if secure { target.https } else { target.http }).await?;
        return socket.write_all(b"\x16\x03\x01\x02").await;
    }
    if wire.is_h2() {
        return reset(world, target, wire, way, dice).await;
    }
    let mut socket = line::stream(target, wire, &world.trust).await?;
    let until = match way {
        1 => {
            socket.write_all(format!("GET /bytes/0/9 HTTP/1.1\r\nhost: {HOST}\r\nx-half: ").as_bytes()).await?;
            0
        }
        2 => {
            let head = format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 200000\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&body(0, 1 + dice.below(100_000))).await?;
            0
        }
        3 => {
            let head = format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n400\r\nhalf");
            socket.write_all(head.as_bytes()).await?;
            0
        }
        4 => {
            socket.write_all(format!("GET /events/50 HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await?;
            1 + dice.below(400)
        }
        5 => {
            let call = chat();
            let length = call.len();
            let head = format!(
                "POST /llm/v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{call}"
            );
            socket.write_all(head.as_bytes()).await?;
            1 + dice.below(1_500)
        }
        _ => {
            socket.write_all(format!("GET /bytes/0/{LONGEST} HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await?;
            1 + dice.below(LONGEST / 2)
        }
    };
    sleep(Duration::from_millis(dice.below(60) as u64)).await;
    let mut some = vec![0; until];
    socket.read_exact(&mut some).await.map(drop)
}

/// A stream of h2 is given up, then the connection.
async fn reset(world: &Arc<World>, target: &Arc<Target>, wire: Wire, way: usize, dice: &mut Dice) -> io::Result<()> {
    let mut line = Line::open(Arc::clone(target), wire, &world.trust).await?;
    for _ in 0..2 {
        let (method, path, upload) = match way {
            1 | 2 => {
                ("POST", "/echo".to_owned(), Upload::in_chunks(body(0, 200_000)).slowly(Duration::from_millis(20)))
            }
            3 | 4 => ("GET", "/events/50".to_owned(), Upload::default()),
            5 => ("POST", "/llm/v1/chat/completions".to_owned(), Upload::of_known_length(chat().into())),
            _ => ("GET", format!("/chunks/0/{LONGEST}"), Upload::default()),
        };
        let request = line.request(method, &path).header("content-type", "application/json").body(upload);
        let sent = line.send(request.expect("paths of ours are valid"));
        if way < 3 {
            // Before anything came.
            let _given_up = timeout(Duration::from_millis(1 + dice.below(60) as u64), sent).await;
            continue;
        }
        let mut answer = sent.await.map_err(io::Error::other)?;
        if let Some(piece) = answer.body_mut().frame().await {
            piece.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn chat() -> String {
    r#"{"model": "long", "messages": [{"role": "user", "content": "Go on."}], "stream": true}"#.to_owned()
}
