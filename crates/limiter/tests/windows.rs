//! Which calendar window a permit counts to, as the decision log has it: the one whose lease it was taken from, whenever its
//! call ends.

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tidegate_clock as clock;
use tidegate_limiter::{Ask, DecisionLog, Leases, Limiter, Running, Settings, Unreachable, Why};
use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Budget, Cost, Kind, Limit, Mode, OnUnavailable, Unit};
use tidegate_quota::Ledger;
use tidegate_quota::evidence::{Evidence, RECORD_BYTES, Record, RequestMark};
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Opening, Period, Reply, Span, log_time};

const NODE: NodeId = NodeId(1);
const FIRST: u64 = 28_000_000;
const LONG: &[u8] = b"long";

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
        terms: tidegate_policy::Terms::default(),
    }
}

async fn reserve(limiter: &Arc<Limiter>, limit: &Limit, cost: u64, id: &[u8]) -> Box<Running> {
    let ask = Ask { limit, subject: limiter.subject(limit, &[]), cost: Permits(cost) };
    limiter.admit(&[ask]).await.expect("a hundred are free").commit(id).expect("it is settled later")
}

/// Costs and windows of what the long call took, and of what others did.
fn written(folder: &Path) -> [Vec<(u64, u64)>; 2] {
    let (mut of_long, mut of_others) = (Vec::new(), Vec::new());
    for file in std::fs::read_dir(folder).expect("a folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        for record in bytes.as_chunks::<RECORD_BYTES>().0.iter().skip(1).filter_map(Record::decode) {
            if let Record::Dated { cost, window, request, .. } = record {
                let is_long = request.0 >> 32 == RequestMark::of(LONG).0 >> 32;
                let of = if is_long { &mut of_long } else { &mut of_others };
                of.push((cost.0, u64::from(window)));
            }
        }
    }
    [of_long, of_others]
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

    let mut long = reserve(&limiter, &limit, 10, LONG).await;
    // Six of ten are used: ten more, of whatever is at hand by then.
    while poll_fn(|cx| Poll::Ready(long.extend(0, Permits(6), Some(cx)))).await <= Permits(6) {
        reserve(&limiter, &limit, 5, b"other").await.settle();
    }
    let extended: u64 = written(folder.path())[0].iter().map(|(cost, _)| cost).sum();
    leader.open(&limit, FIRST + 1);
    // Others go on, at last in the next window; what they do not use is at hand.
    while !written(folder.path())[1].contains(&(7, FIRST + 1)) {
        let mut other = reserve(&limiter, &limit, 7, b"other").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        other.used(0, Permits::ZERO);
    }
    // Its first lease is gone, and there is none of its window any more: what comes now is of the next one.
    poll_fn(|cx| Poll::Ready(long.extend(0, Permits(extended), Some(cx)))).await;
    long.used(0, Permits(extended + 3));
    drop(long);

    let [of_long, _] = written(folder.path());
    let of = |window| of_long.iter().filter(|(_, known)| *known == window).map(|(cost, _)| cost).sum::<u64>();
    assert_eq!(of(FIRST), extended, "reserved, and extended, of the first window: {of_long:?}");
    assert!(of(FIRST + 1) >= 3, "what it used beyond that is of the window that it used it in: {of_long:?}");
    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    let findings = evidence.judge();
    assert!(findings.iter().all(|finding| finding.worst_ratio <= 1.0), "{findings:?}");
}

#[tokio::test]
async fn a_cost_within_what_was_carried_over_is_met_and_one_beyond_it_is_refused_for_good() {
    let (period, zone) = (Period::Minute, "UTC".to_owned());
    let budget = Budget { period, zone, unit: Unit::Tokens, carry: Permits(50), alerts: Vec::new() };
    let limit = Limit { kind: Kind::Budget(budget), ..minutes() };
    let leader = Arc::new(Leader(Mutex::new((Ledger::default(), clock::raw()))));
    leader.apply(Command::SetPolicies { revision: Revision(1), policies: vec![limit.policy()] });
    leader.open(&limit, FIRST - 1);
    leader.open(&limit, FIRST);
    let settings =
        Settings { node: NODE, incarnation: Incarnation(1), secret: [1; 16], most_keys: 100, decisions: None };
    let limiter = Limiter::new(settings);
    tokio::spawn(Arc::clone(&limiter).run(Arc::clone(&leader) as _));
    let why = async |cost: u64| {
        let ask = Ask { limit: &limit, subject: limiter.subject(&limit, &[]), cost: Permits(cost) };
        limiter.admit(&[ask]).await.map(|permit| permit.commit(b"request")).map_err(|refused| refused.why)
    };
    assert!(matches!(why(151).await, Err(Why::TooCostly)), "more than there will ever be");
    let mut whole = why(140).await.expect("a hundred, and fifty that nobody used").expect("reserved");
    assert!(matches!(why(11).await, Err(Why::Exhausted { .. })));
    whole.used(0, Permits::ZERO);
    drop(whole);
    tokio::time::sleep(Duration::from_millis(400)).await; // Who was refused has lost his turn.
    why(150).await.expect("it came back whole");
}
