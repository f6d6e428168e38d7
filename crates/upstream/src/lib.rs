//! Upstreams: connections to their endpoints, which one is called, what is tried again and when it is given up.

mod answer;
mod body;
mod failed;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use hyper_util::rt::TokioIo;

pub use answer::{Answer, Call};
pub use body::{Body, Broken};
pub use failed::{BoxError, CallFailed, Phase};

/// Every upstream this node calls.
#[derive(Debug)]
pub struct Upstreams {}

impl Upstreams {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {})
    }

    /// On a new snapshot: pools of vanished upstreams and endpoints drain, the others keep connections and counters.
    pub fn retain(&self, _upstreams: &[Arc<tidegate_policy::Upstream>]) {}

    /// # Errors
    /// No response head was got; [`CallFailed`] says whose fault that is.
    pub async fn call<B>(&self, call: Call<'_, B>) -> Result<Answer, CallFailed>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let Some(tidegate_policy::Endpoint::Url { host, port, .. }) = call.upstream.endpoints.first() else {
            return Err(CallFailed::NoEndpoint);
        };
        let socket = tokio::net::TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|why| CallFailed::Connect(why.into()))?;
        let connected = started.elapsed();
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|why| CallFailed::Connect(why.into()))?;
        tokio::spawn(connection.with_upgrades());
        let request: Request<B> = call.request;
        let response = send.send_request(request).await.map_err(|why| CallFailed::Reset(why.into()))?;
        Ok(Answer {
            response: response.map(Body::new),
            endpoint: format!("{host}:{port}").into(),
            attempts: 1,
            connect: Some(connected),
            first_byte: started.elapsed(),
        })
    }
}
