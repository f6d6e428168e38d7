//! A provider's answer as it was before somebody compressed it: we ask for it as it is, and some compress it nevertheless.
//! What was flushed goes on at once, and what grows beyond all measure breaks off ([`tidegate_coding`]).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame};
use tidegate_coding::{Decoding, Spoiled};
use tidegate_llm::meaning::Error;
use tidegate_upstream as upstream;

use crate::unpack::coding;

/// The body of a provider's answer.
pub(super) struct Source {
    body: upstream::Body,
    coded: Option<Box<Coded>>,
}

struct Coded {
    decoding: Decoding,
    /// Of what came last.
    left: Bytes,
}

impl Source {
    /// # Errors
    /// It is coded as nobody here can read it.
    pub(super) fn new(headers: &HeaderMap, body: upstream::Body) -> Result<Self, Error> {
        let unread = |()| Error::bad_stream("the provider's answer has a Content-Encoding that is not read here");
        coding(headers).map_err(unread)?;
        Ok(Self::as_it_is(headers, body))
    }

    /// The same; what nobody here can read is taken as it is.
    pub(super) fn as_it_is(headers: &HeaderMap, body: upstream::Body) -> Self {
        let coding = coding(headers).ok().flatten();
        let coded = coding.map(|coding| Box::new(Coded { decoding: Decoding::new(coding), left: Bytes::new() }));
        Self { body, coded }
    }

    /// What is left of it, for who reads on; here it has ended.
    pub(super) fn take(&mut self) -> Self {
        Self { body: self.body.take(), coded: self.coded.take() }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.coded.is_none() && self.body.is_end_stream()
    }

    /// A piece of it. Whoever sent it is left alone when it cannot be read.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, upstream::Broken>>> {
        loop {
            if let Some(coded) = &mut self.coded {
                match coded.piece() {
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Ok(None) => {}
                    Err(why) => {
                        drop(self.take());
                        return Poll::Ready(Some(Err(upstream::Broken::Reset(Box::new(why)))));
                    }
                }
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(None) };
            match (frame.map(Frame::into_data), &mut self.coded) {
                (Err(why), _) => return Poll::Ready(Some(Err(why))),
                (Ok(Ok(data)), None) => return Poll::Ready(Some(Ok(data))),
                (Ok(Ok(data)), Some(coded)) => coded.left = data,
                (Ok(Err(_trailers)), _) => {}
            }
        }
    }
}

impl Coded {
    fn piece(&mut self) -> Result<Option<Bytes>, Spoiled> {
        let mut rest = &self.left[..];
        let piece = self.decoding.piece(&mut rest)?;
        let left = rest.len();
        self.left.advance(self.left.len() - left);
        Ok(piece.map(Bytes::from))
    }
}
