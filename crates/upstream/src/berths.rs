//! Berths: the right to have a request running at an upstream. So many are given out at once (a number of the document, or
//! what `tidegate-overload` learns from the answers); who finds none waits in line, or is refused.
//!
//! Free berths are taken with one compare-and-swap. The lock is for those who wait. What wakes them is the one who leaves: he
//! looks at `waiting` after he gave his berth back, and who joins the line looks at `running` after he said so; both
//! sequentially consistent, so one of them sees the other.

mod pace;
mod wait;
mod window;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tidegate_overload::{Learner, Line, Next};
use tidegate_policy::{Class, Concurrency, Overload};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::endpoint::age;
use crate::lock;
use pace::Pace;
use window::Window;

/// Who asks for a berth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guest {
    pub class: Class,
    /// Whose turn it is within a class: a hash of the consumer, or of the client's address.
    pub who: u64,
}

/// Why a request was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// As many wait as may.
    QueueFull,
    /// As many of this consumer wait as may.
    ConsumerFull,
    /// Pushed out of the line by a better class, or by a consumer with less in it.
    Displaced,
    /// Waited for too long.
    Deadline,
}

impl Shed {
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::ConsumerFull, Self::Displaced, Self::Deadline];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ConsumerFull => "consumer_full",
            Self::Displaced => "displaced",
            Self::Deadline => "deadline",
        }
    }
}

/// What one waits for: a berth is his, or not.
type Verdict = Result<(), Shed>;

#[derive(Debug)]
pub(crate) struct Berths {
    limit: AtomicU32,
    running: AtomicU32,
    /// In line. Written under its lock.
    waiting: AtomicU32,
    /// Are berths held until the answer's end? Otherwise until it begins to come.
    whole: AtomicBool,
    line: Mutex<Line<oneshot::Sender<Verdict>>>,
    /// `None`: the document says how many.
    learner: Mutex<Option<Learner>>,
    window: Window,
    deadline: AtomicU64, // microseconds
    pace: Pace,
    shed: [[AtomicU64; Class::ALL.len()]; Shed::ALL.len()],
    /// Those who had to wait, by class.
    waited: [AtomicU64; Class::ALL.len()],
}

/// One berth, until it is dropped.
#[derive(Debug)]
pub(crate) struct Berth {
    of: Arc<Berths>,
    pub(crate) began: Instant,
    epoch: u64,
    whole: bool,
}

/// For metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BerthFacts {
    pub limit: u32,
    pub adaptive: bool,
    pub running: u32,
    /// How long answers take when nothing waits, as far as that was learnt.
    pub base: Option<Duration>,
    /// Times the limit was lowered to measure that.
    pub probes: u64,
    pub queued: Vec<(Class, usize)>,
    pub waited: Vec<(Class, u64)>,
    pub shed: Vec<(Shed, Class, u64)>,
}

impl Default for Berths {
    fn default() -> Self {
        Self {
            limit: AtomicU32::new(u32::MAX),
            running: AtomicU32::default(),
            waiting: AtomicU32::default(),
            whole: AtomicBool::default(),
            line: Mutex::default(),
            learner: Mutex::default(),
            window: Window::default(),
            deadline: AtomicU64::default(),
            pace: Pace::default(),
            shed: Default::default(),
            waited: Default::default(),
        }
    }
}

impl Berths {
    /// The document's words, at first and whenever they may have changed. What was learnt stays.
    pub(crate) fn rule(self: &Arc<Self>, rules: Option<&Overload>) {
        let mut learner = lock(&self.learner);
        let (limit, whole) = match rules.map(|rules| rules.concurrency) {
            None => (u32::MAX, false),
            Some(Concurrency::Fixed(limit)) => (limit, true),
            Some(Concurrency::Adaptive { min, max }) => {
                (learner.get_or_insert_with(|| Learner::new(min, max)).bound(min, max), false)
            }
        };
        if whole || rules.is_none() {
            *learner = None;
            self.pace.set(None, limit);
        }
        drop(learner);
        let deadline = rules.map_or(Duration::ZERO, |rules| rules.queue.deadline);
        self.deadline.store(micros(deadline), Relaxed);
        self.whole.store(whole, Relaxed);
        self.limit.store(limit, SeqCst);
        self.wake();
    }

    /// A berth that is free, if nobody waits for one.
    pub(crate) fn try_enter(self: &Arc<Self>, now: Instant) -> Option<Berth> {
        (self.waiting.load(SeqCst) == 0 && self.take()).then(|| self.berth(now))
    }

    fn berth(self: &Arc<Self>, began: Instant) -> Berth {
        Berth { of: Arc::clone(self), began, epoch: self.window.epoch(), whole: self.whole.load(Relaxed) }
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let taken = self.running.fetch_update(SeqCst, SeqCst, |running| (running < limit).then_some(running + 1));
        if let Ok(before) = taken {
            self.window.ran(before + 1);
        }
        taken.is_ok()
    }

