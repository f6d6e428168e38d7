//! An endpoint's connections. HTTP/1.1 ones lie on a stack per runtime while idle (the warmest on top); HTTP/2 ones
//! are shared, up to the streams their peer allows. Nothing here waits; waiting for a place is `checkout`'s.

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use hyper::client::conn::http2;
use tidegate_policy::Upstream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Whom;
use crate::alarm::Alarm;
use crate::endpoint::Endpoint;
use crate::h1::One;
use crate::lock;
use crate::outgoing::Outgoing;
use crate::shard::{SHARDS, Shard};

/// Idle connections looked at for one that stands.
const LOOKED_AT: usize = 4;
const LONGEST_IDLE: Duration = Duration::from_secs(3600);
/// Timers kept per HTTP/2 connection.
const ALARMS: usize = 256;

#[derive(Debug)]
pub(crate) struct Pool {
    shelves: [OnceLock<Box<Shelf>>; SHARDS],
    /// Connections that stand or are being made, of all runtimes.
    open: AtomicUsize,
    /// Calls that wait for a connection or make one.
    pub(crate) waiting: AtomicUsize,
    pub(crate) changed: Notify,
    pub(crate) speaks: Speaks,
    max_connections: AtomicUsize,
    max_idle: AtomicUsize,
    idle_millis: AtomicU64,
    /// No document names the endpoint any more: what comes back is closed.
    retired: AtomicBool,
}

/// What one runtime holds.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    idle: Mutex<Vec<Idle>>,
    trunks: Mutex<Vec<Arc<Trunk>>>,
    /// Connections being made.
    pub(crate) connecting: AtomicUsize,
    /// Grows with each connection that failed, so that those who waited for it fail as well.
    pub(crate) failures: AtomicU64,
    reaped: AtomicBool,
}

/// What the endpoint chose by ALPN, once known.
#[derive(Debug, Default)]
pub(crate) struct Speaks(AtomicU8);

/// A place in `Pool::open`; goes when the socket is closed.
pub(crate) struct Open(pub(crate) Arc<Endpoint>);

/// A connection in the hands of one request.
pub(crate) struct Held {
    pub(crate) line: Line,
    pub(crate) alarm: Alarm,
    /// How long connecting took; `None`: it was idle.
    pub(crate) connect: Option<Duration>,
}

pub(crate) enum Line {
    One(One),
    Many(Stream),
}

/// An HTTP/2 connection.
pub(crate) struct Trunk {
    send: http2::SendRequest<Outgoing>,
    streams: AtomicUsize,
    /// Streams the peer allows.
    room: Arc<AtomicUsize>,
    alarms: Mutex<Vec<Alarm>>,
    idle_since: Mutex<Instant>,
    whom: Option<Arc<Whom>>,
}

/// One stream's place on an HTTP/2 connection.
pub(crate) struct Stream(Arc<Trunk>);

