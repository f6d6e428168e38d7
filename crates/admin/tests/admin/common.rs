//! A node's admin port over a cluster in memory, and a client that speaks plain HTTP/1.1 to it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tidegate_admin::backend::memory::Memory;
use tidegate_admin::{AppState, compile, router, serve};
use tidegate_config::Inputs;
use tidegate_state::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub(crate) const ADMIN: &str = "tga_admin";
pub(crate) const OPERATOR: &str = "tga_operator";
pub(crate) const READER: &str = "tga_reader";

pub(crate) const GOOD: &str = "\
version: 1
consumers: [{name: acme}]
upstreams: [{name: users, endpoints: [{url: 'http://127.0.0.1:9001'}]}]
routes: [{name: users, match: {path: /users}, to: [{upstream: users}]}]
";
/// Two problems, on lines 3 and 4.
pub(crate) const BAD: &str = "\
version: 1
upstreams: [{name: users, endpoints: [{url: 'http://127.0.0.1:9001'}]}]
routes: [{name: users, match: {path: /users}, to: [{upstream: nobody}]}]
typo: 1
";

pub(crate) struct Port {
    pub(crate) memory: Arc<Memory>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

pub(crate) async fn start() -> Port {
    let memory =
        Arc::new(Memory::new(ADMIN, Box::new(|text, revision, _| compile(text, revision, |_| Inputs::assumed()))));
    memory.add_token(OPERATOR, Role::Operator);
    memory.add_token(READER, Role::Reader);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let app = router(AppState::new(memory.clone()));
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(serve(listener, app, shutdown));
    Port { memory, address, stop: Some(stop), served }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The answer is a no with this status and code, in the contract's shape.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
        assert_eq!(error["request_id"].as_str(), self.header("x-request-id"), "{error}");
        error
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        self.json()
    }
}

impl Port {
    pub(crate) fn state(&self) -> &dyn tidegate_admin::Backend {
        &*self.memory
    }

    pub(crate) async fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], body.as_bytes()).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask(token, "GET", path, "").await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// Bytes as they are; an early answer ends the writing.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let (mut read, mut write) = TcpStream::connect(self.address).await.unwrap().into_split();
        let writing = async {
            let _ = write.write_all(bytes).await;
            write
        };
        let mut all = Vec::new();
        let reading = async {
            let _ = read.read_to_end(&mut all).await;
        };
        let _ = tokio::join!(writing, reading);
        parse(&all)
    }
}

fn parse(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {all:?}"));
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = all[end + 4..].to_vec();
    if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        body = dechunked(&body);
    }
    Answer { status, headers, body }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}
