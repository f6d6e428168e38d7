//! The Redis tier: responses that all nodes share. Best effort from end to end.
//!
//! A lookup waits for Redis ten milliseconds at most and then does without; after a few such waits nobody asks any more
//! until a probe in the background went well. Writes are queued within a bound and dropped beyond it. What is read is
//! believed only as far as `codec` and the purges let it. Called by `cache`.

mod breaker;
pub(crate) mod codec;
mod keeper;
mod link;
mod names;
mod near;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName};
use redis::{Cmd, RedisError, Value};
use tidegate_model::Millis;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::memory::Memory;
use crate::rules::key::{Key, UrlDigest};
use crate::rules::vary::Selector;
use crate::stored::Stored;
use breaker::Breaker;
use link::{Link, Target};
use names::Names;
use writer::{Job, Queue};

/// How to use a Redis.
#[derive(Clone)]
pub struct Settings {
    pub url: String,
    /// Certificates (PEM) that sign the server's.
    pub authority: Option<Vec<u8>>,
    /// Other clusters on the same Redis have other names.
    pub cluster: String,
    /// The longest wait of a request.
    pub deadline: Duration,
    /// How long nobody asks after failures in a row.
    pub open_for: Duration,
    /// Calls of requests at the same time; more go without.
    pub in_flight: usize,
    /// Bytes waiting to be written; more are dropped.
    pub queued: usize,
    /// Larger bodies stay in memory tiers.
    pub largest: usize,
}

impl Settings {
    #[must_use]
    pub fn new(url: &str, cluster: &str) -> Self {
        Self {
            url: url.to_owned(),
            authority: None,
            cluster: cluster.to_owned(),
            deadline: Duration::from_millis(10),
            open_for: Duration::from_secs(2),
            in_flight: 1_024,
            queued: 32 << 20,
            largest: 1 << 20,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings")
            .field("cluster", &self.cluster)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// What happened with Redis so far.
#[derive(Debug, Default)]
pub struct Counters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    /// Not answered within the deadline.
    pub late: AtomicU64,
    pub errors: AtomicU64,
    /// Values that were not ours, not whole, or of another version.
    pub garbage: AtomicU64,
    /// Not asked: too many were.
    pub shed: AtomicU64,
    pub writes: AtomicU64,
    /// Writes that found the queue full, or Redis away.
    pub dropped: AtomicU64,
    /// Writes that Redis refused or was too slow for.
    pub write_errors: AtomicU64,
    /// Responses that another node's change took out of memory.
    pub invalidations: AtomicU64,
}

/// The tier on one node.
pub struct Remote {
    settings: Settings,
    target: Arc<Target>,
    names: Names,
    link: ArcSwapOption<Link>,
    breaker: Breaker,
    tripped: Notify,
    in_flight: Semaphore,
    queue: Queue,
    pub counters: Counters,
}

/// Who fetches a response for the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Ours(Token),
    /// Another node does.
    Theirs,
    /// Another node did and found that it is not to be shared.
    Nobodys,
    /// Redis cannot say.
    Unknown,
}

/// Proves that a lock is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u128);

/// What stands under a key, and what is known of its lock.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) stored: Option<Box<Stored>>,
    pub(crate) locked: bool,
    pub(crate) not_shared: bool,
    pub(crate) answered: bool,
}

impl Remote {
    /// Spawns the keeper of the connection and the writer on the runtime this is called on; both end with the tier.
    ///
    /// # Errors
    /// The URL or the certificates cannot be read.
    pub fn start(settings: Settings, memory: &Arc<Memory>) -> Result<Arc<Self>, RedisError> {
        let target = Arc::new(Target::parse(&settings.url, settings.authority.as_deref())?);
        let (queue, jobs) = Queue::new(settings.queued);
        let remote = Arc::new(Self {
            target,
            names: Names::new(&settings.cluster),
            link: ArcSwapOption::empty(),
            breaker: Breaker::new(5),
            tripped: Notify::new(),
            in_flight: Semaphore::new(settings.in_flight),
            queue,
            counters: Counters::default(),
            settings,
        });
        tokio::spawn(keeper::keep(Arc::downgrade(&remote), Arc::downgrade(memory)));
        tokio::spawn(writer::write(Arc::downgrade(&remote), jobs));
        Ok(remote)
    }

