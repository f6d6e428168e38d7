//! Requests, as they come through a load balancer that asks each node whether it is ready and gives a request that no node has begun
//! to answer to another one.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::admin;
use super::dice::Dice;
use super::member::HTTP;
use super::world::at_port;
use crate::http::{Connection, get_request};

const WORKERS: u32 = 16;
/// Beyond every pause that a fault makes.
const ANSWER: Duration = Duration::from_secs(15);
/// For a node that takes the request.
const TURN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
const SAMPLES: usize = 50;

#[derive(Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) admitted: AtomicU64,
    /// 429.
    pub(super) refused: AtomicU64,
    /// 503 `limit_unavailable`: the limit's word as well, from a node that is cut off.
    pub(super) unavailable: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) samples: Mutex<BTreeMap<String, u64>>,
}

pub(super) struct Load {
    pub(super) counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    ready: Arc<Vec<AtomicBool>>,
    key: Arc<str>,
    began: Instant,
}

impl Load {
    pub(super) fn start(nodes: usize, key: &str, rate: u32, seed: u64) -> Self {
        let shared = Shared {
            counts: Arc::default(),
            stop: Arc::default(),
            ready: Arc::new((0..nodes).map(|_| AtomicBool::new(true)).collect()),
            key: format!("Bearer {key}").into(),
            began: Instant::now(),
        };
        let looks = (0..nodes).map(|at| {
            let shared = shared.clone();
            thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.ready[at].store(admin::is_ready(at), Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
            })
        });
        let every = Duration::from_secs_f64(f64::from(WORKERS) / f64::from(rate));
        let workers = (0..WORKERS).map(|nth| {
            let (shared, dice) = (shared.clone(), Dice::new(seed ^ u64::from(nth) << 32));
            thread::spawn(move || worker(&shared, nth, every, dice))
        });
        let threads = looks.chain(workers).collect();
        Self { counts: shared.counts, stop: shared.stop, threads }
    }

    pub(super) fn finish(self) -> Arc<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no client panics"));
        self.counts
    }
}

fn worker(shared: &Shared, nth: u32, every: Duration, mut dice: Dice) {
    let mut lines: Vec<Option<Connection>> = shared.ready.iter().map(|_| None).collect();
    let mut due = shared.began + every * nth / WORKERS;
    while !shared.stop.load(Ordering::Relaxed) {
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if due + ANSWER < Instant::now() {
            due = Instant::now(); // What nobody could ask for in time is not asked for in a crowd.
        }
        let path = ["/open/x", "/limited/x", "/limited/x", "/dated/x"][dice.below(4)];
        let outcome = request(shared, &mut lines, path, &mut dice);
        let counts = &shared.counts;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let counter = match outcome {
            Ok((200, _)) => &counts.admitted,
            Ok((429, _)) if path != "/open/x" => &counts.refused,
            Ok((503, body)) if path != "/open/x" && body.contains("limit_unavailable") => &counts.unavailable,
            other => {
                let at = shared.began.elapsed().as_secs();
                let text = match other {
                    Ok((status, body)) => format!("{at} s {path}: {status} {}", body.trim()),
                    Err(why) => format!("{at} s {path}: {why}"),
                };
                let mut samples = counts.samples.lock().expect("no panic while locked");
                if samples.len() < SAMPLES || samples.contains_key(&text) {
                    *samples.entry(text).or_default() += 1;
                }
                &counts.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The answer that the balancer passes on.
fn request(
    shared: &Shared,
    lines: &mut [Option<Connection>],
    path: &str,
    dice: &mut Dice,
) -> Result<(u16, String), String> {
    let bytes = get_request("gate.test", path, &[("authorization", &shared.key)]);
    let (ends, mut why) = (Instant::now() + TURN, "no node is ready".to_owned());
    while Instant::now() < ends {
        for at in dice.shuffled(lines.len()) {
            if !shared.ready[at].load(Ordering::Relaxed) {
                continue;
            }
            match exchange(&mut lines[at], at, &bytes) {
                Ok(answer) => return Ok(answer),
                // Of a node that may still be at it nothing is known: another one would do it twice.
                Err((broken, true)) => why = format!("node {}: {broken}", at + 1),
                Err((broken, false)) => return Err(format!("node {}: {broken}", at + 1)),
            }
        }
        thread::sleep(LOOK / 2);
    }
    Err(why)
}

/// `Err(_, true)`: another node may be asked, for it was not reached, or ended without a byte of an answer.
fn exchange(line: &mut Option<Connection>, at: usize, bytes: &[u8]) -> Result<(u16, String), (io::Error, bool)> {
    let mut connection = match line.take() {
        Some(line) => line,
        None => Connection::over(open(at).map_err(|why| (why, true))?),
    };
    match connection.exchange(bytes) {
        Ok(answer) => {
            if connection.is_reusable() {
                *line = Some(connection);
            }
            Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
        }
        Err(broken) => {
            let late = matches!(broken.why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            Err((broken.why, broken.unanswered && !late))
        }
    }
}

fn open(at: usize) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at_port(at, HTTP), Duration::from_secs(1))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}
