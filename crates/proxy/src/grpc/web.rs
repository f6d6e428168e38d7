//! gRPC-Web: what browsers can say over `fetch`. Its calls become gRPC on their way to the upstream; trailers, which a browser
//! cannot read, go back as a last message. In the text form both ways are base64. Source: grpc/doc/PROTOCOL-WEB.md.

use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use tidegate_policy::Route;
use tidegate_upstream as upstream;

use super::Speech;
use crate::headers::Seen;
use crate::inbound::Inbound;
use crate::trailers;

/// The flag of a message that holds trailers.
const TRAILERS: u8 = 0x80;

/// How a browser calls, if one does and may.
pub(crate) fn of(seen: Seen, route: &Route) -> Option<Speech> {
    seen.grpc.filter(|speech| *speech != Speech::Plain && route.grpc_web)
}

/// Towards an upstream it is gRPC from here on.
pub(crate) fn outward(headers: &mut HeaderMap, body: &mut Inbound, speech: Speech) {
    renamed(headers, speech, Speech::Plain);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if speech == Speech::WebText {
        headers.remove(CONTENT_LENGTH);
        body.in_text();
    }
}

/// True: the answer speaks gRPC, and is told as gRPC-Web from here on.
pub(crate) fn back(headers: &mut HeaderMap, speech: Speech) -> bool {
    if Speech::of(headers) != Some(Speech::Plain) {
        return false;
    }
    renamed(headers, Speech::Plain, speech);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    true
}

/// What follows the name (`+proto`) stays.
fn renamed(headers: &mut HeaderMap, from: Speech, to: Speech) {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()?.strip_prefix(from.prefix()));
    let kind = format!("{}{}", to.prefix(), kind.unwrap_or_default());
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(kind).unwrap_or(HeaderValue::from_static(to.prefix())));
}

/// An answer on its way to a browser.
#[derive(Debug)]
pub(crate) struct Back {
    body: upstream::Body,
    text: bool,
    ended: bool,
}

impl Back {
    pub(crate) fn new(body: upstream::Body, speech: Speech) -> Self {
        Self { body, text: speech == Speech::WebText, ended: false }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, upstream::Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map_ok(|frame| match trailers::sifted(frame).into_data() {
            Ok(data) => self.told(data),
            Err(frame) => {
                self.ended = true;
                self.told(message(&frame.into_trailers().unwrap_or_default()))
            }
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn told(&self, data: Bytes) -> Frame<Bytes> {
        Frame::data(if self.text { STANDARD.encode(&data).into() } else { data })
    }
}

/// Trailers as a message: its flag, its length in four bytes, and lines as HTTP/1.1 writes them.
fn message(trailers: &HeaderMap) -> Bytes {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    let mut message = BytesMut::with_capacity(lines.len() + 5);
    message.put_u8(TRAILERS);
    message.put_u32(u32::try_from(lines.len()).expect("heads and trailers are bounded far below"));
    message.extend_from_slice(&lines);
    message.freeze()
}

/// base64 as it comes, in pieces of any length. Each message may end in padding of its own.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Less than a group of four.
    waiting: Vec<u8>,
}

impl Text {
    /// `None`: this is no base64.
    pub(crate) fn read(&mut self, data: &[u8]) -> Option<Bytes> {
        self.waiting.extend_from_slice(data);
        let whole = self.waiting.len() / 4 * 4;
        let mut read = Vec::with_capacity(whole / 4 * 3);
        let mut rest = &self.waiting[..whole];
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'=').map_or(rest.len(), |at| (at / 4 + 1) * 4);
            let (one, after) = rest.split_at(end);
            STANDARD.decode_vec(one, &mut read).ok()?;
            rest = after;
        }
        self.waiting.drain(..whole);
        Some(read.into())
    }

    /// Nothing of a group is left.
    pub(crate) fn is_whole(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// base64 in pieces (docs/fuzzing.md): other cuts, the same bytes.
pub fn fuzz(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let read = |step: usize| {
        let (mut text, mut out) = (Text::default(), Vec::new());
        let well =
            bytes.chunks(step).all(|piece| text.read(piece).inspect(|read| out.extend_from_slice(read)).is_some());
        well.then_some((out, text.is_whole()))
    };
    assert_eq!(read(usize::MAX), read(usize::from(*first) + 1), "other cuts, other bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_any_pieces_with_padding_between_messages() {
        let sent = format!("{}{}{}", STANDARD.encode("a"), STANDARD.encode("four"), STANDARD.encode("abc"));
        for size in 1..=sent.len() {
            let mut text = Text::default();
            let read: Vec<u8> =
                sent.as_bytes().chunks(size).flat_map(|piece| text.read(piece).expect("base64")).collect();
            assert_eq!((read.as_slice(), text.is_whole()), (b"afourabc".as_slice(), true), "pieces of {size}");
        }
        assert_eq!(Text::default().read(b"a=b="), None);
        assert_eq!(Text::default().read(b"\xff\xff\xff\xff"), None);
    }

    #[test]
    fn trailers_are_a_message_with_lines() {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
        assert_eq!(message(&trailers), b"\x80\0\0\0\x10grpc-status: 0\r\n".as_slice());
    }
}
