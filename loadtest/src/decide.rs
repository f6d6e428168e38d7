//! What a decision costs: from the caller's ids to the permit, committed, over 100,000 live keys asked for as Zipf says.
//! The shipped limiter, and a leader that grants plenty, so that every decision is a warm one. Its tick runs between the
//! rounds, not within them: a third of the decisions are the first since the last report, and pay for listing their key.

use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidegate_limiter::{Ask, DecisionLog, Leases, Limiter, Settings, Unreachable};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Dimension, Kind, Limit, Mode, OnUnavailable};
use tidegate_quota::protocol::{Answer, Batch, Key, Reply, Verdict};

use crate::linux;

const KEYS: u32 = 100_000;
/// Of each thread, in each round.
const DECISIONS: usize = 100_000;
const ROUNDS: usize = 15;
/// Long enough for several ticks.
const REPORTS: Duration = Duration::from_millis(150);

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided {
    pub(crate) limits: usize,
    pub(crate) threads: usize,
    pub(crate) asked: Asked,
    /// CPU time of one decision.
    pub(crate) nanos: f64,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, threads, asked, nanos } = self;
        write!(f, "{limits} limit(s), {threads} thread(s), {asked}: {nanos:.0} ns per decision")
    }
}

/// Who asks, and what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All keys, as Zipf says.
    Keys,
    /// The same with a decision log.
    KeysLogged,
    /// One key: nothing is far from the processor, but two threads want the same line of memory.
    OneKey,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys => write!(f, "{KEYS} keys"),
            Self::KeysLogged => write!(f, "{KEYS} keys, decision log"),
            Self::OneKey => write!(f, "one key"),
        }
    }
}

/// Grants more than anyone will take, for longer than anyone measures.
struct Plenty;

