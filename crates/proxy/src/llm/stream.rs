//! A provider's stream on its way to the caller: event by event, as fast as the caller takes them; what came meanwhile goes
//! out in one piece.

mod drain;
mod held;
mod untold;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tidegate_coding::Spoiled;
use tidegate_llm::meaning::{Error, Event, Kind};
use tidegate_llm::names::Names;
use tidegate_llm::tap::Tap;
use tidegate_llm::unsaid::Unsaid;
use tidegate_llm::{Decoder, Dialect, Encoder, Reply};
use tidegate_telemetry::Cut;
use tidegate_upstream as upstream;
use tokio::time::{Sleep, sleep};

use self::held::Held;
use super::account::{Account, First, Lost};
use super::bodies;
use super::coded::Source;
use super::counting::{self, Counting};
use super::fleet::Going;
use super::recorder::Recorder;
use super::waiting::Waiting;
use crate::relay::{Broken, Observer, cut_by};

/// Who has said all waits no longer for his connection to be closed.
const LINGER: Duration = Duration::from_secs(1);

/// The body of an answer. Its drop, early or late, ends the exchange and settles what it cost.
pub(crate) struct Told {
    source: Source,
    from: Dialect,
    decoder: Decoder,
    way: Way,
    account: Account,
    going: Going,
    /// Where somebody wants the answer whole.
    pub(super) recorder: Option<Box<Recorder>>,
    /// A caller who hangs up does not end it.
    pub(super) drains: bool,
    /// For the caller, and not taken yet.
    ready: Waiting,
    /// Of an event that is not whole yet, where nothing is changed.
    held: Held,
    ended: bool,
    /// Since its answer is over.
    linger: Option<Pin<Box<Sleep>>>,
    /// It ended where no error can be told: the connection must.
    torn: Option<Broken>,
    is_cut: bool,
    events: Vec<Event>,
    /// Its last events, which wait until it is counted what they have to tell.
    last: Vec<Event>,
    counting: Option<Counting>,
    /// `None` until the answer goes out.
    observer: Option<Box<Observer>>,
    /// What is known before that.
    noted: Option<(Cut, Box<str>)>,
    loan: Option<(u64, u32)>,
}

/// How the provider's bytes become the caller's.
pub(super) enum Way {
    /// As they are. The encoder speaks only when the stream breaks.
    Same {
        strip: Option<Box<Tap>>,
        encoder: Box<Encoder>,
    },
    Other(Box<Translation>),
}

/// Into another dialect.
pub(super) struct Translation {
    pub(super) encoder: Encoder,
    pub(super) to: Dialect,
    /// The stream has room for a comment.
    pub(super) comments: bool,
    pub(super) names: Option<Arc<Names>>,
    /// Of the call, and what of the answer was left out until now.
    pub(super) dropped: Option<String>,
    pub(super) unsaid: Unsaid,
}

impl Translation {
    /// Events in the caller's words; none are left.
    fn encoded(&mut self, events: &mut Vec<Event>) -> Vec<u8> {
        let mut out = Vec::new();
        for mut event in events.drain(..) {
            if let Some(names) = &self.names {
                names.restore_event(&mut event);
            }
            if let Event::Error(error) = &mut event {
                error.message = bodies::keys(&error.message).into_owned();
            }
            let lost = self.unsaid.event(&event, self.to).filter(|_| self.comments);
            let lost = lost.map(|name| format!(": x-tidegate-dropped: answer.{name}\n\n"));
            self.encoder.push(event, &mut out);
            out.extend(lost.into_iter().flat_map(String::into_bytes));
        }
        out
    }

    /// For the log.
    fn all_dropped(&self) -> Option<Box<str>> {
        let answer = (!self.unsaid.is_empty()).then(|| self.unsaid.header());
        let both: Vec<String> = self.dropped.iter().cloned().chain(answer).collect();
        (!both.is_empty()).then(|| both.join(", ").into())
    }
}

