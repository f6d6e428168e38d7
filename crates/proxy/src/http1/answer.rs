//! An answer's head as it goes to an HTTP/1.x client (RFC 9112 §§ 4, 6, 9): what the connection adds to what was answered.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, LINK, TRAILER, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use hyper::ext::ReasonPhrase;
use tidegate_http1::{Encoder, announced, content_length, field, length};
use tidegate_upstream::interim::Interim;

use crate::headers::has_token;

/// What is known of the request when its answer goes out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    /// HTTP/1.0.
    pub(super) old: bool,
    pub(super) head_alone: bool,
    pub(super) takes_trailers: bool,
    /// Another request may follow.
    pub(super) stays: bool,
}

/// How long an answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Empty,
    Exact(u64),
    Unknown,
}

/// Writes the head, and says how the body goes. `turn.stays` is told whether another request may follow.
pub(super) fn head(text: &mut Vec<u8>, answer: &Parts, extent: Extent, turn: &mut Turn) -> Encoder {
    text.reserve(64 + answer.headers.len() * 40);
    status(text, answer, turn.old);
    let bodiless = is_bodiless(answer.status);
    let (mut told, mut dated, mut trails) = (None, false, false);
    for (name, value) in &answer.headers {
        match *name {
            CONTENT_LENGTH => {
                told = told.or_else(|| length(value.as_bytes()));
                continue;
            }
            TRANSFER_ENCODING => continue,
            CONNECTION => {
                turn.stays &= !has_token(value, "close");
                // The two words that end or keep it are said below, once.
                if has_token(value, "close") || has_token(value, "keep-alive") {
                    continue;
                }
            }
            DATE => dated = true,
            TRAILER if turn.old || turn.head_alone || bodiless => continue,
            TRAILER => trails = true,
            _ => {}
        }
        field(text, name, value.as_bytes());
    }
    let encoder = match extent {
        _ if bodiless => Encoder::Done,
        _ if turn.head_alone => {
            let would_be = match extent {
                Extent::Exact(exact) => told.or(Some(exact)),
                Extent::Empty | Extent::Unknown => told,
            };
            if let Some(length) = would_be {
                content_length(text, length);
            }
            Encoder::Done
        }
        // RFC 9110 § 15.3.6: there is nothing in it, whatever an upstream sends.
        _ if answer.status == StatusCode::RESET_CONTENT => {
            content_length(text, 0);
            Encoder::Done
        }
        Extent::Empty | Extent::Exact(0) => {
            content_length(text, 0);
            Encoder::Done
        }
        Extent::Exact(length) => {
            content_length(text, length);
            Encoder::Length(length)
        }
        Extent::Unknown => match told {
            Some(length) => {
                content_length(text, length);
                if length == 0 { Encoder::Done } else { Encoder::Length(length) }
            }
            None if turn.old => {
                turn.stays = false;
                Encoder::Close
            }
            None => {
                text.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Encoder::Chunked(trailers(&answer.headers, trails && turn.takes_trailers))
            }
        },
    };
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        match (turn.old, turn.stays) {
            (true, true) => text.extend_from_slice(b"connection: keep-alive\r\n"),
            (_, false) => text.extend_from_slice(b"connection: close\r\n"),
            (false, true) => {}
        }
    }
    if !dated {
        date(text);
    }
    text.extend_from_slice(b"\r\n");
    encoder
}

/// A head before the answer's (RFC 9110 § 15.2).
pub(super) fn interim(text: &mut Vec<u8>, Interim { status, links }: &Interim) {
    let reason = status.canonical_reason().unwrap_or_default();
    text.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    for link in links {
        field(text, &LINK, link.as_bytes());
    }
    text.extend_from_slice(b"\r\n");
}

fn trailers(headers: &HeaderMap, any: bool) -> Vec<http::HeaderName> {
    if any { announced(headers) } else { Vec::new() }
}

