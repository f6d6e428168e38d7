//! The body of an answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::{BoxError, Phase};

/// Why a body ended early.
#[derive(Debug)]
pub enum Broken {
    Timeout(Phase),
    /// The connection broke, or the stream was reset.
    Reset(BoxError),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout(phase) => write!(f, "the response's body timed out: {}", phase.name()),
            Self::Reset(why) => write!(f, "the response's body broke: {why}"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Timeout(_) => None,
            Self::Reset(why) => Some(why.as_ref()),
        }
    }
}

#[derive(Debug)]
pub struct Body {
    inner: Incoming,
}

impl Body {
    pub(crate) fn new(inner: Incoming) -> Self {
        Self { inner }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map_err(|why| Broken::Reset(why.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
