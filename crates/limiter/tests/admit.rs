//! What a node's limiter promises, with a real ledger behind a wire that can be cut.

#[path = "common/leader.rs"]
mod leader;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_limiter::{Ask, DecisionLog, Limiter, Running, Settings, Why};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Cost, Dimension, Kind, Limit, Mode, OnUnavailable, Rate};
use tidegate_quota::evidence::{Evidence, RequestMark};
use tidegate_quota::protocol::{Command, Entry};
use tokio::time::Instant;

use leader::Leader;

fn limit(max: u64, window_ms: u64) -> Limit {
    Limit {
        id: LimitId(max * 1_000_003 + window_ms),
        revision: Revision(1),
        name: "spec".into(),
        max: Permits(max),
        kind: Kind::Sliding { window: Nanos::from_millis(window_ms) },
        cost: Cost::ONE,
        per: vec![Dimension::Consumer],
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: tidegate_policy::OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    }
}

fn node(id: u64, leader: &Arc<Leader>, decisions: Option<DecisionLog>) -> Arc<Limiter> {
    let limiter = Limiter::new(Settings {
        node: NodeId(id),
        incarnation: Incarnation(u128::from(id)),
        secret: [1; 16],
        most_keys: 1_000,
        decisions,
    });
    leader.serve(NodeId(id), &limiter);
    limiter
}

async fn admit(limiter: &Arc<Limiter>, limits: &[&Limit], who: &str) -> Result<(), Why> {
    let asks: Vec<_> = limits
        .iter()
        .map(|limit| Ask { limit, subject: limiter.subject(limit, &[who.as_bytes()]), cost: Permits(1) })
        .collect();
    match limiter.admit(&asks).await {
        Ok(permit) => {
            permit.commit(b"request");
            Ok(())
        }
        Err(refused) => Err(refused.why),
    }
}

async fn admitted(limiter: &Arc<Limiter>, limits: &[&Limit], who: &str, calls: usize) -> usize {
    let mut yes = 0;
    for _ in 0..calls {
        yes += usize::from(admit(limiter, limits, who).await.is_ok());
    }
    yes
}

#[tokio::test]
async fn a_cold_key_is_admitted_after_one_round_trip_and_the_limit_is_exact() {
    let limit = limit(10, 60_000);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    let started = Instant::now();
    assert_eq!(admit(&one, &[&limit], "acme").await, Ok(()));
    assert!(started.elapsed() < Duration::from_millis(15), "did not wait for a tick: {:?}", started.elapsed());
    assert_eq!(admitted(&one, &[&limit], "acme", 30).await, 9);
    assert_eq!(admitted(&one, &[&limit], "other", 30).await, 10);
}

#[tokio::test]
async fn two_nodes_share_one_limit_to_the_last_permit() {
    let limit = limit(100, 60_000);
    let leader = Leader::new(&[&limit]);
    let (one, two) = (node(1, &leader, None), node(2, &leader, None));
    let mut sum = 0;
    for _ in 0..100 {
        sum += admitted(&one, &[&limit], "acme", 3).await;
        sum += admitted(&two, &[&limit], "acme", 1).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // A recall may be under way when the last permits are asked for; a moment later they are found.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sum += admitted(&one, &[&limit], "acme", 1).await + admitted(&two, &[&limit], "acme", 1).await;
    }
    assert_eq!(sum, 100);
}

#[tokio::test]
async fn all_limits_are_taken_or_none() {
    let (wide, narrow) = (limit(50, 60_000), limit(5, 60_000));
    let leader = Leader::new(&[&wide, &narrow]);
    let one = node(1, &leader, None);
    assert_eq!(admitted(&one, &[&wide, &narrow], "acme", 20).await, 5);
    // The fifteen that the narrow one refused cost the wide one nothing.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(admitted(&one, &[&wide], "acme", 60).await, 45);

    // Of a limit with a partition reserve it is not known beforehand whether it has permits: what was taken is put back.
    let (wide, mut narrow) = (limit(1_000, 60_000), limit(64, 60_000));
    narrow.on_unavailable = OnUnavailable::Share;
    let leader = Leader::new(&[&wide, &narrow]);
    let two = node(2, &leader, None);
    let passed = admitted(&two, &[&wide, &narrow], "acme", 500).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let rest = admitted(&two, &[&wide], "acme", 1_000).await;
    assert!((990..=1_000).contains(&(passed + rest)), "{passed}, then {rest}");
}

