//! A leader that is silent for a moment: a disk that stalls, a machine on which a node starts, a leadership that is handed
//! over. Who would be refused waits for it; who may go on without it does.

#[path = "common/leader.rs"]
mod leader;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_limiter::{Ask, Limiter, Settings, Why};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_policy::{Cost, Dimension, Kind, Limit, Mode, OnMissing, OnUnavailable, Terms};
use tokio::time::Instant;

use leader::Leader;

fn limit(nth: u64, on_unavailable: OnUnavailable) -> Limit {
    Limit {
        id: LimitId(nth),
        revision: Revision(1),
        name: "spec".into(),
        max: Permits(100),
        kind: Kind::Sliding { window: Nanos::from_secs(10) },
        cost: Cost::ONE,
        per: vec![Dimension::Consumer],
        mode: Mode::Enforce,
        on_unavailable,
        count_hits: true,
        on_missing: OnMissing::Share,
        terms: Terms::default(),
    }
}

fn node(leader: &Arc<Leader>) -> Arc<Limiter> {
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let limiter = Limiter::new(Settings { node, incarnation, secret: [1; 16], most_keys: 100, decisions: None });
    leader.serve(node, &limiter);
    limiter
}

/// What came of it, and after how long.
async fn call(limiter: &Limiter, limits: &[Limit]) -> (Result<(), Why>, Duration) {
    let began = Instant::now();
    let ask = |limit| Ask { limit, subject: limiter.subject(limit, &[b"acme"]), cost: Permits(1) };
    let asks: Vec<_> = limits.iter().map(ask).collect();
    let done = limiter.admit(&asks).await.map(|permit| drop(permit.commit(b"request"))).map_err(|refused| refused.why);
    (done, began.elapsed())
}

/// Cut off for so long from now on.
fn silent_for(leader: &Arc<Leader>, time: Duration) {
    leader.cut.store(true, Ordering::Relaxed);
    let leader = Arc::clone(leader);
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        leader.cut.store(false, Ordering::Relaxed);
    });
}

#[tokio::test]
async fn who_would_be_refused_waits_for_a_leader_that_is_silent_for_a_moment() {
    let limits = [limit(1, OnUnavailable::Deny), limit(2, OnUnavailable::Allow)];
    let leader = Leader::new(&[&limits[0], &limits[1]]);
    let limiter = node(&leader);
    silent_for(&leader, Duration::from_millis(800));
    let (waits, goes_on) = tokio::join!(call(&limiter, &limits[..1]), call(&limiter, &limits[1..]));
    assert_eq!(waits.0, Ok(()));
    assert!((Duration::from_millis(700)..Duration::from_millis(1_400)).contains(&waits.1), "{:?}", waits.1);
    assert_eq!(goes_on.0, Ok(()));
    assert!(goes_on.1 < Duration::from_millis(600), "{:?}", goes_on.1);
}

#[tokio::test]
async fn a_call_waits_once_for_a_leader_that_is_gone_and_the_next_one_not_at_all() {
    let limits = [limit(1, OnUnavailable::Deny), limit(2, OnUnavailable::Deny)];
    let leader = Leader::new(&[&limits[0], &limits[1]]);
    let limiter = node(&leader);
    leader.cut.store(true, Ordering::Relaxed);
    let (refused, waited) = call(&limiter, &limits).await;
    assert!(matches!(refused, Err(Why::Unavailable { .. })), "{refused:?}");
    assert!((Duration::from_millis(1_400)..Duration::from_millis(2_000)).contains(&waited), "{waited:?}");
    let (refused, waited) = call(&limiter, &limits[1..]).await;
    assert!(matches!(refused, Err(Why::Unavailable { .. })), "{refused:?}");
    assert!(waited < Duration::from_millis(100), "{waited:?}");
    leader.cut.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(call(&limiter, &limits).await.0, Ok(()), "it is there again");
}
