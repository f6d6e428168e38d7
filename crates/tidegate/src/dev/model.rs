//! A demo provider of language models: speaks OpenAI's chat, streams word by word, and bills what it says. No model.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep};

/// Between two words.
const PACE: Duration = Duration::from_millis(60);
const LONGEST_CALL: usize = 1 << 20;

/// Serves on a free port of loopback until the process ends. `moody`: every second call is told to come later.
pub(super) async fn start(name: &'static str, moody: bool) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let calls = Arc::new(AtomicU32::new(0));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _nagle = socket.set_nodelay(true);
            let calls = Arc::clone(&calls);
            let answer = service_fn(move |request| {
                let busy = moody && calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                async move { Ok::<_, Infallible>(if busy { later() } else { answer(name, request).await }) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
            tokio::spawn(async move {
                let _client_left = connection.await;
            });
        }
    });
    Ok(address)
}

fn later() -> Response<Words> {
    let error = json!({"error": {"message": "busy, come later", "type": "requests", "param": null, "code": "rate_limit_exceeded"}});
    let mut response = whole(&error);
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
    response
}

async fn answer(name: &str, request: Request<Incoming>) -> Response<Words> {
    let body = Limited::new(request.into_body(), LONGEST_CALL).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = call["messages"]
        .as_array()
        .and_then(|all| all.last())
        .map_or("", |last| last["content"].as_str().unwrap_or(""));
    let said = format!("I am {name}, and no model at all. You said: {text}");
    let words: Vec<&str> = said.split_inclusive(' ').collect();
    let (prompt, completion) = ((body.len() / 4) as u64, words.len() as u64);
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
    let head = |object: &str, choices: Value, usage: &Value| json!({"id": "chatcmpl-demo", "object": object, "created": 1, "model": call["model"], "choices": choices, "usage": usage});
    if call["stream"] != true {
        let choice = json!([{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]);
        return whole(&head("chat.completion", choice, &usage));
    }
    let chunk = |delta: Value, finish: Value| {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        event(&head("chat.completion.chunk", choice, &Value::Null))
    };
    let mut left: VecDeque<Bytes> = words.iter().map(|word| chunk(json!({"content": word}), Value::Null)).collect();
    left.push_back(chunk(json!({}), "stop".into()));
    left.push_back(event(&head("chat.completion.chunk", json!([]), &usage)));
    left.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
    let mut response = Response::new(Words { left, pace: Some(Box::pin(tokio::time::sleep(PACE))) });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

fn whole(value: &Value) -> Response<Words> {
    let mut response = Response::new(Words { left: VecDeque::from([value.to_string().into()]), pace: None });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is left to say, at its pace.
struct Words {
    left: VecDeque<Bytes>,
    pace: Option<Pin<Box<Sleep>>>,
}

impl Body for Words {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pace) = &mut self.pace {
            ready!(pace.as_mut().poll(cx));
            pace.as_mut().reset(Instant::now() + PACE);
        }
        Poll::Ready(self.left.pop_front().map(|word| Ok(Frame::data(word))))
    }
}