#[tokio::test]
async fn a_refused_call_takes_nothing_of_its_other_limits() {
    let (wide, narrow, mut places) = (limit(2_000, 60_000), limit(5, 60_000), limit(3, 60_001));
    places.kind = Kind::Concurrency;
    let mut paid_later = limit(7, 60_002);
    paid_later.kind = Kind::Sliding { window: Nanos::from_secs(60) };
    paid_later.cost = Cost::ResponseBytes { estimate: Permits(1) };
    for scarce in [narrow, places, paid_later] {
        let leader = Leader::new(&[&wide, &scarce]);
        let one = node(1, &leader, None);
        let ask = |limit| Ask { limit, subject: one.subject(limit, &[b"acme"]), cost: Permits(1) };
        let mut held = Vec::new();
        while let Ok(permit) = one.admit(&[ask(&scarce)]).await {
            held.push(permit.commit(b"alone"));
        }
        // A lease of the wide one is at hand, so that there is something to take, and reports of it are cut meanwhile.
        assert_eq!(admitted(&one, &[&wide], "acme", 10).await, 10);
        let mut refused = 0;
        let ends = Instant::now() + Duration::from_secs(30);
        while refused < 1_000 && Instant::now() < ends {
            for asks in [[ask(&wide), ask(&scarce)], [ask(&scarce), ask(&wide)]] {
                refused += usize::from(one.admit(&asks).await.is_err());
            }
            if refused % 250 == 0 {
                tokio::time::sleep(Duration::from_millis(120)).await; // Beyond what the last answer covers: ask again.
            }
        }
        assert_eq!(refused, 1_000);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let counted = leader.ledger.lock().expect("no panic").0.views().find(|view| view.key == ask(&wide).key());
        assert_eq!(counted.expect("ten were taken").spent, Permits(10), "{:?}", scarce.kind);
        assert_eq!(admitted(&one, &[&wide], "acme", 2_100).await, 1_990);
    }
}

#[tokio::test]
async fn a_dropped_permit_gives_itself_back() {
    let limit = limit(3, 60_000);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    let subject = one.subject(&limit, &[b"acme"]);
    let ask = Ask { limit: &limit, subject, cost: Permits(3) };
    for _ in 0..5 {
        // Within one generation; a report in between would burn it, so do not dawdle.
        drop(one.admit(&[ask]).await.expect("three are there"));
    }
    one.admit(&[ask]).await.expect("still three").commit(b"r");
}

#[tokio::test]
async fn a_cost_above_the_limit_is_never_admitted_and_gets_no_hint() {
    let limit = limit(3, 1_000);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    let ask = Ask { limit: &limit, subject: one.subject(&limit, &[b"acme"]), cost: Permits(4) };
    assert_eq!(one.admit(&[ask]).await.expect_err("too costly").why, Why::TooCostly);
}

#[tokio::test]
async fn an_observed_limit_refuses_nothing_and_says_what_it_would_have_refused() {
    let mut limit = limit(2, 60_000);
    limit.mode = Mode::Observe;
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    let ask = Ask { limit: &limit, subject: one.subject(&limit, &[b"acme"]), cost: Permits(1) };
    let mut refusals = Vec::new();
    for _ in 0..4 {
        let permit = one.admit(&[ask]).await.expect("observed");
        refusals.push(permit.standings(&[ask])[0].would_refuse);
        permit.commit(b"r");
    }
    assert_eq!(refusals, [false, false, true, true]);
}

