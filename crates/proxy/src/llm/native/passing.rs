//! An answer that passes as it came, while what it cost is listened for, and what it says where that is logged.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use tidegate_coding::Decoding;
use tidegate_llm::bounds::Bounds;
use tidegate_llm::meaning::Event;
use tidegate_llm::{Decoder, Dialect, Glance, Reply, Skipped};
use tidegate_policy::{Bodies, Model};
use tidegate_upstream as upstream;

use super::is_json;
use crate::llm::account::Account;
use crate::llm::recorder::Recorder;
use crate::llm::{bodies, counting};
use crate::relay::{Broken, Observer, cut_by, lapsed};
use crate::unpack::coding;

/// A whole answer that is longer than this is no chat's; its usage is estimated.
const LONGEST_READ: usize = 4 << 20;

/// What is heard of an answer that passes.
pub(super) struct Ear {
    kind: Kind,
    /// It is compressed: what passes stays so.
    coded: Option<Box<Decoding>>,
}

enum Kind {
    Deaf,
    Stream(Box<Listening>),
    Whole { call: Option<(Dialect, bool)>, held: BytesMut, log: Option<Arc<Bodies>> },
}

/// To a stream.
pub(super) struct Listening {
    dialect: Dialect,
    decoder: Decoder,
    events: Vec<Event>,
    /// Where it is logged.
    recorder: Option<Box<Recorder>>,
}

impl Ear {
    /// `call`: the dialect of one that is known, and whether it embeds. `counts`: its text may have to be counted.
    pub(super) fn new(
        call: Option<(Dialect, bool)>,
        headers: &HeaderMap,
        log: Option<Arc<Bodies>>,
        counts: bool,
    ) -> Self {
        match coding(headers) {
            Ok(coding) => {
                let kind = Kind::new(call, headers, log, counts);
                let deaf = matches!(kind, Kind::Deaf);
                let coded = coding.filter(|_| !deaf).map(|coding| Box::new(Decoding::new(coding)));
                Self { kind, coded }
            }
            Err(()) => Self { kind: Kind::Deaf, coded: None },
        }
    }

    fn hear(&mut self, mut data: &[u8], account: &mut Account) {
        let Some(coded) = &mut self.coded else { return self.kind.hear(data, account) };
        // What cannot be read is not heard: what it cost is estimated.
        while let Ok(Some(piece)) = coded.piece(&mut data) {
            self.kind.hear(&piece, account);
        }
    }
}

impl Kind {
    fn new(call: Option<(Dialect, bool)>, headers: &HeaderMap, log: Option<Arc<Bodies>>, counts: bool) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let streams = kind.starts_with("text/event-stream") || kind.starts_with("application/vnd.amazon.eventstream");
        match call {
            Some((dialect, _)) if streams => {
                let mut decoder = dialect.decoder(Bounds::default());
                if counts {
                    decoder.keep_text();
                }
                let record = |log| Box::new(Recorder::new(dialect, Reply::default(), Some(log), None));
                let recorder = log.map(record);
                Self::Stream(Box::new(Listening { dialect, decoder, events: Vec::new(), recorder }))
            }
            None if log.is_none() || !is_json(headers) => Self::Deaf,
            call => Self::Whole { call, held: BytesMut::new(), log },
        }
    }

    fn hear(&mut self, data: &[u8], account: &mut Account) {
        match self {
            Self::Deaf => {}
            Self::Stream(listening) => listening.hear(data, account),
            Self::Whole { held, .. } if held.len() + data.len() > LONGEST_READ => *self = Self::Deaf,
            Self::Whole { held, .. } => held.extend_from_slice(data),
        }
    }

    /// Of a stream, text that was passed over.
    fn skipped(&self) -> Skipped {
        match self {
            Self::Stream(listening) => listening.decoder.skipped(),
            Self::Deaf | Self::Whole { .. } => Skipped::default(),
        }
    }

    /// All was heard that will be.
    fn end(&mut self, account: &mut Account) {
        match self {
            Self::Whole { call: Some((_, true)), held, .. } => account.counted(held),
            Self::Whole { call: Some((dialect, false)), held, .. } => {
                if let Ok(answer) = dialect.parse_answer(held) {
                    account.answer(Glance::of(&answer), Some(&answer));
                }
            }
            Self::Stream(listening) => {
                let Listening { decoder, .. } = &mut **listening;
                account.skipped(decoder.skipped(), decoder.said().as_deref());
            }
            Self::Whole { call: None, .. } | Self::Deaf => {}
        }
    }

    /// What it cost is in the record.
    fn log(&mut self, observer: &mut Observer) {
        match self {
            Self::Whole { held, log: Some(rules), .. } => {
                if let Some(spoken) = &mut observer.record.spoken {
                    spoken.bodies.answer = Some(bodies::loggable(rules, held));
                }
            }
            Self::Stream(listening) => {
                let whole = listening.decoder.is_over();
                if let Some(recorder) = listening.recorder.take() {
                    recorder.ends(whole, observer);
                }
            }
            Self::Whole { log: None, .. } | Self::Deaf => {}
        }
    }
}

