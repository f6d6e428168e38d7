//! What the fuzzer calls, and the tests.

use bytes::BytesMut;
use http::HeaderMap;

use super::{Bad, Head, Heads, head};

/// A request and how it is cut: the same is read of it (docs/fuzzing.md).
#[doc(hidden)]
pub fn request(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    match (told(bytes, usize::MAX), told(bytes, usize::from(*step) + 1)) {
        (Told::Bad(_), Told::Bad(_)) => {} // What is wrong first depends on when it is looked at.
        (whole, cut) => assert_eq!(whole, cut, "other cuts, another request"),
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Waits,
    Bad(Bad),
    Whole(Box<Whole>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) line: String,
    headers: HeaderMap,
    pub(super) flags: [bool; 4],
    framing: String,
    pub(super) body: Body,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Body {
    pub(super) data: Vec<u8>,
    trailers: Option<HeaderMap>,
    ends: Option<bool>,
    /// Left for the next head.
    pub(super) left: Vec<u8>,
}

/// What a client that sends these bytes, so many at a time, and nothing else has asked for.
pub(super) fn told(bytes: &[u8], step: usize) -> Told {
    let most = Heads { bytes: 4 << 10, fields: 16 };
    let (mut pieces, mut here, mut looked) = (bytes.chunks(step.max(1)), BytesMut::new(), 0);
    let whole = loop {
        match head(&mut here, &mut looked, most) {
            Ok(Some(head)) => break head,
            Ok(None) => match pieces.next() {
                Some(piece) => here.extend_from_slice(piece),
                // It was not looked at with each of its bytes.
                None => return head(&mut here, &mut 0, most).map_or_else(Told::Bad, |_| Told::Waits),
            },
            Err(bad) => return Told::Bad(bad),
        }
    };
    let Head { parts, body: framing, stays, expects, upgrades, takes_trailers } = whole;
    let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
    let (said, mut body) = (format!("{framing:?}"), Body::default());
    if let Some(mut decoder) = framing {
        body.ends = loop {
            match decoder.next(&mut here) {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => body.data.extend_from_slice(&data),
                    Err(frame) => body.trailers = frame.into_trailers().ok(),
                },
                Ok(None) if decoder.is_ended() => break Some(true),
                Ok(None) => match pieces.next() {
                    Some(piece) => here.extend_from_slice(piece),
                    None => break None,
                },
                Err(_) => break Some(false),
            }
        };
    }
    if body.ends != Some(false) {
        body.left = here.to_vec();
        pieces.for_each(|piece| body.left.extend_from_slice(piece));
    }
    let flags = [stays, expects, upgrades, takes_trailers];
    Told::Whole(Box::new(Whole { line, headers: parts.headers, flags, framing: said, body }))
}
