//! Connections: used again, shared, capped, dropped.

use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::Protocol;
use tidegate_upstream::{CallFailed, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{accept, call, get, http1, http2, read, reply, upstream};

#[tokio::test]
async fn requests_one_after_another_share_a_connection() {
    let backend = http1(|_, n| async move { reply(200, format!("{n}")) }).await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    for n in 0..50 {
        let answer = call(&ups, &up, get("/")).await.unwrap();
        assert_eq!(answer.connect.is_some(), n == 0);
        assert_eq!(&*answer.endpoint, backend.at.to_string());
        assert_eq!(read(Ok(answer)).await, (200, n.to_string()));
    }
    assert_eq!(backend.connections(), 1);
    let facts = &ups.facts()[0];
    assert_eq!((facts.open, facts.idle, facts.in_flight, facts.requests), (1, 1, 0, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_use_as_many_connections_as_are_needed() {
    let backend = http1(|_, _| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        reply(200, "ok")
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
            tokio::spawn(async move {
                for _ in 0..50 {
                    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(backend.requests(), 400);
    assert!(backend.connections() <= 16, "{}", backend.connections());
}

#[tokio::test]
async fn a_connection_the_peer_closed_while_idle_is_not_noticed_by_the_caller() {
    // Answers once, then closes as soon as the next request comes in: the race every keep-alive has.
    let backend = accept(|mut socket, seen| async move {
        let mut buffer = [0; 1024];
        if socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {
            seen.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = socket.read(&mut buffer).await;
        }
    })
    .await;
    let mut up = upstream(&[backend.at]);
    up.retries.max = 1;
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    for n in 0..5 {
        let answer = call(&ups, &up, get("/")).await.unwrap();
        assert_eq!(answer.attempts, 1 + u32::from(n > 0), "a try like others");
        read(Ok(answer)).await;
    }
    assert_eq!(backend.requests(), 5);
}

#[tokio::test]
async fn a_post_that_was_sent_is_not_sent_again() {
    let backend = accept(|mut socket, seen| async move {
        let mut buffer = [0; 1024];
        while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {
            if seen.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                return;
            }
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    read(call(&ups, &up, get("/")).await).await;
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"pay"));
    let failed = call(&ups, &up, crate::backend::post(body)).await.unwrap_err();
    assert!(matches!(failed, CallFailed::Reset(_)), "{failed:?}");
    assert_eq!(backend.requests(), 2);
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_opened_and_the_rest_wait() {
    let backend = http1(|_, _| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        reply(200, "ok")
    })
    .await;
    let up = Arc::new(tidegate_policy::Upstream { max_connections: 3, ..upstream(&[backend.at]) });
    let ups = Upstreams::new();
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
            tokio::spawn(async move { read(call(&ups, &up, get("/")).await).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().0, 200);
    }
    assert_eq!(backend.connections(), 3);
}

#[tokio::test]
async fn waiting_for_a_connection_ends_with_too_busy() {
    let backend = http1(|_, _| async move { std::future::pending().await }).await;
    let mut up = upstream(&[backend.at]);
    up.max_connections = 1;
    up.timeouts.connect = Duration::from_millis(50);
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let first = tokio::spawn({
        let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
        async move { call(&ups, &up, get("/")).await.map(|_| ()) }
    });
    backend.until_open(1).await;
    let failed = call(&ups, &up, get("/")).await.unwrap_err();
    assert!(matches!(failed, CallFailed::TooBusy), "{failed:?}");
    first.abort();
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let backend = http1(|_, _| async move { std::future::pending().await }).await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let pending = tokio::spawn({
        let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
        async move { call(&ups, &up, get("/")).await.map(|_| ()) }
    });
    backend.until_open(1).await;
    pending.abort();
    backend.until_open(0).await;
    assert_eq!((ups.facts()[0].in_flight, ups.facts()[0].open), (0, 0));
}

#[tokio::test]
async fn idle_connections_are_closed_in_time_and_kept_in_number() {
    let backend = http1(|_, _| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        reply(200, "ok")
    })
    .await;
    let mut up = upstream(&[backend.at]);
    up.max_idle = 2;
    up.idle_timeout = Duration::from_millis(200);
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
            tokio::spawn(async move { read(call(&ups, &up, get("/")).await).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    backend.until_open(2).await;
    backend.until_open(0).await;
    assert_eq!(ups.facts()[0].idle, 0);
}

#[tokio::test]
async fn a_vanished_endpoint_drains_and_a_kept_one_keeps_its_connections() {
    let [a, b] = [http1(|_, _| async { reply(200, "a") }).await, http1(|_, _| async { reply(200, "b") }).await];
    let ups = Upstreams::new();
    let both = Arc::new(upstream(&[a.at, b.at]));
    ups.retain(&[Arc::clone(&both)]);
    for _ in 0..4 {
        read(call(&ups, &both, get("/")).await).await;
    }
    let one = Arc::new(tidegate_policy::Upstream { max_idle: 50, ..upstream(&[a.at]) });
    ups.retain(&[Arc::clone(&one)]);
    b.until_open(0).await;
    for _ in 0..4 {
        assert_eq!(read(call(&ups, &one, get("/")).await).await.1, "a");
        // A request that still holds the old document is served by what is there now.
        assert_eq!(read(call(&ups, &both, get("/")).await).await.1, "a");
    }
    assert_eq!((a.connections(), a.requests()), (1, 10));
    ups.retain(&[]);
    a.until_open(0).await;
    assert!(ups.facts().is_empty());
}

#[tokio::test]
async fn http2_requests_share_connections_up_to_the_peers_streams() {
    let backend = http2(10, |_, _| async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        reply(200, "ok")
    })
    .await;
    let mut up = upstream(&[backend.at]);
    up.protocol = Protocol::Http2;
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
            tokio::spawn(async move { read(call(&ups, &up, get("/")).await).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), (200, "ok".into()));
    }
    assert_eq!(backend.connections(), 3, "30 streams, 10 to a connection");
    for _ in 0..10 {
        read(call(&ups, &up, get("/")).await).await;
    }
    assert_eq!(backend.connections(), 3);
}

#[tokio::test]
async fn a_dropped_http2_call_resets_its_stream_and_keeps_the_connection() {
    let (gone, was_dropped) = tokio::sync::mpsc::unbounded_channel::<()>();
    let backend = http2(100, move |request, n| {
        let gone = gone.clone();
        async move {
            if n == 0 {
                let _told_when_dropped = Told(gone);
                let _request = request;
                std::future::pending::<()>().await;
            }
            reply(200, "ok")
        }
    })
    .await;
    struct Told(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let mut was_dropped = was_dropped;
    let mut up = upstream(&[backend.at]);
    up.protocol = Protocol::Http2;
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    let pending = tokio::spawn({
        let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
        async move { call(&ups, &up, get("/")).await.map(|_| ()) }
    });
    while backend.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    pending.abort();
    tokio::time::timeout(Duration::from_secs(5), was_dropped.recv()).await.unwrap().unwrap();
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_speak_http2_is_found_out() {
    let backend = http1(|_, _| async { reply(200, "ok") }).await;
    let mut up = upstream(&[backend.at]);
    up.protocol = Protocol::Http2;
    let failed = call(&Upstreams::new(), &Arc::new(up), get("/")).await.unwrap_err();
    assert!(matches!(failed, CallFailed::Connect(_)), "{failed:?}");
}

#[test]
fn runtimes_do_not_share_connections() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tell.send(http1(|_, _| async { reply(200, "ok") }).await).unwrap();
            let _ = stopped.await;
        });
    });
    let backend = told.recv().unwrap();
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let cores: Vec<_> = (0..3)
        .map(|_| {
            let (ups, up) = (Arc::clone(&ups), Arc::clone(&up));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..20 {
                        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
                    }
                });
            })
        })
        .collect();
    cores.into_iter().for_each(|core| core.join().unwrap());
    assert_eq!(backend.connections(), 3);
    stop.send(()).unwrap();
    server.join().unwrap();
}
