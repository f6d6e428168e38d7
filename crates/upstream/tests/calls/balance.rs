//! Who is asked.

use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::{Balance, RetryOn};
use tidegate_upstream::Upstreams;

use crate::backend::{call, endpoint, get, http1, nobody, read, reply, upstream};

#[tokio::test]
async fn round_robin_gives_each_exactly_its_weight() {
    let [a, b, c] = [backend().await, backend().await, backend().await];
    let mut up = upstream(&[]);
    up.endpoints = vec![endpoint(a.at, 5), endpoint(b.at, 3), endpoint(c.at, 2)];
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    for _ in 0..100 {
        read(call(&ups, &up, get("/")).await).await;
    }
    assert_eq!([a.requests(), b.requests(), c.requests()], [50, 30, 20]);
}

#[tokio::test]
async fn least_request_avoids_the_one_that_is_slow() {
    let slow = http1(|_, _| async move { std::future::pending().await }).await;
    let fast = backend().await;
    let mut up = upstream(&[slow.at, fast.at]);
    up.balance = Balance::LeastRequest;
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let mut stuck = None;
    while slow.requests() == 0 {
        let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
        let waiting = tokio::spawn(async move { call(&ups, &up, get("/")).await.map(|_| ()) });
        tokio::time::sleep(Duration::from_millis(5)).await;
        stuck = Some(waiting);
    }
    let before = fast.requests();
    for _ in 0..50 {
        read(call(&ups, &up, get("/")).await).await;
    }
    assert_eq!((slow.requests(), fast.requests() - before), (1, 50));
    stuck.unwrap().abort();
}

#[tokio::test]
async fn an_endpoint_nobody_answers_at_is_set_aside_after_three_failures() {
    let (well, dead) = (backend().await, nobody().await);
    let mut up = upstream(&[dead, well.at]);
    up.retries.max = 1;
    up.retries.on = vec![RetryOn::Connect];
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let mut tries = 0;
    for _ in 0..40 {
        let answer = call(&ups, &up, get("/")).await.unwrap();
        tries += answer.attempts;
        read(Ok(answer)).await;
    }
    assert_eq!(tries, 43);
    assert!(ups.facts().iter().any(|facts| facts.ejected && facts.connect_failures == 3));
}

async fn backend() -> crate::backend::Backend {
    http1(|_, _| async { reply(200, "ok") }).await
}
