//! The access log: requests append their line to a buffer of their lane, one thread writes all buffers out.
//!
//! ```text
//! core 0 ──► lane 0 [line line line]──┐
//! core 1 ──► lane 1 [line line]───────┴─ every 20 ms, or at 256 KiB ──► writer ──► one write per lane
//! ```
//! A lane is full at 1 MiB: then lines are dropped and counted, and the request goes on.

use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_policy::AccessLog;
use tracing::error;

use crate::file::Sink;
use crate::lanes::{LANES, Padded, lane};

const LANE_BYTES: usize = 1024 * 1024;
/// The writer is woken early at this fill.
const HURRY_BYTES: usize = 256 * 1024;
/// Lines are gathered for this long before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// Capacity a lane keeps after it was hardly used for [`QUIET`] writes.
const KEPT_BYTES: usize = 64 * 1024;
const QUIET: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    lanes: [Padded<Mutex<Lines>>; LANES],
    /// Lines lie in a lane and the writer was told.
    pending: AtomicBool,
    on: AtomicBool,
    counts: Arc<Counts>,
    orders: Mutex<Vec<Order>>,
}

/// What one lane gathered.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Order {
    Direct(Sink, SyncSender<()>),
    Reopen,
    Flush(SyncSender<()>),
    Stop,
}

impl Log {
    /// Starts the writer; it writes nowhere yet.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            lanes: Default::default(),
            pending: AtomicBool::new(false),
            on: AtomicBool::new(false),
            counts: Arc::default(),
            orders: Mutex::default(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            sink: Sink::Nowhere,
            spare: Lines::default(),
            quiet: 0,
            complained: None,
        };
        let writer = thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { shared, writer: Some(writer) })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.shared.on.load(Relaxed)
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Adds one line, or drops it when the writer is too far behind.
    pub(crate) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let filled = {
            let mut lane = lock(&self.shared.lanes[lane()].0);
            let before = lane.bytes.len();
            if before >= LANE_BYTES {
                self.shared.counts.dropped.fetch_add(1, Relaxed);
                return;
            }
            write(&mut lane.bytes);
            lane.count += 1;
            before < HURRY_BYTES && lane.bytes.len() >= HURRY_BYTES
        };
        if filled || (!self.shared.pending.load(Relaxed) && !self.shared.pending.swap(true, SeqCst)) {
            self.wake();
        }
    }

    /// From now on lines go there. Those before go where they were meant to.
    pub(crate) fn direct(&self, settings: Option<&AccessLog>) -> io::Result<()> {
        let sink = Sink::open(settings)?;
        let (done, wait) = sync_channel(1);
        self.order(Order::Direct(sink, done));
        let _ = wait.recv_timeout(PATIENCE); // A writer stuck on a dead disk must not hold up a new document.
        self.shared.on.store(settings.is_some(), Relaxed);
        Ok(())
    }

    pub(crate) fn reopen(&self) {
        self.order(Order::Reopen);
    }

    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        self.order(Order::Flush(done));
        let _ = wait.recv(); // An error: the writer is gone, so nothing is left to wait for.
    }

    fn order(&self, order: Order) {
        lock(&self.shared.orders).push(order);
        self.wake();
    }

    fn wake(&self) {
        if let Some(writer) = &self.writer {
            writer.thread().unpark();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // It panicked: it said so itself.
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    spare: Lines,
    /// Writes in a row that used little of a lane's capacity.
    quiet: u32,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        loop {
            let orders = std::mem::take(&mut *lock(&self.shared.orders));
            if orders.is_empty() {
                if self.shared.pending.load(SeqCst) {
                    // `pending` stays set meanwhile, so that no request wakes us; an order or a full lane does.
                    thread::park_timeout(GATHER);
                    self.shared.pending.store(false, SeqCst);
                    self.drain();
                } else {
                    thread::park();
                }
                continue;
            }
            for order in orders {
                // What was pushed before the order is treated as before it.
                self.drain();
                match order {
                    Order::Direct(sink, done) => {
                        self.sink = sink;
                        let _ = done.send(()); // Nobody waits any more: fine.
                    }
                    Order::Reopen => {
                        let result = self.sink.reopen();
                        self.complain(result);
                    }
                    Order::Flush(done) => drop(done.send(())),
                    Order::Stop => return,
                }
            }
        }
    }

    fn drain(&mut self) {
        for index in 0..LANES {
            {
                let mut lane = lock(&self.shared.lanes[index].0);
                if lane.count == 0 {
                    continue;
                }
                std::mem::swap(&mut *lane, &mut self.spare);
            }
            let result = self.sink.write(&self.spare.bytes);
            let counter = if result.is_ok() { &self.shared.counts.written } else { &self.shared.counts.dropped };
            counter.fetch_add(self.spare.count, Relaxed);
            self.complain(result);
            self.clear_spare();
        }
    }

    /// A busy lane keeps its room: growing anew for every write would cost more than the write.
    fn clear_spare(&mut self) {
        let Lines { bytes, count } = &mut self.spare;
        self.quiet = if bytes.len() < bytes.capacity() / 8 { self.quiet + 1 } else { 0 };
        bytes.clear();
        *count = 0;
        if self.quiet >= QUIET {
            bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// A full disk is said twice a minute, not with every line.
    fn complain(&mut self, result: io::Result<()>) {
        let Err(why) = result else { return };
        if self.complained.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            error!(%why, "the access log cannot be written; lines are lost");
        }
    }
}

impl Counts {
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// A line is whole or not there even if its writing panicked: nothing to be afraid of.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
