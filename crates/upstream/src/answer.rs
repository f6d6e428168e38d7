//! What goes into a call and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tidegate_policy::{Timeouts, Upstream};

use crate::Body;

/// One request to one upstream.
#[derive(Debug)]
pub struct Call<'a, B> {
    pub upstream: &'a Arc<Upstream>,
    /// As it is to be sent: final method, path and query in origin form, headers with `Host`.
    pub request: Request<B>,
    /// The route's, which override the upstream's.
    pub timeouts: Timeouts,
    /// The client wants to switch protocols: HTTP/1.1 alone can, and a 101 is passed on with its `OnUpgrade`.
    pub upgrade: bool,
}

#[derive(Debug)]
pub struct Answer {
    pub response: Response<Body>,
    /// `10.0.0.5:8000`: who answered.
    pub endpoint: Arc<str>,
    /// Tries, the first included.
    pub attempts: u32,
    /// How long connecting took; `None`: a connection was reused.
    pub connect: Option<Duration>,
    /// From the call to the response head.
    pub first_byte: Duration,
}
