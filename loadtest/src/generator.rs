//! Open-loop load: requests are due at a constant rate, whether or not the earlier ones were answered, and a latency is
//! counted from the instant a request was *due* (so a stall is seen by every request it delayed).
//!
//! A thread per kept-alive connection, blocking sockets, exact sleeps: nothing of ours hides in the figures.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::http::{Answer, Broken, Connection};
use crate::linux;

/// Failures beyond this many are counted, not described.
const FAILURES_KEPT: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Names the target may give in its `x-node` header; each gets its own tally.
    pub(crate) nodes: Vec<String>,
}

/// Asks once and waits for the whole answer; keeps its connection, if it likes, for the next time.
pub(crate) type Call = Box<dyn FnMut() -> Result<Answer, Broken> + Send>;

/// A running load; dropping it ends it.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    nodes: Vec<String>,
    schedule: Mutex<Schedule>,
    stop: AtomicBool,
    latencies: Histogram,
    /// One for each of `nodes`, and one for answers without a name.
    tallies: Vec<Tally>,
    failures: Mutex<Vec<Failure>>,
}

struct Schedule {
    due: Instant,
    gap: Duration,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) undecided: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// 2xx.
    pub(crate) admitted: u64,
    /// 429.
    pub(crate) refused: u64,
    /// The gate's other deliberate no: 503 `limit_unavailable`, while no leader answers.
    pub(crate) undecided: u64,
    /// Everything else, cut connections included.
    pub(crate) failed: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) node: Option<String>,
    pub(crate) what: String,
}

impl Counts {
    pub(crate) fn total(self) -> u64 {
        self.admitted + self.refused + self.undecided + self.failed
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            admitted: self.admitted - earlier.admitted,
            refused: self.refused - earlier.refused,
            undecided: self.undecided - earlier.undecided,
            failed: self.failed - earlier.failed,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            admitted: self.admitted + other.admitted,
            refused: self.refused + other.refused,
            undecided: self.undecided + other.undecided,
            failed: self.failed + other.failed,
        }
    }
}

impl Load {
    /// HTTP/1.1 in clear text.
    pub(crate) fn start(plan: Plan) -> Self {
        let (rate, nodes, connections) = (plan.rate, plan.nodes.clone(), plan.connections);
        let plan = Arc::new(plan);
        let call = || -> Call {
            let (plan, mut connection) = (Arc::clone(&plan), None);
            Box::new(move || exchange(&mut connection, &plan))
        };
        Self::calling(rate, nodes, (0..connections).map(|_| call()).collect())
    }

    /// Whatever the calls speak: a thread for each. `nodes`: see [`Plan`].
    pub(crate) fn calling(rate: f64, nodes: Vec<String>, calls: Vec<Call>) -> Self {
        let shared = Arc::new(Shared {
            schedule: Mutex::new(Schedule { due: Instant::now(), gap: gap(rate) }),
            stop: AtomicBool::new(false),
            latencies: Histogram::default(),
            tallies: (0..=nodes.len()).map(|_| Tally::default()).collect(),
            failures: Mutex::default(),
            nodes,
        });
        let drive = |call: Call| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().stack_size(128 * 1024).spawn(move || shared.drive(call)).expect("a thread starts")
        };
        let threads = calls.into_iter().map(drive).collect();
        Self { shared, threads }
    }

    pub(crate) fn set_rate(&self, rate: f64) {
        lock(&self.shared.schedule).gap = gap(rate);
    }

    /// Of the `index`th name of the plan.
    pub(crate) fn of_node(&self, index: usize) -> Counts {
        self.shared.tallies[index].read()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.tallies.iter().map(Tally::read).fold(Counts::default(), |sum, one| Counts {
            admitted: sum.admitted + one.admitted,
            refused: sum.refused + one.refused,
            undecided: sum.undecided + one.undecided,
            failed: sum.failed + one.failed,
        })
    }

    pub(crate) fn latency(&self, share: f64) -> Duration {
        self.shared.latencies.quantile(share)
    }

    pub(crate) fn failures(&self) -> Vec<Failure> {
        lock(&self.shared.failures).clone()
    }

    /// Waits for the requests under way.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn drive(&self, mut call: Call) {
        linux::sleep_exactly_in_this_thread();
        loop {
            let due = self.next_due();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.request(&mut call, due);
        }
    }

    fn next_due(&self) -> Instant {
        let mut schedule = lock(&self.schedule);
        let due = schedule.due;
        let gap = schedule.gap;
        schedule.due += gap;
        due
    }

    fn request(&self, call: &mut Call, due: Instant) {
        let began = Instant::now();
        let answer = call();
        let ended = Instant::now();
        let (node, kind) = match answer {
            Ok(answer) => (answer.node.clone(), kind_of(&answer)),
            Err(broken) => (broken.node, Err(broken.why.to_string())),
        };
        let known = node.as_ref().and_then(|node| self.nodes.iter().position(|name| name == node));
        let tally = &self.tallies[known.unwrap_or(self.nodes.len())];
        let what = match kind {
            Ok(kind) => {
                self.latencies.record(ended - due);
                let count = match kind {
                    Kind::Admitted => &tally.admitted,
                    Kind::Refused => &tally.refused,
                    Kind::Undecided => &tally.undecided,
                };
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(what) => what,
        };
        tally.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = lock(&self.failures);
        if failures.len() < FAILURES_KEPT {
            failures.push(Failure { began, ended, node, what });
        }
    }
}

