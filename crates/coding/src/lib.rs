//! Content codings (RFC 9110 § 8.4.1): bodies compressed and decompressed as they come, and which coding a client would have.
//!
//! Pure: bytes in, bytes out, in bounded pieces and within bounded memory. Refuses to know whose bytes they are and what they mean. The
//! proxy calls it: for answers that are to be compressed, for requests that are to be read, and for providers' answers.

mod accept;
mod decoding;
mod encoding;

pub use accept::preferred;
pub use decoding::{Decoding, Spoiled};
pub use encoding::{Encoding, Failed};

/// As `Content-Encoding` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Deflate, Self::Brotli, Self::Zstd];

    /// `None`: nobody here can read that.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}
