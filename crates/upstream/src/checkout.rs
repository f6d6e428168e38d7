//! A connection for one request: an idle one, a stream on a shared one, a new one, or a place in the queue for one.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use tokio::time::{Instant, timeout_at};

use crate::connect::Connector;
use crate::endpoint::{Endpoint, millis};
use crate::pool::{Held, Open, Pool, Shelf};
use crate::shard::Shard;
use crate::{BoxError, Whom};

/// Calls that may wait for one endpoint, beside one for each of its connections.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub(crate) enum NoLine {
    Failed(BoxError),
    /// Connecting took too long.
    Slow,
    /// No place came free in time, or the queue is full.
    Busy,
}

/// What kind of connection will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<'a> {
    /// HTTP/1.1.
    pub(crate) upgrade: bool,
    /// None that was idle: one of those just broke.
    pub(crate) fresh: bool,
    /// Made for him.
    pub(crate) whom: Option<&'a Arc<Whom>>,
}

/// Waits until `until` at most.
pub(crate) async fn checkout(
    endpoint: &Arc<Endpoint>,
    connector: &Connector,
    want: Want<'_>,
    shard: Shard,
    until: Instant,
) -> Result<Held, NoLine> {
    let pool = &endpoint.pool;
    let shelf = pool.shelf(shard);
    let _waiting = Waiting::enter(pool)?;
    let mut want = want;
    loop {
        // Enabled before looking: what comes free after the look wakes us.
        let mut changed = pin!(pool.changed.notified());
        changed.as_mut().enable();
        let now = Instant::now();
        if !want.fresh
            && let Some(held) = pool.take(shard, want.upgrade, want.whom, now)
        {
            return Ok(held);
        }
        let failures = shelf.failures.load(SeqCst);
        // What is being made for somebody else is of no use.
        let shared =
            !want.upgrade && want.whom.is_none() && connector.may_share(endpoint) && shelf.connecting.load(SeqCst) > 0;
        if !shared {
            if let Some(open) = pool.reserve(endpoint) {
                return connect(endpoint, connector, open, want, shard, until).await;
            }
            if want.fresh {
                pool.drop_one();
            } else if let Some(held) = pool.take_elsewhere(shard, want.upgrade, want.whom, now) {
                return Ok(held);
            } else if want.whom.is_some() {
                pool.drop_the_oldest();
            }
        }
        if timeout_at(until, changed).await.is_err() {
            return Err(if shared { NoLine::Slow } else { NoLine::Busy });
        }
        if shared {
            want.fresh = false; // The one we waited for is fresh.
            if shelf.failures.load(SeqCst) != failures {
                return Err(NoLine::Failed("the connection that was waited for failed".into()));
            }
        }
    }
}

async fn connect(
    endpoint: &Arc<Endpoint>,
    connector: &Connector,
    open: Open,
    want: Want<'_>,
    shard: Shard,
    until: Instant,
) -> Result<Held, NoLine> {
    let started = Instant::now();
    let connecting = Connecting::begin(&endpoint.pool, shard);
    let made = timeout_at(until, connector.connect(endpoint, open, shard, want)).await;
    let failed = match made {
        Ok(Ok(line)) => {
            endpoint.connected();
            return Ok(Held { line, alarm: crate::alarm::Alarm::default(), connect: Some(started.elapsed()) });
        }
        Ok(Err(why)) => NoLine::Failed(why),
        Err(_elapsed) => NoLine::Slow,
    };
    endpoint.connect_failed(millis(Instant::now()));
    connecting.shelf.failures.fetch_add(1, SeqCst);
    Err(failed)
}

struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn enter(pool: &'a Pool) -> Result<Self, NoLine> {
        let bound = pool.limit().saturating_add(QUEUE);
        let entered = pool.waiting.fetch_update(SeqCst, Relaxed, |waiting| (waiting < bound).then_some(waiting + 1));
        entered.map(|_| Self(pool)).map_err(|_| NoLine::Busy)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// A connection is being made; when it stands, fails or is given up, all who wait look again.
struct Connecting<'a> {
    pool: &'a Pool,
    shelf: &'a Shelf,
}

impl<'a> Connecting<'a> {
    fn begin(pool: &'a Pool, shard: Shard) -> Self {
        let shelf = pool.shelf(shard);
        shelf.connecting.fetch_add(1, SeqCst);
        Self { pool, shelf }
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.shelf.connecting.fetch_sub(1, SeqCst);
        self.pool.changed.notify_waiters();
    }
}
