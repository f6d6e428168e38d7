//! HTTP/1.1 as bytes (RFC 9112): request heads and bodies out of them, framed bodies into them. Spoken to upstreams by
//! `upstream/src/h1.rs`, with clients by `proxy/src/http1.rs`. Knows no connection. Strict where two readers could disagree.

mod decode;
mod encode;
mod length;
mod request;

use std::fmt;

pub use decode::{Chunked, Decoder};
pub use encode::{Encoder, Outbox, Short, Unsent, announced, content_length, field, is_allowed_in_trailers, poll_send};
pub use length::{is_whole_since, length};
pub use request::fuzz::request as fuzz_request;
pub use request::{Bad, Head, Heads, head};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What came is not HTTP/1.1 as we accept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not HTTP/1.1 as it is accepted: {}", self.0)
    }
}

impl std::error::Error for Malformed {}
