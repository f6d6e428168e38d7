//! A message's body out of the bytes of its connection (RFC 9112 §§ 6.3, 7.1). Pure: bytes in, frames out, the same however
//! they are cut.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use crate::Malformed;

/// Bytes of chunk extensions, which nobody reads, in one body.
const EXTENSIONS: u32 = 16 << 10;
/// Bytes and fields of a trailer section.
const TRAILERS: usize = 16 << 10;
const FIELDS: usize = 100;

/// How the end of a body is told, and how far it is.
#[derive(Debug)]
pub enum Decoder {
    /// So many bytes are to come.
    Length(u64),
    Chunked(Box<Chunked>),
    /// All that comes until the connection ends.
    Close,
}

#[derive(Debug)]
pub struct Chunked {
    at: At,
    /// Of the chunk.
    left: u64,
    /// Of its size.
    digits: u8,
    extensions: u32,
    trailers: Vec<u8>,
    /// Found behind data that is passed on first.
    broken: Option<Malformed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Size,
    /// Blanks behind it.
    SizeBlank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Where a trailer or the end of all begins.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    /// They are whole.
    Trailers,
    End,
}

impl Decoder {
    #[must_use]
    pub fn chunked() -> Self {
        let (trailers, broken) = (Vec::new(), None);
        Self::Chunked(Box::new(Chunked { at: At::Start, left: 0, digits: 0, extensions: 0, trailers, broken }))
    }

    /// The next frame in `bytes`. `None`: more of them is needed, or it has ended.
    ///
    /// # Errors
    /// They are no body of this framing.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        match self {
            Self::Length(left) => Ok(take(bytes, left)),
            Self::Chunked(chunked) => chunked.next(bytes),
            Self::Close => Ok(take(bytes, &mut { u64::MAX })),
        }
    }

    #[must_use]
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.at == At::End && chunked.broken.is_none(),
            Self::Close => false,
        }
    }

    /// The connection ended. `false`: in the middle of the body.
    pub fn close(&mut self) -> bool {
        if matches!(self, Self::Close) {
            *self = Self::Length(0);
        }
        self.is_ended()
    }

    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) if self.is_ended() => SizeHint::with_exact(0),
            Self::Chunked(_) | Self::Close => SizeHint::default(),
        }
    }

    /// So many bytes are certain to come.
    #[must_use]
    pub fn certain(&self) -> usize {
        match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Self::Chunked(chunked) if chunked.at == At::Data => usize::try_from(chunked.left).unwrap_or(usize::MAX),
            Self::Chunked(_) | Self::Close => 0,
        }
    }
}

fn take(bytes: &mut BytesMut, left: &mut u64) -> Option<Frame<Bytes>> {
    let some = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    if some == 0 {
        return None;
    }
    *left -= some as u64;
    Some(Frame::data(bytes.split_to(some).freeze()))
}

impl Chunked {
    fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.skim(bytes)?;
        match self.at {
            At::Data => {
                let data = take(bytes, &mut self.left);
                if self.left == 0 {
                    self.at = At::DataCr;
                    // Whether that was the last is known at once, if what says so has come.
                    self.broken = self.skim(bytes).err();
                }
                Ok(data)
            }
            At::Trailers => {
                self.at = At::End;
                let trailers = fields(&std::mem::take(&mut self.trailers));
                self.broken = trailers.as_ref().err().copied();
                trailers.map(|trailers| Some(Frame::trailers(trailers)))
            }
            _ => Ok(None),
        }
    }

    /// Steps over what is no data, as far as it has come.
    fn skim(&mut self, bytes: &mut BytesMut) -> Result<(), Malformed> {
        let mut read = 0;
        let mut found = Ok(());
        while !matches!(self.at, At::Data | At::Trailers | At::End) {
            let Some(byte) = bytes.get(read) else { break };
            read += 1;
            match self.step(*byte) {
                Ok(at) => self.at = at,
                Err(why) => {
                    self.broken = Some(why);
                    found = Err(why);
                    break;
                }
            }
        }
        bytes.advance(read);
        found
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        let digit = |byte: u8| (byte as char).to_digit(16);
        Ok(match (self.at, byte) {
            (At::Start, byte) => {
                self.left = digit(byte).ok_or(Malformed("a chunk without a size"))?.into();
                self.digits = 1;
                At::Size
            }
            (At::Size | At::SizeBlank | At::Extension, b'\r') => At::SizeLf,
            (At::Size | At::SizeBlank, b';') => At::Extension,
            (At::Size | At::SizeBlank, b' ' | b'\t') => {
                self.count_extension()?;
                At::SizeBlank
            }
            (At::SizeBlank, _) => return Err(Malformed("a chunk's size is no number")),
            (At::Size, byte) => {
                let digit = digit(byte).ok_or(Malformed("a chunk's size is no number"))?;
                self.digits += 1;
                // However many of them are zeros.
                if self.digits > 16 {
                    return Err(Malformed("a chunk's size beyond 64 bits"));
                }
                let more = self.left.checked_mul(16).ok_or(Malformed("a chunk's size beyond 64 bits"))?;
                self.left = more + u64::from(digit);
                At::Size
            }
            (At::Extension, b'\n') => return Err(Malformed("a chunk's line ends in a bare LF")),
            (At::Extension, _) => {
                self.count_extension()?;
                At::Extension
            }
            (At::SizeLf, b'\n') if self.left == 0 => At::Line,
            (At::SizeLf, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Start,
            (At::Line, b'\r') if self.trailers.is_empty() => At::EndLf,
            (At::Line, b'\r') => {
                self.keep(byte)?;
                At::EndLf
            }
            (At::Line | At::Trailer, b'\n') => return Err(Malformed("a trailer's line ends in a bare LF")),
            (At::Line | At::Trailer, byte) => {
                self.keep(byte)?;
                if byte == b'\r' { At::TrailerLf } else { At::Trailer }
            }
            (At::TrailerLf, b'\n') => {
                self.keep(byte)?;
                At::Line
            }
            (At::EndLf, b'\n') if self.trailers.is_empty() => At::End,
            (At::EndLf, b'\n') => {
                self.keep(byte)?;
                At::Trailers
            }
            _ => return Err(Malformed("a chunk does not end where it says")),
        })
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS { Err(Malformed("chunk extensions beyond 16 KiB")) } else { Ok(()) }
    }

    fn keep(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.trailers.len() >= TRAILERS {
            return Err(Malformed("trailers beyond 16 KiB"));
        }
        self.trailers.push(byte);
        Ok(())
    }
}

fn fields(block: &[u8]) -> Result<HeaderMap, Malformed> {
    const BAD: Malformed = Malformed("trailers that are no fields");
    let mut parsed = [httparse::EMPTY_HEADER; FIELDS];
    let Ok(httparse::Status::Complete((read, parsed))) = httparse::parse_headers(block, &mut parsed) else {
        return Err(BAD);
    };
    if read < block.len() {
        return Err(BAD);
    }
    let mut fields = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| BAD)?;
        fields.append(name, value);
    }
    Ok(fields)
}
