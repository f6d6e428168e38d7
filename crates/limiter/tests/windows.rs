//! Which calendar window a permit counts to, as the decision log has it: the one whose lease it was taken from, whenever its
//! call ends.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::{Ask, DecisionLog, Leases, Limiter, Running, Settings, Unreachable};
use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Cost, Kind, Limit, Mode, OnUnavailable};
use tidegate_quota::Ledger;
use tidegate_quota::evidence::{Evidence, RECORD_BYTES, Record};
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Opening, Period, Reply, Span, log_time};

const NODE: NodeId = NodeId(1);
const FIRST: u64 = 28_000_000;

struct Leader(Mutex<(Ledger, Nanos)>);

impl Leader {
    fn apply(&self, command: Command) -> Option<Reply> {
        let mut guard = self.0.lock().expect("no panic");
        let now = clock::raw();
        let dt = log_time(now.saturating_sub(guard.1));
        guard.1 = now;
        guard.0.apply(&Entry { dt, command }).replies.into_iter().next()
    }

    fn open(&self, limit: &Limit, number: u64) {
        let span = Span { start: Millis(number * 60_000), end: Millis(u64::MAX / 2) };
        self.apply(Command::OpenWindows(vec![Opening { limit: limit.id, number, span }]));
    }
}

impl Leases for Leader {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(self.apply(Command::Batches(vec![batch])).expect("an answer"))
        })
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn minutes() -> Limit {
    Limit {
        id: LimitId(7),
        revision: Revision(1),
        name: "minutes".into(),
        max: Permits(100),
        kind: Kind::Calendar { period: Period::Minute, zone: "UTC".into() },
        cost: Cost::ResponseBytes { estimate: Permits(10) },
        per: Vec::new(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
    }
}

async fn reserve(limiter: &Arc<Limiter>, limit: &Limit, cost: u64) -> Box<Running> {
    let ask = Ask { limit, subject: limiter.subject(limit, &[]), cost: Permits(cost) };
    limiter.admit(&[ask]).await.expect("a hundred are free").commit(b"request").expect("it is settled later")
}

type Pairs = Vec<(u64, u64)>;

/// Costs and windows of what was taken, and what was settled of so many reserved.
fn written(folder: &Path) -> (Pairs, Pairs) {
    let (mut taken, mut settled) = (Vec::new(), Vec::new());
    for file in std::fs::read_dir(folder).expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        for record in bytes.as_chunks::<RECORD_BYTES>().0.iter().skip(1).filter_map(Record::decode) {
            match record {
                Record::Dated { cost, window, .. } => taken.push((cost.0, u64::from(window))),
                Record::Settled { used, reserved, .. } => settled.push((used.0, reserved.0)),
                _ => {}
            }
        }
    }
    (taken, settled)
}

#[tokio::test]
async fn a_call_that_outlives_its_window_counts_to_it_and_what_it_used_beyond_to_the_next() {
    let limit = minutes();
    let leader = Arc::new(Leader(Mutex::new((Ledger::default(), clock::raw()))));
    leader.apply(Command::SetPolicies { revision: Revision(1), policies: vec![limit.policy()] });
    leader.open(&limit, FIRST);
    let folder = tempfile::tempdir().expect("a folder");
    let log = DecisionLog::open(folder.path(), NODE, Incarnation(1)).expect("writable");
    let settings =
        Settings { node: NODE, incarnation: Incarnation(1), secret: [1; 16], most_keys: 100, decisions: Some(log) };
    let limiter = Limiter::new(settings);
    tokio::spawn(Arc::clone(&limiter).run(Arc::clone(&leader) as _));
    limiter.note_limits([&limit]);

    let mut long = reserve(&limiter, &limit, 10).await;
    while !long.extend(0, Permits(2)) {
        reserve(&limiter, &limit, 5).await.settle();
    }
    leader.open(&limit, FIRST + 1);
    // Others go on, at last in the next window; what they do not use is at hand.
    while !written(folder.path()).0.contains(&(7, FIRST + 1)) {
        let mut other = reserve(&limiter, &limit, 7).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        other.used(0, Permits::ZERO);
    }
    let mut at_hand = reserve(&limiter, &limit, 6).await;
    assert!(!long.extend(0, Permits(1)), "of the lease that it has of nothing is left");
    at_hand.used(0, Permits::ZERO);
    drop(at_hand);
    long.used(0, Permits(15));
    drop(long);

    let (taken, settled) = written(folder.path());
    let of =
        |cost| taken.iter().filter(move |(known, _)| *known == cost).map(|(_, window)| *window).collect::<Vec<_>>();
    assert_eq!((of(10), of(2)), (vec![FIRST], vec![FIRST]), "reserved, and extended, of the first window");
    assert_eq!(of(3), [FIRST + 1], "fifteen of twelve: three are of what was at hand at the end");
    assert!(settled.contains(&(10, 10)) && settled.contains(&(2, 2)), "{settled:?}");
    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    let findings = evidence.judge();
    assert!(findings.iter().all(|finding| finding.worst_ratio <= 1.0), "{findings:?}");
}
