//! A request's body on its way out. The first 64 KiB are kept while they are sent, so that a try that fails before an
//! answer can be repeated; what was not yet read is read by the next try.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::{BoxError, lock};

/// Bytes kept for another try.
pub(crate) const KEPT: usize = 64 * 1024;
/// Of a body whose length is told so much is there before anything is taken for it.
const BEGUN: u64 = 16 * 1024;
/// Shorter parts that come before that are joined: they may be of a byte each.
const JOINED: usize = 4 * 1024;

/// What hyper is given: one try's view of the body.
pub(crate) enum Outgoing {
    Empty,
    /// In hand, all of it; `None` once it is sent.
    Whole(Option<Bytes>),
    Stream {
        source: Arc<dyn Source>,
        attempt: u32,
        /// Next of the kept chunks.
        at: usize,
        hint: SizeHint,
        sent: u64,
        trailers_sent: bool,
    },
}

/// The client's body with its type hidden: pooled connections carry bodies of one type.
pub(crate) trait Source: Send + Sync {
    fn poll(&self, cx: &mut Context<'_>, attempt: u32, at: &mut usize, trailers_sent: &mut bool) -> Polled;
    fn is_end(&self, at: usize) -> bool;
    /// Reads and keeps the beginning of a body that nothing was sent of: all of one whose length is told, as far as [`BEGUN`], and
    /// the first part of any other, whose client may wait for an answer to it. Ready: it is there, or will never be; since when.
    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<Instant>;
    /// Another try, if nothing of the body is lost. Earlier tries get an error from now on.
    fn again(&self, attempt: u32) -> bool;
    fn progress(&self) -> Progress;
    /// As [`Source::progress`]; the end of the body wakes who asks.
    fn watch(&self, cx: &Context<'_>) -> Progress;
    /// Nobody wants the rest.
    fn abort(&self);
    /// Why the client's body broke, once.
    fn broken(&self) -> Option<BoxError>;
}

type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) ended: bool,
    /// When a part was last taken.
    pub(crate) moved: Instant,
    /// The client owes us the next part; otherwise the upstream does not read.
    pub(crate) client_owes: bool,
}

struct Shared<B> {
    body: B,
    attempt: u32,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Everything taken so far is in `kept`.
    whole: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
    aborted: bool,
    broken: Option<BoxError>,
    moved: Instant,
    client_owes: bool,
    waker: Option<Waker>,
    /// Who waits for the end of the body.
    watcher: Option<Waker>,
}

/// Both views of a body: what is sent, and what the call watches. A body known to be empty has no second.
pub(crate) fn outgoing<B>(body: B, now: Instant) -> (Outgoing, Option<Arc<dyn Source>>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        return (Outgoing::Empty, None);
    }
    let hint = body.size_hint();
    let source: Arc<dyn Source> = Arc::new(Mutex::new(Shared {
        body,
        attempt: 0,
        kept: Vec::new(),
        kept_bytes: 0,
        whole: true,
        trailers: None,
        ended: false,
        aborted: false,
        broken: None,
        moved: now,
        client_owes: false,
        waker: None,
        watcher: None,
    }));
    (Outgoing::stream(Arc::clone(&source), 0, hint), Some(source))
}

impl Outgoing {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(Some(bytes)) }
    }

    pub(crate) fn stream(source: Arc<dyn Source>, attempt: u32, hint: SizeHint) -> Self {
        Self::Stream { source, attempt, at: 0, hint, sent: 0, trailers_sent: false }
    }
}

