//! A request's body over HTTP/3: pieces of DATA as whoever reads it wants them, held to the length that the head told.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::server::RequestStream;
use http_body::{Body, Frame, SizeHint};

use super::code;
use super::line::Line;
use super::quic::Receiving;
use crate::received::Lost;

pub(crate) struct Upload {
    stream: RequestStream<Receiving, Bytes>,
    line: Arc<Line>,
    /// What is to come, if the head told.
    left: Option<u64>,
    state: State,
    /// What came before anybody asked.
    first: Option<Result<Frame<Bytes>, Lost>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Ended,
}

impl Upload {
    pub(super) fn new(stream: RequestStream<Receiving, Bytes>, length: Option<u64>, line: Arc<Line>) -> Self {
        Self { stream, line, left: length, state: State::Data, first: None }
    }

    /// Looks at what is there already: most requests have no body, and say so with their head. `false`: it is broken.
    pub(super) async fn looks(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Some(first)) = self.poll_next(cx) {
                self.first = Some(first);
            }
            Poll::Ready(())
        })
        .await;
        !matches!(self.first, Some(Err(_)))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let next = ready!(self.poll_frames(cx));
        if let Some(Err(Lost)) = &next {
            self.state = State::Ended;
        }
        Poll::Ready(next)
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        if self.state == State::Data {
            let data = match ready!(self.stream.poll_recv_data(cx)) {
                Ok(data) => data.map(|mut data| data.copy_to_bytes(data.remaining())),
                Err(_) => return Poll::Ready(Some(Err(Lost))),
            };
            if let Some(data) = data {
                return Poll::Ready(Some(self.counted(data)));
            }
            self.state = State::Trailers;
        }
        if self.state == State::Trailers {
            let trailers = match ready!(self.stream.poll_recv_trailers(cx)) {
                Ok(trailers) => trailers,
                Err(_) => return Poll::Ready(Some(Err(Lost))),
            };
            self.state = State::Ended;
            if self.left.is_some_and(|left| left > 0) {
                return Poll::Ready(Some(Err(self.is_not_its_length())));
            }
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }

    fn counted(&mut self, data: Bytes) -> Result<Frame<Bytes>, Lost> {
        if let Some(left) = &mut self.left {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Err(self.is_not_its_length()),
            }
        }
        Ok(Frame::data(data))
    }

    /// § 4.1.2.
    fn is_not_its_length(&self) -> Lost {
        self.line.ends_with(code::MESSAGE_ERROR);
        Lost
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.state == State::Ended
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        let first = first.map_or(0, |data| data.len() as u64);
        if self.state == State::Ended {
            return SizeHint::with_exact(first);
        }
        match self.left {
            Some(left) => SizeHint::with_exact(left + first),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(first);
                hint
            }
        }
    }
}
