//! The body of an answer. Passes data and trailers on, watches the silence between them, and gives the connection back
//! when the last byte was read. Dropped before that, it cancels the exchange: the connection closes (HTTP/1.1) or the
//! stream is reset (HTTP/2).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::berths::Berth;
use crate::endpoint::InFlight;
use crate::outgoing::Source;
use crate::pool::{Held, Line, Pool};
use crate::shard::Shard;
use crate::{BoxError, Phase};

/// Bytes read from an answer nobody wants, to save its connection.
const DISCARDED: usize = 64 * 1024;

/// Why a body ended early.
#[derive(Debug)]
pub enum Broken {
    Timeout(Phase),
    /// The connection broke, or the stream was reset.
    Reset(BoxError),
}

/// Once its end is seen it holds nothing any more.
#[derive(Debug)]
pub struct Body {
    /// Boxed: an answer is moved through half a dozen hands.
    flow: Option<Box<Flow>>,
    /// It broke right behind its last part, which is passed on first: who sends may drop what he has, once he hears.
    broken: Option<Box<Broken>>,
}

/// Fields are dropped in this order: the connection goes before the endpoint's count does.
pub(crate) struct Flow {
    /// Over HTTP/2; over HTTP/1.1 the connection itself gives the frames.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) held: Held,
    pub(crate) patience: Patience,
    /// `None`: the connection is not to be used again.
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) shard: Shard,
    pub(crate) in_flight: InFlight,
    /// Of an upstream that has so many.
    pub(crate) berth: Option<Berth>,
}

/// How long the next part is waited for.
pub(crate) struct Patience {
    /// Of the request, as long as that has not ended.
    pub(crate) source: Option<Arc<dyn Source>>,
    pub(crate) idle: Duration,
    pub(crate) total: Option<Instant>,
    /// When we began to wait.
    pub(crate) silent_since: Option<Instant>,
}

impl Body {
    pub(crate) fn new(flow: Flow) -> Self {
        let mut body = Self { flow: Some(Box::new(flow)), broken: None };
        body.finish_if_ended();
        body
    }

    /// What is left of it, for who reads on; here it has ended.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self { flow: self.flow.take(), broken: self.broken.take() }
    }

    /// Reads the rest in the background, if it is short, so that the connection lives on.
    pub(crate) fn discard(mut self) {
        let Some(flow) = &self.flow else { return };
        if flow.size_hint().lower() > DISCARDED as u64 {
            return;
        }
        tokio::spawn(async move {
            let mut left = DISCARDED;
            while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
                let read = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(read) else { return };
                left = rest;
            }
        });
    }

    /// It holds a berth for as long as it needs one.
    pub(crate) fn hold(&mut self, berth: Berth) {
        if let Some(flow) = &mut self.flow {
            flow.berth = Some(berth);
        }
    }

    fn finish_if_ended(&mut self) {
        if self.flow.as_ref().is_some_and(|flow| flow.is_end_stream())
            && let Some(flow) = self.flow.take()
        {
            flow.finish();
        }
    }
}

impl Flow {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match (&mut self.held.line, &mut self.incoming) {
            (Line::One(one), _) => one.poll_frame(cx),
            (_, Some(incoming)) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            (_, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.held.line, &self.incoming) {
            (Line::One(one), _) => one.is_end_stream(),
            (_, incoming) => incoming.as_ref().is_none_or(Incoming::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.held.line, &self.incoming) {
            (Line::One(one), _) => one.size_hint(),
            (_, incoming) => incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint),
        }
    }

    /// The response is whole.
    fn finish(self) {
        let whole = self.patience.source.as_ref().is_none_or(|source| {
            let ended = source.progress().ended;
            if !ended {
                source.abort(); // An early answer: the rest of the request is not wanted.
            }
            ended
        });
        if let (true, Some(keep_alive)) = (whole, self.keep_alive) {
            Pool::give_back(self.in_flight.endpoint(), self.shard, self.held, Some(keep_alive));
        }
    }
}

impl Patience {
    /// Ready when the silence, or the whole exchange, took too long.
    fn poll_late(&mut self, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<Phase> {
        loop {
            let (at, phase) = self.limit();
            ready!(alarm.poll(cx, at));
            if self.limit().0 <= Instant::now() {
                return Poll::Ready(phase);
            }
        }
    }

    fn limit(&mut self) -> (Instant, Phase) {
        let mut since = *self.silent_since.get_or_insert_with(Instant::now);
        // A request body that still moves is not silence.
        if let Some(sending) = self.source.as_ref().map(|source| source.progress()).filter(|p| !p.ended) {
            since = since.max(sending.moved);
        }
        let at = since + self.idle.min(Duration::from_secs(365 * 24 * 3600));
        match self.total {
            Some(total) if total < at => (total, Phase::Total),
            _ => (at, Phase::Idle),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(flow) = &mut self.flow else { return Poll::Ready(self.broken.take().map(|why| Err(*why))) };
        let polled = flow.poll_frame(cx);
        let Flow { held: Held { alarm, .. }, patience, in_flight, berth, .. } = &mut **flow;
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                patience.silent_since = None;
                self.finish_if_ended();
                // Who always has more is never waited for, and takes its time nevertheless.
                if self
                    .flow
                    .as_ref()
                    .is_some_and(|flow| flow.patience.total.is_some_and(|total| total <= Instant::now()))
                {
                    self.cancel();
                    return Poll::Ready(Some(Err(Broken::Timeout(Phase::Total))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                if let Some(flow) = self.flow.take() {
                    flow.finish();
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(why))) => {
                let waited = patience.silent_since.is_some();
                self.cancel();
                let why = Broken::Reset(why);
                if waited {
                    return Poll::Ready(Some(Err(why)));
                }
                self.broken = Some(Box::new(why));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => {
                in_flight.relays();
                if berth.as_ref().is_some_and(|berth| !berth.is_whole()) {
                    *berth = None; // A stream: what comes later takes its own time.
                }
                let phase = ready!(patience.poll_late(alarm, cx));
                self.cancel();
                Poll::Ready(Some(Err(Broken::Timeout(phase))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.flow.as_ref().is_none_or(|flow| flow.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.flow {
            Some(flow) => flow.size_hint(),
            None if self.broken.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Body {
    fn cancel(&mut self) {
        if let Some(flow) = self.flow.take()
            && let Some(source) = &flow.patience.source
        {
            source.abort();
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("held", &self.held)
            .field("endpoint", self.in_flight.endpoint())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
