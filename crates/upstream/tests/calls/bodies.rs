//! What passes through: streams, trailers, upgrades; and what does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use tidegate_policy::Protocol;
use tidegate_upstream::{BoxError, Broken, CallFailed, Switched, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{accept, call, get, http1, http2, post, read, reply, upstream};

fn with_trailers() -> http_body_util::combinators::BoxBody<Bytes, BoxError> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers))];
    StreamBody::new(tokio_stream::iter(frames)).boxed()
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http2() {
    let backend = http2(100, |request, _| async move {
        assert_eq!(request.uri().authority().unwrap(), "test.example");
        assert!(!request.headers().contains_key("host"));
        let whole = request.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
        Response::new(with_trailers())
    })
    .await;
    let mut up = upstream(&[backend.at]);
    up.protocol = Protocol::Http2;
    let answer = call(&Upstreams::new(), &Arc::new(up), post(with_trailers())).await.unwrap();
    let whole = answer.response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "data");
}

#[tokio::test]
async fn trailers_pass_over_http1() {
    let backend = http1(|_, _| async {
        let mut response = Response::new(with_trailers());
        response.headers_mut().insert("trailer", HeaderValue::from_static("grpc-status"));
        response
    })
    .await;
    let mut request = get("/");
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let answer = call(&Upstreams::new(), &Arc::new(upstream(&[backend.at])), request).await.unwrap();
    let whole = answer.response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_body_streams_while_it_is_made_and_dropping_it_cancels_the_upstream() {
    let (tx, told) = tokio::sync::mpsc::unbounded_channel();
    let backend = http1(move |_, _| {
        let told = tx.clone();
        async move {
            let (mut tx, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
            tokio::spawn(async move {
                while tx.send_data(Bytes::from_static(b"tick")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let _ = told.send(());
            });
            Response::new(body.boxed())
        }
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let mut body = call(&ups, &up, get("/")).await.unwrap().response.into_body();
    for _ in 0..3 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
    }
    assert_eq!(ups.facts()[0].in_flight, 1);
    drop(body);
    let mut told = told;
    tokio::time::timeout(Duration::from_secs(5), told.recv()).await.unwrap().unwrap();
    backend.until_open(0).await;
    assert_eq!(ups.facts()[0].in_flight, 0);
}

#[tokio::test]
async fn an_upgrade_carries_bytes_both_ways_and_counts_until_it_ends() {
    let backend = http1(|request, _| async move {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let mut io = hyper_util::rt::TokioIo::new(upgraded);
            let mut said = [0; 4];
            io.read_exact(&mut said).await.unwrap();
            io.write_all(&said).await.unwrap();
            let _ = io.read(&mut said).await;
        });
        let mut response = reply(101, "");
        response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
        response.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
        response
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let mut request = get("/");
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
    let mut answer = call(&ups, &up, request).await.unwrap();
    assert_eq!(answer.response.status(), 101);
    let switched = answer.response.extensions_mut().remove::<Switched>().unwrap();
    let mut io = switched.take().unwrap();
    drop(answer);
    io.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    io.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    assert_eq!((ups.facts()[0].in_flight, ups.facts()[0].open), (1, 1));
    drop(io);
    backend.until_open(0).await;
    while ups.facts()[0].in_flight + ups.facts()[0].open > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_response() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nbad header: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let backend = accept(move |mut socket, _| async move {
            let mut buffer = [0; 1024];
            let _ = socket.read(&mut buffer).await;
            let _ = socket.write_all(bytes).await;
            let _ = socket.read(&mut buffer).await;
        })
        .await;
        let failed = call(&Upstreams::new(), &Arc::new(upstream(&[backend.at])), get("/")).await.map(|_| ());
        assert!(matches!(failed, Err(CallFailed::BadResponse(_))), "{:?}: {failed:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn a_truncated_body_is_told_from_a_whole_one() {
    let backend = accept(|mut socket, _| async move {
        let mut buffer = [0; 1024];
        let _ = socket.read(&mut buffer).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    })
    .await;
    let answer = call(&Upstreams::new(), &Arc::new(upstream(&[backend.at])), get("/")).await.unwrap();
    let mut body = answer.response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert!(matches!(body.frame().await.unwrap().unwrap_err(), Broken::Reset(_)));
}

#[tokio::test]
async fn a_client_that_breaks_off_is_not_the_upstreams_fault() {
    let backend = http1(|request, _| async move {
        let _ = request.into_body().collect().await;
        reply(200, "ok")
    })
    .await;
    let (tx, rx) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(4);
    tx.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.unwrap();
    tx.send(Err("gone".into())).await.unwrap();
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx));
    let failed = call(&Upstreams::new(), &Arc::new(upstream(&[backend.at])), post(body)).await.unwrap_err();
    assert!(matches!(failed, CallFailed::RequestBody(_)), "{failed:?}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_passed_on_and_ends_the_upload() {
    let backend = http1(|_, _| async { reply(413, "too large") }).await;
    let (tx, rx) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx));
    let answer = call(&Upstreams::new(), &Arc::new(upstream(&[backend.at])), post(body)).await;
    assert_eq!(read(answer).await, (413, "too large".into()));
    tokio::time::timeout(Duration::from_secs(5), tx.closed()).await.expect("the upload is dropped");
}

#[tokio::test]
async fn the_rest_of_a_request_goes_out_though_nobody_reads_its_early_answer() {
    const LENGTH: usize = 4 << 20;
    let (tx, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backend = accept(move |mut socket, _| {
        let told = tx.clone();
        async move {
            let (mut buffer, mut read) = (vec![0; 64 << 10], 0);
            while read < LENGTH {
                match socket.read(&mut buffer).await {
                    Ok(more @ 1..) if read == 0 => {
                        read += more;
                        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
                    }
                    Ok(more @ 1..) => read += more,
                    _ => return,
                }
            }
            let _ = told.send(());
            let _ = socket.write_all(b"ok").await;
            while socket.read(&mut buffer).await.is_ok_and(|more| more > 0) {}
        }
    })
    .await;
    let (sender, rx) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(rx));
    let uploading = tokio::spawn(async move {
        for _ in 0..LENGTH / 1024 {
            sender.send(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))).await.unwrap();
        }
    });
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let answer = call(&ups, &up, post(body)).await;
    tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect("all of it arrives").unwrap();
    uploading.await.unwrap();
    assert_eq!(read(answer).await, (200, "ok".into()));
}