impl Tally {
    pub(crate) fn read(&self) -> Counts {
        Counts {
            admitted: self.admitted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            undecided: self.undecided.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// An answer the gate meant to give.
enum Kind {
    Admitted,
    Refused,
    Undecided,
}

fn kind_of(answer: &Answer) -> Result<Kind, String> {
    let says = |code: &[u8]| answer.body.windows(code.len()).any(|part| part == code);
    match answer.status {
        200..=299 => Ok(Kind::Admitted),
        429 => Ok(Kind::Refused),
        503 if says(b"\"limit_unavailable\"") => Ok(Kind::Undecided),
        status => {
            Err(format!("status {status} {}", String::from_utf8_lossy(&answer.body[..answer.body.len().min(120)])))
        }
    }
}

fn exchange(kept: &mut Option<Connection>, plan: &Plan) -> Result<Answer, Broken> {
    if let Some(mut connection) = kept.take() {
        match connection.exchange(&plan.request) {
            // Closed while it was idle: every client asks again on a new connection (RFC 9112, 9.3.1).
            Err(broken) if broken.unanswered && was_closed(&broken.why) => {}
            answer => return keep(kept, connection, answer),
        }
    }
    let mut connection = Connection::open(plan.target, PATIENCE)?;
    let answer = connection.exchange(&plan.request);
    keep(kept, connection, answer)
}

fn keep(
    kept: &mut Option<Connection>,
    connection: Connection,
    answer: Result<Answer, Broken>,
) -> Result<Answer, Broken> {
    *kept = connection.is_reusable().then_some(connection);
    answer
}

fn was_closed(why: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(why.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn gap(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers every request with `wire`, on any number of connections.
    fn server(wire: &'static str, delay: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepts");
                thread::spawn(move || {
                    let mut request = [0; 1024];
                    while matches!(stream.read(&mut request), Ok(n) if n > 0) {
                        thread::sleep(delay);
                        let _ = stream.write_all(wire.as_bytes());
                    }
                });
            }
        });
        address
    }

    fn run(wire: &'static str, delay: Duration, connections: usize, until: u64) -> Load {
        let request = crate::http::get_request("h", "/", &[]);
        let target = server(wire, delay);
        let mut load = Load::start(Plan { target, request, connections, rate: 200.0, nodes: vec!["n1".into()] });
        while load.counts().total() < until {
            thread::sleep(Duration::from_millis(5));
        }
        load.stop();
        load
    }

    #[test]
    fn answers_are_counted_for_the_node_that_gave_them() {
        let load = run("HTTP/1.1 200 OK\r\nx-node: n1\r\ncontent-length: 0\r\n\r\n", Duration::ZERO, 2, 20);
        assert_eq!(load.of_node(0), load.counts());
        assert_eq!(load.counts().failed, 0);
    }

    #[test]
    fn a_refusal_is_no_failure_and_a_server_error_is() {
        let refused = run("HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", Duration::ZERO, 1, 5).counts();
        assert_eq!((refused.admitted, refused.failed), (0, 0));
        let load = run("HTTP/1.1 502 No\r\nx-node: n1\r\ncontent-length: 0\r\n\r\n", Duration::ZERO, 1, 5);
        assert_eq!(load.counts().failed, load.counts().total());
        assert!(load.failures()[0].what.starts_with("status 502"));
    }

    #[test]
    fn a_kept_connection_that_was_closed_while_idle_is_no_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let target = listener.local_addr().expect("bound");
        thread::spawn(move || {
            // One answer for each connection, without saying that it closes.
            for stream in listener.incoming() {
                let (mut stream, mut request) = (stream.expect("accepts"), [0; 1024]);
                let _ = stream.read(&mut request);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let request = crate::http::get_request("h", "/", &[]);
        let mut load = Load::start(Plan { target, request, connections: 1, rate: 200.0, nodes: Vec::new() });
        while load.counts().total() < 10 {
            thread::sleep(Duration::from_millis(5));
        }
        load.stop();
        assert_eq!(load.counts().failed, 0, "{:?}", load.failures());
    }

    #[test]
    fn only_the_code_of_a_503_tells_a_refusal_from_a_failure() {
        let wire = "HTTP/1.1 503 No\r\ncontent-length: 38\r\n\r\n{\"error\":{\"code\":\"limit_unavailable\"}}";
        let counts = run(wire, Duration::ZERO, 1, 5).counts();
        assert_eq!((counts.undecided, counts.failed), (counts.total(), 0));
        let counts = run("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", Duration::ZERO, 1, 5).counts();
        assert_eq!(counts.failed, counts.total());
    }

    #[test]
    fn a_latency_counts_from_when_the_request_was_due() {
        // 200 a second are due and one connection serves 50 a second: the twentieth waited about 300 ms.
        let wire = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let load = run(wire, Duration::from_millis(20), 1, 20);
        assert!(load.latency(1.0) > Duration::from_millis(200), "{:?}", load.latency(1.0));
    }
}