fn status(text: &mut Vec<u8>, answer: &Parts, old: bool) {
    let reason = answer.extensions.get::<ReasonPhrase>();
    if answer.status == StatusCode::OK && !old && reason.is_none() {
        return text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    text.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    text.extend_from_slice(answer.status.as_str().as_bytes());
    text.push(b' ');
    let usual = || answer.status.canonical_reason().unwrap_or_default().as_bytes();
    text.extend_from_slice(reason.map_or_else(usual, ReasonPhrase::as_bytes));
    text.extend_from_slice(b"\r\n");
}

/// RFC 9112 § 6.3: whatever the fields say.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

thread_local! {
    /// The second, and how it is written.
    static NOW: RefCell<(u64, Vec<u8>)> = const { RefCell::new((0, Vec::new())) };
}

/// The line that says when (RFC 9110 § 6.6.1).
pub(super) fn date(text: &mut Vec<u8>) {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    NOW.with_borrow_mut(|(known, line)| {
        if *known != second || line.is_empty() {
            let time = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            *line = format!("date: {time}\r\n").into_bytes();
            *known = second;
        }
        text.extend_from_slice(line);
    });
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn told(answer: http::response::Builder, extent: Extent, mut turn: Turn) -> (String, String, bool) {
        let (parts, ()) = answer.header("date", "now").body(()).unwrap().into_parts();
        let mut text = Vec::new();
        let encoder = head(&mut text, &parts, extent, &mut turn);
        (String::from_utf8(text).unwrap(), format!("{encoder:?}"), turn.stays)
    }

    #[test]
    fn the_head_says_where_the_body_ends_and_whether_more_may_follow() {
        let lasting = Turn { stays: true, ..Turn::default() };
        let old = Turn { old: true, ..lasting };
        let asked = Turn { head_alone: true, ..lasting };
        let sized = || Response::builder().header("content-length", "5");
        let plain = Response::builder;
        for (answer, extent, turn, want, encoder, stays) in [
            (
                plain(),
                Extent::Empty,
                lasting,
                "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 0\r\n\r\n",
                "Done",
                true,
            ),
            (
                sized(),
                Extent::Exact(5),
                lasting,
                "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 5\r\n\r\n",
                "Length(5)",
                true,
            ),
            (
                sized(),
                Extent::Unknown,
                lasting,
                "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 5\r\n\r\n",
                "Length(5)",
                true,
            ),
            (
                plain(),
                Extent::Unknown,
                lasting,
                "HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n",
                "Chunked([])",
                true,
            ),
            (
                plain(),
                Extent::Unknown,
                old,
                "HTTP/1.0 200 OK\r\ndate: now\r\nconnection: close\r\n\r\n",
                "Close",
                false,
            ),
            (
                plain(),
                Extent::Exact(3),
                old,
                "HTTP/1.0 200 OK\r\ndate: now\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\n",
                "Length(3)",
                true,
            ),
            (sized(), Extent::Empty, asked, "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 5\r\n\r\n", "Done", true),
            (plain(), Extent::Empty, asked, "HTTP/1.1 200 OK\r\ndate: now\r\n\r\n", "Done", true),
            (
                sized().status(304),
                Extent::Empty,
                lasting,
                "HTTP/1.1 304 Not Modified\r\ndate: now\r\n\r\n",
                "Done",
                true,
            ),
            (sized().status(204), Extent::Empty, lasting, "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n", "Done", true),
            (
                plain().header("connection", "close").header("transfer-encoding", "x"),
                Extent::Empty,
                lasting,
                "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                "Done",
                false,
            ),
            (
                plain().status(101).header("connection", "upgrade").header("upgrade", "x"),
                Extent::Empty,
                lasting,
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\ndate: now\r\n\r\n",
                "Done",
                true,
            ),
        ] {
            assert_eq!(told(answer, extent, turn), (want.into(), encoder.into(), stays), "{want:?}");
        }
    }

    #[test]
    fn trailers_go_to_who_takes_them_and_were_announced() {
        let turn = Turn { stays: true, takes_trailers: true, ..Turn::default() };
        let answer = || Response::builder().header("trailer", "x-sum, grpc-status");
        assert_eq!(told(answer(), Extent::Unknown, turn).1, r#"Chunked(["x-sum", "grpc-status"])"#);
        assert_eq!(told(answer(), Extent::Unknown, Turn { takes_trailers: false, ..turn }).1, "Chunked([])");
        let (text, ..) = told(answer(), Extent::Unknown, Turn { old: true, ..turn });
        assert!(!text.contains("trailer"), "{text}");
    }
}
