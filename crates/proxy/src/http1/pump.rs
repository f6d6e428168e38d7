//! The body of a request, from its connection to whoever wants it.

use std::future::Future;
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::upload::Wish;
use super::{At, Machine, Step};
use crate::connection::Cut;
use crate::received::Lost;
use crate::reply::Reply;
use crate::request::Begun;

impl<S, F, G> Machine<S, F, G>
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
    G: Fn(Begun) -> F + Copy + Send + 'static,
{
    /// Reads of the request's body what is wanted. `true`: who wants it is polled by us, and has something new.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) -> Result<bool, Poll<Step>> {
        while let Some(lane) = &mut self.lane {
            match lane.wish(cx) {
                Wish::Wait => return Ok(false),
                Wish::None => {
                    self.leave_the_rest(cx);
                    return Ok(false);
                }
                Wish::Read => {}
            }
            if mem::take(&mut lane.expects) && matches!(self.at, At::Asked(_)) {
                self.out.text().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                if let Poll::Ready(Err(why)) = self.poll_out(cx) {
                    return Err(self.broke(&why));
                }
            }
            match self.poll_piece(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(own) if own => return Ok(true),
                Poll::Ready(_) => {}
            }
        }
        Ok(false)
    }

    /// The next piece of the body. `true`: as [`Self::pump`] has it.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let Some(lane) = &mut self.lane else { return Poll::Ready(false) };
            let end = match lane.decoder.next(&mut self.bytes) {
                Ok(Some(piece)) => return Poll::Ready(self.bring(piece, cx)),
                Ok(None) if lane.decoder.is_ended() => Ok(()),
                Ok(None) => match ready!(self.poll_read(cx)) {
                    Ok(0) | Err(_) => Err(Lost),
                    Ok(_) => continue,
                },
                Err(why) => {
                    debug!(client = %self.client.address, %why, "a body that is none");
                    self.unread = true;
                    Err(Lost)
                }
            };
            if end.is_err() {
                (self.turn.stays, self.deaf) = (false, true);
            }
            let Some(mut lane) = self.lane.take() else { return Poll::Ready(false) };
            self.shrink();
            return Poll::Ready(lane.end(end, cx));
        }
    }

    fn bring(&mut self, piece: Frame<Bytes>, cx: &mut Context<'_>) -> bool {
        let Some(lane) = &mut self.lane else { return false };
        let own = lane.bring(piece, cx);
        if lane.decoder.is_ended() {
            self.lane = None;
            self.shrink();
        }
        own
    }

    /// Nobody wants what is left of the body. If it is here already, the connection can be used again.
    #[cold]
    fn leave_the_rest(&mut self, cx: &mut Context<'_>) {
        let Some(mut lane) = self.lane.take() else { return };
        let mut read_once = lane.expects;
        let whole = loop {
            match lane.decoder.next(&mut self.bytes) {
                Ok(Some(_)) => {}
                Ok(None) if lane.decoder.is_ended() => break true,
                Ok(None) if read_once => break false,
                Ok(None) => {
                    read_once = true;
                    if !matches!(self.poll_read(cx), Poll::Ready(Ok(1..))) {
                        break false;
                    }
                }
                Err(_) => break false,
            }
        };
        if whole {
            self.client.body_read();
            self.client.body_ended();
        } else {
            (self.turn.stays, self.unread, self.deaf) = (false, true, true);
        }
    }
}
