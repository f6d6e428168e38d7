//! One connection to Redis for a whole gateway: commands of all requests that wait go out in one write, answers come back
//! in their order. The few kinds of answers that INCR, PEXPIRE, SCRIPT LOAD, EVALSHA and INFO give.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// Commands that wait to be written.
const MOST_WAITING: usize = 4_096;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Number(i64),
    Text(String),
    Error(String),
}

/// Who waits for an answer; `None`: nobody.
type Waiter = Option<oneshot::Sender<Reply>>;

pub(super) struct Pipeline {
    commands: mpsc::Sender<(Vec<u8>, Waiter)>,
    sent: Arc<AtomicU64>,
}

impl Pipeline {
    pub(super) async fn open(redis: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(redis).await.context("cannot connect to Redis")?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let (commands, waiting) = mpsc::channel(MOST_WAITING);
        let (sent, answers) = (Arc::<AtomicU64>::default(), Arc::<Mutex<VecDeque<Waiter>>>::default());
        tokio::spawn(writer(waiting, write, Arc::clone(&answers), Arc::clone(&sent)));
        tokio::spawn(reader(read, answers));
        Ok(Self { commands, sent })
    }

    pub(super) async fn ask(&self, words: &[&str]) -> Result<Reply> {
        let (answer, answered) = oneshot::channel();
        self.commands.send((command(words), Some(answer))).await.context("the connection to Redis is gone")?;
        match answered.await.context("the connection to Redis is gone")? {
            Reply::Error(why) => bail!("Redis: {why}"),
            reply => Ok(reply),
        }
    }

    /// Nobody waits for the answer.
    pub(super) async fn tell(&self, words: &[&str]) -> Result<()> {
        self.commands.send((command(words), None)).await.context("the connection to Redis is gone")
    }

    pub(super) fn commands(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

async fn writer(
    mut waiting: mpsc::Receiver<(Vec<u8>, Waiter)>,
    mut stream: OwnedWriteHalf,
    answers: Arc<Mutex<VecDeque<Waiter>>>,
    sent: Arc<AtomicU64>,
) {
    let mut batch = Vec::new();
    while let Some(first) = waiting.recv().await {
        batch.clear();
        {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = Some(first);
            while let Some((bytes, waiter)) = next {
                batch.extend_from_slice(&bytes);
                answers.push_back(waiter);
                sent.fetch_add(1, Relaxed);
                next = waiting.try_recv().ok();
            }
        }
        if stream.write_all(&batch).await.is_err() {
            return;
        }
    }
}

async fn reader(mut stream: OwnedReadHalf, answers: Arc<Mutex<VecDeque<Waiter>>>) {
    let mut buffer = Vec::with_capacity(8_192);
    loop {
        let mut read = 0;
        while let Some((length, reply)) = parse(&buffer[read..]) {
            read += length;
            let waiter = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(Some(waiter)) = waiter {
                let _hung_up = waiter.send(reply);
            }
        }
        buffer.drain(..read);
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            // Whoever waits learns of it.
            answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return;
        }
    }
}

/// The first whole answer and how long it is.
fn parse(bytes: &[u8]) -> Option<(usize, Reply)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(bytes.get(1..end)?).into_owned();
    let after = end + 2;
    Some(match bytes.first()? {
        b':' => (after, line.parse().map_or_else(|_| Reply::Error(line.clone()), Reply::Number)),
        b'+' => (after, Reply::Text(line)),
        b'$' => {
            let length: usize = line.parse().unwrap_or(0);
            let body = bytes.get(after..after + length + 2)?;
            (after + length + 2, Reply::Text(String::from_utf8_lossy(&body[..length]).into_owned()))
        }
        _ => (after, Reply::Error(line)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_by_one_and_only_when_they_are_whole() {
        assert_eq!(parse(b":12\r\n:13\r\n"), Some((5, Reply::Number(12))));
        assert_eq!(parse(b"$3\r\nabc\r\n+OK\r\n"), Some((9, Reply::Text("abc".into()))));
        assert_eq!(parse(b"-ERR no\r\n"), Some((9, Reply::Error("ERR no".into()))));
        for part in [&b""[..], b":1", b":12\r", b"$3\r\nab", b"$3\r\nabc\r"] {
            assert_eq!(parse(part), None, "{part:?}");
        }
    }

    #[test]
    fn a_command_is_an_array_of_its_words() {
        assert_eq!(command(&["INCR", "k1"]), b"*2\r\n$4\r\nINCR\r\n$2\r\nk1\r\n");
    }
}