struct Idle {
    one: One,
    alarm: Alarm,
    until: Instant,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            shelves: [const { OnceLock::new() }; SHARDS],
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            speaks: Speaks::default(),
            max_connections: AtomicUsize::new(usize::MAX),
            max_idle: AtomicUsize::new(usize::MAX),
            idle_millis: AtomicU64::new(60_000),
            retired: AtomicBool::new(false),
        }
    }

    /// A new snapshot's settings.
    pub(crate) fn set(&self, upstream: &Upstream) {
        self.max_connections.store(upstream.max_connections.max(1), Relaxed);
        self.max_idle.store(upstream.max_idle, Relaxed);
        let idle = upstream.idle_timeout.min(LONGEST_IDLE).as_millis();
        self.idle_millis.store(u64::try_from(idle).expect("an hour in milliseconds"), Relaxed);
        self.retired.store(false, Relaxed);
        self.changed.notify_waiters();
    }

    /// Closes what is idle now; what is in use is closed when it comes back.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
        for shelf in self.shelves.iter().filter_map(OnceLock::get) {
            drop(std::mem::take(&mut *lock(&shelf.idle)));
            lock(&shelf.trunks).clear();
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn shelf(&self, shard: Shard) -> &Shelf {
        self.shelves[shard.place].get_or_init(Box::default)
    }

    pub(crate) fn open_now(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(crate) fn idle_now(&self) -> usize {
        self.shelves.iter().filter_map(OnceLock::get).map(|shelf| lock(&shelf.idle).len()).sum()
    }

    pub(crate) fn limit(&self) -> usize {
        self.max_connections.load(Relaxed)
    }

    /// One more connection, if there may be one.
    pub(crate) fn reserve(&self, endpoint: &Arc<Endpoint>) -> Option<Open> {
        let limit = self.limit();
        self.open.fetch_update(SeqCst, SeqCst, |open| (open < limit).then_some(open + 1)).ok()?;
        Some(Open(Arc::clone(endpoint)))
    }

    /// Something came free: let one of those who wait look.
    pub(crate) fn freed(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.changed.notify_one();
        }
    }

    /// A connection that stands, made for `whom`. `upgrade`: only HTTP/1.1 will do.
    pub(crate) fn take(&self, shard: Shard, upgrade: bool, whom: Option<&Arc<Whom>>, now: Instant) -> Option<Held> {
        let shelf = self.shelves[shard.place].get()?;
        if !upgrade
            && self.speaks.http2() != Some(false)
            && let Some(held) = shelf.share(shard, whom)
        {
            return Some(held);
        }
        match whom {
            None => shelf.pop(shard, now),
            Some(whom) => shelf.pop_of(shard, whom, now),
        }
    }

    /// As [`Pool::take`], of the other runtimes: slower, but better than to wait.
    pub(crate) fn take_elsewhere(
        &self,
        shard: Shard,
        upgrade: bool,
        whom: Option<&Arc<Whom>>,
        now: Instant,
    ) -> Option<Held> {
        (0..SHARDS)
            .filter(|place| *place != shard.place)
            .find_map(|place| self.take(Shard { place, ..shard }, upgrade, whom, now))
    }

    /// Drops one idle connection, so that a fresh one may take its place.
    pub(crate) fn drop_one(&self) {
        for shelf in self.shelves.iter().filter_map(OnceLock::get) {
            let popped = lock(&shelf.idle).pop();
            if popped.is_some() {
                return;
            }
        }
    }

    /// Connections are made for somebody each, and one more may not be: of those that others might come back to, the one that
    /// has waited longest goes.
    pub(crate) fn drop_the_oldest(&self) {
        for shelf in self.shelves.iter().filter_map(OnceLock::get) {
            if shelf.drop_the_oldest() {
                return;
            }
        }
    }

    /// The exchange is over and the connection whole. `keep_alive`: how long the peer said it would wait.
    pub(crate) fn give_back(endpoint: &Arc<Endpoint>, shard: Shard, held: Held, keep_alive: Option<Duration>) {
        let pool = &endpoint.pool;
        let mut one = match held.line {
            Line::Many(stream) => return stream.end(held.alarm),
            Line::One(one) => one,
        };
        if !one.rest() || pool.retired.load(Relaxed) {
            return;
        }
        // Idle ones are counted only where there could be too many.
        let most = pool.max_idle.load(Relaxed);
        if pool.open_now() > most && pool.idle_now() >= most && pool.waiting.load(SeqCst) == 0 {
            if one.whom.is_none() || most == 0 {
                return;
            }
            pool.drop_the_oldest(); // Whoever comes now is more likely to come again.
        }
        let timeout = Duration::from_millis(pool.idle_millis.load(Relaxed));
        let stay = keep_alive.map_or(timeout, |told| timeout.min(told));
        let shelf = pool.shelf(shard);
        lock(&shelf.idle).push(Idle { one, alarm: held.alarm, until: Instant::now() + stay });
        shelf.reap(endpoint, shard);
        pool.freed();
    }

    /// A new HTTP/2 connection joins the shelf; the call that made it has its first stream.
    pub(crate) fn add_trunk(
        endpoint: &Arc<Endpoint>,
        shard: Shard,
        send: http2::SendRequest<Outgoing>,
        room: Arc<AtomicUsize>,
        whom: Option<&Arc<Whom>>,
    ) -> Stream {
        let trunk = Arc::new(Trunk {
            send,
            streams: AtomicUsize::new(1),
            room,
            alarms: Mutex::new(Vec::new()),
            idle_since: Mutex::new(Instant::now()),
            whom: whom.cloned(),
        });
        let shelf = endpoint.pool.shelf(shard);
        if !endpoint.pool.retired.load(Relaxed) {
            lock(&shelf.trunks).push(Arc::clone(&trunk));
            shelf.reap(endpoint, shard);
        }
        Stream(trunk)
    }
}

impl Shelf {
    /// The one that was used last, of those that stand.
    fn pop(&self, shard: Shard, now: Instant) -> Option<Held> {
        let mut idle = lock(&self.idle);
        for _ in 0..LOOKED_AT {
            let mut top = idle.pop()?;
            if top.until > now && !top.one.is_closed() {
                return Some(top.held(shard));
            }
        }
        None
    }

