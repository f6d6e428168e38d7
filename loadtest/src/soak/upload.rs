//! The body of a request: one block of bytes, whose length is told or not, all at once or with pauses.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Of a body.
const PIECE: usize = 32 << 10;

#[derive(Default)]
pub(super) struct Upload {
    left: Bytes,
    /// Otherwise it goes out in chunks.
    length_told: bool,
    pause: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    pub(super) fn of_known_length(body: Bytes) -> Self {
        Self { left: body, length_told: true, ..Self::default() }
    }

    pub(super) fn in_chunks(body: Bytes) -> Self {
        Self { left: body, ..Self::default() }
    }

    /// With so long a rest before each piece.
    pub(super) fn slowly(self, pause: Duration) -> Self {
        Self { pause: Some(pause), ..self }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(pause) = self.pause {
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        let length = self.left.len().min(PIECE);
        let piece = self.left.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length_told || self.left.is_empty() {
            true => SizeHint::with_exact(self.left.len() as u64),
            false => SizeHint::new(),
        }
    }
}