impl Told {
    pub(super) fn new(
        source: Source,
        from: Dialect,
        way: Way,
        reply: &Reply,
        (account, going): (Account, Going),
    ) -> Self {
        let mut decoder = from.decoder(reply.bounds);
        if account.listens() {
            decoder.keep_text();
        }
        Self {
            source,
            from,
            decoder,
            way,
            account,
            going,
            recorder: None,
            drains: false,
            ready: Waiting::default(),
            held: Held::default(),
            ended: false,
            linger: None,
            torn: None,
            is_cut: false,
            events: Vec::new(),
            last: Vec::new(),
            counting: None,
            observer: None,
            noted: None,
            loan: None,
        }
    }

    /// Waits for the first event: until then somebody else can be asked. `begun`: bytes that were read already.
    ///
    /// # Errors
    /// It is an error, or none comes.
    pub(super) async fn begins(&mut self, begun: Bytes) -> Result<(), Error> {
        self.take(begun);
        loop {
            match self.account.first.take() {
                Some(First::Error(error)) => return Err(*error),
                Some(First::Something) => {
                    self.account.first = Some(First::Something);
                    self.going.first();
                    return Ok(());
                }
                None if self.ended => {
                    return Err(Error::bad_stream("the provider's stream ended before it began"));
                }
                None => {}
            }
            match poll_fn(|cx| self.source.poll_data(cx)).await {
                Some(Ok(data)) => self.take(data),
                Some(Err(why)) => return Err(broken(&why)),
                None => self.finish(),
            }
        }
    }

    /// What other tries of the call cost.
    pub(super) fn owes(&mut self, lost: Lost) {
        self.account.owes(lost);
    }

    pub(crate) fn observed(mut self: Box<Self>, mut observer: Box<Observer>) -> Box<Self> {
        if let Some((cut, detail)) = self.noted.take() {
            note(&mut observer, cut, &detail);
        }
        self.observer = Some(observer);
        self
    }

    /// Some bytes of the provider.
    fn take(&mut self, data: Bytes) {
        self.decoder.push(&data, &mut self.events);
        self.heard(&data);
        // Who wants the answer whole reads all of it.
        if matches!(self.way, Way::Same { .. }) && self.recorder.is_none() && self.account.has_begun() {
            self.decoder.skim(self.from);
        }
        self.hold_back();
        let out = match &mut self.way {
            Way::Same { strip: None, .. } => {
                self.events.clear();
                return self.held.push(data, self.decoder.open(), &mut self.ready);
            }
            Way::Same { strip: Some(strip), .. } => {
                self.events.clear();
                if strip.passes(&data) {
                    return self.ready.push(data);
                }
                let mut kept = Vec::with_capacity(data.len());
                strip.push(&data, &mut kept);
                kept
            }
            Way::Other(translation) => translation.encoded(&mut self.events),
        };
        self.hand_on(out);
    }

    /// More was used than the call's limits have, and one of them says that it ends there.
    fn is_used_up(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(observer) = &mut self.observer else { return false };
        let sent = observer.record.bytes_out.saturating_add(self.ready.len());
        let spoken = observer.counts_spoken().then(|| self.account.so_far(self.decoder.skipped()));
        let is_beyond = observer.poll_sent(sent, cx).is_ready()
            || spoken.is_some_and(|spoken| observer.poll_spoken(spoken, cx).is_ready());
        is_beyond && !self.decoder.is_over() // All of it was used: to cut it would save nothing.
    }

