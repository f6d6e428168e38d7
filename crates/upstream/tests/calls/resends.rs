//! What a backend may see twice, who is asked before, and what it certainly has not seen.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tidegate_policy::{Protocol, RetryOn, Timeouts, Upstream};
use tidegate_upstream::{Again, Answer, Call, CallFailed, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, accept, call, get, http1, post, read, reply, upstream};

/// Says yes so often.
#[derive(Default)]
struct Purse {
    left: AtomicU32,
    asked: AtomicU32,
    gave_up: Mutex<Option<(Arc<str>, u32)>>,
}

impl Again for Purse {
    fn may(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        self.asked.fetch_add(1, SeqCst);
        let granted = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        Box::pin(std::future::ready(granted))
    }

    fn gave_up(&self, last: &Arc<str>, attempts: u32) {
        *self.gave_up.lock().unwrap() = Some((last.clone(), attempts));
    }
}

async fn counted(ups: &Upstreams, up: &Arc<Upstream>, purse: &Purse) -> Result<Answer, CallFailed> {
    let timeouts = Timeouts::default();
    let again: Option<&dyn Again> = Some(purse);
    ups.call(Call { again, ..Call::alone(up, get("/"), timeouts) }).await
}

fn retrying(at: &[std::net::SocketAddr], max: u32, on: &[RetryOn]) -> Upstream {
    let mut up = upstream(at);
    up.retries.max = max;
    up.retries.budget = 1.0;
    up.retries.on = on.to_vec();
    up
}

/// Answers the first request of each connection and breaks the connection at the second, once `well` requests were seen
/// at every one. Counts all that it saw.
async fn brittle(well: usize) -> (Backend, Arc<AtomicUsize>) {
    let saw = Arc::new(AtomicUsize::new(0));
    let counted = saw.clone();
    let backend = accept(move |mut socket, _| {
        let saw = counted.clone();
        async move {
            let mut buffer = [0; 4096];
            while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                if saw.fetch_add(1, SeqCst) >= well {
                    return;
                }
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    (backend, saw)
}

#[tokio::test]
async fn each_further_try_that_a_backend_may_see_is_asked_for() {
    let bad = http1(|_, _| async { reply(503, "bad") }).await;
    let up = Arc::new(retrying(&[bad.at], 5, &[RetryOn::Status(503)]));
    let ups = Upstreams::new();
    let purse = Purse { left: AtomicU32::new(2), ..Purse::default() };
    let answer = counted(&ups, &up, &purse).await.unwrap();
    assert_eq!(answer.attempts, 3);
    assert_eq!(read(Ok(answer)).await, (503, "bad".into()), "the last answer is passed on");
    assert_eq!((bad.requests(), purse.asked.load(SeqCst)), (3, 3));
    assert_eq!(ups.retries()[0].1, 2);
}

#[tokio::test]
async fn what_was_never_sent_is_not_asked_for() {
    let up = Arc::new(retrying(&[crate::backend::nobody().await], 2, &[RetryOn::Connect]));
    let purse = Purse::default();
    assert!(matches!(counted(&Upstreams::new(), &up, &purse).await, Err(CallFailed::Connect(_))));
    assert_eq!(purse.asked.load(SeqCst), 0);
    let (last, attempts) = purse.gave_up.lock().unwrap().clone().unwrap();
    assert!(last.starts_with("127.0.0.1:"), "{last}");
    assert_eq!(attempts, 3);
}

#[tokio::test]
async fn a_broken_old_connection_is_asked_for_as_any_other_try() {
    let (backend, saw) = brittle(1).await;
    let (ups, up) = (Upstreams::new(), Arc::new(retrying(&[backend.at], 3, &[RetryOn::Connect])));
    let purse = Purse::default();
    read(counted(&ups, &up, &purse).await).await;
    assert!(matches!(counted(&ups, &up, &purse).await, Err(CallFailed::Reset(_))));
    assert_eq!((saw.load(SeqCst), purse.asked.load(SeqCst)), (2, 1));
}

#[tokio::test]
async fn connections_that_break_never_multiply_the_tries() {
    for on in [vec![RetryOn::Connect], vec![RetryOn::Reset]] {
        let (backend, saw) = brittle(8).await;
        let (ups, up) = (Upstreams::new(), Arc::new(retrying(&[backend.at], 3, &on)));
        let held = futures(&ups, &up, 8).await; // eight connections stand and lie idle
        drop(held);
        assert_eq!((saw.load(SeqCst), backend.connections()), (8, 8));
        let failed = call(&ups, &up, get("/")).await.unwrap_err();
        assert!(matches!(failed, CallFailed::Reset(_)), "{failed:?}");
        let tries = saw.load(SeqCst) - 8;
        let most = if on == [RetryOn::Reset] { 4 } else { 2 };
        assert_eq!(tries, most, "{on:?}");
        assert_eq!(ups.retries()[0].1, most as u64 - 1);
    }
}

/// So many calls at once, each on a connection of its own.
async fn futures(ups: &Arc<Upstreams>, up: &Arc<Upstream>, count: usize) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(call(ups, up, get("/")).await);
    }
    let mut read_all = Vec::new();
    for answer in answers {
        read_all.push(read(answer).await);
    }
    read_all
}

#[tokio::test]
async fn without_retries_nothing_is_sent_twice() {
    let (backend, saw) = brittle(1).await;
    let (ups, up) = (Upstreams::new(), Arc::new(retrying(&[backend.at], 0, &[])));
    read(call(&ups, &up, get("/")).await).await;
    assert!(matches!(call(&ups, &up, get("/")).await, Err(CallFailed::Reset(_))));
    assert_eq!(saw.load(SeqCst), 2);
}

/// HTTP/2 frames by hand: the first connection refuses its stream, by RST_STREAM or by GOAWAY; later ones answer.
async fn refusing(refusal: fn(u8) -> Vec<u8>) -> Backend {
    accept(move |mut socket, seen| async move {
        if seen.connections.load(SeqCst) > 1 {
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Ok::<_, std::convert::Infallible>(reply(200, body))
            });
            let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let _ = builder.serve_connection(hyper_util::rt::TokioIo::new(socket), service).await;
            return;
        }
        let _ = socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await; // SETTINGS
        let (mut buffer, mut heard, mut stream) = ([0; 4096], Vec::new(), 1);
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            heard.extend_from_slice(&buffer[..read]);
            // HEADERS of the next stream, wherever they lie.
            if heard.windows(6).any(|w| w[0] == 1 && w[2..] == [0, 0, 0, stream]) {
                seen.requests.fetch_add(1, SeqCst);
                let _ = socket.write_all(&refusal(stream)).await;
                heard.clear();
                stream += 2;
            }
        }
    })
    .await
}

