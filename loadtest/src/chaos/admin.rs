//! The admin port of a node, from the node's own network: whatever is cut off, an operator at that machine can ask it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::member::ADMIN;
use super::world::namespace;
use crate::http::{self, Connection};
use crate::linux::in_network;

const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a question.
pub(super) enum Said {
    Answer(u16, Value),
    /// It never reached the node.
    NotAsked,
    /// It may have been done or not.
    Unknown,
}

pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a str,
    pub(super) body: &'a str,
}

impl Question<'static> {
    pub(super) const fn get(path: &str) -> Question<'_> {
        Question { method: "GET", path, headers: "", body: "" }
    }
}

fn connect(at: usize, patience: Duration) -> io::Result<TcpStream> {
    in_network(&namespace(at), || {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN)), patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(stream)
    })
}

pub(super) fn is_ready(at: usize) -> bool {
    let patience = Duration::from_millis(400);
    let asked = || Connection::over(connect(at, patience).ok()?).exchange(&http::get_request("n", "/readyz", &[])).ok();
    asked().is_some_and(|answer| answer.status == 200)
}

/// What is there to read for everybody at that machine.
pub(super) fn text(at: usize, path: &str) -> String {
    let asked = || Connection::over(connect(at, PATIENCE).ok()?).exchange(&http::get_request("n", path, &[])).ok();
    asked().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default()
}

pub(super) fn ask(at: usize, token: &str, question: &Question<'_>, patience: Duration) -> Said {
    let Question { method, path, headers, body } = question;
    let Ok(stream) = connect(at, patience) else { return Said::NotAsked };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {token}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    match Connection::over(stream).exchange(request.as_bytes()) {
        Ok(answer) => Said::Answer(answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()),
        Err(_) => Said::Unknown,
    }
}
