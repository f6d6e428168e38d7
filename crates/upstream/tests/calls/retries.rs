//! What is tried again, and how often at most.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tidegate_policy::{RetryOn, Upstream};
use tidegate_upstream::{CallFailed, Upstreams};
use tokio::io::AsyncReadExt;

use crate::backend::{accept, call, get, http1, nobody, post, read, reply, upstream};

fn retrying(at: &[std::net::SocketAddr], max: u32, on: &[RetryOn]) -> Upstream {
    let mut up = upstream(at);
    up.retries.max = max;
    up.retries.on = on.to_vec();
    up
}

#[tokio::test]
async fn a_refused_connection_is_retried_elsewhere_whatever_the_method() {
    let well = http1(|_, _| async { reply(200, "ok") }).await;
    let up = Arc::new(retrying(&[nobody().await, well.at], 1, &[RetryOn::Connect]));
    let ups = Upstreams::new();
    for _ in 0..4 {
        let answer = call(&ups, &up, post(Full::new(Bytes::from_static(b"x")))).await;
        assert_eq!(read(answer).await.0, 200);
    }
    let alone = Arc::new(Upstream { id: "alone".into(), ..retrying(&[nobody().await], 1, &[]) });
    assert!(matches!(call(&ups, &alone, get("/")).await, Err(CallFailed::Connect(_))));
}

#[tokio::test]
async fn a_bad_status_is_retried_on_another_endpoint_and_the_last_one_is_passed_on() {
    let bad = http1(|_, _| async { reply(503, "bad") }).await;
    let well = http1(|_, _| async { reply(200, "ok") }).await;
    let ups = Upstreams::new();
    let up = Arc::new(retrying(&[bad.at, well.at], 2, &[RetryOn::Status(503)]));
    let answer = call(&ups, &up, get("/")).await.unwrap();
    assert_eq!(answer.attempts, 2);
    assert_eq!(read(Ok(answer)).await, (200, "ok".into()));
    let alone = Arc::new(Upstream { id: "alone".into(), ..retrying(&[bad.at], 2, &[RetryOn::Status(503)]) });
    let answer = call(&ups, &alone, get("/")).await.unwrap();
    assert_eq!(answer.attempts, 3);
    assert_eq!(read(Ok(answer)).await, (503, "bad".into()));
    assert!(bad.connections() <= 2, "answers that are not wanted leave their connections usable");
}

#[tokio::test]
async fn a_post_is_not_repeated_unless_the_document_says_so() {
    let bad = http1(|_, _| async { reply(503, "bad") }).await;
    let ups = Upstreams::new();
    let mut up = retrying(&[bad.at], 2, &[RetryOn::Status(503)]);
    let body = || Full::new(Bytes::from_static(b"pay"));
    assert_eq!(read(call(&ups, &Arc::new(up.clone()), post(body())).await).await.0, 503);
    assert_eq!(bad.requests(), 1);
    up.retries.unsafe_methods = true;
    assert_eq!(read(call(&ups, &Arc::new(up), post(body())).await).await.0, 503);
    assert_eq!(bad.requests(), 4);
}

#[tokio::test]
async fn a_body_is_sent_again_from_its_beginning_if_it_is_small() {
    let backend = http1(|request, n| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        reply(if n % 2 == 0 { 503 } else { 200 }, body)
    })
    .await;
    let mut up = retrying(&[backend.at], 1, &[RetryOn::Status(503)]);
    up.retries.unsafe_methods = true;
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let small = "x".repeat(64 * 1024);
    assert_eq!(read(call(&ups, &up, post(Full::new(Bytes::from(small.clone())))).await).await, (200, small));
    let large = "x".repeat(64 * 1024 + 1);
    assert_eq!(read(call(&ups, &up, post(Full::new(Bytes::from(large)))).await).await.0, 503);
}

#[tokio::test]
async fn a_reset_is_retried_for_what_may_be_repeated() {
    let backend = accept(|mut socket, seen| async move {
        let mut buffer = [0; 1024];
        let _ = socket.read(&mut buffer).await;
        seen.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    })
    .await;
    let up = Arc::new(retrying(&[backend.at], 2, &[RetryOn::Reset]));
    let ups = Upstreams::new();
    assert!(matches!(call(&ups, &up, get("/")).await, Err(CallFailed::Reset(_))));
    assert_eq!(backend.requests(), 3);
    let answer = call(&ups, &up, post(Full::new(Bytes::from_static(b"x")))).await;
    assert!(matches!(answer, Err(CallFailed::Reset(_))));
    assert_eq!(backend.requests(), 4);
}

#[tokio::test]
async fn retries_stay_within_the_budget() {
    let bad = http1(|_, _| async { reply(503, "bad") }).await;
    let up = Arc::new(retrying(&[bad.at], 3, &[RetryOn::Status(503)]));
    let ups = Upstreams::new();
    let started = std::time::Instant::now();
    for _ in 0..200 {
        read(call(&ups, &up, get("/")).await).await;
    }
    let floor = 10 + usize::try_from(started.elapsed().as_millis()).unwrap() / 100 + 1;
    let retries = bad.requests() - 200;
    assert!((10..=40 + floor).contains(&retries), "{retries} retries");
    assert_eq!(ups.retries()[0].1, retries as u64);
}

#[tokio::test]
async fn no_endpoint_is_no_endpoint() {
    assert!(matches!(call(&Upstreams::new(), &Arc::new(upstream(&[])), get("/")).await, Err(CallFailed::NoEndpoint)));
}