    fn give_back(self: &Arc<Self>) {
        self.running.fetch_sub(1, SeqCst);
        self.wake();
    }

    /// Berths may be free: those who wait are let in.
    fn wake(self: &Arc<Self>) {
        if self.waiting.load(SeqCst) > 0 {
            self.let_in(&mut lock(&self.line), age(Instant::now()));
        }
    }

    fn let_in(self: &Arc<Self>, line: &mut Line<oneshot::Sender<Verdict>>, now: Duration) {
        let deadline = Duration::from_micros(self.deadline.load(Relaxed));
        while !line.is_empty() && self.has_room() && self.may_start(now) && self.take() {
            let gone = loop {
                match line.next(deadline, now) {
                    Some(Next::Goes(guest)) => break guest.send(Ok(())).is_err(),
                    Some(Next::Late(guest, class)) => self.refuse(guest, class, Shed::Deadline),
                    None => break true,
                }
            };
            if gone {
                self.running.fetch_sub(1, SeqCst);
            } else {
                self.pace.started(now);
            }
        }
        self.waiting.store(u32::try_from(line.len()).unwrap_or(u32::MAX), SeqCst);
    }

    fn has_room(&self) -> bool {
        self.running.load(SeqCst) < self.limit.load(SeqCst)
    }

    /// False: a moment later; somebody will look then.
    fn may_start(self: &Arc<Self>, now: Duration) -> bool {
        let Some(pause) = self.pace.pause(now) else { return true };
        if self.pace.is_first_to_wait() {
            let berths = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                berths.pace.is_over();
                berths.wake();
            });
        }
        false
    }

    fn refuse(&self, guest: oneshot::Sender<Verdict>, class: Class, why: Shed) {
        self.count(class, why);
        let _gone_already = guest.send(Err(why));
    }

    fn count(&self, class: Class, why: Shed) {
        self.shed[why as usize][class as usize].fetch_add(1, Relaxed);
    }

    /// A window may be over.
    fn look(self: &Arc<Self>, now: Instant) {
        let Some(seen) = self.window.due(self.limit.load(Relaxed), now) else { return };
        // Who holds it looks at the same window.
        let Ok(mut learner) = self.learner.try_lock() else { return };
        let Some(learner) = learner.as_mut() else { return };
        let before = learner.limit();
        let limit = learner.learn(&seen, window::wall(now));
        self.pace.set(learner.base(), limit);
        self.window.begin(self.running.load(Relaxed), now);
        self.limit.store(limit, SeqCst);
        if limit > before {
            self.wake();
        }
    }

    pub(crate) fn facts(&self) -> BerthFacts {
        let (adaptive, base, probes) = match lock(&self.learner).as_ref() {
            Some(learner) => (true, learner.base(), learner.probes()),
            None => (false, None, 0),
        };
        let line = lock(&self.line);
        let all = Class::ALL;
        BerthFacts {
            limit: self.limit.load(Relaxed),
            adaptive,
            running: self.running.load(Relaxed),
            base,
            probes,
            queued: all.map(|class| (class, line.of(class))).to_vec(),
            waited: all.map(|class| (class, self.waited[class as usize].load(Relaxed))).to_vec(),
            shed: Shed::ALL
                .into_iter()
                .flat_map(|why| all.map(|class| (why, class, self.shed[why as usize][class as usize].load(Relaxed))))
                .collect(),
        }
    }
}

impl Berth {
    /// The head of an answer is here. `since`: when the request was wholly sent, if that is known. True: what follows needs no
    /// berth.
    pub(crate) fn answered(&self, status: StatusCode, headers: &HeaderMap, since: Option<Instant>) {
        if self.whole {
            return;
        }
        let now = Instant::now();
        if is_overload(status, headers) {
            self.of.window.failed();
        } else if let Some(since) = since
            && !status.is_server_error()
            && status != StatusCode::TOO_MANY_REQUESTS
        {
            self.of.window.answered(self.epoch, now.saturating_duration_since(since.max(self.began)));
        }
        self.of.look(now);
    }

    /// There was no answer in time.
    pub(crate) fn late(&self) {
        if !self.whole {
            self.of.window.failed();
            self.of.look(Instant::now());
        }
    }

    /// Is it held until the answer's last byte?
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.of.give_back();
    }
}

/// Does the answer say that too much is asked (RFC 9110 § 15.6.4; 529 of some; gRPC's RESOURCE_EXHAUSTED, UNAVAILABLE)?
fn is_overload(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 503 | 529)
        || headers.get("grpc-status").is_some_and(|status| matches!(status.as_bytes(), b"8" | b"14"))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
