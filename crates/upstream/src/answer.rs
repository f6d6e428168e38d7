//! What goes into a call and what comes out of it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use tidegate_policy::{Timeouts, Upstream};

use crate::{Body, Guest};

/// Asked before a request goes out once more that an endpoint may have seen already: whoever counts requests counts
/// that one too.
pub trait Again: Send + Sync {
    /// False: what the last try came to is the answer.
    fn may(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
    /// Another try follows one that was no good. `sent`: the head of the request as it goes out anew; `None`: it is as it
    /// was, for nothing of it went out.
    fn goes_again(&self, last: &Arc<str>, came: Came, sent: Option<&mut HeaderMap>) {
        let (_, _, _) = (last, came, sent);
    }
    /// The call failed; this endpoint was tried last.
    fn gave_up(&self, last: &Arc<str>, attempts: u32);
}

/// What a try came to that another one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    Status(StatusCode),
    /// No answer: why, from a closed list.
    Failed(&'static str),
}

/// One request to one upstream.
pub struct Call<'a, B> {
    pub upstream: &'a Arc<Upstream>,
    /// As it is to be sent: final method, path and query in origin form, headers with `Host`. Where the upstream is told for
    /// whom connections are made, its extensions say that: an `Arc` of [`Whom`](crate::Whom).
    pub request: Request<B>,
    /// The route's, which override the upstream's.
    pub timeouts: Timeouts,
    /// The client wants to switch protocols: HTTP/1.1 alone can, and a 101 is passed on with the connection, [`Switched`](crate::Switched),
    /// in its extensions.
    pub upgrade: bool,
    /// Informational answers of HTTP/1.1 upstreams are told to who [listens](crate::interim::listen).
    pub interim: bool,
    /// The head goes out before anything of the body is there, as its client may want an answer to that. Otherwise no
    /// berth, place or connection is taken until the body has begun.
    pub eager: bool,
    /// [`Upstreams::admits`](crate::Upstreams::admits) said yes: the dice of a ramp are not cast twice.
    pub admitted: bool,
    /// Whose turn it is where requests wait for the upstream; `None`: nobody's in particular.
    pub guest: Option<Guest>,
    /// `None`: nobody minds.
    pub again: Option<&'a dyn Again>,
}

impl<'a, B> Call<'a, B> {
    /// By itself: no client waits behind it, so that it asks for no switch, sends its head at once, and has nobody's turn.
    pub fn alone(upstream: &'a Arc<Upstream>, request: Request<B>, timeouts: Timeouts) -> Self {
        Self {
            upstream,
            request,
            timeouts,
            upgrade: false,
            interim: false,
            eager: true,
            admitted: false,
            guest: None,
            again: None,
        }
    }
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