#[tokio::test]
async fn without_a_leader_a_lease_goes_on_and_then_each_limit_does_what_it_says() {
    let mut limits = [limit(640, 10_000), limit(640, 10_001), limit(640, 10_002)];
    limits[1].on_unavailable = OnUnavailable::Allow;
    limits[2].on_unavailable = OnUnavailable::Share;
    let [deny, allow, share] = &limits;
    let leader = Leader::new(&[deny, allow, share]);
    let one = node(1, &leader, None);
    for _ in 0..30 {
        for limit in &limits {
            assert_eq!(admit(&one, &[limit], "acme").await, Ok(()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    leader.cut.store(true, Ordering::Relaxed);
    assert_eq!(admit(&one, &[deny], "acme").await, Ok(()), "the lease is warm");
    let after = admitted(&one, &[deny], "acme", 700).await;
    assert!(after < 640, "{after}");
    assert!(matches!(admit(&one, &[deny], "acme").await, Err(Why::Unavailable { .. })));
    assert_eq!(admitted(&one, &[allow], "acme", 700).await, 700);
    // The reserve of 640/32 = 20 was spent for the first window of this process; then it serves 20 per window.
    let _lease = admitted(&one, &[share], "acme", 700).await;
    assert!(matches!(admit(&one, &[share], "acme").await, Err(Why::Unavailable { .. })));
    tokio::time::sleep(Duration::from_millis(11_200)).await;
    assert_eq!(admitted(&one, &[share], "acme", 100).await, 20);
    leader.cut.store(false, Ordering::Relaxed);
    let healed = Instant::now();
    while admit(&one, &[deny], "acme").await.is_err() {
        assert!(healed.elapsed() < Duration::from_secs(3), "it comes back by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_busy_nodes_never_break_a_window_and_use_nearly_all_of_it() {
    let limit = limit(500, 1_000);
    let leader = Leader::new(&[&limit]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let log = DecisionLog::open(folder.path(), NodeId(id), Incarnation(u128::from(id))).expect("a log");
        let limiter = node(id, &leader, Some(log));
        limiter.note_limits([&limit]);
        nodes.push(limiter);
    }
    let ends = Instant::now() + Duration::from_secs(5);
    let tasks: Vec<_> = [1_200, 4_000, 9_000]
        .into_iter()
        .zip(nodes)
        .map(|(pause_us, limiter)| {
            let limit = limit.clone();
            tokio::spawn(async move {
                let mut at = Instant::now();
                while at < ends {
                    at += Duration::from_micros(pause_us);
                    tokio::time::sleep_until(at).await;
                    let _verdict = admit(&limiter, &[&limit], "acme").await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder.path()).expect("the folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    assert!(evidence.knows(RequestMark::of(b"request")));
    let finding = &evidence.judge()[0];
    println!("{finding:?}");
    assert!(finding.worst_ratio <= 1.0, "{finding:?}");
    // Demand is 1,190/s against 500/s.
    let share = finding.busiest.0.0 as f64 / (500.0 * finding.busiest.1.0 as f64 / 1e9);
    assert!(share > 0.85, "only {share:.3} of the limit was admitted");
}

#[tokio::test]
async fn there_are_never_more_keys_than_the_bound_and_idle_ones_are_forgotten() {
    let limit = limit(1, 100);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    for who in 0..2_000 {
        let _verdict = admit(&one, &[&limit], &who.to_string()).await;
    }
    assert!(one.keys() <= 1_000, "{}", one.keys());
    let started = Instant::now();
    while one.keys() > 0 {
        assert!(started.elapsed() < Duration::from_secs(25), "{} keys are still there", one.keys());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_answered_here() {
    let limit = limit(5, 60_000);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    assert_eq!(admitted(&one, &[&limit], "acme", 20).await, 5);
    let (before, started, mut refused) = (one.counters().batches.load(Ordering::Relaxed), Instant::now(), 0);
    while refused < 2_000 && started.elapsed() < Duration::from_secs(2) {
        assert!(matches!(admit(&one, &[&limit], "acme").await, Err(Why::Exhausted { .. })));
        refused += 1;
    }
    assert_eq!(refused, 2_000, "each of them waits for the leader");
    let (asked, ticks) = (one.counters().batches.load(Ordering::Relaxed) - before, started.elapsed().as_millis() / 15);
    assert!(u128::from(asked) <= ticks + 5, "{asked} batches for 2,000 refusals in {ticks} ticks");
}

#[tokio::test]
async fn a_refusal_is_believed_for_a_moment_only() {
    let low = limit(5, 60_000);
    let leader = Leader::new(&[&low]);
    let one = node(1, &leader, None);
    assert_eq!(admitted(&one, &[&low], "acme", 20).await, 5);
    tokio::time::sleep(Duration::from_millis(300)).await; // All of that is reported.
    let high = Limit { max: Permits(50), ..low.clone() };
    let raise = Command::SetPolicies { revision: Revision(2), policies: vec![high.policy()] };
    leader.ledger.lock().expect("no panic").0.apply(&Entry { dt: Nanos::ZERO, command: raise });
    // Nobody asks meanwhile: the verdict on the low limit, that permits come free in a minute, is the last there was.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(admit(&one, &[&high], "acme").await, Ok(()));
}

#[tokio::test]
async fn what_remains_counts_what_the_leader_has_left() {
    let limit = limit(1_000, 60_000);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    let ask = [Ask { limit: &limit, subject: one.subject(&limit, &[b"acme"]), cost: Permits(1) }];
    for taken in 1..=20 {
        let permit = one.admit(&ask).await.expect("a thousand are there");
        assert_eq!(permit.standings(&ask)[0].remaining, Permits(1_000 - taken));
        permit.commit(b"r");
    }
    one.share_with(2);
    let permit = one.admit(&ask).await.expect("there are more");
    let remaining = permit.standings(&ask)[0].remaining.0;
    assert!((400..979).contains(&remaining), "half of what is free for all: {remaining}");
    permit.commit(b"r");
}

/// New keys on every request, so that some press while the tick reports on news.
#[tokio::test]
async fn no_new_key_waits_longer_than_for_its_answer_however_it_meets_the_tick() {
    let limit = limit(1, 60_000);
    let leader = Leader::new(&[&limit]);
    let one = node(1, &leader, None);
    for who in 0..300 {
        let started = Instant::now();
        assert_eq!(admit(&one, &[&limit], &who.to_string()).await, Ok(()));
        assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    }
    assert!(one.counters().waited.load(Ordering::Relaxed) <= 330, "{:?}", one.counters());
}

/// Of another kind, or paid after the fact.
fn other(max: u64, kind: Kind, cost: Cost) -> Limit {
    Limit { kind, cost, ..limit(max, 60_000) }
}

async fn take(limiter: &Arc<Limiter>, limit: &Limit, cost: u64) -> Result<Option<Box<Running>>, Why> {
    let ask = Ask { limit, subject: limiter.subject(limit, &[b"acme"]), cost: Permits(cost) };
    match limiter.admit(&[ask]).await {
        Ok(permit) => Ok(permit.commit(b"request")),
        Err(refused) => Err(refused.why),
    }
}

#[tokio::test]
async fn a_place_is_free_again_when_its_call_ends_on_whichever_node() {
    let places = other(3, Kind::Concurrency, Cost::ONE);
    let leader = Leader::new(&[&places]);
    let (one, two) = (node(1, &leader, None), node(2, &leader, None));
    let a = take(&one, &places, 1).await.expect("the first");
    let b = take(&two, &places, 1).await.expect("the second");
    let c = take(&one, &places, 1).await.expect("the third");
    assert!(a.is_some() && b.is_some() && c.is_some());
    assert!(matches!(take(&two, &places, 1).await, Err(Why::Exhausted { .. })));
    drop(a);
    let deadline = Instant::now() + Duration::from_secs(2);
    let d = loop {
        if let Ok(permit) = take(&two, &places, 1).await {
            break permit;
        }
        assert!(Instant::now() < deadline, "the place that node 1 gave up");
    };
    assert!(matches!(take(&one, &places, 1).await, Err(Why::Exhausted { .. })));
    drop((b, c, d));
}

#[tokio::test]
async fn a_permit_that_is_not_committed_gives_its_place_and_its_reservation_back() {
    let places = other(1, Kind::Concurrency, Cost::ONE);
    let paid =
        other(100, Kind::Sliding { window: Nanos::from_secs(60) }, Cost::ResponseBytes { estimate: Permits(80) });
    let leader = Leader::new(&[&places, &paid]);
    let one = node(1, &leader, None);
    let asks = [(&places, 1), (&paid, 80)].map(|(limit, cost)| Ask {
        limit,
        subject: one.subject(limit, &[b"acme"]),
        cost: Permits(cost),
    });
    for _ in 0..5 {
        drop(one.admit(&asks).await.expect("both are free"));
    }
}

#[tokio::test]
async fn a_place_ends_with_its_lease() {
    let places = other(2, Kind::Concurrency, Cost::ONE);
    let leader = Leader::new(&[&places]);
    let one = node(1, &leader, None);
    let mut running = take(&one, &places, 1).await.expect("a place").expect("held");
    assert!(running.may_lapse());
    let lapsed = |running: &mut Running| futures_util::FutureExt::now_or_never(poll_fn(|cx| running.poll_lapsed(cx)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(lapsed(&mut running).is_none(), "renewed as long as the leader answers");
    leader.cut.store(true, Ordering::Relaxed);
    let began = Instant::now();
    poll_fn(|cx| running.poll_lapsed(cx)).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "before the ledger gives the place to another: {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn what_was_not_used_comes_back_and_what_was_used_beyond_is_owed() {
    let paid =
        other(100, Kind::Sliding { window: Nanos::from_secs(60) }, Cost::ResponseBytes { estimate: Permits(80) });
    let leader = Leader::new(&[&paid]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = DecisionLog::open(folder.path(), NodeId(1), Incarnation(1)).expect("writable");
    let one = node(1, &leader, Some(log));
    one.note_limits([&paid]);
    let mut first = take(&one, &paid, 80).await.expect("a hundred are free").expect("reserved");
    assert!(matches!(take(&one, &paid, 30).await, Err(Why::Exhausted { .. })), "eighty are reserved");
    // Reported many times: it is held, not spent. And whoever was refused has lost his turn.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    first.used(0, Permits(10));
    drop(first);
    let mut second = take(&one, &paid, 70).await.expect("ten were used").expect("reserved");
    second.extend(0, Permits(75), None);
    second.used(0, Permits(95));
    drop(second);
    assert!(one.counters().owed.load(Ordering::Relaxed) > 0, "105 of 100 were used");
    assert!(matches!(take(&one, &paid, 1).await, Err(Why::Exhausted { .. })));
    let mut evidence = Evidence::default();
    for file in std::fs::read_dir(folder.path()).expect("a folder") {
        evidence.read(&std::fs::read(file.expect("a file").path()).expect("readable")).expect("a log");
    }
    let findings = evidence.judge();
    assert!(findings[0].worst_ratio <= 1.0, "{findings:?}");
    assert!(findings[0].worst >= Permits(80), "{findings:?}");
}

#[tokio::test]
async fn what_is_owed_to_a_count_that_begins_anew_is_forgotten() {
    let kind = Kind::Bucket { rate: Rate { permits: 100, per: Nanos::SECOND } };
    let paid = other(100, kind, Cost::ResponseBytes { estimate: Permits(10) });
    let leader = Leader::new(&[&paid]);
    let one = node(1, &leader, None);
    let mut call = take(&one, &paid, 10).await.expect("a hundred are free").expect("reserved");
    call.used(0, Permits(u64::MAX));
    drop(call);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(take(&one, &paid, 1).await.is_err(), "whatever comes is owed");
    one.forgive(tidegate_model::LimitId(paid.id.0 ^ 1), None);
    assert!(take(&one, &paid, 1).await.is_err(), "another count");
    one.forgive(paid.id, None);
    let ends = Instant::now() + Duration::from_secs(5);
    while take(&one, &paid, 1).await.is_err() {
        assert!(Instant::now() < ends, "a hundred come each second");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_large_reservation_is_not_starved_by_small_calls() {
    let kind = Kind::Bucket { rate: Rate { permits: 1_000, per: Nanos::SECOND } };
    let paid = Limit { name: "paid".into(), ..other(1_000, kind, Cost::ResponseBytes { estimate: Permits(1) }) };
    let leader = Leader::new(&[&paid]);
    let (one, two) = (node(1, &leader, None), node(2, &leader, None));
    let ends = Instant::now() + Duration::from_secs(4);
    let crowd: Vec<_> = [one.clone(), two.clone(), one.clone(), two]
        .into_iter()
        .map(|limiter| {
            let paid = paid.clone();
            tokio::spawn(async move {
                while Instant::now() < ends {
                    let _small = take(&limiter, &paid, 10).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let large = async {
        loop {
            if let Ok(permit) = take(&one, &paid, 800).await {
                return permit;
            }
        }
    };
    let granted = tokio::time::timeout(Duration::from_secs(3), large).await;
    assert!(granted.is_ok(), "800 of 1,000 fit, and it waits");
    for task in crowd {
        task.await.expect("no panic");
    }
}
