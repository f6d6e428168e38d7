//! A request's body on its way in: counted, bounded, and given up when it stops arriving. Nothing is gathered: a frame
//! is read when the upstream has room for it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tidegate_coding::Coding;
use tidegate_policy::Route;
use tokio::time::{Instant, Sleep};

use crate::connection::Client;
use crate::grpc::web::Text;
use crate::received::Received;
use crate::refusal::Refusal;
use crate::trailers;
use crate::unpack::Unpacking;

/// A body with its bounds.
pub(crate) struct Inbound {
    /// Read before the body was wanted.
    ahead: VecDeque<Frame<Bytes>>,
    body: Received,
    left: u64,
    /// Made when the body first lets us wait, and moved only when it fires: bytes that arrive cost no timer.
    patience: Option<Pin<Box<Sleep>>>,
    heard: Option<Instant>,
    /// Milliseconds for which it was waited for, before it was last heard of.
    waited: u32,
    /// Bytes per second for as long as it is waited for; 0: any.
    rate: u32,
    /// `None` for an empty body, about which nothing can be told.
    tally: Option<Arc<Tally>>,
    client: Arc<Client>,
    undoing: Option<Box<Undoing>>,
}

/// What is undone on its way.
enum Undoing {
    /// Of gRPC-Web: base64.
    Text(Text),
    Coding(Unpacking),
}

impl Undoing {
    fn is_whole(&self) -> bool {
        match self {
            Self::Text(text) => text.is_whole(),
            Self::Coding(unpacking) => unpacking.is_whole(),
        }
    }

    fn broken(&self) -> Broken {
        match self {
            Self::Text(_) => Broken::Client,
            Self::Coding(_) => Broken::Coding,
        }
    }
}

/// What the shell learns of a body that the upstream's side reads.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    broken: AtomicU8,
    answered: AtomicBool,
}

/// Why a request's body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Broken {
    TooLarge = 1,
    Timeout = 2,
    /// The client went away, reset the stream, or framed the body wrongly.
    Client = 3,
    /// It is not compressed as it says, or ends in its middle.
    Coding = 4,
    Bomb = 5,
}

impl Broken {
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::TooLarge => Refusal::BodyTooLarge,
            Self::Timeout => Refusal::BodyTimeout,
            Self::Client => Refusal::BodyBroken,
            Self::Coding => Refusal::CodingInvalid,
            Self::Bomb => Refusal::CodingBomb,
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.refusal().code())
    }
}

impl std::error::Error for Broken {}

impl Tally {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The answer has begun: from now on both sides may take their time.
    pub(crate) fn is_answered(&self) {
        self.answered.store(true, Relaxed);
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let known = [Broken::TooLarge, Broken::Timeout, Broken::Client, Broken::Coding, Broken::Bomb];
        known.into_iter().find(|b| *b as u8 == self.broken.load(Relaxed)).map(Broken::refusal)
    }
}

impl Inbound {
    pub(crate) fn new(body: Received, route: &Route, client: Arc<Client>) -> Self {
        let tally = (!body.is_end_stream()).then(Arc::default);
        let ahead = VecDeque::new();
        let (left, rate) = (route.max_body, route.min_body_rate);
        Self { ahead, body, left, patience: None, heard: None, waited: 0, rate, tally, client, undoing: None }
    }

    /// Its client and its upstream talk to each other, each when it has something to say.
    pub(crate) fn comes_at_any_rate(&mut self) {
        self.rate = 0;
    }

    /// Refuses at once what says that it is too large.
    pub(crate) fn fits(body: Option<&Received>, most: u64) -> Result<(), Refusal> {
        match body {
            Some(body) if body.size_hint().lower() > most => Err(Refusal::BodyTooLarge),
            _ => Ok(()),
        }
    }

    /// It is compressed so. Its bounds hold for what comes out as well.
    pub(crate) fn unpack(&mut self, coding: Coding) {
        self.undoing = Some(Box::new(Undoing::Coding(Unpacking::new(coding, self.left))));
    }

    /// Is nothing of it to come?
    fn is_read(&self) -> bool {
        self.body.is_end_stream() && !matches!(self.undoing.as_deref(), Some(Undoing::Coding(_)))
    }

    pub(crate) fn in_text(&mut self) {
        self.undoing = Some(Box::new(Undoing::Text(Text::default())));
    }

    pub(crate) fn tally(&self) -> Option<Arc<Tally>> {
        self.tally.clone()
    }

    /// Reads the body while it is at most this long, and holds what it read for who wants it later. `None`: it is
    /// longer, or ends in trailers.
    ///
    /// # Errors
    /// It broke, in time or size.
    pub(crate) async fn read_ahead(&mut self, most: u64) -> Result<Option<Bytes>, Broken> {
        // In one piece: a client that sends byte by byte gets no frame kept for each.
        let (mut read, mut last) = (BytesMut::new(), None);
        let mut short = true;
        while short && !self.is_read() {
            let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await else { break };
            match frame?.into_data() {
                Ok(data) => {
                    read.extend_from_slice(&data);
                    short = read.len() as u64 <= most;
                }
                Err(trailers) => {
                    last = Some(trailers);
                    short = false;
                }
            }
        }
        let read = read.freeze();
        if !read.is_empty() {
            self.ahead.push_back(Frame::data(read.clone()));
        }
        self.ahead.extend(last);
        Ok(short.then_some(read))
    }