    /// The provider closed its stream.
    fn finish(&mut self) {
        self.ended = true;
        let (was_over, open) = (self.decoder.is_over(), self.decoder.open());
        self.decoder.finish(&mut self.events);
        self.heard(&[]);
        let error = self.events.iter().find_map(|event| match event {
            Event::Error(error) if !was_over => Some(error.clone()),
            _ => None,
        });
        let failed = error.is_some();
        self.hold_back();
        match (&mut self.way, error) {
            (Way::Same { .. }, Some(error)) => self.tells(error, open),
            (Way::Same { strip, .. }, None) => {
                let mut rest = Vec::new();
                strip.iter_mut().for_each(|strip| strip.finish(&mut rest));
                self.held.release(&mut self.ready);
                self.hand_on(rest);
            }
            (Way::Other(translation), _) => {
                let out = translation.encoded(&mut self.events);
                self.hand_on(out);
            }
        }
        self.events.clear();
        if self.counting.is_none() {
            self.recorded(!failed);
        }
    }

    /// It broke after its first byte: the caller is told inside the stream, which then ends in order.
    fn breaks(&mut self, cut: Cut, error: Error) {
        self.ended = true;
        // Behind the end of an answer nothing is missed.
        if !self.decoder.is_over() {
            self.note(cut, &error.message);
            self.tells(error, self.decoder.open());
        }
    }

    /// Its answer is over, and the provider does not close it. Its caller is not kept waiting for long.
    fn lingers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER))).as_mut().poll(cx)
    }

    /// An error of ours, behind the last whole event. `open`: so much came of another.
    fn tells(&mut self, error: Error, open: usize) {
        let mut out = Vec::new();
        match &mut self.way {
            Way::Same { encoder, strip } => {
                self.held = Held::default();
                // Half of one is with the caller. A blank line ends it, if it is of lines; else nothing does.
                let half = strip.is_none() && held::is_too_much(open);
                if half && !self.decoder.is_lined() {
                    self.torn = Some(Broken::of(upstream::Broken::Reset(error.message.into())));
                    return;
                }
                out.extend_from_slice(if half { b"\n\n" } else { b"" });
                encoder.goes_on();
                encoder.push(Event::Error(error), &mut out);
            }
            Way::Other(translation) => translation.encoder.push(Event::Error(error), &mut out),
        }
        self.hand_on(out);
    }

    /// What the events say to those who keep books. `data`: what they came in.
    fn heard(&mut self, data: &[u8]) {
        self.events.iter().for_each(|event| self.account.event(event));
        // What passes may hold what we cannot read, and its caller can.
        let passes = matches!(self.way, Way::Same { .. }) && !self.ended;
        if let Some(Event::Error(error)) = self.events.last()
            && !(passes && error.kind == Kind::BadStream)
        {
            let message = bodies::keys(&error.message).into_owned();
            self.note(Cut::Upstream, &message);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.piece(data);
            self.events.iter().for_each(|event| recorder.event(event));
        }
    }

    fn recorded(&mut self, whole: bool) {
        if let (Some(observer), Some(recorder)) = (&mut self.observer, self.recorder.take()) {
            self.account.settle(observer);
            recorder.ends(whole, observer);
        }
    }

    fn hand_on(&mut self, out: Vec<u8>) {
        self.ready.push(out.into());
    }

    fn note(&mut self, cut: Cut, detail: &str) {
        match &mut self.observer {
            Some(observer) => note(observer, cut, detail),
            None => self.noted = Some((cut, detail.into())),
        }
    }

    /// What waits for the caller.
    fn hand_out(&mut self) -> Option<Frame<Bytes>> {
        let data = self.ready.take()?;
        if let Some(observer) = &mut self.observer {
            observer.sent(data.len());
            self.loan = observer.exchange.client().lend();
        }
        Some(Frame::data(data))
    }

    fn give_back(&mut self) {
        if let (Some(loan), Some(observer)) = (self.loan.take(), &self.observer) {
            observer.exchange.client().returned(loan);
        }
    }
}

fn note(observer: &mut Observer, cut: Cut, detail: &str) {
    observer.record.cut.get_or_insert(cut);
    observer.record.detail = Some(detail.into());
}

