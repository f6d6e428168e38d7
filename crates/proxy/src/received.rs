//! A request's body as its connection gives it, whichever protocol that speaks.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http1::Upload;

#[cfg(feature = "h3")]
use crate::http3::Upload as QuicUpload;

pub(crate) enum Received {
    /// There is none.
    Nothing,
    /// HTTP/1.1: it came with its head, as most do that are short.
    Whole(Bytes),
    /// HTTP/1.1.
    Upload(Upload),
    /// h2.
    Hyper(Incoming),
    #[cfg(feature = "h3")]
    Quic(Box<QuicUpload>),
}

/// It is moved with every request.
const _: () = assert!(size_of::<Received>() == size_of::<Incoming>());

/// It did not come to its end. Whoever reads it asks no further: it is the client's fault.
#[derive(Debug)]
pub(crate) struct Lost;

impl Received {
    /// Some of it may yet have to be read from its connection.
    pub(crate) fn is_to_come(&self) -> bool {
        !matches!(self, Self::Whole(_)) && !self.is_end_stream()
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Whole(body) if body.is_empty() => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Self::Upload(upload) => Pin::new(upload).poll_frame(cx),
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(|_| Lost),
            #[cfg(feature = "h3")]
            Self::Quic(upload) => Pin::new(&mut **upload).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Whole(body) => body.is_empty(),
            Self::Upload(upload) => upload.is_end_stream(),
            Self::Hyper(body) => body.is_end_stream(),
            #[cfg(feature = "h3")]
            Self::Quic(upload) => upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Self::Upload(upload) => upload.size_hint(),
            Self::Hyper(body) => body.size_hint(),
            #[cfg(feature = "h3")]
            Self::Quic(upload) => upload.size_hint(),
        }
    }
}
