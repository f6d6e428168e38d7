//! Each wait has an end, and the failure says which.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tidegate_policy::{Protocol, RetryOn, Timeouts};
use tidegate_upstream::{BoxError, Broken, Call, CallFailed, Phase, Upstreams};

use crate::backend::{Reply, call, get, http1, http2, post, read, reply, upstream};

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn an_upstream_that_says_nothing_times_out_by_first_byte() {
    let backend = http1(|_, _| async move { std::future::pending().await }).await;
    let mut up = upstream(&[backend.at]);
    up.timeouts.first_byte = SHORT;
    let started = Instant::now();
    let failed = call(&Upstreams::new(), &Arc::new(up), get("/")).await.unwrap_err();
    assert!(matches!(failed, CallFailed::Timeout(Phase::FirstByte)), "{failed:?}");
    assert!(started.elapsed() >= SHORT);
    backend.until_open(0).await;
}

#[tokio::test]
async fn the_routes_timeouts_override_the_upstreams() {
    let backend = http1(|_, _| async move { std::future::pending().await }).await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    for (first_byte, total, phase) in [(Some(SHORT), None, Phase::FirstByte), (None, Some(SHORT), Phase::Total)] {
        let timeouts = Timeouts { total, first_byte };
        let failed = ups.call(Call::alone(&up, get("/"), timeouts)).await.unwrap_err();
        assert!(matches!(failed, CallFailed::Timeout(p) if p == phase), "{failed:?}");
    }
}

#[tokio::test]
async fn alarms_that_stay_with_their_connection_still_ring_in_time() {
    // The first request arms for 10 s; the second, on the same connection, must still end at 60 ms.
    let backend =
        http1(|_, n| async move { if n == 0 { reply(200, "ok") } else { std::future::pending().await } }).await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    read(call(&ups, &up, get("/")).await).await;
    let timeouts = Timeouts { total: None, first_byte: Some(SHORT) };
    let started = Instant::now();
    let failed = ups.call(Call::alone(&up, get("/"), timeouts)).await.unwrap_err();
    assert!(matches!(failed, CallFailed::Timeout(Phase::FirstByte)), "{failed:?}");
    assert!((SHORT..Duration::from_secs(5)).contains(&started.elapsed()));
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_timeout_is_retried_when_the_document_says_so() {
    let backend =
        http1(|_, n| async move { if n == 0 { std::future::pending().await } else { reply(200, "ok") } }).await;
    let mut up = upstream(&[backend.at]);
    up.timeouts.first_byte = SHORT;
    (up.retries.max, up.retries.on) = (1, vec![RetryOn::Timeout]);
    assert_eq!(read(call(&Upstreams::new(), &Arc::new(up), get("/")).await).await.0, 200);
}

#[tokio::test]
async fn the_wait_for_an_answer_begins_when_another_task_has_sent_the_bodys_end() {
    // Nothing but the body's end can shorten the wait: the call itself is not polled meanwhile.
    let silent1 = http1(|_, _| async move { std::future::pending().await }).await;
    let silent2 = http2(100, |_, _| async move { std::future::pending().await }).await;
    for (backend, protocol) in [(silent1, Protocol::Http1), (silent2, Protocol::Http2)] {
        let mut up = upstream(&[backend.at]);
        (up.timeouts.first_byte, up.timeouts.idle, up.protocol) = (SHORT, Duration::from_secs(60), protocol);
        let (mut tx, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(4);
        let sending = tokio::spawn(async move {
            tokio::time::sleep(SHORT).await;
            tx.send_data(Bytes::from_static(b"x")).await.unwrap();
        });
        let (ups, up) = (Upstreams::new(), Arc::new(up));
        let calling = tokio::spawn(async move { call(&ups, &up, post(body)).await.map(drop) });
        let failed =
            tokio::time::timeout(Duration::from_secs(5), calling).await.expect("in time").unwrap().unwrap_err();
        assert!(matches!(failed, CallFailed::Timeout(Phase::FirstByte)), "{protocol:?}: {failed:?}");
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn total_covers_all_tries() {
    let backend = http1(|_, _| async move { std::future::pending().await }).await;
    let mut up = upstream(&[backend.at]);
    (up.timeouts.first_byte, up.timeouts.total) = (SHORT, Some(3 * SHORT));
    (up.retries.max, up.retries.on) = (100, vec![RetryOn::Timeout]);
    let started = Instant::now();
    let failed = call(&Upstreams::new(), &Arc::new(up), get("/")).await.unwrap_err();
    assert!(matches!(failed, CallFailed::Timeout(Phase::Total)), "{failed:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

/// Sends one chunk, then nothing.
fn stalling() -> Reply {
    let (tx, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(4);
    tokio::spawn(async move {
        let mut tx = tx;
        let _ = tx.send_data(Bytes::from_static(b"one")).await;
        std::future::pending::<()>().await;
    });
    Response::new(body.boxed())
}

#[tokio::test]
async fn silence_inside_a_body_breaks_it() {
    // Long enough for the first part to come in time on a machine that builds something else meanwhile.
    const PATIENCE: Duration = Duration::from_millis(600);
    for http2_too in [false, true] {
        let backend = if http2_too {
            http2(100, |_, _| async { stalling() }).await
        } else {
            http1(|_, _| async { stalling() }).await
        };
        for phase in [Phase::Idle, Phase::Total] {
            let mut up = upstream(&[backend.at]);
            up.protocol = if http2_too { tidegate_policy::Protocol::Http2 } else { up.protocol };
            match phase {
                Phase::Idle => up.timeouts.idle = PATIENCE,
                _ => up.timeouts.total = Some(PATIENCE),
            }
            let answer = call(&Upstreams::new(), &Arc::new(up), get("/")).await.unwrap();
            let mut body = answer.response.into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
            let broken = body.frame().await.unwrap().unwrap_err();
            assert!(matches!(broken, Broken::Timeout(p) if p == phase), "{broken:?}");
            assert!(body.frame().await.is_none());
        }
    }
}

#[tokio::test]
async fn a_slow_upload_is_not_a_slow_answer_but_a_stalled_one_is_the_clients_fault() {
    let backend = http1(|request, _| async move {
        let body = request.into_body().collect().await.map(|b| b.to_bytes().len());
        reply(200, format!("{body:?}"))
    })
    .await;
    let mut up = upstream(&[backend.at]);
    (up.timeouts.first_byte, up.timeouts.idle) = (SHORT, 4 * SHORT);
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let answer = call(&ups, &up, upload(6, false)).await;
    assert_eq!(read(answer).await, (200, "Ok(6)".into()));
    let failed = call(&ups, &up, upload(1, true)).await.unwrap_err();
    assert!(matches!(failed, CallFailed::Timeout(Phase::RequestIdle)), "{failed:?}");
}

type Upload = StreamBody<tokio_stream::wrappers::ReceiverStream<Result<Frame<Bytes>, BoxError>>>;

/// One byte every 30 ms, then the end or silence.
fn upload(bytes: usize, stall: bool) -> Request<Upload> {
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..bytes {
            tokio::time::sleep(SHORT / 2).await;
            if tx.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.is_err() {
                return;
            }
        }
        if stall {
            tx.closed().await;
        }
    });
    post(StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx)))
}