impl<B> Source for Mutex<Shared<B>>
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll(&self, cx: &mut Context<'_>, attempt: u32, at: &mut usize, trailers_sent: &mut bool) -> Polled {
        let mut shared = lock(self);
        if shared.aborted || shared.attempt != attempt {
            return Poll::Ready(Some(Err("the body is not wanted any more".into())));
        }
        if let Some(chunk) = shared.kept.get(*at) {
            let chunk = chunk.clone();
            *at += 1;
            shared.moved = Instant::now();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if shared.ended {
            let trailers = shared.trailers.clone().filter(|_| !*trailers_sent);
            *trailers_sent = true;
            return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
        }
        shared.take(cx, at, trailers_sent)
    }

    fn is_end(&self, at: usize) -> bool {
        let mut shared = lock(self);
        if !shared.ended && shared.body.is_end_stream() {
            shared.end(); // Whoever is told so does not poll again.
        }
        shared.ended && at >= shared.kept.len() && shared.trailers.is_none()
    }

    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<Instant> {
        let mut shared = lock(self);
        loop {
            let kept = shared.kept_bytes as u64;
            let wanted = shared.body.size_hint().exact().map_or(1, |left| (kept + left).min(BEGUN));
            if shared.ended || kept >= wanted {
                return Poll::Ready(shared.moved);
            }
            ready!(shared.read_ahead(cx));
        }
    }

    fn again(&self, attempt: u32) -> bool {
        let mut shared = lock(self);
        let possible = shared.whole && !shared.aborted && shared.broken.is_none();
        if possible {
            shared.attempt = attempt;
            shared.moved = Instant::now();
        }
        possible
    }

    fn progress(&self) -> Progress {
        let shared = lock(self);
        Progress { ended: shared.ended, moved: shared.moved, client_owes: shared.client_owes }
    }

    fn watch(&self, cx: &Context<'_>) -> Progress {
        let mut shared = lock(self);
        if !shared.ended && !shared.watcher.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            shared.watcher = Some(cx.waker().clone());
        }
        Progress { ended: shared.ended, moved: shared.moved, client_owes: shared.client_owes }
    }

    fn abort(&self) {
        let waker = {
            let mut shared = lock(self);
            shared.aborted = true;
            shared.kept = Vec::new();
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn broken(&self) -> Option<BoxError> {
        lock(self).broken.take()
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    fn take(&mut self, cx: &mut Context<'_>, at: &mut usize, trailers_sent: &mut bool) -> Polled {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.client_owes = polled.is_pending();
        if polled.is_pending() && !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone()); // `abort` wakes it
        }
        let frame = ready!(polled);
        self.moved = Instant::now();
        match frame {
            None => {
                self.end();
                Poll::Ready(None)
            }
            Some(Err(why)) => {
                self.broken = Some(why.into());
                self.end();
                Poll::Ready(Some(Err("the client's body broke".into())))
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data, at);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = self.whole.then(|| trailers.clone());
                    *trailers_sent = true;
                    self.end();
                }
                if self.body.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// Another part, before anything is sent.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.client_owes = polled.is_pending();
        let frame = ready!(polled);
        self.moved = Instant::now();
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => self.end(),
            Some(Err(why)) => {
                self.broken = Some(why.into());
                self.end();
            }
            Some(Ok(Ok(data))) => self.join(data),
            Some(Ok(Err(frame))) => {
                self.trailers = frame.into_trailers().ok();
                self.end();
            }
        }
        if !self.ended && self.body.is_end_stream() {
            self.end();
        }
        Poll::Ready(())
    }

    fn join(&mut self, data: Bytes) {
        self.kept_bytes += data.len();
        match self.kept.pop() {
            Some(last) if last.len() + data.len() <= JOINED => {
                let mut joined = last.try_into_mut().unwrap_or_else(|last| BytesMut::from(&*last));
                joined.extend_from_slice(&data);
                self.kept.push(joined.freeze());
            }
            last => self.kept.extend(last.into_iter().chain((!data.is_empty()).then_some(data))),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    fn keep(&mut self, data: &Bytes, at: &mut usize) {
        if !self.whole {
            return;
        }
        // Many tiny chunks cost more than their bytes.
        if self.kept_bytes + data.len() > KEPT || self.kept.len() >= 256 {
            self.whole = false;
            self.kept = Vec::new();
            return;
        }
        self.kept_bytes += data.len();
        self.kept.push(data.clone());
        *at = self.kept.len();
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { source, attempt, at, sent, trailers_sent, .. } => {
                let polled = source.poll(cx, *attempt, at, trailers_sent);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    *sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream { source, at, .. } => source.is_end(*at),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream { hint, sent, .. } => {
                hint.exact().map_or_else(SizeHint::default, |all| SizeHint::with_exact(all.saturating_sub(*sent)))
            }
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Outgoing::Empty",
            Self::Whole(_) => "Outgoing::Whole",
            Self::Stream { .. } => "Outgoing::Stream",
        })
    }
}
