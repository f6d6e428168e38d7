//! One fetch per key and node: who comes while it is under way waits for it, within his own deadline.
//!
//! A fetch whose outcome is not to be shared releases all at once, and its key is remembered for a moment: they go in
//! parallel, as they would without a cache. A flight that a purge may concern takes no passengers any more.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tidegate_model::Millis;
use tokio::sync::watch;

use crate::purge::Epoch;
use crate::rules::key::{Key, KeyDigest, UrlDigest};
use crate::stored::Stored;

const SHARDS: usize = 32;
/// How long a key is remembered as not worth waiting for, and how many a shard remembers.
const UNSHARED_FOR: Millis = Millis(5_000);
const UNSHARED: usize = 2_048;
/// How long and how many URLs are remembered as void.
const VOID_FOR: Millis = Millis(60_000);
const VOIDED: usize = 2_048;

#[derive(Debug, Default)]
pub(crate) struct Flights {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    flights: HashMap<(KeyDigest, u64), Arc<Flight>, foldhash::fast::RandomState>,
    unshared: HashMap<KeyDigest, Millis, foldhash::fast::RandomState>,
    /// URLs that are being fetched, however: how many times, and how often they were made void meanwhile.
    watched: HashMap<UrlDigest, (usize, u64), foldhash::fast::RandomState>,
    /// What others may not have heard of yet.
    voided: HashMap<UrlDigest, Millis, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Flight {
    url: UrlDigest,
    begun: Epoch,
    /// An unsafe request changed what is fetched.
    doomed: AtomicBool,
    state: watch::Sender<State>,
}

/// How far a fetch got.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Fetching,
    /// Its head is known, and its body comes; how long it is nobody knows, and perhaps nobody will keep it.
    Unmeasured,
    /// Its head is known, and its body is shared as it comes.
    Streaming(Arc<Shared>),
    Stored(Arc<Stored>),
    /// The origin failed; this may stand in.
    StandIn(Arc<Stored>),
    NotShared,
    Failed,
}

pub(crate) enum Join {
    Lead(Lead),
    Wait(watch::Receiver<State>),
    /// What was fetched lately was not to be shared.
    Alone,
}

/// The one who fetches. Dropped undecided, the fetch failed.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: Key,
    variant: u64,
    flight: Arc<Flight>,
}

impl Flights {
    /// `variant`: which of the key's known variants is asked for.
    pub(crate) fn join(self: &Arc<Self>, key: &Key, variant: u64, epoch: Epoch, now: Millis) -> Join {
        let mut shard = self.shard(key.url);
        if shard.is_unshared(key, now) {
            return Join::Alone;
        }
        if let Some(flight) = shard.flights.get(&(key.key, variant))
            && flight.begun >= epoch
            && !flight.doomed.load(Ordering::Acquire)
        {
            return Join::Wait(flight.state.subscribe());
        }
        Join::Lead(self.begin(&mut shard, key, variant, epoch))
    }

    /// For a fetch that nobody waits for: only if there is none.
    pub(crate) fn lead(self: &Arc<Self>, key: &Key, variant: u64, epoch: Epoch) -> Option<Lead> {
        let mut shard = self.shard(key.url);
        if shard.flights.contains_key(&(key.key, variant)) {
            return None;
        }
        Some(self.begin(&mut shard, key, variant, epoch))
    }

    fn begin(self: &Arc<Self>, shard: &mut Shard, key: &Key, variant: u64, begun: Epoch) -> Lead {
        let state = watch::Sender::new(State::Fetching);
        let flight = Arc::new(Flight { url: key.url, begun, doomed: AtomicBool::new(false), state });
        // An earlier one goes on for who waits for it already.
        shard.flights.insert((key.key, variant), Arc::clone(&flight));
        Lead { flights: Arc::clone(self), key: *key, variant, flight }
    }

    /// What is being fetched of this URL, and what others still have of it, is not to be used. `others`: there are some.
    pub(crate) fn void(&self, url: UrlDigest, now: Millis, others: bool) {
        let mut shard = self.shard(url);
        for flight in shard.flights.values().filter(|flight| flight.url == url) {
            flight.doomed.store(true, Ordering::Release);
        }
        if let Some((_, times)) = shard.watched.get_mut(&url) {
            *times += 1;
        }
        if !others {
            return;
        }
        if shard.voided.len() >= VOIDED {
            shard.voided.retain(|_, at| now < at.saturating_add(VOID_FOR));
        }
        if shard.voided.len() >= VOIDED {
            shard.voided.clear();
        }
        shard.voided.insert(url, now);
    }

    /// Nobody waits for a fetch of this key for a while.
    pub(crate) fn note_unshared(&self, key: &Key, now: Millis) {
        let mut shard = self.shard(key.url);
        if shard.unshared.len() >= UNSHARED {
            shard.unshared.retain(|_, until| now < *until);
        }
        if shard.unshared.len() >= UNSHARED {
            shard.unshared.clear();
        }
        shard.unshared.insert(key.key, now.saturating_add(UNSHARED_FOR));
    }

    pub(crate) fn is_unshared(&self, key: &Key, now: Millis) -> bool {
        self.shard(key.url).is_unshared(key, now)
    }

    /// When this node last heard that it is void.
    pub(crate) fn voided(&self, url: UrlDigest) -> Option<Millis> {
        self.shard(url).voided.get(&url).copied()
    }

    /// Was it made void on this node since it was asked for?
    pub(crate) fn is_void(&self, url: UrlDigest, asked: Millis) -> bool {
        self.shard(url).voided.get(&url).is_some_and(|at| asked <= *at)
    }