impl Listening {
    fn hear(&mut self, data: &[u8], account: &mut Account) {
        let Self { dialect, decoder, events, recorder } = self;
        decoder.push(data, events);
        for event in events.drain(..) {
            account.event(&event);
            if let Some(recorder) = recorder {
                recorder.event(&event);
            }
        }
        if account.has_begun() && recorder.is_none() {
            decoder.skim(*dialect);
        }
    }
}

/// The answer on its way. Its drop, early or late, ends the exchange and settles what it cost.
pub(crate) struct Native {
    source: upstream::Body,
    /// Told instead of it.
    instead: Option<Bytes>,
    ear: Ear,
    account: Account,
    /// Whatever its provider has.
    model: Arc<Model>,
    /// `None` until the answer goes out.
    observer: Option<Box<Observer>>,
    loan: Option<(u64, u32)>,
    ended: bool,
}

impl Native {
    pub(super) fn new(source: upstream::Body, ear: Ear, account: Account, model: Arc<Model>) -> Self {
        Self { source, instead: None, ear, account, model, observer: None, loan: None, ended: false }
    }

    pub(super) fn instead(mut self, bytes: Option<Bytes>) -> Self {
        self.instead = bytes.filter(|bytes| !bytes.is_empty());
        self
    }

    pub(crate) fn observed(mut self: Box<Self>, observer: Box<Observer>) -> Box<Self> {
        self.observer = Some(observer);
        self
    }

    fn give_back(&mut self) {
        if let (Some(loan), Some(observer)) = (self.loan.take(), &self.observer) {
            observer.exchange.client().returned(loan);
        }
    }

    fn broke(&mut self, why: upstream::Broken) -> Broken {
        self.ended = true;
        if let Some(observer) = &mut self.observer {
            observer.record.cut = Some(cut_by(&why));
            observer.record.detail = Some(why.to_string().into());
        }
        Broken::of(why)
    }
}

impl Body for Native {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        this.give_back();
        if this.observer.as_mut().is_some_and(|observer| observer.lapsed(cx)) {
            return Poll::Ready(Some(Err(this.broke(lapsed()))));
        }
        if this.observer.as_ref().is_some_and(|observer| observer.exchange.client().is_full(cx)) {
            return Poll::Pending;
        }
        let polled = match this.instead.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut this.source).poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else {
            if let Some(observer) = &mut this.observer {
                observer.waits();
            }
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.ear.hear(data, &mut this.account);
                    if let Some(observer) = &mut this.observer {
                        let spoken = observer.counts_spoken().then(|| this.account.so_far(this.ear.kind.skipped()));
                        let sent = observer.record.bytes_out.saturating_add(data.len() as u64);
                        if observer.poll_sent(sent, cx).is_ready()
                            || spoken.is_some_and(|spoken| observer.poll_spoken(spoken, cx).is_ready())
                        {
                            this.ended = true;
                            return Poll::Ready(Some(Err(observer.cut_off())));
                        }
                        observer.sent(data.len());
                        this.loan = observer.exchange.client().lend();
                    }
                }
                Poll::Ready(Some(Ok(crate::trailers::sifted(frame))))
            }
            Some(Err(why)) => Poll::Ready(Some(Err(this.broke(why)))),
            None => {
                this.ended = true;
                if let Some(observer) = &mut this.observer {
                    observer.whole = true;
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.instead.is_none() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.instead.as_ref().map_or_else(|| self.source.size_hint(), |bytes| SizeHint::with_exact(bytes.len() as u64))
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.give_back();
        self.ear.kind.end(&mut self.account);
        // The name that was asked for may be one's own; the answer says whose it is.
        let deployment = self.model.deployments.first();
        self.account.priced_by_answer(|answered| deployment?.tariff(answered).cloned());
        let Some(mut observer) = self.observer.take() else { return };
        // No connection polls a body that says that it is at its end; an answer to HEAD never is polled.
        if !self.ended {
            observer.whole = observer.record.method == Method::HEAD || self.is_end_stream();
        }
        self.account.settle(&mut observer);
        self.ear.kind.log(&mut observer);
        if self.account.wants_count() {
            counting::later(std::mem::replace(&mut self.account, Account::new(0, false)), observer);
        }
    }
}