    /// A stream on the least loaded HTTP/2 connection that has room.
    fn share(&self, shard: Shard, whom: Option<&Arc<Whom>>) -> Option<Held> {
        let mut trunks = lock(&self.trunks);
        if trunks.is_empty() {
            return None;
        }
        trunks.retain(|trunk| !trunk.send.is_closed());
        let trunk = trunks
            .iter()
            .filter(|t| t.has_room() && t.whom.as_ref() == whom)
            .min_by_key(|t| t.streams.load(Relaxed))?;
        trunk.streams.fetch_add(1, Relaxed);
        let stream = Stream(Arc::clone(trunk));
        drop(trunks);
        let mut alarm = lock(&stream.0.alarms).pop().unwrap_or_default();
        alarm.moved_to(shard);
        Some(Held { line: Line::Many(stream), alarm, connect: None })
    }

    /// As [`Shelf::pop`], of those that were made for him.
    #[cold]
    fn pop_of(&self, shard: Shard, whom: &Arc<Whom>, now: Instant) -> Option<Held> {
        let mut idle = lock(&self.idle);
        loop {
            let at = idle.iter().rposition(|idle| idle.one.whom.as_ref() == Some(whom))?;
            let mut found = idle.remove(at);
            if found.until > now && !found.one.is_closed() {
                return Some(found.held(shard));
            }
        }
    }

    fn drop_the_oldest(&self) -> bool {
        let mut idle = lock(&self.idle);
        let oldest = (!idle.is_empty()).then(|| idle.remove(0));
        drop(idle); // Not to be held while a connection is closed.
        if oldest.is_some() {
            return true;
        }
        let mut trunks = lock(&self.trunks);
        let unused = trunks.iter().position(|trunk| trunk.streams.load(Relaxed) == 0);
        let unused = unused.map(|at| trunks.remove(at));
        drop(trunks);
        unused.is_some()
    }

    /// One task per shelf closes what was idle too long, as long as anything lies there.
    fn reap(&self, endpoint: &Arc<Endpoint>, shard: Shard) {
        if !self.reaped.load(Relaxed) && !self.reaped.swap(true, SeqCst) {
            let endpoint = Arc::downgrade(endpoint);
            tokio::spawn(async move {
                while let Some(pause) = reap_once(&endpoint, shard) {
                    tokio::time::sleep(pause).await;
                }
            });
        }
    }
}

/// How long to sleep until the next look; `None`: nothing is left to look after.
fn reap_once(endpoint: &Weak<Endpoint>, shard: Shard) -> Option<Duration> {
    let endpoint = endpoint.upgrade()?;
    let pool = &endpoint.pool;
    let shelf = pool.shelf(shard);
    let (now, timeout) = (Instant::now(), Duration::from_millis(pool.idle_millis.load(Relaxed)));
    let mut idle = lock(&shelf.idle);
    idle.retain_mut(|idle| idle.until > now && !idle.one.is_closed());
    let mut trunks = lock(&shelf.trunks);
    trunks.retain(|trunk| !trunk.send.is_closed() && !trunk.is_stale(now, timeout));
    if idle.is_empty() && trunks.is_empty() {
        shelf.reaped.store(false, SeqCst); // Under both locks: whoever adds next sees it and starts another.
        return None;
    }
    Some((timeout / 4).clamp(Duration::from_millis(20), Duration::from_secs(5)))
}

impl Speaks {
    pub(crate) fn http2(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            0 => None,
            other => Some(other == 2),
        }
    }

    pub(crate) fn learn(&self, http2: bool) {
        self.0.store(if http2 { 2 } else { 1 }, Relaxed);
    }
}

impl Trunk {
    fn has_room(&self) -> bool {
        self.streams.load(Relaxed) < self.room.load(Relaxed)
    }

    fn is_stale(&self, now: Instant, timeout: Duration) -> bool {
        self.streams.load(Relaxed) == 0 && *lock(&self.idle_since) + timeout <= now
    }
}

impl Stream {
    pub(crate) fn sender(&self) -> http2::SendRequest<Outgoing> {
        self.0.send.clone()
    }

    fn end(self, alarm: Alarm) {
        let mut alarms = lock(&self.0.alarms);
        if alarms.len() < ALARMS {
            alarms.push(alarm);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Relaxed) == 1 {
            *lock(&self.0.idle_since) = Instant::now();
        }
    }
}

impl Idle {
    fn held(self, shard: Shard) -> Held {
        let mut alarm = self.alarm;
        alarm.moved_to(shard);
        Held { line: Line::One(self.one), alarm, connect: None }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.pool.open.fetch_sub(1, SeqCst);
        self.0.pool.freed();
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("until", &self.until).finish_non_exhaustive()
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk").field("streams", &self.streams).field("room", &self.room).finish_non_exhaustive()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if matches!(self.line, Line::One(_)) { "http/1.1" } else { "h2" };
        f.debug_struct("Held").field("protocol", &protocol).field("connect", &self.connect).finish_non_exhaustive()
    }
}