    /// From before the origin is asked to after its answer was stored.
    pub(crate) fn watch(self: &Arc<Self>, url: UrlDigest) -> Watch {
        let mut shard = self.shard(url);
        let (count, times) = shard.watched.entry(url).or_default();
        *count += 1;
        Watch { flights: Arc::clone(self), url, times: *times }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).flights.len()).sum()
    }

    fn shard(&self, url: UrlDigest) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(url.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn is_unshared(&self, key: &Key, now: Millis) -> bool {
        self.unshared.get(&key.key).is_some_and(|until| now < *until)
    }
}

impl Lead {
    pub(crate) fn waiters(&self) -> usize {
        self.flight.state.receiver_count()
    }

    pub(crate) fn stream(&self, shared: Arc<Shared>) {
        self.flight.state.send_replace(State::Streaming(shared));
    }

    pub(crate) fn unmeasured(&self) {
        self.flight.state.send_replace(State::Unmeasured);
    }

    pub(crate) fn stored(self, stored: Arc<Stored>) {
        self.decide(State::Stored(stored));
    }

    pub(crate) fn stand_in(self, stored: Arc<Stored>) {
        self.decide(State::StandIn(stored));
    }

    /// `until`: nobody waits for a fetch of this key meanwhile. `None`: it was about this request alone.
    pub(crate) fn not_shared(self, now: Option<Millis>) {
        if let Some(now) = now {
            self.flights.note_unshared(&self.key, now);
        }
        self.decide(State::NotShared);
    }

    /// It is worth waiting for this key again.
    pub(crate) fn forget_unshared(&self) {
        self.flights.shard(self.key.url).unshared.remove(&self.key.key);
    }

    fn decide(self, state: State) {
        self.flight.state.send_replace(state);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut shard = self.flights.shard(self.key.url);
        let place = (self.key.key, self.variant);
        if shard.flights.get(&place).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            shard.flights.remove(&place);
        }
        drop(shard);
        self.flight.state.send_if_modified(|state| {
            let undecided = matches!(state, State::Fetching | State::Unmeasured | State::Streaming(_));
            if undecided {
                *state = State::Failed;
            }
            undecided
        });
    }
}

/// Sees whether a URL is made void while it is fetched.
#[derive(Debug)]
pub(crate) struct Watch {
    flights: Arc<Flights>,
    url: UrlDigest,
    times: u64,
}

impl Watch {
    pub(crate) fn is_doomed(&self) -> bool {
        self.flights.shard(self.url).watched.get(&self.url).is_some_and(|(_, times)| *times != self.times)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut shard = self.flights.shard(self.url);
        let Some((count, _)) = shard.watched.get_mut(&self.url) else { return };
        *count -= 1;
        if *count == 0 {
            shard.watched.remove(&self.url);
        }
    }
}

/// A body on its way from the origin to one who fetched it and others who watch.
#[derive(Debug)]
pub(crate) struct Shared {
    /// All but the body.
    pub(crate) head: Arc<Stored>,
    length: u64,
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    /// Somebody reads along, or did.
    joined: bool,
    driver: Option<Driver>,
    come: Vec<Bytes>,
    /// Whole, or broken.
    end: Option<bool>,
    waiting: Vec<Waker>,
}

/// What is to happen when somebody begins to read along.
struct Driver(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driver")
    }
}

impl Shared {
    /// Called once, at once if somebody reads along already.
    pub(crate) fn when_joined(&self, driver: Box<dyn FnOnce() + Send>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if !parts.joined {
            parts.driver = Some(Driver(driver));
            return;
        }
        drop(parts);
        driver();
    }

    fn join(&self) {
        let driver = {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.joined = true;
            parts.driver.take()
        };
        if let Some(Driver(driver)) = driver {
            driver();
        }
    }

    pub(crate) fn new(head: Arc<Stored>, length: u64) -> Arc<Self> {
        Arc::new(Self { head, length, parts: Mutex::default() })
    }

    pub(crate) fn push(&self, part: Bytes) {
        self.change(|parts| parts.come.push(part));
    }

    pub(crate) fn end(&self, whole: bool) {
        self.change(|parts| parts.end = parts.end.or(Some(whole)));
    }

    fn change(&self, how: impl FnOnce(&mut Parts)) {
        let waiting = {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            how(&mut parts);
            std::mem::take(&mut parts.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, at: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.come.get(at) {
            return Poll::Ready(Some(Ok(part.clone())));
        }
        match parts.end {
            Some(true) => Poll::Ready(None),
            Some(false) => Poll::Ready(Some(Err(Broken))),
            None => {
                if !parts.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    parts.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// The fetch that this answer hangs on broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the fetch that was shared broke")
    }
}

impl std::error::Error for Broken {}

/// The body of an answer from the cache.
#[derive(Debug)]
pub enum Body {
    /// At its end.
    Empty,
    Whole(Bytes),
    /// Still coming from the origin, for somebody else's request.
    Flowing(Flowing),
}

#[derive(Debug)]
pub struct Flowing {
    shared: Arc<Shared>,
    at: usize,
    left: u64,
}

impl Flowing {
    /// Of one who reads along.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.join();
        Self::leading(shared)
    }

    /// Of the one who fetched it.
    pub(crate) fn leading(shared: Arc<Shared>) -> Self {
        Self { left: shared.length, shared, at: 0 }
    }

    /// A part of this length came another way. Empty ones are not shared.
    pub(crate) fn had(&mut self, length: usize) {
        self.at += usize::from(length > 0);
        self.left = self.left.saturating_sub(length as u64);
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let next = std::task::ready!(self.shared.poll(self.at, cx));
        if let Some(Ok(part)) = &next {
            self.had(part.len());
        }
        Poll::Ready(next)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Flowing(flowing) => flowing.poll(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Flowing(flowing) => flowing.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty => 0,
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Flowing(flowing) => flowing.left,
        })
    }
}
