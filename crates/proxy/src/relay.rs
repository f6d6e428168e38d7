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

use crate::charge::{Charge, Measure};
use crate::compress::Asked;
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
    pub(crate) doorstep: Doorstep,
    /// How the answer may be compressed, until there is one: here, where it costs a request's future nothing.
    pub(crate) packs: Option<Box<Asked>>,
}

/// Where a piece of an answer waits until the call's limits have room for it, which is only where one says that who comes beyond
/// it is cut. What they have no room for is not sent.
#[derive(Debug, Default)]
pub(crate) struct Doorstep {
    waits: Option<Bytes>,
    /// The limits are used up: nothing more is sent.
    shut: bool,
}

impl Observer {
    /// Has a place that the call holds gone to somebody else, or may it? What more it asked for may have come.
    #[inline]
    pub(crate) fn lapsed(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(charge) = &mut self.charge else { return false };
        charge.goes_on(cx);
        charge.poll_lapsed(cx).is_ready()
    }

    /// Is an answer of its limits waited for?
    pub(crate) fn is_asking(&self) -> bool {
        self.charge.as_deref().is_some_and(Charge::is_asking)
    }

    /// After something was sent, or came in: its limits are told, so that more is reserved in time.
    #[inline]
    pub(crate) fn uses(&mut self, cx: &mut Context<'_>) {
        let Some(charge) = &mut self.charge else { return };
        charge.uses(Measure::BytesOut, self.record.bytes_out, cx);
        if let Some(tally) = &self.tally {
            charge.uses(Measure::BytesIn, tally.bytes(), cx);
        }
    }

    /// As [`Observer::uses`], of so many bytes that are on their way out. Ready: there is no room for them, and they are to be cut.
    pub(crate) fn poll_sent(&mut self, bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Some(charge) = &mut self.charge else { return Poll::Pending };
        let room = charge.poll_room(Measure::BytesOut, bytes, cx);
        charge.uses(Measure::BytesOut, bytes, cx);
        match room {
            Poll::Ready(room) if room < bytes => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// As [`Observer::uses`], of a language model's answer. Ready: it has come to more than its limits have, and is to be cut.
    pub(crate) fn poll_spoken(&mut self, (tokens, nanos): (u64, u64), cx: &mut Context<'_>) -> Poll<()> {
        let Some(charge) = &mut self.charge else { return Poll::Pending };
        let mut is_used_up = false;
        for (measure, used) in [(Measure::Tokens, tokens), (Measure::NanoDollars, nanos)] {
            if let Poll::Ready(room) = charge.poll_room(measure, used, cx) {
                is_used_up |= room < used;
            }
            charge.uses(measure, used, cx);
        }
        if is_used_up { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Do its limits count what language models use?
    pub(crate) fn counts_spoken(&self) -> bool {
        let counts = |charge: &Charge| charge.counts(Measure::Tokens) || charge.counts(Measure::NanoDollars);
        self.charge.as_deref().is_some_and(counts)
    }

    /// Is nothing kept back?
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.doorstep.waits.is_none() && !self.doorstep.shut
    }

    /// Is the rest not to be sent?
    #[inline]
    pub(crate) fn is_shut(&self) -> bool {
        self.doorstep.shut
    }

    /// What waited, to be tried again.
    #[inline]
    pub(crate) fn waiting(&mut self) -> Option<Bytes> {
        self.doorstep.waits.take()
    }

    /// Ready: as much of it as may be sent, and is counted as sent. Nothing: the limits are used up.
    #[inline]
    pub(crate) fn poll_pass(&mut self, data: Bytes, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let sent = self.record.bytes_out;
        let Some(charge) = &mut self.charge else {
            self.sent(data.len());
            return Poll::Ready(Some(data));
        };
        let up_to = sent.saturating_add(data.len() as u64);
        let data = match charge.poll_room(Measure::BytesOut, up_to, cx) {
            Poll::Ready(room) if room >= up_to => data,
            Poll::Ready(room) => {
                self.doorstep.shut = true;
                let part = usize::try_from(room.saturating_sub(sent)).unwrap_or(0).min(data.len());
                data.slice(..part)
            }
            Poll::Pending => {
                self.doorstep.waits = Some(data);
                return Poll::Pending;
            }
        };
        if data.is_empty() && self.doorstep.shut {
            return Poll::Ready(None);
        }
        self.sent(data.len());
        self.uses(cx);
        Poll::Ready(Some(data))
    }

    /// The call came to more than its limits have: it ends here.
    pub(crate) fn cut_off(&mut self) -> Broken {
        let why = used_up();
        self.record.cut = Some(Cut::Limit);
        self.record.detail = Some(why.to_string().into());
        Broken(why)
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

/// Why a relayed body ended early. Its connection is cut, or its stream reset.
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

fn used_up() -> upstream::Broken {
    upstream::Broken::Reset("a limit of the call is used up, and says `beyond: cut`".into())
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

    fn cut_off(&mut self) -> Broken {
        self.ended = true;
        self.observer.cut_off()
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
        if this.observer.is_shut() {
            return Poll::Ready(Some(Err(this.cut_off())));
        }
        let frame = match this.observer.waiting() {
            Some(data) => Some(Ok(Frame::data(data))),
            None => {
                let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
                    this.observer.waits();
                    return Poll::Pending;
                };
                frame
            }
        };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => match this.observer.poll_pass(data, cx) {
                    Poll::Ready(Some(data)) => {
                        this.loan = this.observer.exchange.client().lend();
                        Poll::Ready(Some(Ok(Frame::data(data))))
                    }
                    Poll::Ready(None) => Poll::Ready(Some(Err(this.cut_off()))),
                    Poll::Pending => {
                        this.observer.waits();
                        Poll::Pending
                    }
                },
                Err(last) => Poll::Ready(Some(Ok(trailers::sifted(last)))),
            },
            Some(Err(why)) => Poll::Ready(Some(Err(this.broke(why)))),
            None => {
                this.ended = true;
                this.observer.whole = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.observer.is_open() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.give_back();
        // No connection polls a body that says that it is at its end; an answer to HEAD never is polled.
        if !self.ended {
            let bodiless = self.observer.record.method == http::Method::HEAD;
            self.observer.whole = bodiless || self.is_end_stream();
        }
    }
}
