//! An answer's bytes, compressed as they come. Whatever has come can be read by the client as soon as nothing more comes at once: so
//! an event that is waited for is not held back, and a body that is there flows in large pieces.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tidegate_coding::{Encoding, Failed};
use tidegate_upstream as upstream;

use crate::relay::Broken;
use crate::reply::Reply;

/// So much is compressed at once: well under a millisecond of it.
const PIECE: usize = 16 << 10;
/// So much, until others have their turn on this core.
const TURN: usize = 64 << 10;

pub(crate) struct Packed {
    body: Reply,
    /// `None`: its end was written.
    encoding: Option<Encoding>,
    /// Of what came last.
    left: Bytes,
    /// What came of it and was not sent.
    out: Vec<u8>,
    /// Something that was written may not be readable yet.
    held: bool,
    turn: usize,
    trailers: Option<Frame<Bytes>>,
}

impl Packed {
    pub(super) fn new(body: Reply, encoding: Encoding) -> Self {
        Self {
            body,
            encoding: Some(encoding),
            left: Bytes::new(),
            out: Vec::new(),
            held: false,
            turn: 0,
            trailers: None,
        }
    }

    fn take(&mut self) -> Option<Frame<Bytes>> {
        let mut out = std::mem::take(&mut self.out);
        out.shrink_to_fit(); // It may wait for long.
        (!out.is_empty()).then(|| Frame::data(Bytes::from(out)))
    }

    /// What is left, up to a piece of it.
    fn write(&mut self) -> Result<(), Broken> {
        let Some(encoding) = &mut self.encoding else { return Err(failed(Failed)) };
        let piece = self.left.split_to(self.left.len().min(PIECE));
        self.turn += piece.len();
        self.held = true;
        encoding.write(&piece, &mut self.out).map_err(failed)
    }

    fn flush(&mut self) -> Result<(), Broken> {
        let Some(encoding) = self.encoding.as_mut().filter(|_| self.held) else { return Ok(()) };
        self.held = false;
        encoding.flush(&mut self.out).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Broken> {
        let Some(encoding) = self.encoding.take() else { return Ok(()) };
        encoding.finish(&mut self.out).map_err(failed)
    }

    /// Ready: there is nothing to send before more comes.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.left = data,
                Err(last) => {
                    self.trailers = Some(last);
                    self.finish()?;
                }
            },
            Poll::Ready(Some(Err(why))) => return Poll::Ready(Err(why)),
            Poll::Ready(None) => self.finish()?,
            Poll::Pending => {
                self.turn = 0;
                self.flush()?;
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn failed(why: Failed) -> Broken {
    Broken::of(upstream::Broken::Reset(Box::new(why)))
}

impl Body for Packed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        loop {
            if this.turn >= TURN {
                this.turn = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut waits = false;
            let done = if !this.left.is_empty() {
                this.write()
            } else if this.encoding.is_some() {
                match this.poll_more(cx) {
                    Poll::Ready(done) => done,
                    Poll::Pending => {
                        waits = true;
                        Ok(())
                    }
                }
            } else {
                return Poll::Ready(this.trailers.take().map(Ok));
            };
            if let Err(why) = done {
                return Poll::Ready(Some(Err(why)));
            }
            match this.take() {
                Some(frame) => return Poll::Ready(Some(Ok(frame))),
                None if waits => return Poll::Pending,
                None => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoding.is_none() && self.out.is_empty() && self.trailers.is_none()
    }
}