    /// All of the body, in one piece. `None`: it ends in trailers.
    ///
    /// # Errors
    /// It broke, in time or size.
    pub(crate) async fn whole(&mut self) -> Result<Option<Bytes>, Broken> {
        let mut read = BytesMut::new();
        while !self.is_read() {
            let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await else { break };
            let Ok(data) = frame?.into_data() else { return Ok(None) };
            if read.is_empty() && self.is_read() {
                return Ok(Some(data)); // As nearly always: not a byte is copied.
            }
            read.extend_from_slice(&data);
        }
        Ok(Some(read.freeze()))
    }

    fn broke(&self, why: Broken) -> Broken {
        if let Some(tally) = &self.tally {
            tally.broken.store(why as u8, Relaxed);
        }
        why
    }

    fn took(&mut self, data: &Bytes) -> Result<(), Broken> {
        if let Some(since) = self.heard.take() {
            let waited = u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX);
            self.waited = self.waited.saturating_add(waited);
        }
        let length = data.len() as u64;
        if let Some(tally) = &self.tally {
            tally.bytes.fetch_add(length, Relaxed);
        }
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.broke(Broken::TooLarge)),
        }
    }

    fn read(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Broken> {
        let Some(Undoing::Text(text)) = self.undoing.as_deref_mut() else { return Ok(frame) };
        let Ok(data) = frame.into_data() else { return Err(self.broke(Broken::Client)) }; // A browser sends no trailers.
        text.read(&data).map(Frame::data).ok_or_else(|| self.broke(Broken::Client))
    }

    /// What waits of a compressed body.
    fn unpacked(&mut self) -> Option<Result<Bytes, Broken>> {
        let Some(Undoing::Coding(unpacking)) = self.undoing.as_deref_mut() else { return None };
        let piece = unpacking.piece().transpose()?;
        Some(piece.map_err(|why| {
            self.undoing = None;
            self.broke(why)
        }))
    }

    /// A frame of a compressed body; trailers are given back.
    fn packed(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Broken> {
        let Some(Undoing::Coding(unpacking)) = self.undoing.as_deref_mut() else { return Ok(Some(frame)) };
        match frame.into_data() {
            Ok(data) => unpacking.take(data),
            Err(last) if unpacking.is_whole() => {
                self.undoing = None;
                return Ok(Some(last));
            }
            Err(_) => return Err(self.broke(Broken::Coding)),
        }
        Ok(None)
    }

    /// What the client sends next, as it sends it.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let within = frame.data_ref().map_or(Ok(()), |data| self.took(data));
                if self.body.is_end_stream() {
                    self.client.body_read();
                }
                Poll::Ready(Some(within.map(|()| frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(self.broke(Broken::Client)))),
            Poll::Ready(None) => {
                self.client.body_read();
                self.client.body_ended();
                let left = self.undoing.take().filter(|undoing| !undoing.is_whole());
                Poll::Ready(left.map(|undoing| Err(self.broke(undoing.broken()))))
            }
            Poll::Pending => self.wait(cx).map(|()| Some(Err(self.broke(Broken::Timeout)))),
        }
    }

    /// `Ready`: too long without a byte.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.heard.get_or_insert_with(Instant::now);
        let end = since + self.patience();
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        while patience.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                if !self.client.is_multiplexed() {
                    self.client.is_at_fault("body_timeout");
                }
                return Poll::Ready(());
            }
            patience.as_mut().reset(end);
        }
        Poll::Pending
    }

    /// How long the next bytes are waited for: a silence of so long, or until the whole came too slowly on average. Bytes that
    /// nobody wants yet are not waited for.
    fn patience(&self) -> Duration {
        let bounds = &self.client.gate.bounds;
        let asked = self.rate != 0 && self.tally.as_ref().is_some_and(|tally| !tally.answered.load(Relaxed));
        if !asked {
            return bounds.body_timeout;
        }
        let bytes = self.tally.as_ref().map_or(0, |tally| tally.bytes());
        let earned = Duration::from_millis(bytes.saturating_mul(1_000) / u64::from(self.rate));
        let in_all = bounds.body_grace.saturating_add(earned);
        bounds.body_timeout.min(in_all.saturating_sub(Duration::from_millis(self.waited.into())))
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if let Some(frame) = this.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            if let Some(piece) = this.unpacked() {
                return Poll::Ready(Some(piece.map(Frame::data)));
            }
            let frame = match ready!(this.poll_sent(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match this.packed(frame) {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(this.read(trailers::sifted(frame)))),
                Err(why) => return Poll::Ready(Some(Err(why))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.is_read() && self.undoing.as_ref().is_none_or(|undoing| undoing.is_whole())
    }

    fn size_hint(&self) -> SizeHint {
        if self.undoing.is_some() {
            return SizeHint::new();
        }
        let mut hint = self.body.size_hint();
        let ahead: u64 = self.ahead.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        if ahead > 0 {
            let (lower, upper) = (hint.lower() + ahead, hint.upper().map(|upper| upper + ahead));
            hint = SizeHint::new();
            hint.set_lower(lower);
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.client.body_ended();
    }
}
