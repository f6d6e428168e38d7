//! Calls that come to more than was reserved for them reserve more while they run: step by step, of what is there, and others see it.
//! Who is to be cut gets what there is, to the last permit, and no more.

#[path = "common/leader.rs"]
mod leader;

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_limiter::{Ask, DecisionLog, Limiter, Running, Settings, Why};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Beyond, Cost, Kind, Limit, Mode, OnMissing, OnUnavailable, Terms};
use tidegate_quota::evidence::Evidence;
use tokio::time::Instant;

use leader::Leader;

fn limit(max: u64, window: Duration, estimate: u64) -> Limit {
    Limit {
        id: LimitId(7),
        revision: Revision(1),
        name: "egress".into(),
        max: Permits(max),
        kind: Kind::Sliding { window: Nanos::from(window) },
        cost: Cost::ResponseBytes { estimate: Permits(estimate) },
        per: Vec::new(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: OnMissing::Share,
        terms: Terms::default(),
    }
}

const LONG: Duration = Duration::from_secs(600);

fn node(id: u64, leader: &Arc<Leader>, limits: &[&Limit], decisions: Option<DecisionLog>) -> Arc<Limiter> {
    let limiter = Limiter::new(Settings {
        node: NodeId(id),
        incarnation: Incarnation(u128::from(id)),
        secret: [1; 16],
        most_keys: 1_000,
        decisions,
    });
    limiter.note_limits(limits.iter().copied());
    leader.serve(NodeId(id), &limiter);
    limiter
}

async fn take(limiter: &Arc<Limiter>, limit: &Limit, cost: u64) -> Result<Box<Running>, Why> {
    let ask = Ask { limit, subject: limiter.subject(limit, &[]), cost: Permits(cost) };
    let permit = limiter.admit(&[ask]).await.map_err(|refused| refused.why)?;
    Ok(permit.commit(b"request").expect("it is settled later"))
}

/// So much is used now, and whatever is asked for may come for so long.
async fn uses(running: &mut Running, used: u64, within: Duration) -> u64 {
    let ends = Instant::now() + within;
    let mut until = Permits::ZERO;
    while Instant::now() < ends {
        until = poll_fn(|cx| std::task::Poll::Ready(running.extend(0, Permits(used), Some(cx)))).await;
        if until.0 > used {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    until.0
}

async fn room(running: &mut Running, up_to: u64) -> u64 {
    poll_fn(|cx| running.poll_room(0, Permits(up_to), cx)).await.0
}

fn log(folder: &Path) -> DecisionLog {
    DecisionLog::open(folder, NodeId(1), Incarnation(1)).expect("writable")
}

fn judged(folder: &Path) -> tidegate_quota::evidence::Finding {
    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder).expect("a folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    evidence.judge().swap_remove(0)
}

const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_long_call_is_seen_while_it_runs_and_what_it_does_not_use_comes_back() {
    let paid = limit(1_000, LONG, 10);
    let leader = Leader::new(&[&paid]);
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (node(1, &leader, &[&paid], Some(log(folder.path()))), node(2, &leader, &[&paid], None));
    let mut long = take(&one, &paid, 10).await.expect("a thousand are free");
    for used in (50..=950).step_by(50) {
        assert!(uses(&mut long, used, SOON).await > used, "{used} of a thousand, and nobody else");
    }
    assert!(matches!(take(&two, &paid, 60).await, Err(Why::Exhausted { .. })), "950 are in use elsewhere");
    assert_eq!(one.counters().owed.load(Ordering::Relaxed), 0);
    drop(long);
    assert_eq!(one.counters().owed.load(Ordering::Relaxed), 0, "all of it was there");
    // Who was busy a moment ago keeps a little at hand.
    let ends = Instant::now() + SOON;
    let mut other = loop {
        match take(&two, &paid, 25).await {
            Ok(running) => break running,
            Err(why) => assert!(Instant::now() < ends, "{why:?}: fifty were not used"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    other.used(0, Permits(25));
    drop(other);
    let finding = judged(folder.path());
    assert!((finding.worst.0, finding.debt.0) == (950, 0), "{finding:?}");
}

#[tokio::test]
async fn a_call_that_outlives_many_windows_holds_no_more_than_it_needs() {
    let paid = limit(200, Duration::from_secs(1), 10);
    let leader = Leader::new(&[&paid]);
    let folder = tempfile::tempdir().expect("a folder");
    let one = node(1, &leader, &[&paid], Some(log(folder.path())));
    let mut long = take(&one, &paid, 10).await.expect("two hundred are free");
    // A hundred a second for four seconds: twice what a window has, and never more than a window has.
    for step in 1..=80 {
        uses(&mut long, step * 5, SOON).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut small = take(&one, &paid, 20).await.expect("half of the window is free");
    small.used(0, Permits(20));
    drop((small, long));
    assert_eq!(one.counters().owed.load(Ordering::Relaxed), 0);
    let finding = judged(folder.path());
    assert!(finding.worst_ratio <= 1.0 && finding.busiest.0.0 >= 400, "{finding:?}");
}

#[tokio::test]
async fn what_another_node_holds_idle_is_called_back_for_a_call_that_runs() {
    let paid = limit(1_000, LONG, 10);
    let leader = Leader::new(&[&paid]);
    let (one, two) = (node(1, &leader, &[&paid], None), node(2, &leader, &[&paid], None));
    let mut idle = take(&two, &paid, 600).await.expect("a thousand are free");
    idle.used(0, Permits::ZERO);
    drop(idle); // Six hundred lie on the other node.
    let mut long = take(&one, &paid, 10).await.expect("some are free");
    assert!(uses(&mut long, 900, SOON).await > 900, "what lies idle elsewhere is there for it");
    long.used(0, Permits(900));
    drop(long);
    assert_eq!(one.counters().owed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn beyond_what_is_there_a_call_goes_on_and_owes_the_rest() {
    let paid = limit(100, LONG, 10);
    let leader = Leader::new(&[&paid]);
    let folder = tempfile::tempdir().expect("a folder");
    let one = node(1, &leader, &[&paid], Some(log(folder.path())));
    let mut long = take(&one, &paid, 10).await.expect("a hundred are free");
    for used in (20..=300).step_by(20) {
        uses(&mut long, used, Duration::from_millis(30)).await;
    }
    assert_eq!(room(&mut long, 1_000).await, 1_000, "nobody says that it is cut");
    assert!(matches!(take(&one, &paid, 1).await, Err(Why::Exhausted { .. })), "all of it is in use");
    drop(long);
    assert_eq!(one.counters().owed.load(Ordering::Relaxed), 200, "three hundred of a hundred");
    let finding = judged(folder.path());
    assert!((finding.worst.0, finding.debt.0) == (100, 200), "{finding:?}");
}

#[tokio::test]
async fn who_is_to_be_cut_gets_what_there_is_and_no_more() {
    let paid = Limit { terms: Terms { beyond: Beyond::Cut, ..Terms::default() }, ..limit(1_000, LONG, 10) };
    let observed = Limit { mode: Mode::Observe, ..paid.clone() };
    let leader = Leader::new(&[&paid]);
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (node(1, &leader, &[&paid], Some(log(folder.path()))), node(2, &leader, &[&paid], None));
    let mut elsewhere = take(&two, &paid, 300).await.expect("a thousand are free");
    elsewhere.used(0, Permits(300));
    drop(elsewhere);
    tokio::time::sleep(Duration::from_millis(500)).await; // What it has is idle by now.
    let mut looked_at = take(&two, &observed, 10).await.expect("it is free");
    let mut long = take(&one, &paid, 10).await.expect("some are free");
    let mut sent = 0;
    let began = Instant::now();
    loop {
        let room = room(&mut long, sent + 64).await;
        uses(&mut long, room, Duration::ZERO).await;
        let was_whole = room == sent + 64;
        sent = room;
        if !was_whole {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{sent}");
    }
    assert!((626..=690).contains(&sent), "{sent}: a thousand without three hundred, and ten that another call has");
    assert_eq!(room(&mut looked_at, 5_000).await, 5_000, "a limit that only looks on cuts nobody");
    long.used(0, Permits(sent));
    drop(long);
    assert_eq!(one.counters().owed.load(Ordering::Relaxed), 0);
    let finding = judged(folder.path());
    assert!((finding.worst.0, finding.debt.0) == (sent, 0), "{finding:?}");
}

#[tokio::test]
async fn a_lease_that_is_lost_takes_its_pieces_along_and_no_others() {
    let paid = limit(1_000, Duration::from_millis(500), 10);
    let leader = Leader::new(&[&paid]);
    let folder = tempfile::tempdir().expect("a folder");
    let one = node(1, &leader, &[&paid], Some(log(folder.path())));
    let mut long = take(&one, &paid, 10).await.expect("a thousand are free");
    assert!(uses(&mut long, 100, SOON).await > 100);
    leader.cut.store(true, Ordering::Relaxed);
    // Longer than the ledger charges what it heard last.
    let ends = Instant::now() + Duration::from_secs(6);
    let mut used = 100;
    while Instant::now() < ends {
        used += 1;
        uses(&mut long, used, Duration::from_millis(20)).await;
    }
    leader.cut.store(false, Ordering::Relaxed);
    used += 100;
    assert!(uses(&mut long, used, Duration::from_secs(10)).await > used, "of the lease that came after");
    drop(long);
    let mut next = take(&one, &paid, 10).await.expect("the window goes on");
    next.used(0, Permits(10));
    drop(next);
    let finding = judged(folder.path());
    assert!(finding.worst_ratio <= 1.0, "{finding:?}");
}

#[tokio::test]
async fn what_others_say_of_a_cost_is_bounded_by_the_maximum_or_by_what_the_limit_says() {
    let told = |cost: Cost, at_most: Option<u64>, id: u64| Limit {
        id: LimitId(id),
        cost,
        terms: Terms { at_most: at_most.map(Permits), ..Terms::default() },
        ..limit(100, LONG, 10)
    };
    let header = || Cost::Header { name: http::HeaderName::from_static("x-cost"), estimate: Permits(10) };
    let tokens = Cost::Tokens { estimate: Some(Permits(10)) };
    let (usual, more, spoken) = (told(header(), None, 1), told(header(), Some(1_000_000), 2), told(tokens, None, 3));
    let leader = Leader::new(&[&usual, &more, &spoken]);
    let one = node(1, &leader, &[&usual, &more, &spoken], None);
    // Of tokens a hundred times the reservation is plausible.
    for (limit, owed) in [(&usual, 0), (&more, 999_900), (&spoken, 900)] {
        let mut call = take(&one, limit, 10).await.expect("a hundred are free");
        uses(&mut call, u64::MAX, Duration::from_millis(200)).await;
        let before = one.counters().owed.load(Ordering::Relaxed);
        drop(call);
        // Ten are reserved for it at first, and a hundred there are: how many of them it had by then is the machine's affair.
        let charged = one.counters().owed.load(Ordering::Relaxed) - before;
        assert!((owed..=owed + 90).contains(&charged), "limit {}: {charged}", limit.id.0);
    }
    assert_eq!(one.counters().capped.load(Ordering::Relaxed), 3);
    // What was counted here is what it is.
    let bytes = limit(100, LONG, 10);
    let leader = Leader::new(&[&bytes]);
    let two = node(2, &leader, &[&bytes], None);
    let mut call = take(&two, &bytes, 10).await.expect("a hundred are free");
    call.used(0, Permits(5_000));
    drop(call);
    assert!(two.counters().owed.load(Ordering::Relaxed) >= 4_900);
    assert_eq!(two.counters().capped.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_cost_that_no_node_has_in_its_hand_is_met_where_it_is_reserved_and_comes_back_whole() {
    const LARGE: u64 = 3 << 44;
    let dear = limit(LARGE, LONG, 1);
    let leader = Leader::new(&[&dear]);
    let (one, two) = (node(1, &leader, &[&dear], None), node(2, &leader, &[&dear], None));
    for node in [&one, &two, &one] {
        let mut call = take(node, &dear, LARGE).await.expect("all of it is free");
        assert!(matches!(take(node, &dear, 1).await, Err(Why::Exhausted { .. })));
        call.used(0, Permits::ZERO);
        drop(call);
        tokio::time::sleep(Duration::from_millis(600)).await; // Handed back.
    }
    let plain = Limit { cost: Cost::ONE, ..dear.clone() };
    let ask = Ask { limit: &plain, subject: one.subject(&plain, &[]), cost: Permits(1 << 44) };
    let why = one.admit(&[ask]).await.map_err(|refused| refused.why).err();
    assert_eq!(why, Some(Why::TooCostly), "and where it is not, waiting would not help");
}
