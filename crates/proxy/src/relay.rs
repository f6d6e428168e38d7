//! From the upstream to the client, frame by frame, as fast as the client takes them. What fails here fails after the
//! first byte: the connection is cut (h1) or the stream reset (h2), and the record says why.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tidegate_cache::{Broke, Tee, TeeBody};
use tidegate_telemetry::{Cut, Record};
use tidegate_upstream as upstream;

use crate::charge::Charge;
use crate::connection::Exchange;
use crate::grpc::web::Back;
use crate::inbound::Tally;
use crate::trailers;

/// Watches an exchange to its end, however it ends: its drop is the end.
pub(crate) struct Observer {
    pub(crate) record: Record,
    /// What came in of the request's body.
    pub(crate) tally: Option<Arc<Tally>>,
    pub(crate) whole: bool,
    pub(crate) exchange: Exchange,
    /// What is charged until the end.
    pub(crate) charge: Option<Box<Charge>>,
    /// The answer was waited for in its middle: there may be many like it, and they may take long.
    pub(crate) lasting: bool,
}

impl Observer {
    /// Has a place that the call holds gone to somebody else, or may it?
    pub(crate) fn lapsed(&mut self, cx: &mut Context<'_>) -> bool {
        self.charge.as_mut().is_some_and(|charge| charge.poll_lapsed(cx).is_ready())
    }

    /// The rest is not there yet.
    #[inline]
    pub(crate) fn waits(&mut self) {
        if !self.lasting {
            self.lasting = true;
            self.record.lasts();
        }
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.record.bytes_out += bytes as u64;
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            self.record.bytes_in = tally.bytes();
            if let Some(refusal) = tally.refusal() {
                self.record.refusal.get_or_insert(refusal.code());
            }
        }
        if !self.whole && self.record.cut.is_none() {
            self.record.cut = Some(Cut::Client);
        }
        if let Some(charge) = self.charge.take() {
            charge.ended(self.record.bytes_in, self.record.bytes_out);
        }
    }
}

/// An upstream's body on its way.
pub(crate) struct Relay {
    body: Source,
    observer: Box<Observer>,
    ended: bool,
    loan: Option<(u64, u32)>,
}

enum Source {
    Plain(upstream::Body),
    Teed(Box<TeeBody<upstream::Body>>),
    Web(Box<Back>),
}

impl Body for Source {
    type Data = Bytes;
    type Error = upstream::Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, upstream::Broken>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Web(body) => body.poll_frame(cx),
            Self::Teed(body) => Pin::new(&mut **body).poll_frame(cx).map_err(|why| match why {
                Broke::Origin(why) => why,
                Broke::Shared(why) => upstream::Broken::Reset(Box::new(why)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Teed(body) => body.is_end_stream(),
            Self::Web(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Teed(body) => body.size_hint(),
            Self::Web(_) => SizeHint::default(),
        }
    }
}

/// Why a relayed body ended early. hyper turns it into a reset.
#[derive(Debug)]
pub(crate) struct Broken(upstream::Broken);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

/// What ended it, for the record.
pub(crate) fn cut_by(why: &upstream::Broken) -> Cut {
    match why {
        upstream::Broken::Timeout(_) => Cut::Timeout,
        upstream::Broken::Reset(_) => Cut::Upstream,
    }
}

pub(crate) fn lapsed() -> upstream::Broken {
    upstream::Broken::Reset("the lease of its concurrency limit has ended".into())
}

impl Broken {
    pub(crate) fn of(why: upstream::Broken) -> Self {
        Self(why)
    }

    pub(crate) fn lapsed() -> Self {
        Self(lapsed())
    }
}

impl From<tidegate_cache::Broken> for Broken {
    fn from(why: tidegate_cache::Broken) -> Self {
        Self(upstream::Broken::Reset(Box::new(why)))
    }
}

impl Relay {
    /// With a tee, the cache looks on.
    pub(crate) fn new(body: upstream::Body, tee: Option<Box<Tee>>, observer: Box<Observer>) -> Self {
        let body = match tee {
            None => Source::Plain(body),
            Some(tee) => Source::Teed(Box::new(TeeBody::new(body, tee))),
        };
        Self { body, observer, ended: false, loan: None }
    }

    /// For a browser that speaks gRPC-Web.
    pub(crate) fn web(back: Back, observer: Box<Observer>) -> Self {
        Self { body: Source::Web(Box::new(back)), observer, ended: false, loan: None }
    }

    fn give_back(&mut self) {
        if let Some(loan) = self.loan.take() {
            self.observer.exchange.client().returned(loan);
        }
    }

    fn broke(&mut self, why: upstream::Broken) -> Broken {
        self.ended = true;
        self.observer.record.cut = Some(cut_by(&why));
        self.observer.record.detail = Some(why.to_string().into());
        Broken(why)
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        this.give_back();
        if this.observer.lapsed(cx) {
            return Poll::Ready(Some(Err(this.broke(lapsed()))));
        }
        if this.observer.exchange.client().is_full(cx) {
            return Poll::Pending;
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            this.observer.waits();
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.observer.sent(data.len());
                    this.loan = this.observer.exchange.client().lend();
                }
                Poll::Ready(Some(Ok(trailers::sifted(frame))))
            }
            Some(Err(why)) => Poll::Ready(Some(Err(this.broke(why)))),
            None => {
                this.ended = true;
                this.observer.whole = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.give_back();
        // hyper does not poll a body that says that it is at its end; an answer to HEAD never is polled.
        if !self.ended {
            let bodiless = self.observer.record.method == http::Method::HEAD;
            self.observer.whole = bodiless || self.body.is_end_stream();
        }
    }
}
