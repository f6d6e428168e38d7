//! A provider of language models that says what a spec wants it to say, in whichever dialect it is asked, and keeps its
//! own meter.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep};

/// What a provider answers to one call.
#[derive(Debug, Clone)]
pub(crate) struct Says {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) pieces: Vec<Bytes>,
    /// Before each piece.
    pub(crate) pace: Duration,
    /// Before the head.
    pub(crate) thinks: Duration,
    /// Breaks the connection after the last piece.
    pub(crate) breaks: bool,
    /// Says nothing more after the last piece, and does not end either.
    pub(crate) stalls: bool,
    /// Tokens that it bills for this answer, once it began.
    pub(crate) bills: u64,
}

/// One call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Answers = dyn Fn(&Asked) -> Says + Send + Sync;

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Tokens billed.
    pub(crate) meter: Arc<AtomicU64>,
    /// Answers that nobody took to their end.
    pub(crate) cancelled: Arc<AtomicUsize>,
    pub(crate) running: Arc<AtomicUsize>,
}

impl Says {
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json".into())],
            pieces: vec![body.into()],
            pace: Duration::ZERO,
            thinks: Duration::ZERO,
            breaks: false,
            stalls: false,
            bills: 0,
        }
    }

    pub(crate) fn error(status: u16, body: &'static str) -> Self {
        Self { status, ..Self::json(body) }
    }

    /// Server-sent events, one piece each.
    pub(crate) fn events(text: &str) -> Self {
        let pieces = text.split_inclusive("\n\n").map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
        Self { headers: vec![("content-type", "text/event-stream".into())], pieces, ..Self::json("") }
    }

    pub(crate) fn paced(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Provider {
    pub(crate) async fn start(answers: impl Fn(&Asked) -> Says + Send + Sync + 'static) -> Self {
        let answers: Arc<Answers> = Arc::new(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            meter: Arc::default(),
            cancelled: Arc::default(),
            running: Arc::default(),
        };
        let own = provider.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let (answers, own) = (Arc::clone(&answers), own.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answers, own) = (Arc::clone(&answers), own.clone());
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        Ok::<_, Infallible>(own.answer(&answers, parts, body).await)
                    }
                });
                tokio::spawn(async move {
                    let serve = hyper::server::conn::http1::Builder::new();
                    let _client_left = serve.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        provider
    }

    async fn answer(&self, answers: &Arc<Answers>, parts: Parts, body: Bytes) -> Response<Saying> {
        let line = format!("{} {}", parts.method, parts.uri);
        let asked = Asked { line, headers: parts.headers, body };
        let says = answers(&asked);
        self.asked.lock().unwrap().push(asked);
        let (running, cancelled) = (Arc::clone(&self.running), Arc::clone(&self.cancelled));
        let (pace, breaks, stalls) = (says.pace, says.breaks, says.stalls);
        let mut saying = Saying { left: VecDeque::new(), pace, breaks, stalls, sleep: None, running, cancelled };
        saying.running.fetch_add(1, Ordering::SeqCst);
        saying.left = says.pieces.iter().cloned().collect();
        tokio::time::sleep(says.thinks).await;
        self.meter.fetch_add(says.bills, Ordering::SeqCst);
        let mut response = Response::new(saying);
        *response.status_mut() = StatusCode::from_u16(says.status).unwrap();
        for (name, value) in &says.headers {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }

    /// All calls until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("it was asked")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub(crate) struct Saying {
    left: VecDeque<Bytes>,
    pace: Duration,
    breaks: bool,
    stalls: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    running: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

impl hyper::body::Body for Saying {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if !this.pace.is_zero() && !this.left.is_empty() {
            let pace = this.pace;
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace)));
            std::task::ready!(sleep.as_mut().poll(cx));
            sleep.as_mut().reset(Instant::now() + pace);
        }
        match this.left.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if this.stalls => Poll::Pending,
            None if this.breaks => Poll::Ready(Some(Err(std::io::Error::other("broken on purpose")))),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        if !self.left.is_empty() {
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}
