//! One answer for one request, and what becomes of the connection behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tidegate_upstream::{BoxError, Broken, CallFailed, Switched, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::backend::{Backend, accept, call, get, post, read, upstream};

/// Says this to each request, one after the other on one connection.
async fn saying(answer: &'static [u8]) -> Backend {
    accept(move |mut socket, _| async move {
        let mut buffer = [0; 4096];
        while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            let _ = socket.write_all(answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_that_says_more_than_was_asked_is_not_used_again() {
    let evil = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for answer in [
        &evil[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive, close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let backend = saying(answer).await;
        let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
        for n in 1..4 {
            assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, "ok".into()));
            assert_eq!((backend.connections(), ups.facts()[0].idle), (n, 0), "{:?}", String::from_utf8_lossy(answer));
        }
    }
}

#[tokio::test]
async fn what_is_said_unasked_closes_an_idle_connection() {
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let backend = accept(move |mut socket, _| {
        let gone = gone.lock().unwrap().take();
        async move {
            let mut buffer = [0; 4096];
            let mut gone = gone;
            while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                if let Some(gone) = gone.take() {
                    let _ = gone.await;
                    let _ = socket.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await;
                }
            }
        }
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    go.send(()).unwrap();
    backend.until_open(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await; // What it says has to arrive; too late is no failure here.
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_a_flood_of_them_is_no_answer() {
    let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let backend = saying(hints).await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    for _ in 0..2 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, "ok".into()));
    }
    assert_eq!(backend.connections(), 1);
    let flood = accept(|mut socket, _| async move {
        let _ = socket.read(&mut [0; 1024]).await;
        while socket.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {}
    })
    .await;
    let failed = call(&Upstreams::new(), &Arc::new(upstream(&[flood.at])), get("/")).await.map(|_| ());
    assert!(matches!(failed, Err(CallFailed::BadResponse(_))), "{failed:?}");
    flood.until_open(0).await;
}

/// Answers with a head at once, and with a body when the upload has ended.
async fn early() -> Backend {
    accept(|mut socket, _| async move {
        let (mut buffer, mut heard) = ([0; 4096], Vec::new());
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            let first = heard.is_empty();
            heard.extend_from_slice(&buffer[..read]);
            if first {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
            }
            if heard.ends_with(b"\r\n0\r\n\r\n") {
                heard.clear();
                let _ = socket.write_all(b"ok").await;
            }
        }
    })
    .await
}

type Part = Result<Frame<Bytes>, BoxError>;

fn upload() -> (mpsc::Sender<Part>, StreamBody<tokio_stream::wrappers::ReceiverStream<Part>>) {
    let (frames, rx) = mpsc::channel(1);
    (frames, StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx)))
}

#[tokio::test]
async fn a_connection_lives_on_when_the_rest_of_a_request_went_out_behind_an_early_answer() {
    let backend = early().await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    for _ in 0..3 {
        let (frames, body) = upload();
        let answer = call(&ups, &up, post(body)).await;
        frames.send(Ok(Frame::data(Bytes::from_static(b"more")))).await.unwrap();
        drop(frames);
        assert_eq!(read(answer).await, (200, "ok".into()));
        assert_eq!(ups.facts()[0].idle, 1);
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn half_a_request_behind_an_early_answer_is_never_taken_for_all_of_it() {
    let backend = early().await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let (frames, body) = upload();
    let mut answer = call(&ups, &up, post(body)).await.unwrap().response.into_body();
    let told = tokio::spawn(async move { answer.frame().await.unwrap() });
    frames.send(Err("gone".into())).await.unwrap();
    assert!(matches!(told.await.unwrap(), Err(Broken::Reset(_))));
    backend.until_open(0).await;
}

#[tokio::test]
async fn what_comes_with_a_101_is_the_first_that_the_tunnel_says() {
    let backend =
        saying(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello").await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let mut request = get("/");
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "echo".parse().unwrap());
    let mut answer = call(&ups, &up, request).await.unwrap();
    let switched = answer.response.extensions_mut().remove::<Switched>().unwrap();
    let mut tunnel = switched.take().unwrap();
    assert!(switched.take().is_none(), "for one alone");
    let mut heard = [0; 5];
    tunnel.read_exact(&mut heard[..2]).await.unwrap();
    tunnel.read_exact(&mut heard[2..]).await.unwrap();
    assert_eq!(&heard, b"hello");
}