#[tokio::test]
async fn what_lies_in_the_socket_is_read_in_one_turn() {
    let (go, gone) = tokio::sync::oneshot::channel();
    let gone = std::sync::Mutex::new(Some(gone));
    let backend = accept(move |mut socket, _| {
        let gone = gone.lock().unwrap().take();
        async move {
            let _ = socket.read(&mut [0; 1024]).await;
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let pieces = "3\r\none\r\n".repeat(5);
            let _ = socket.write_all(format!("{head}{pieces}").as_bytes()).await;
            let _ = gone.expect("one connection").await;
            let _ = socket.write_all(b"0\r\n\r\n").await;
            let _ = socket.read(&mut [0; 1024]).await;
        }
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let mut body = call(&ups, &up, get("/")).await.unwrap().response.into_body();
    let polled = std::future::poll_fn(|cx| {
        let mut pieces = 0;
        while let std::task::Poll::Ready(Some(Ok(frame))) = std::pin::Pin::new(&mut body).poll_frame(cx) {
            pieces += frame.into_data().unwrap().len() / 3;
        }
        std::task::Poll::Ready(pieces)
    });
    assert_eq!(polled.await, 5);
    go.send(()).unwrap();
    assert!(body.frame().await.is_none());
    assert_eq!((ups.facts()[0].idle, backend.connections()), (1, 1));
}