impl Leases for Plenty {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        let lease = Verdict::Lease {
            granted: Permits(1_000_000),
            free: Permits(1_000_000_000),
            ttl: Nanos::from_secs(3_600),
            retry: Nanos::ZERO,
            reserve: Permits::ZERO,
        };
        let items =
            batch.items.iter().map(|item| Answer { key: item.key, epoch: item.epoch, verdict: lease }).collect();
        let reply = Reply { node: batch.node, incarnation: batch.incarnation, seq: batch.seq, items };
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Tells each line as soon as it is measured.
pub(crate) fn measure() -> Result<Vec<Decided>> {
    let folder = std::env::temp_dir().join(format!("tidegate-decide-{}", std::process::id()));
    let logged = DecisionLog::open(&folder, NodeId(1), Incarnation(1))?;
    let mut table = measure_with(None, &[Asked::Keys, Asked::OneKey])?;
    table.extend(measure_with(Some(logged), &[Asked::KeysLogged])?);
    std::fs::remove_dir_all(&folder)?;
    Ok(table)
}

fn measure_with(decisions: Option<DecisionLog>, loads: &[Asked]) -> Result<Vec<Decided>> {
    let limits = limits();
    let callers = callers();
    let limiter = Limiter::new(Settings {
        node: NodeId(1),
        incarnation: Incarnation(1),
        secret: [7; 16],
        most_keys: 1_000_000,
        decisions,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    runtime.block_on(warm_up(&limiter, &limits))?;
    let mut table = Vec::new();
    for asked in loads.iter().copied() {
        for count in [1, limits.len()] {
            for threads in [1, 2] {
                let mut rounds = Vec::new();
                for nth in 0..ROUNDS {
                    rounds.push(round(&limiter, &limits[..count], &callers, asked, threads, nth)?);
                    runtime.block_on(reporting(&limiter, tokio::time::sleep(REPORTS)));
                }
                rounds.sort_by(f64::total_cmp);
                let decided = Decided { limits: count, threads, asked, nanos: rounds[ROUNDS / 2] };
                println!("{decided}");
                table.push(decided);
            }
        }
    }
    Ok(table)
}

/// Per key, per consumer, per address, and one counter for everybody.
fn limits() -> Vec<Limit> {
    let limit = |id, per: &[Dimension]| Limit {
        id: LimitId(id),
        revision: Revision(1),
        name: format!("limit-{id}"),
        max: Permits(1_000_000_000_000),
        kind: Kind::Sliding { window: Nanos::from_secs(60) },
        cost: tidegate_policy::Cost::ONE,
        per: per.to_vec(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    };
    vec![
        limit(1, &[Dimension::Key]),
        limit(2, &[Dimension::Consumer]),
        limit(3, &[Dimension::Ip(tidegate_policy::Prefix::default())]),
        limit(4, &[]),
    ]
}

/// What identifies a caller, as the bytes that a request brings.
#[derive(Clone, Copy)]
struct Caller {
    key: [u8; 8],
    consumer: [u8; 8],
    address: [u8; 4],
}

impl Caller {
    fn nth(nth: u32) -> Self {
        let (key, consumer) = (u64::from(nth).to_le_bytes(), u64::from(nth / 10).to_le_bytes());
        Self { key, consumer, address: nth.to_le_bytes() }
    }

    fn values(&self) -> [Vec<u8>; 3] {
        [self.key.to_vec(), self.consumer.to_vec(), self.address.to_vec()]
    }
}

/// Who asks, one after the other. As with requests, what identifies them has just been read when it is needed: were it
/// looked up by their number, a table of this program would be a part of what is measured.
fn callers() -> Vec<Caller> {
    zipf(DECISIONS * ROUNDS * 2).into_iter().map(Caller::nth).collect()
}

/// Ranks 0..KEYS with probability ∝ 1/(rank + 1), from a generator that always yields the same.
fn zipf(count: usize) -> Vec<u32> {
    let mut total = 0.0;
    let cumulated: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            total += 1.0 / f64::from(rank);
            total
        })
        .collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(u32::try_from(state >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    };
    let pick = |at: f64| u32::try_from(cumulated.partition_point(|sum| *sum < at)).unwrap_or(0).min(KEYS - 1);
    (0..count).map(|_| pick(uniform() * total)).collect()
}

/// The part that is measured.
fn decide(limiter: &Arc<Limiter>, limits: &[Limit], caller: &Caller) -> bool {
    let subject = |nth: usize, limit: &Limit| match nth {
        0 => limiter.subject(limit, &[&caller.key]),
        1 => limiter.subject(limit, &[&caller.consumer]),
        2 => limiter.subject(limit, &[&caller.address]),
        _ => limiter.subject(limit, &[]),
    };
    match limits {
        [one] => proceed(limiter, &[Ask { limit: one, subject: subject(0, one), cost: Permits(1) }]),
        [a, b, c, d] => {
            let ask = |nth, limit| Ask { limit, subject: subject(nth, limit), cost: Permits(1) };
            proceed(limiter, &[ask(0, a), ask(1, b), ask(2, c), ask(3, d)])
        }
        _ => false,
    }
}

/// As the proxy does: admit, look where the limits stand, commit.
#[inline]
fn proceed(limiter: &Limiter, asks: &[Ask<'_>]) -> bool {
    match poll_once(limiter.admit(asks)) {
        Some(Ok(permit)) => {
            black_box(&permit.standings(asks));
            black_box(&permit);
            permit.commit(b"");
            true
        }
        _ => false,
    }
}

/// A warm decision is ready at once; anything else is not what is measured.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Does something while the limiter's tick runs.
async fn reporting<T>(limiter: &Arc<Limiter>, what: impl Future<Output = T>) -> T {
    let tick = tokio::spawn(Arc::clone(limiter).run(Arc::new(Plenty)));
    let done = what.await;
    tick.abort();
    let _aborted = tick.await;
    done
}

/// Asks once for every key, so that each has its lease. In portions: so many may wait for the leader at once, and a tick
/// that went on would soon hand back the leases of the first ones, which nobody uses.
async fn warm_up(limiter: &Arc<Limiter>, limits: &[Limit]) -> Result<()> {
    for portion in (0..KEYS).collect::<Vec<_>>().chunks(4_000) {
        reporting(limiter, async {
            let mut waiting = tokio::task::JoinSet::new();
            for who in portion.iter().copied() {
                waiting.spawn(ask_once(Arc::clone(limiter), limits.to_vec(), Caller::nth(who).values()));
            }
            while let Some(admitted) = waiting.join_next().await {
                if !admitted.context("a warm-up task panicked")? {
                    bail!("a key got no lease");
                }
            }
            tokio::time::sleep(Duration::from_millis(60)).await; // its reports
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn ask_once(limiter: Arc<Limiter>, limits: Vec<Limit>, values: [Vec<u8>; 3]) -> bool {
    let ask = |(nth, limit)| {
        let value = values.get(nth).map(Vec::as_slice);
        Ask { limit, subject: limiter.subject(limit, value.as_slice()), cost: Permits(1) }
    };
    let asks: Vec<Ask<'_>> = limits.iter().enumerate().map(ask).collect();
    limiter.admit(&asks).await.map(|permit| permit.commit(b"")).is_ok()
}

/// CPU nanoseconds per decision, the mean over the threads.
fn round(
    limiter: &Arc<Limiter>,
    limits: &[Limit],
    callers: &[Caller],
    asked: Asked,
    threads: usize,
    round: usize,
) -> Result<f64> {
    let one = |nth: usize| {
        // Each thread has a part of the order to itself.
        let order = callers.chunks(DECISIONS).nth(round * 2 + nth).context("more rounds than planned")?;
        let hottest = vec![Caller::nth(0); order.len()];
        let order = if asked == Asked::OneKey { &hottest } else { order }.iter();
        let before = linux::cpu_time_of_this_thread();
        let admitted = order.filter(|caller| decide(limiter, limits, caller)).count();
        let took = linux::cpu_time_of_this_thread() - before;
        #[expect(clippy::cast_precision_loss)]
        let nanos = took.as_nanos() as f64 / DECISIONS as f64;
        // A cell that ran short between two ticks waits for the leader: rare, or the figure says nothing.
        if admitted < DECISIONS / 1000 * 999 { bail!("only {admitted} of {DECISIONS} were warm") } else { Ok(nanos) }
    };
    let one = &one;
    let each: Vec<f64> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|nth| {
                let runtime = tokio::runtime::Handle::current();
                scope.spawn(move || {
                    let _entered = runtime.enter(); // a cold decision sets a timer
                    one(nth)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect::<Result<_>>()
    })?;
    #[expect(clippy::cast_precision_loss)]
    Ok(each.iter().sum::<f64>() / each.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_is_asked_for_about_twice_as_often_as_the_second() {
        let order = zipf(200_000);
        let of = |rank| order.iter().filter(|asked| **asked == rank).count();
        let (first, second) = (of(0), of(1));
        assert!(first > second * 3 / 2 && first < second * 5 / 2, "{first} {second}");
        assert!(order.iter().all(|rank| *rank < KEYS));
    }
}
