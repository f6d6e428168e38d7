//! Threads, and a few hundred keys that come, go and run short: what the limiter promises while its slots are used again.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::{Ask, DecisionLog, Leases, Limiter, Settings, Unreachable, Why};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Dimension, Kind, Limit, Mode, OnUnavailable};
use tidegate_quota::Ledger;
use tidegate_quota::evidence::Evidence;
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Reply, log_time};

const RUNS: Duration = Duration::from_secs(3);
const CALLERS: usize = 64;
const MOST_KEYS: usize = 300;
/// A node that has demand asks at least that often.
const SILENCE: Nanos = Nanos::from_millis(250);

/// A quota group of one, and when it was asked.
struct Leader {
    ledger: Mutex<(Ledger, Nanos)>,
    asked: Mutex<Nanos>,
    longest_silence: AtomicU64,
    largest_batch: AtomicU64,
}

impl Leader {
    fn new(limits: &[Limit]) -> Arc<Self> {
        let mut ledger = Ledger::default();
        let policies = limits.iter().map(Limit::policy).collect();
        ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
        Arc::new(Self {
            ledger: Mutex::new((ledger, clock::raw())),
            asked: Mutex::new(clock::boot()),
            longest_silence: AtomicU64::new(0),
            largest_batch: AtomicU64::new(0),
        })
    }

    fn apply(&self, batch: Batch) -> Reply {
        let (now, mut asked) = (clock::boot(), self.asked.lock().expect("no panic"));
        self.longest_silence.fetch_max(now.saturating_sub(*asked).0, Ordering::Relaxed);
        self.largest_batch.fetch_max(batch.items.len() as u64, Ordering::Relaxed);
        *asked = now;
        drop(asked);
        let mut guard = self.ledger.lock().expect("no panic");
        let now = clock::raw();
        let dt = log_time(now.saturating_sub(guard.1));
        guard.1 = now;
        let outcome = guard.0.apply(&Entry { dt, command: Command::Batches(vec![batch]) });
        outcome.replies.into_iter().next().expect("one batch, one reply")
    }
}

struct Wire(Arc<Leader>);

impl Leases for Wire {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(self.0.apply(batch))
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn limit(id: u64, max: u64, window: Nanos) -> Limit {
    Limit {
        id: LimitId(id),
        revision: Revision(1),
        name: format!("stress-{id}"),
        max: Permits(max),
        kind: Kind::Sliding { window },
        cost: tidegate_policy::Cost::ONE,
        per: vec![Dimension::Consumer],
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// The fate of one request. Some are given back, some wait with the permit in hand, some go away while they wait.
async fn call(limiter: &Limiter, limits: &[Limit], nth: u64) -> Result<(), Why> {
    // A third asks for keys that were never asked for before: they push slots from key to key, and over the bound.
    let who = if nth.is_multiple_of(3) { nth + 1_000 } else { nth % 200 }.to_le_bytes();
    let asks: Vec<_> = limits[..1 + (nth % 3) as usize]
        .iter()
        .map(|limit| Ask { limit, subject: limiter.subject(limit, &[&who]), cost: Permits(1) })
        .collect();
    let admission = limiter.admit(&asks);
    let admitted = if nth.is_multiple_of(11) {
        match tokio::time::timeout(Duration::from_micros(nth % 3_000), admission).await {
            Ok(admitted) => admitted,
            Err(_) => return Ok(()), // hung up
        }
    } else {
        admission.await
    };
    let permit = admitted.map_err(|refused| refused.why)?;
    if nth.is_multiple_of(5) {
        tokio::time::sleep(Duration::from_millis(nth % 40)).await;
    }
    if nth.is_multiple_of(7) {
        drop(permit);
    } else {
        permit.commit(&nth.to_le_bytes());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_threads_windows_hold_the_tick_goes_on_memory_stays_and_nobody_is_told_that_there_is_no_leader() {
    let limits =
        [limit(1, 40, Nanos::from_millis(200)), limit(2, 5, Nanos::from_millis(100)), limit(3, 900, Nanos::SECOND)];
    let leader = Leader::new(&limits);
    let folder = tempfile::tempdir().expect("a folder");
    let log = DecisionLog::open(folder.path(), NodeId(1), Incarnation(1)).expect("a log");
    let limiter = Limiter::new(Settings {
        node: NodeId(1),
        incarnation: Incarnation(1),
        secret: [1; 16],
        most_keys: MOST_KEYS,
        decisions: Some(log),
    });
    limiter.note_limits(&limits);
    tokio::spawn(Arc::clone(&limiter).run(Arc::new(Wire(Arc::clone(&leader)))));

    let (nth, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (limiter, limits, nth, over) =
                (Arc::clone(&limiter), limits.clone(), Arc::clone(&nth), Arc::clone(&over));
            tokio::spawn(async move {
                let mut unavailable = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let nth = nth.fetch_add(1, Ordering::Relaxed);
                    if let Err(why @ Why::Unavailable { .. }) = call(&limiter, &limits, nth).await {
                        unavailable.push((nth, why));
                    }
                    tokio::task::yield_now().await;
                }
                unavailable
            })
        })
        .collect();
    tokio::time::sleep(RUNS / 3).await;
    let before = resident_kib();
    tokio::time::sleep(RUNS * 2 / 3).await;
    let after = resident_kib();
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), [], "the leader answered all the time");
    }

    let calls = nth.load(Ordering::Relaxed);
    println!("{calls} calls, {:?}", limiter.counters());
    assert!(calls > 5_000, "only {calls} calls");
    let silence = Nanos(leader.longest_silence.load(Ordering::Relaxed));
    assert!(silence < SILENCE, "the tick said nothing for {silence:?}");
    assert!(limiter.keys() <= MOST_KEYS, "{} keys", limiter.keys());
    assert!(leader.largest_batch.load(Ordering::Relaxed) <= limiter.keys() as u64 + MOST_KEYS as u64);
    // 16 MiB of decision log may be mapped meanwhile, more than once.
    assert!(after < before + (96 << 10), "{before} KiB, then {after} KiB");

    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder.path()).expect("the folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    assert!(evidence.permits() > 1_000, "only {} permits", evidence.permits());
    for finding in evidence.judge() {
        assert!(finding.worst_ratio <= 1.0, "{finding:?}");
    }
}
