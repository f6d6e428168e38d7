//! How providers cut a stream into pieces: server-sent events, AWS event-stream frames, elements of a JSON array.
//!
//! Push-decoders: bytes in as they come, whole frames out. Where the bytes were cut makes no difference.

pub mod array;
pub mod aws;
pub mod crc32;
pub mod sse;

/// One piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: FrameKind,
    /// SSE's `event`, or `:event-type` and `:exception-type` of AWS; empty if not given.
    pub name: &'a str,
    pub data: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Data,
    /// An AWS message of type `exception` or `error`.
    Exception,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    TooLarge,
    BadLength,
    BadChecksum,
    BadHeaders,
    NotAnArray,
}

impl Broken {
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "a piece of the stream is larger than allowed",
            Self::BadLength => "a frame of the event stream has an impossible length",
            Self::BadChecksum => "a frame of the event stream has a wrong checksum",
            Self::BadHeaders => "a frame of the event stream has unreadable headers",
            Self::NotAnArray => "the stream is not a JSON array",
        }
    }
}

/// Any of the three.
#[derive(Debug)]
pub enum Framing {
    Sse(sse::Decoder),
    Aws(aws::Decoder),
    Array(array::Decoder),
    /// Gemini sends an array unless asked for SSE: the first byte tells.
    Either {
        max: usize,
    },
}

impl Framing {
    pub fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(Frame<'_>)) -> Result<(), Broken> {
        let bytes = match self {
            // A byte-order mark may come in pieces.
            Self::Either { .. } => {
                let says = |byte: &u8| !byte.is_ascii_whitespace() && !sse::BOM.contains(byte);
                bytes.iter().position(says).map_or(&[][..], |at| &bytes[at..])
            }
            _ => bytes,
        };
        if let (Self::Either { max }, Some(first)) = (&*self, bytes.first()) {
            *self = match first {
                b'[' | b'{' => Self::Array(array::Decoder::new(*max)),
                _ => Self::Sse(sse::Decoder::new(*max)),
            };
        }
        match self {
            Self::Sse(decoder) => decoder.push(bytes, take),
            Self::Aws(decoder) => decoder.push(bytes, take),
            Self::Array(decoder) => decoder.push(bytes, take),
            Self::Either { .. } => Ok(()),
        }
    }

    /// Bytes at the end of what was pushed that are no whole piece.
    pub fn open(&self) -> usize {
        match self {
            Self::Sse(decoder) => decoder.open(),
            Self::Aws(decoder) => decoder.open(),
            Self::Array(decoder) => decoder.open(),
            Self::Either { .. } => 0,
        }
    }

    /// The stream ended. `false`: in the middle of a piece.
    pub fn finish(&mut self, take: &mut dyn FnMut(Frame<'_>)) -> bool {
        match self {
            Self::Sse(decoder) => {
                decoder.finish(take);
                true
            }
            Self::Aws(decoder) => decoder.is_between_frames(),
            Self::Array(decoder) => decoder.is_between_elements(),
            Self::Either { .. } => true,
        }
    }
}