fn refused_stream(id: u8) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, id, 0, 0, 0, 7]
}

/// Last stream 0, NO_ERROR.
fn goaway(_id: u8) -> Vec<u8> {
    vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[tokio::test]
async fn a_stream_that_an_h2_peer_did_not_look_at_is_sent_again_whatever_the_method() {
    for (refusal, stays) in [(refused_stream as fn(u8) -> Vec<u8>, true), (goaway, false)] {
        let backend = refusing(refusal).await;
        let mut up = retrying(&[backend.at], 3, &[RetryOn::Connect]);
        up.protocol = Protocol::Http2;
        let (ups, up) = (Upstreams::new(), Arc::new(up));
        let purse = Purse::default();
        let again: Option<&dyn Again> = Some(&purse);
        let request = post(Full::new(Bytes::from_static(b"pay")));
        let timeouts = Timeouts::default();
        let asked = Call { again, ..Call::alone(&up, request, timeouts) };
        let mut answer = ups.call(asked).await;
        if stays {
            // Its connection lives on and refuses the rest of the tries as well.
            assert!(matches!(answer, Err(CallFailed::Reset(_))), "{answer:?}");
            assert_eq!(backend.requests(), 4, "one and three more");
            answer = call(&Upstreams::new(), &up, post(Full::new(Bytes::from_static(b"pay")))).await;
        }
        assert_eq!(read(answer).await, (200, "pay".into()));
        assert_eq!(purse.asked.load(SeqCst), 0, "it was not worked on");
    }
}

#[tokio::test]
async fn a_get_keeps_its_body_whatever_is_known_of_its_length() {
    let backend = http1(|request, _| async move {
        let framed = request.headers().contains_key("transfer-encoding");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        reply(200, format!("{framed} {}", body.len()))
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    for method in ["GET", "DELETE"] {
        let (tx, body) = http_body_util::channel::Channel::<Bytes, tidegate_upstream::BoxError>::new(4);
        let request = Request::builder().method(method).uri("/").header("host", "a").body(body).unwrap();
        let sending = async move {
            let mut tx = tx;
            tx.send_data(Bytes::from(vec![b'x'; 5000])).await.unwrap();
        };
        let (answer, ()) = tokio::join!(call(&ups, &up, request), sending);
        assert_eq!(read(answer).await, (200, "true 5000".into()), "{method}");
    }
}

async fn canned(head: &'static str) -> Backend {
    accept(move |mut socket, _| async move {
        let _ = socket.read(&mut [0; 1024]).await;
        let _ = socket.write_all(head.as_bytes()).await;
    })
    .await
}

#[tokio::test]
async fn a_length_beside_chunked_is_dropped_and_other_codings_are_refused() {
    let both =
        canned("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    let ups = Upstreams::new();
    let answer = call(&ups, &Arc::new(upstream(&[both.at])), get("/")).await.unwrap();
    assert_eq!(answer.response.headers().get("content-length"), None);
    assert_eq!(read(Ok(answer)).await, (200, "abc".into()));
    for coding in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    ] {
        let odd = canned(coding).await;
        let up = Upstream { id: coding.into(), ..upstream(&[odd.at]) };
        let failed = call(&ups, &Arc::new(up), get("/")).await.unwrap_err();
        assert!(matches!(failed, CallFailed::BadResponse(_)), "{failed:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_sent_the_endpoints() {
    let backend = http1(|request, _| async move {
        let host = request.headers().get("host").cloned();
        reply(200, host.map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default())
    })
    .await;
    let (ups, up) = (Upstreams::new(), Arc::new(upstream(&[backend.at])));
    let mut request = get("/");
    request.headers_mut().remove("host");
    assert_eq!(read(call(&ups, &up, request).await).await, (200, backend.at.to_string()));
}
