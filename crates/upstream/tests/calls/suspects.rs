//! What an endpoint gets that has begun to fail, until it is known whether it is sick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Channel};
use tidegate_policy::Upstream;
use tidegate_upstream::{Answer, CallFailed, Upstreams};
use tokio::task::JoinSet;

use crate::backend::{Backend, Reply, call, get, http1, read, reply, upstream};
use crate::sick::{breaker, served};

/// How a backend answers, and after how many milliseconds.
#[derive(Clone)]
struct Mood(Arc<(AtomicU16, AtomicU64)>);

impl Mood {
    fn set(&self, status: u16, millis: u64) {
        self.0.0.store(status, SeqCst);
        self.0.1.store(millis, SeqCst);
    }
}

/// `/stream` begins an answer that does not end.
async fn moody() -> (Backend, Mood) {
    let mood = Mood(Arc::new((AtomicU16::new(200), AtomicU64::new(0))));
    let says = mood.clone();
    let answer = move |request: http::Request<hyper::body::Incoming>, _| {
        let (status, millis) = (says.0.0.load(SeqCst), says.0.1.load(SeqCst));
        async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if request.uri().path() == "/stream" { endless() } else { reply(status, "") }
        }
    };
    (http1(answer).await, mood)
}

fn endless() -> Reply {
    let (mut send, body) = Channel::<Bytes, std::convert::Infallible>::new(1);
    tokio::spawn(async move {
        while send.send_data(Bytes::from_static(b"more\n")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    http::Response::new(body.map_err(|never| match never {}).boxed())
}

/// So many calls at once; each one's end and how long it took.
async fn at_once(ups: &Arc<Upstreams>, up: &Arc<Upstream>, calls: usize) -> Vec<(Result<u16, CallFailed>, Duration)> {
    let mut all = JoinSet::new();
    for _ in 0..calls {
        let (ups, up) = (Arc::clone(ups), Arc::clone(up));
        all.spawn(async move {
            let begun = Instant::now();
            let status = |answer: Answer| answer.response.status().as_u16();
            (call(&ups, &up, get("/")).await.map(status), begun.elapsed())
        });
    }
    all.join_all().await
}

async fn fails_twice(ups: &Arc<Upstreams>, up: &Arc<Upstream>, mood: &Mood) {
    mood.set(503, 0);
    for _ in 0..2 {
        assert_eq!(read(call(ups, up, get("/")).await).await.0, 503);
    }
}

#[tokio::test]
async fn a_suspect_backend_gets_no_more_tries_than_it_takes_to_judge_it() {
    let (backend, mood) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(5)), ..upstream(&[backend.at]) });
    fails_twice(&ups, &up, &mood).await;
    mood.set(503, 40);
    let ends = at_once(&ups, &up, 50).await;
    assert_eq!(backend.requests(), 5, "two before, three more");
    assert_eq!(ends.iter().filter(|(end, _)| matches!(end, Err(CallFailed::Open { .. }))).count(), 47);
}

#[tokio::test]
async fn a_good_answer_lets_all_go_at_once() {
    let (backend, mood) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(5)), ..upstream(&[backend.at]) });
    fails_twice(&ups, &up, &mood).await;
    mood.set(200, 30);
    let ends = at_once(&ups, &up, 50).await;
    assert!(ends.iter().all(|(end, _)| matches!(end, Ok(200))), "{ends:?}");
    let quick = ends.iter().filter(|(_, took)| *took < Duration::from_millis(55)).count();
    assert!(quick >= 3, "those that went first: {ends:?}");
    assert_eq!(backend.requests(), 52);
}

#[tokio::test]
async fn one_failure_holds_nobody_back() {
    let (backend, mood) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(5)), ..upstream(&[backend.at]) });
    mood.set(503, 0);
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 503);
    mood.set(200, 300);
    let all = at_once(&ups, &up, 50);
    let seen = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        backend.requests()
    };
    let (ends, seen) = tokio::join!(all, seen);
    assert_eq!(seen, 51, "all went before any was answered");
    assert!(ends.iter().all(|(end, _)| matches!(end, Ok(200))));
}

#[tokio::test]
async fn a_request_is_held_back_for_a_tenth_of_a_second_at_most() {
    let (backend, mood) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(5)), ..upstream(&[backend.at]) });
    fails_twice(&ups, &up, &mood).await;
    mood.set(200, 400);
    let ends = at_once(&ups, &up, 6).await;
    assert!(ends.iter().all(|(end, _)| matches!(end, Ok(200))), "{ends:?}");
    let held = ends.iter().filter(|(_, took)| *took >= Duration::from_millis(480)).count();
    assert_eq!(held, 3, "three went at once, three after 100 ms: {ends:?}");
}

#[tokio::test]
async fn what_a_suspect_has_no_room_for_goes_to_another() {
    let ((sick, mood), (well, _)) = (moody().await, moody().await);
    let rules = tidegate_policy::Breaker { max_ejected: 0.5, ..breaker(3) };
    let (ups, up) = served(Upstream { breaker: Some(rules), ..upstream(&[sick.at, well.at]) });
    mood.set(503, 0);
    while sick.requests() < 2 {
        read(call(&ups, &up, get("/")).await).await;
    }
    mood.set(200, 2_000);
    let before = well.requests();
    let all = at_once(&ups, &up, 20);
    let seen = async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        (sick.requests(), well.requests() - before)
    };
    let (ends, seen) = tokio::join!(all, seen);
    assert_eq!(seen, (3, 19), "one more failure would open it");
    assert!(ends.iter().all(|(end, _)| matches!(end, Ok(200))), "{ends:?}");
}

#[tokio::test]
async fn answers_that_have_begun_are_no_tries_any_more() {
    let (backend, mood) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(5)), ..upstream(&[backend.at]) });
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut body = call(&ups, &up, get("/stream")).await.unwrap().response.into_body();
        body.frame().await.unwrap().unwrap();
        streams.push(tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} }));
    }
    tokio::time::sleep(Duration::from_millis(50)).await; // Each waits for more by now.
    fails_twice(&ups, &up, &mood).await;
    mood.set(200, 0);
    let begun = Instant::now();
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    assert!(begun.elapsed() < Duration::from_millis(80), "it was not held back: {:?}", begun.elapsed());
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}
