//! The body of what a client gets: bytes of ours, or an upstream's, relayed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use tidegate_telemetry::Cut;

use crate::compress::Packed;
use crate::llm::{Native, Told};
use crate::relay::{Broken, Observer, Relay};

/// What a connection sends.
pub(crate) enum Reply {
    /// Ours, whole; `None` when sent. The observer rides along, so that the record ends with the last byte.
    Ours(Option<Bytes>, Option<Box<Observer>>),
    /// Ours as well, piece by piece.
    Pieces(VecDeque<Bytes>, Option<Box<Observer>>),
    Relayed(Relay),
    /// A language model's answer, as it is made.
    Told(Box<Told>),
    /// A provider's, as it came.
    Native(Box<Native>),
    /// From the cache.
    Kept(tidegate_cache::Body, Box<Observer>),
    /// Any of them, compressed.
    Packed(Box<Packed>),
}

impl Reply {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Ours((!bytes.is_empty()).then_some(bytes), None)
    }

    pub(crate) fn pieces(pieces: Vec<Vec<u8>>) -> Self {
        Self::Pieces(pieces.into_iter().map(Bytes::from).collect(), None)
    }

    /// Whole when handed over; an answer to HEAD, and an empty one, is whole already.
    pub(crate) fn observed(self, mut observer: Box<Observer>, method: &Method) -> Self {
        match self {
            Self::Ours(bytes, _) => {
                observer.whole = bytes.is_none() || method == Method::HEAD;
                Self::Ours(bytes, Some(observer))
            }
            Self::Pieces(pieces, _) => Self::Pieces(pieces, Some(observer)),
            Self::Told(told) => Self::Told(told.observed(observer)),
            Self::Native(native) => Self::Native(native.observed(observer)),
            relayed => relayed,
        }
    }

    pub(crate) fn kept(body: tidegate_cache::Body, mut observer: Box<Observer>, method: &Method) -> Self {
        observer.whole = body.is_end_stream() || method == Method::HEAD;
        Self::Kept(body, observer)
    }

    pub(crate) fn empty() -> Self {
        Self::Ours(None, None)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Ours(bytes, observer) => {
                let bytes = bytes.take();
                if let (Some(bytes), Some(observer)) = (&bytes, observer) {
                    observer.sent(bytes.len());
                    observer.whole = true;
                }
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Pieces(pieces, observer) => {
                let piece = pieces.pop_front();
                if let (Some(piece), Some(observer)) = (&piece, observer) {
                    observer.sent(piece.len());
                    observer.whole = pieces.is_empty();
                }
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Relayed(relay) => Pin::new(relay).poll_frame(cx),
            Self::Told(told) => Pin::new(&mut **told).poll_frame(cx),
            Self::Native(native) => Pin::new(&mut **native).poll_frame(cx),
            Self::Packed(packed) => Pin::new(&mut **packed).poll_frame(cx),
            Self::Kept(body, observer) => {
                if observer.lapsed(cx) {
                    return Poll::Ready(Some(Err(Broken::lapsed())));
                }
                if observer.exchange.client().is_full(cx) {
                    return Poll::Pending;
                }
                if observer.is_shut() {
                    return Poll::Ready(Some(Err(observer.cut_off())));
                }
                let frame = match observer.waiting() {
                    Some(data) => Some(Ok(Frame::data(data))),
                    None => ready!(Pin::new(&mut *body).poll_frame(cx)),
                };
                match frame {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            let Some(data) = ready!(observer.poll_pass(data, cx)) else {
                                return Poll::Ready(Some(Err(observer.cut_off())));
                            };
                            observer.whole = observer.is_open() && body.is_end_stream();
                            Poll::Ready(Some(Ok(Frame::data(data))))
                        }
                        Err(last) => Poll::Ready(Some(Ok(last))),
                    },
                    Some(Err(why)) => {
                        observer.record.cut = Some(Cut::Upstream);
                        Poll::Ready(Some(Err(Broken::from(why))))
                    }
                    None => {
                        observer.whole = true;
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours(bytes, _) => bytes.is_none(),
            Self::Pieces(pieces, _) => pieces.is_empty(),
            Self::Relayed(relay) => relay.is_end_stream(),
            Self::Told(told) => told.is_end_stream(),
            Self::Native(native) => native.is_end_stream(),
            Self::Kept(body, observer) => observer.is_open() && body.is_end_stream(),
            Self::Packed(packed) => packed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Pieces(..) => SizeHint::default(),
            Self::Relayed(relay) => relay.size_hint(),
            Self::Told(told) => told.size_hint(),
            Self::Native(native) => native.size_hint(),
            Self::Kept(body, _) => body.size_hint(),
            Self::Packed(_) => SizeHint::default(),
        }
    }
}
