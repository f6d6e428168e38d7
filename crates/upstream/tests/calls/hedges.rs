//! A late answer is asked for a second time, elsewhere, within bounds; the first good answer wins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tidegate_policy::{After, Beside, Concurrency, Overload, Upstream, Waiting};
use tidegate_upstream::Upstreams;
use tokio::time::{Instant, sleep};

use crate::backend::{Backend, call, get, http1, post, read, reply, upstream};

const LATE: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(8);

async fn slow() -> Backend {
    http1(|_, _| async {
        sleep(LONG).await;
        reply(200, "slow")
    })
    .await
}

async fn quick() -> Backend {
    http1(|_, _| async { reply(200, "quick") }).await
}

fn hedging(backends: &[&Backend], budget: f64) -> Upstream {
    let at: Vec<_> = backends.iter().map(|backend| backend.at).collect();
    Upstream { hedge: Some(Beside { after: After::Span(LATE), budget }), ..upstream(&at) }
}

#[tokio::test]
async fn the_first_answer_wins_and_the_other_try_is_cancelled() {
    let (slow, quick) = (slow().await, quick().await);
    let (ups, up) = (Upstreams::new(), Arc::new(hedging(&[&slow, &quick], 1.0)));
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, "quick".into()));
        assert!(began.elapsed() < LONG / 2);
    }
    assert_eq!(slow.requests(), 2, "in turn");
    slow.until_open(0).await;
    assert_eq!(ups.hedges().iter().map(|(_, sent, won)| (*sent, *won)).collect::<Vec<_>>(), [(2, 2)]);
}

#[tokio::test]
async fn what_may_not_be_repeated_is_asked_once() {
    let (ups, late) = (
        Upstreams::new(),
        http1(|_, _| async {
            sleep(4 * LATE).await;
            reply(200, "once")
        })
        .await,
    );
    let up = Arc::new(hedging(&[&late], 1.0));
    let body = Full::new(Bytes::from_static(b"pay"));
    assert_eq!(read(call(&ups, &up, post(body)).await).await, (200, "once".into()));
    assert_eq!(late.requests(), 1);
    assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, "once".into()));
    assert_eq!(late.requests(), 3, "a GET, twice");
}

#[tokio::test]
async fn a_second_try_that_fails_does_not_spoil_the_first() {
    let late = http1(|_, number| async move {
        if number == 0 {
            sleep(6 * LATE).await;
            return reply(200, "first");
        }
        reply(500, "second")
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(hedging(&[&late], 1.0)));
    assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, "first".into()));
    assert_eq!(late.requests(), 2);
}

#[tokio::test]
async fn there_are_no_more_hedges_than_the_budgets_allow_and_none_without_a_berth() {
    let late = http1(|_, _| async {
        sleep(3 * LATE).await;
        reply(200, "late")
    })
    .await;
    let ups = Upstreams::new();
    let none = Arc::new(hedging(&[&late], 0.0));
    assert_eq!(read(call(&ups, &none, get("/")).await).await.0, 200);
    assert_eq!(late.requests(), 1);
    let queue = Waiting { max: 10, per_consumer: 10, deadline: Duration::from_secs(5) };
    let overload = Some(Overload { concurrency: Concurrency::Fixed(1), queue, class_header: None });
    let one = Arc::new(Upstream { id: "one".into(), overload, ..hedging(&[&late], 1.0) });
    assert_eq!(read(call(&ups, &one, get("/")).await).await.0, 200);
    assert_eq!(late.requests(), 2);
}

#[tokio::test]
async fn what_is_usual_is_learnt_before_anything_is_late() {
    let backend = http1(|_, number| async move {
        if number == 60 {
            sleep(LONG).await;
        }
        reply(200, "ok")
    })
    .await;
    let hedge = Some(Beside { after: After::P95, budget: 1.0 });
    let (ups, up) = (Upstreams::new(), Arc::new(Upstream { hedge, ..upstream(&[backend.at]) }));
    let began = Instant::now();
    while backend.requests() <= 61 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    }
    assert!(began.elapsed() < LONG);
    assert!(ups.hedges().iter().any(|(_, _, won)| *won > 0));
}
