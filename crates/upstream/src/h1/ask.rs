//! A request's head as it goes out (RFC 9112 §§ 3, 6), and how its body is framed.

use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING};
use http::request::Parts;
use http_body::Body;
use tidegate_http1::{Encoder, Outbox, announced, content_length, field, length};

use crate::endpoint::Address;
use crate::head::endpoints_name;
use crate::outgoing::Outgoing;

/// Writes the head. The authority goes into `Host`, path and query into the request line.
pub(super) fn head(out: &mut Outbox, head: &Parts, body: &Outgoing, to: &Address) -> Encoder {
    let text = out.text();
    text.reserve(64 + head.headers.len() * 40);
    text.extend_from_slice(head.method.as_str().as_bytes());
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    text.extend_from_slice(if target.starts_with(['/', '*']) { b" " } else { b" /" });
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut named, mut chunked, mut trailers) = (false, false, false);
    let (mut sized, mut told) = (false, None);
    let (mut te, mut connection) = (false, None);
    for (name, value) in &head.headers {
        match *name {
            CONTENT_LENGTH => {
                let again = length(value.as_bytes());
                told = if sized && again != told { None } else { again };
                sized = true;
                continue;
            }
            TRANSFER_ENCODING => {
                chunked = true;
                continue;
            }
            HOST => named = true,
            TE => te = true,
            CONNECTION => {
                connection = Some(value.as_bytes());
                continue;
            }
            TRAILER => trailers = true,
            _ => {}
        }
        field(text, name, value.as_bytes());
    }
    match (connection, te) {
        (None, false) => {}
        (Some(said), false) => field(text, &CONNECTION, said),
        // TE concerns this connection, and has to say so (RFC 9110 § 10.1.4).
        (None, true) => text.extend_from_slice(b"connection: te\r\n"),
        (Some(said), true) => field(text, &CONNECTION, &[said, b", te"].concat()),
    }
    if !named {
        name_somebody(text, head, to);
    }
    let encoder = match body {
        // A length without a body would take the next request for one: it ends the exchange before a byte is out.
        Outgoing::Empty => match told {
            None => Framing::None,
            Some(0) => Framing::Told(0),
            Some(length) => Framing::Length(length),
        },
        _ if chunked => Framing::Chunked,
        _ => told.or_else(|| body.size_hint().exact()).map_or(Framing::Chunked, Framing::Length),
    };
    let encoder = match encoder {
        Framing::None => Encoder::Done,
        Framing::Told(length) => {
            content_length(text, length);
            Encoder::Done
        }
        Framing::Length(length) => {
            content_length(text, length);
            if length == 0 { Encoder::Done } else { Encoder::Length(length) }
        }
        Framing::Chunked => {
            text.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Encoder::Chunked(if trailers { announced(&head.headers) } else { Vec::new() })
        }
    };
    text.extend_from_slice(b"\r\n");
    encoder
}

enum Framing {
    None,
    /// Though there is no body.
    Told(u64),
    Length(u64),
    Chunked,
}

#[cold]
fn name_somebody(text: &mut Vec<u8>, head: &Parts, to: &Address) {
    let host = head.uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    if let Some(host) = host.or_else(|| endpoints_name(to)) {
        field(text, &HOST, host.as_bytes());
    }
}
