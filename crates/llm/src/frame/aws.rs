//! `application/vnd.amazon.eventstream`: binary frames, each with two checksums. Both are checked.
//!
//! ```text
//!  total length │ headers length │ CRC of these 8 │ headers … │ payload … │ CRC of all before
//!      4 B      │       4 B      │       4 B      │           │           │        4 B
//! ```
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html>

use super::crc32::crc32;
use super::{Broken, Frame, FrameKind};

#[derive(Debug)]
pub struct Decoder {
    max: usize,
    buffer: Vec<u8>,
}

const PRELUDE: usize = 12;
const TAIL: usize = 4;

impl Decoder {
    pub fn new(max: usize) -> Self {
        Self { max, buffer: Vec::new() }
    }

    pub fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(Frame<'_>)) -> Result<(), Broken> {
        self.buffer.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(total) = length(&self.buffer[done..], self.max)? {
            let Some(frame) = self.buffer.get(done..done + total) else { break };
            read(frame, take)?;
            done += total;
        }
        self.buffer.drain(..done);
        Ok(())
    }

    /// Bytes of a frame that is not whole.
    pub fn open(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// The length of the frame that starts here, as soon as its prelude is there and sound.
fn length(bytes: &[u8], max: usize) -> Result<Option<usize>, Broken> {
    let Some(prelude) = bytes.get(..PRELUDE) else { return Ok(None) };
    if crc32(&prelude[..8]) != word(prelude, 8) {
        return Err(Broken::BadChecksum);
    }
    let (total, headers) = (word(prelude, 0) as usize, word(prelude, 4) as usize);
    if total > max {
        return Err(Broken::TooLarge);
    }
    if total < PRELUDE + TAIL || headers > total - PRELUDE - TAIL {
        return Err(Broken::BadLength);
    }
    Ok(Some(total))
}

fn read(frame: &[u8], take: &mut dyn FnMut(Frame<'_>)) -> Result<(), Broken> {
    let (body, _) = frame.split_at(frame.len() - TAIL);
    if crc32(body) != word(frame, body.len()) {
        return Err(Broken::BadChecksum);
    }
    let (headers, payload) = body[PRELUDE..].split_at(word(frame, 4) as usize);
    let headers = Headers::read(headers)?;
    let (kind, name) = match headers.message {
        "exception" => (FrameKind::Exception, headers.exception),
        "error" => (FrameKind::Exception, headers.code),
        _ => (FrameKind::Data, headers.event),
    };
    take(Frame { kind, name, data: payload });
    Ok(())
}

#[derive(Default)]
struct Headers<'a> {
    message: &'a str,
    event: &'a str,
    exception: &'a str,
    code: &'a str,
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Self, Broken> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let name = cut_counted(&mut bytes, 1)?;
            let value = match cut(&mut bytes, 1)?[0] {
                0 | 1 => &[][..],
                2 => cut(&mut bytes, 1)?,
                3 => cut(&mut bytes, 2)?,
                4 => cut(&mut bytes, 4)?,
                5 | 8 => cut(&mut bytes, 8)?,
                6 | 7 => cut_counted(&mut bytes, 2)?,
                9 => cut(&mut bytes, 16)?,
                _ => return Err(Broken::BadHeaders),
            };
            let slot = match name {
                b":message-type" => &mut headers.message,
                b":event-type" => &mut headers.event,
                b":exception-type" => &mut headers.exception,
                b":error-code" => &mut headers.code,
                _ => continue,
            };
            *slot = std::str::from_utf8(value).map_err(|_| Broken::BadHeaders)?;
        }
        Ok(headers)
    }
}

fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Broken> {
    let (front, rest) = bytes.split_at_checked(length).ok_or(Broken::BadHeaders)?;
    *bytes = rest;
    Ok(front)
}

/// A length of one or two bytes, then as many bytes.
fn cut_counted<'a>(bytes: &mut &'a [u8], width: usize) -> Result<&'a [u8], Broken> {
    let length = cut(bytes, width)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    cut(bytes, length)
}

/// Four bytes, big endian; the caller has checked that they are there.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// One frame with a JSON payload. Names are ours and short.
pub fn write(kind: FrameKind, name: &str, payload: &[u8], out: &mut Vec<u8>) {
    let mut headers = Vec::with_capacity(96);
    let (message, named) = match kind {
        FrameKind::Data => ("event", ":event-type"),
        FrameKind::Exception => ("exception", ":exception-type"),
    };
    for (key, value) in [(named, name), (":content-type", "application/json"), (":message-type", message)] {
        headers.push(key.len() as u8);
        headers.extend_from_slice(key.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let start = out.len();
    let total = PRELUDE + headers.len() + payload.len() + TAIL;
    out.extend_from_slice(&(total as u32).to_be_bytes());
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    let prelude = crc32(&out[start..]);
    out.extend_from_slice(&prelude.to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload);
    let whole = crc32(&out[start..]);
    out.extend_from_slice(&whole.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        write(FrameKind::Data, "messageStart", br#"{"role":"assistant"}"#, &mut out);
        write(FrameKind::Exception, "throttlingException", br#"{"message":"slow down"}"#, &mut out);
        out
    }

    fn read_all(bytes: &[u8], step: usize) -> Result<Vec<(FrameKind, String, Vec<u8>)>, Broken> {
        let mut decoder = Decoder::new(10_000);
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.push(piece, &mut |f| seen.push((f.kind, f.name.to_owned(), f.data.to_vec())))?;
        }
        Ok(seen)
    }

    #[test]
    fn line_6_frames_are_read_however_they_were_cut() {
        let stream = stream();
        let whole = read_all(&stream, stream.len()).unwrap();
        assert_eq!(whole[0].1, "messageStart");
        assert_eq!(whole[1].0, FrameKind::Exception);
        for step in 1..stream.len() {
            assert_eq!(read_all(&stream, step).unwrap(), whole);
        }
    }

    #[test]
    fn line_6_a_flipped_bit_anywhere_is_noticed() {
        let stream = stream();
        let first = u32::from_be_bytes(stream[..4].try_into().unwrap()) as usize;
        for bit in 0..first * 8 {
            let mut bad = stream.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read_all(&bad, bad.len()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_refused_before_it_is_buffered() {
        let mut bad = Vec::new();
        bad.extend_from_slice(&u32::MAX.to_be_bytes());
        bad.extend_from_slice(&0u32.to_be_bytes());
        bad.extend_from_slice(&crc32(&bad.clone()).to_be_bytes());
        assert_eq!(read_all(&bad, 12), Err(Broken::TooLarge));
    }
}