    /// Is it asked at the moment?
    #[must_use]
    pub fn is_available(&self) -> bool {
        !self.breaker.is_open()
    }

    /// Times it was given up for a while.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.breaker.opened()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.waiting()
    }

    /// What answers this request. `varies`: by which fields it is known to vary.
    pub(crate) async fn find(
        &self,
        key: &Key,
        varies: Option<&[HeaderName]>,
        request: &HeaderMap,
        variants: usize,
    ) -> Seen {
        let known = varies.filter(|names| !names.is_empty());
        let variant = |names: &[HeaderName]| names::variant(&Selector::for_names(names, request), variants);
        let mut at = known.map(variant);
        // Once for the key; when that says that it varies, once more for the variant.
        for _ in 0..2 {
            let (value, seen) = self.look(key, at).await;
            let Some(value) = value else {
                if seen.answered && known.is_some() && at == known.map(variant) && !seen.locked && !seen.not_shared {
                    // What is known here may be outdated.
                    at = None;
                    continue;
                }
                return self.missed(seen);
            };
            match codec::read(&value, key, self.settings.largest) {
                Some(codec::Value::Response(stored)) => {
                    if seen.is_void(&stored) || !stored.selector.matches(request) {
                        return self.missed(Seen::from(seen));
                    }
                    self.counters.hits.fetch_add(1, Ordering::Relaxed);
                    return Seen { stored: Some(stored), ..Seen::from(seen) };
                }
                Some(codec::Value::Varies(names)) => at = Some(variant(&names)),
                None => {
                    self.counters.garbage.fetch_add(1, Ordering::Relaxed);
                    return self.missed(Seen::from(seen));
                }
            }
        }
        self.missed(Seen { answered: true, ..Seen::default() })
    }

    fn missed(&self, seen: impl Into<Seen>) -> Seen {
        let seen = seen.into();
        if seen.answered {
            self.counters.misses.fetch_add(1, Ordering::Relaxed);
        }
        seen
    }

    async fn look(&self, key: &Key, variant: Option<usize>) -> (Option<Vec<u8>>, Around) {
        let mut command = redis::cmd("MGET");
        command.arg(self.names.response(key, variant)).arg(self.names.void(key.url)).arg(self.names.lock(key));
        let Some(Value::Array(values)) = self.ask(&command).await else { return (None, Around::default()) };
        let mut values = values.into_iter();
        let value = bytes(values.next());
        let void = bytes(values.next()).and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).map(Millis);
        let lock = bytes(values.next());
        let not_shared = lock.as_deref() == Some(names::NOT_SHARED);
        (value, Around { void, locked: lock.is_some() && !not_shared, not_shared, answered: true })
    }

    /// May this node fetch for all?
    pub(crate) async fn lock(&self, key: &Key, token: Token, span: Duration) -> Turn {
        let mut command = redis::cmd("SET");
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        command.arg(self.names.lock(key)).arg(&token.0.to_be_bytes()[..]).args_nx_px(millis).arg("GET");
        match self.ask(&command).await {
            Some(Value::Nil) => Turn::Ours(token),
            Some(Value::BulkString(held)) if *held == *names::NOT_SHARED => Turn::Nobodys,
            Some(Value::BulkString(_) | Value::SimpleString(_)) => Turn::Theirs,
            _ => Turn::Unknown,
        }
    }

    /// Others may fetch. `not_shared`: and need not wait for each other for a moment.
    pub(crate) fn unlock(&self, key: &Key, token: Token, not_shared: bool) {
        self.enqueue(Job::Unlock { name: self.names.lock(key), token, not_shared });
    }

    pub(crate) fn store(&self, stored: &Arc<Stored>, variants: usize) {
        if stored.body.len() <= self.settings.largest {
            self.enqueue(Job::Store { stored: Arc::clone(stored), variants });
        }
    }

    /// What was fetched before is void, on every node, in all its forms.
    pub(crate) fn void(&self, url: UrlDigest, now: Millis) {
        self.enqueue(Job::Void { name: self.names.void(url), now });
    }

    fn enqueue(&self, job: Job) {
        if self.breaker.is_open() || !self.queue.push(job) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One call within the deadline. `None`: do without.
    async fn ask(&self, command: &Cmd) -> Option<Value> {
        if self.breaker.is_open() {
            return None;
        }
        let link = self.link.load_full()?;
        let Ok(_room) = self.in_flight.try_acquire() else {
            self.counters.shed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let near = link.near.here(&self.target);
        let (is_near, mut wire) = (near.is_some(), near.unwrap_or_else(|| link.reads.clone()));
        let answer = in_time(self.settings.deadline, wire.query(command)).await;
        if is_near && matches!(&answer, Ok(Err(why)) if !refused_only_this(why)) {
            link.near.lost();
        }
        self.judge(answer, &self.counters.errors)
    }

    fn judge<E>(&self, answer: Result<Result<Value, RedisError>, E>, errors: &AtomicU64) -> Option<Value> {
        match answer {
            Ok(Ok(value)) => {
                self.breaker.went_well();
                return Some(value);
            }
            Ok(Err(why)) => {
                errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%why, "redis");
                if refused_only_this(&why) {
                    return None;
                }
            }
            Err(_) => {
                self.counters.late.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.breaker.failed() {
            tracing::warn!("redis failed several times in a row; it is not asked until it answers again");
            self.tripped.notify_one();
        }
        None
    }
}

/// As `timeout`, but it is Redis that may not be late: while this thread stood still, for others had the processor or it
/// was busy with other requests, nobody waited for Redis. That does not count, up to as much again.
async fn in_time<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
    let mut work = std::pin::pin!(work);
    let began = Instant::now();
    let (mut now, mut end) = (began, began + deadline);
    while now < end {
        let look = end.min(now + deadline / LOOKS);
        if let Ok(done) = timeout_at(look, work.as_mut()).await {
            return Ok(done);
        }
        now = Instant::now();
        let stood_still = now.saturating_duration_since(look);
        if stood_still >= STILL {
            end = (end + stood_still).min(began + deadline * 2);
        }
    }
    Err(Late)
}

/// So often a deadline is divided, to see whether this thread stood still.
const LOOKS: u32 = 4;
/// A timer is never more exact than a millisecond.
const STILL: Duration = Duration::from_millis(2);

struct Late;

/// The server is well; it did not want this command (memory is full, say).
fn refused_only_this(why: &RedisError) -> bool {
    matches!(why.code(), Some("OOM" | "WRONGTYPE" | "ERR" | "NOSCRIPT" | "CROSSSLOT" | "NOPERM"))
}

#[derive(Debug, Default)]
struct Around {
    void: Option<Millis>,
    locked: bool,
    not_shared: bool,
    answered: bool,
}

impl Around {
    fn is_void(&self, stored: &Stored) -> bool {
        self.void.is_some_and(|at| stored.asked <= at)
    }
}

impl From<Around> for Seen {
    fn from(around: Around) -> Self {
        let Around { void: _, locked, not_shared, answered } = around;
        Self { stored: None, locked, not_shared, answered }
    }
}

trait Millisecond {
    fn args_nx_px(&mut self, millis: u64) -> &mut Self;
}

impl Millisecond for Cmd {
    fn args_nx_px(&mut self, millis: u64) -> &mut Self {
        self.arg("NX").arg("PX").arg(millis)
    }
}

fn bytes(value: Option<Value>) -> Option<Vec<u8>> {
    match value? {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("settings", &self.settings).field("target", &self.target).finish_non_exhaustive()
    }
}

/// Tells variants of a key apart; zero where there is but one.
pub(crate) fn variant_of(selector: &Selector) -> u64 {
    if selector.is_empty() { 0 } else { 1 + names::variant(selector, u32::MAX as usize) as u64 }
}

type Jobs = mpsc::Receiver<(Job, tokio::sync::OwnedSemaphorePermit)>;
