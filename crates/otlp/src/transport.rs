//! Ways to a collector over connections of ours: whoever makes the connector decides about TLS and whom to trust. Retries
//! are the exporters'; here each attempt has its end, and is counted.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderName, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tonic::transport::{Channel, Endpoint};

pub(crate) const ATTEMPT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const MOST_ANSWER: usize = 64 << 10;
const WHO: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// How a collector is spoken to.
pub enum Transport {
    Grpc(Channel),
    Http(Post),
}

/// Sends one request over HTTP.
pub type Post = Arc<dyn Fn(Request<Full<Bytes>>) -> ResponseFuture + Send + Sync>;

impl Transport {
    /// Connects when there is something to say.
    ///
    /// # Errors
    /// Why the address is none of gRPC's.
    pub fn grpc<C>(endpoint: &Uri, connector: C) -> Result<Self, String>
    where
        C: tonic::codegen::Service<Uri> + Send + 'static,
        C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
        C::Future: Send,
        tonic::codegen::StdError: From<C::Error> + Send,
    {
        let endpoint = Endpoint::from(endpoint.clone()).timeout(ATTEMPT);
        let endpoint = endpoint.user_agent(WHO).map_err(|why| why.to_string())?;
        Ok(Self::Grpc(endpoint.connect_with_connector_lazy(connector)))
    }

    /// HTTP/1.1, one connection.
    pub fn http(connector: impl Connect + Clone + Send + Sync + 'static) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(1).pool_idle_timeout(IDLE);
        let client: Client<_, Full<Bytes>> = builder.build(connector);
        Self::Http(Arc::new(move |request| client.request(request)))
    }
}

/// What became of the attempts to tell one thing. The exporters try again by themselves: each attempt that follows
/// another says that the one before failed.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    begun: AtomicU32,
    why: Mutex<Option<String>>,
    failed: Arc<AtomicU64>,
}

impl Attempts {
    pub(crate) fn new(failed: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { failed: Arc::clone(failed), ..Self::default() })
    }

    /// Of another thing.
    pub(crate) fn anew(&self) {
        self.begun.store(0, Relaxed);
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn begin(&self) {
        if self.begun.fetch_add(1, Relaxed) > 0 {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    /// The last one failed as well. `told`: what the exporter says about it.
    pub(crate) fn gave_up(&self, told: String) -> String {
        self.failed.fetch_add(1, Relaxed);
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(told)
    }

    fn failed_since(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// OTLP over HTTP. Headers are the document's and no others: not those of the environment.
pub(crate) struct Poster {
    pub(crate) post: Post,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) attempts: Arc<Attempts>,
}

impl Poster {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        let kind = head.headers.remove(CONTENT_TYPE);
        head.headers.clear();
        head.headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        head.headers.insert(USER_AGENT, HeaderValue::from_static(WHO));
        head.headers.extend(self.headers.iter().cloned());
        let (head, body) = (self.post)(Request::from_parts(head, Full::new(body))).await?.into_parts();
        let body = match Limited::new(body, MOST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            // It took what it was told, and talks too much.
            Err(why) if why.is::<LengthLimitError>() => Bytes::new(),
            Err(why) => return Err(why),
        };
        Ok(Response::from_parts(head, body))
    }

    async fn attempt(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.attempts.begin();
        let answer = tokio::time::timeout(ATTEMPT, self.send(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {ATTEMPT:?}").into()));
        match &answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.attempts.failed_since(format!("it answered {}", answer.status())),
            Err(why) => self.attempts.failed_since(reason(&**why)),
        }
        answer
    }
}

/// As `async_trait` would write it.
impl HttpClient for Poster {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(self.attempt(request))
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poster")
    }
}

/// With what lies behind it. The address is not named: it may be secret.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    reason
}