fn used_up() -> Error {
    Error::new(Kind::RateLimited, "the answer came to more than a limit of its caller has left, and ends here")
}

pub(super) fn broken(why: &upstream::Broken) -> Error {
    let kind = match why {
        upstream::Broken::Timeout(_) => Kind::Timeout,
        upstream::Broken::Reset(_) => Kind::BadStream,
    };
    let message = match why {
        upstream::Broken::Timeout(_) => "the provider stopped in the middle of its answer",
        upstream::Broken::Reset(why) => match why.downcast_ref::<Spoiled>() {
            Some(Spoiled::Invalid) => "the provider's answer is not compressed as it says",
            Some(Spoiled::TooLong) => "the provider's answer grows too long when it is decompressed",
            None => "the provider broke off in the middle of its answer",
        },
    };
    Error::new(kind, message)
}

impl Body for Told {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        this.give_back();
        if this.observer.as_ref().is_some_and(|observer| observer.exchange.client().is_full(cx)) {
            return Poll::Pending;
        }
        loop {
            if (this.ended || this.ready.is_enough())
                && let Some(piece) = this.hand_out()
            {
                return Poll::Ready(Some(Ok(piece)));
            }
            if let Some(counting) = &mut this.counting {
                if counting.poll(&mut this.account, cx).is_ready() {
                    this.counted();
                    continue;
                }
                let piece = this.hand_out();
                if let (None, Some(observer)) = (&piece, &mut this.observer) {
                    observer.waits();
                }
                return piece.map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(piece))));
            }
            if let Some(torn) = this.torn.take() {
                this.is_cut = true;
                return Poll::Ready(Some(Err(torn)));
            }
            if this.ended {
                if let Some(observer) = &mut this.observer {
                    observer.whole = true;
                }
                return Poll::Ready(None);
            }
            let asked = this.observer.as_ref().is_some_and(|observer| observer.is_asking());
            if this.observer.as_mut().is_some_and(|observer| observer.lapsed(cx)) {
                this.breaks(Cut::Upstream, Error::new(Kind::Overloaded, "the lease of a concurrency limit has ended"));
                continue;
            }
            if asked && this.is_used_up(cx) {
                this.breaks(Cut::Limit, used_up());
                continue;
            }
            let Poll::Ready(data) = this.source.poll_data(cx) else {
                if let Some(piece) = this.hand_out() {
                    return Poll::Ready(Some(Ok(piece)));
                }
                if this.decoder.is_over() && this.lingers(cx).is_ready() {
                    this.finish();
                    continue;
                }
                if let Some(observer) = &mut this.observer {
                    observer.waits();
                }
                return Poll::Pending;
            };
            match data {
                Some(Ok(data)) => {
                    this.take(data);
                    if this.is_used_up(cx) {
                        this.breaks(Cut::Limit, used_up());
                    }
                }
                Some(Err(why)) => {
                    this.breaks(cut_by(&why), broken(&why));
                }
                None => this.finish(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty() && self.torn.is_none() && self.counting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.give_back();
        if self.goes_on() {
            return;
        }
        if let Some(observer) = &mut self.observer {
            observer.whole = self.ended && self.ready.is_empty() && self.torn.is_none() && !self.is_cut;
            if let (Way::Other(translation), Some(spoken)) = (&self.way, &mut observer.record.spoken) {
                spoken.dropped = translation.all_dropped();
            }
            self.account.skipped(self.decoder.skipped(), self.decoder.said().as_deref());
            self.account.settle(observer);
            self.going.told(self.account.output());
        }
        let whole = self.decoder.is_over();
        self.recorded(whole);
        let Some(observer) = self.observer.take() else { return };
        let account = std::mem::replace(&mut self.account, Account::new(0, false));
        match self.counting.take() {
            Some(counting) => counting.settles(account, observer),
            None if account.wants_count() => counting::later(account, observer),
            None => {}
        }
    }
}
