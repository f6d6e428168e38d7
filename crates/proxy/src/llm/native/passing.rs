//! An answer that passes as it came, while what it cost is listened for.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use tidegate_llm::bounds::Bounds;
use tidegate_llm::meaning::Event;
use tidegate_llm::{Decoder, Dialect};
use tidegate_telemetry::Cut;
use tidegate_upstream as upstream;

use crate::llm::account::Account;
use crate::llm::door::Task;
use crate::relay::{Broken, Observer};

/// A whole answer that is longer than this is no chat's; its usage is estimated.
const LONGEST_READ: usize = 4 << 20;

/// What is heard of an answer that passes.
pub(super) enum Ear {
    Deaf,
    Stream(Dialect, Box<Decoder>, Vec<Event>),
    Whole(Dialect, bool, BytesMut),
}

impl Ear {
    pub(super) fn new(dialect: Option<Dialect>, task: Option<Task>, headers: &HeaderMap) -> Self {
        let Some(dialect) = dialect.filter(|_| !headers.contains_key(CONTENT_ENCODING)) else { return Self::Deaf };
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let streams = kind.starts_with("text/event-stream") || kind.starts_with("application/vnd.amazon.eventstream");
        match streams {
            true => Self::Stream(dialect, Box::new(dialect.decoder(Bounds::default())), Vec::new()),
            false => Self::Whole(dialect, task == Some(Task::Embed), BytesMut::new()),
        }
    }

    fn hear(&mut self, data: &[u8], account: &mut Account) {
        match self {
            Self::Deaf => {}
            Self::Stream(dialect, decoder, events) => {
                decoder.push(data, events);
                events.drain(..).for_each(|event| account.event(&event));
                if account.has_begun() {
                    decoder.skim(*dialect);
                }
            }
            Self::Whole(_, _, held) if held.len() + data.len() > LONGEST_READ => *self = Self::Deaf,
            Self::Whole(_, _, held) => held.extend_from_slice(data),
        }
    }

    fn end(&mut self, account: &mut Account) {
        match self {
            Self::Whole(_, true, held) => account.counted(held),
            Self::Whole(dialect, false, held) => {
                if let Ok(answer) = dialect.parse_answer(held) {
                    account.answer(&answer);
                }
            }
            Self::Stream(_, decoder, _) => account.skipped(decoder.skipped()),
            Self::Deaf => {}
        }
    }
}

/// The answer on its way. Its drop, early or late, ends the exchange and settles what it cost.
pub(crate) struct Native {
    source: upstream::Body,
    ear: Ear,
    account: Account,
    /// `None` until the answer goes out.
    observer: Option<Box<Observer>>,
    loan: Option<(u64, u32)>,
    ended: bool,
}

impl Native {
    pub(super) fn new(source: upstream::Body, ear: Ear, account: Account) -> Self {
        Self { source, ear, account, observer: None, loan: None, ended: false }
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

    fn cut(&mut self, cut: Cut, why: upstream::Broken) -> Broken {
        self.ended = true;
        if let Some(observer) = &mut self.observer {
            observer.record.cut = Some(cut);
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
            this.ended = true;
            return Poll::Ready(Some(Err(Broken::lapsed())));
        }
        match std::task::ready!(Pin::new(&mut this.source).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.ear.hear(data, &mut this.account);
                    if let Some(observer) = &mut this.observer {
                        observer.sent(data.len());
                        this.loan = observer.exchange.client().lend();
                    }
                }
                Poll::Ready(Some(Ok(crate::trailers::sifted(frame))))
            }
            Some(Err(why)) => {
                let cut = match why {
                    upstream::Broken::Timeout(_) => Cut::Timeout,
                    upstream::Broken::Reset(_) => Cut::Upstream,
                };
                Poll::Ready(Some(Err(this.cut(cut, why))))
            }
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
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.give_back();
        self.ear.end(&mut self.account);
        let Some(observer) = &mut self.observer else { return };
        // hyper does not poll a body that says that it is at its end; an answer to HEAD never is polled.
        if !self.ended {
            observer.whole = observer.record.method == Method::HEAD || self.source.is_end_stream();
        }
        self.account.settle(observer);
    }
}
