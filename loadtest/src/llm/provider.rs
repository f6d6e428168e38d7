//! A provider of language models that is none: OpenAI's chat completions and Anthropic's messages, as the model's name says
//! ([`script`](super::script)). One thread, answers prepared once, a write for each event: it is not what is measured.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream as Blocking};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::script::{END, Fault, Prepared, Words};
use crate::linux::WhenOrphaned;
use crate::matrix::measure::last_cpu;
use crate::process::{Process, Start, free_address};

/// Of a call.
const LONGEST: usize = 4 << 20;
/// Of models that are remembered.
const MODELS: usize = 256;

/// The provider as a process of its own, on the last CPU.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Provider {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["provider", "--http", &address.to_string()]);
        let cpus = [last_cpu()];
        let start = Start { name: "provider", logs: folder, when_orphaned: WhenOrphaned::Kill, cpus: Some(&cpus) };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || Blocking::connect(address).is_ok())?;
        Ok(Self { address, _process: process })
    }
}

#[derive(Default)]
struct Shared {
    prepared: RefCell<HashMap<(Words, String), Rc<Prepared>>>,
    calls: Cell<u64>,
}

/// Serves until the process is ended.
pub(crate) fn serve(http: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(http).await?;
        println!("listening {}", listener.local_addr()?);
        let shared = Rc::new(Shared::default());
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            let shared = Rc::clone(&shared);
            tokio::task::spawn_local(async move {
                let _caller_left = connection(stream, &shared).await;
            });
        }
    })
}

struct Call {
    words: Words,
    model: String,
    stream: bool,
    length: usize,
}

async fn connection(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(8 << 10);
    loop {
        let call = loop {
            if let Some(call) = call(&buffer)? {
                break call;
            }
            if buffer.len() > LONGEST || socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        buffer.drain(..call.length);
        let prepared = shared.prepared(&call);
        shared.calls.set(shared.calls.get() + 1);
        let fault = prepared.script.fault.filter(|_| shared.calls.get().is_multiple_of(prepared.script.every));
        if !prepared.script.ttft.is_zero() {
            sleep(prepared.script.ttft).await;
        }
        match fault {
            Some(Fault::Status(_)) => socket.write_all(&prepared.refusal).await?,
            _ if call.stream => stream(&mut socket, &prepared, fault).await?,
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Break) => return Ok(()),
            None => socket.write_all(&prepared.whole).await?,
        }
        if call.stream && fault == Some(Fault::Break) {
            return Ok(());
        }
    }
}

async fn stream(socket: &mut TcpStream, prepared: &Prepared, fault: Option<Fault>) -> std::io::Result<()> {
    let pace = prepared.script.pace;
    let cut = matches!(fault, Some(Fault::Stall | Fault::Break));
    let events = if cut { &prepared.events[..prepared.events.len() / 2] } else { &prepared.events[..] };
    socket.write_all(&prepared.head).await?;
    let mut due = Instant::now();
    for (nth, event) in events.iter().enumerate() {
        if nth > 0 && !pace.is_zero() {
            due += pace;
            sleep_until(due).await;
        }
        socket.write_all(event).await?;
    }
    match fault {
        Some(Fault::Stall) => socket.read_u8().await.map(drop),
        Some(Fault::Break) => Ok(()),
        _ => socket.write_all(END).await,
    }
}

impl Shared {
    fn prepared(&self, call: &Call) -> Rc<Prepared> {
        let mut known = self.prepared.borrow_mut();
        if known.len() >= MODELS {
            known.clear();
        }
        let name = (call.words, call.model.clone());
        Rc::clone(known.entry(name).or_insert_with(|| Rc::new(Prepared::new(call.words, &call.model))))
    }
}

/// `None`: more bytes are needed.
fn call(bytes: &[u8]) -> std::io::Result<Option<Call>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).map_err(std::io::Error::other)? else {
        return Ok(None);
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok()).unwrap_or(0);
    let Some(body) = bytes.get(end..end + length) else { return Ok(None) };
    let path = head.path.unwrap_or_default().split('?').next().unwrap_or_default();
    let words = if path.ends_with("/messages") { Words::Anthropic } else { Words::OpenAi };
    let body = String::from_utf8_lossy(body);
    let value = |name: &str| body.split_once(name)?.1.trim_start().strip_prefix(':').map(str::trim_start);
    let model = value("\"model\"").and_then(|value| value.strip_prefix('"')?.split('"').next()).unwrap_or("fake");
    let stream = value("\"stream\"").is_some_and(|value| value.starts_with("true"));
    Ok(Some(Call { words, model: model.to_owned(), stream, length: end + length }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use super::*;

    fn ask(model: &str, stream: bool) -> String {
        let address = free_address().expect("loopback");
        thread::spawn(move || serve(address));
        let mut socket = loop {
            match Blocking::connect(address) {
                Ok(socket) => break socket,
                Err(_) => thread::yield_now(),
            }
        };
        let body = format!("{{\"model\": \"{model}\", \"stream\":{stream}, \"messages\":[]}}");
        let head = format!("POST /x/v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all((head + &body).as_bytes()).expect("writes");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = socket.read(&mut some) {
            all.extend_from_slice(&some[..n]);
        }
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn it_streams_answers_whole_refuses_and_breaks_off_as_the_model_says() {
        let streamed = ask("fake-events.6", true);
        assert!(streamed.starts_with("HTTP/1.1 200") && streamed.ends_with("0\r\n\r\n"), "{streamed}");
        assert_eq!(streamed.matches("event: ").count(), 6);
        assert!(ask("fake", false).contains("\"output_tokens\":32"));
        let throttled = ask("fake-fault.429", true);
        assert!(throttled.starts_with("HTTP/1.1 429") && throttled.contains("retry-after: 1"), "{throttled}");
        for fault in ["break", "stall"] {
            let cut = ask(&format!("fake-events.8-fault.{fault}"), true);
            assert_eq!((cut.matches("event: ").count(), cut.ends_with("0\r\n\r\n")), (4, false), "{cut}");
        }
    }
}
