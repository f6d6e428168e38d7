//! What a body was compressed with on its way, undone as it comes: whatever can be said after some bytes is said at once, in
//! pieces of a bounded length, and what grows beyond all measure is given up.
//!
//! Called by the proxy for requests that are to be read, for providers' answers that came compressed although nobody asked for it,
//! and for those that pass by and are only listened to.

use std::fmt;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::Coding;

/// Bytes that are given at once.
const PIECE: usize = 16 << 10;
/// So much may come of however little.
const FREE: u64 = 4 << 20;
/// Beyond that, bytes that may come of one. Text as models write it comes to ten, events of one word each to thirty.
const RATIO: u64 = 50;
/// RFC 9659: eight megabytes are the most that a decoder of content has to hold.
const ZSTD_WINDOW: u32 = 23;

/// Why there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// It is not what it is said to be.
    Invalid,
    TooLong,
}

impl Spoiled {
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "it is not compressed as it says",
            Self::TooLong => "it grows too long when it is decompressed",
        }
    }
}

impl fmt::Display for Spoiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Spoiled {}

/// One body on its way.
pub struct Decoding {
    coder: Coder,
    taken: u64,
    given: u64,
    /// The last piece was full: more may wait.
    full: bool,
}

impl fmt::Debug for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoding").field("taken", &self.taken).field("given", &self.given).finish_non_exhaustive()
    }
}

enum Coder {
    /// With zlib's frame, as it is written, or without, as some write it: the first byte tells.
    Deflate,
    Inflate {
        state: Decompress,
        gzip: bool,
        over: bool,
    },
    Brotli {
        state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
        over: bool,
    },
    Zstd {
        state: DCtx<'static>,
        over: bool,
    },
    /// What it said cannot be read.
    Spoiled(Spoiled),
}

impl Decoding {
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        let coder = match coding {
            Coding::Gzip => Coder::inflate(true, true),
            Coding::Deflate => Coder::Deflate,
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                // Strict: without windows of a gigabyte, which a few bytes could ask for.
                Coder::Brotli { state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())), over: false }
            }
            Coding::Zstd => {
                let narrow = DCtx::try_create().and_then(|mut state| {
                    state.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW)).ok().map(|_| state)
                });
                narrow.map_or(Coder::Spoiled(Spoiled::TooLong), |state| Coder::Zstd { state, over: false })
            }
        };
        Self { coder, taken: 0, given: 0, full: false }
    }

    /// The next piece of what `input` becomes; what was taken of it is cut off. `None`: all was taken, and nothing waits.
    ///
    /// # Errors
    /// It cannot be read, or becomes too long; and so whatever comes after.
    pub fn piece(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, Spoiled> {
        if input.is_empty() && !self.full {
            return Ok(None);
        }
        let mut out = vec![0; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            let (read, written) = self.coder.step(input, &mut out[filled..]).inspect_err(|why| {
                self.coder = Coder::Spoiled(*why);
            })?;
            *input = &input[read..];
            filled += written;
            self.taken += read as u64;
            self.given += written as u64;
            if self.given > FREE.saturating_add(self.taken.saturating_mul(RATIO)) {
                self.coder = Coder::Spoiled(Spoiled::TooLong);
                return Err(Spoiled::TooLong);
            }
            if read == 0 && written == 0 {
                break;
            }
        }
        self.full = filled == PIECE;
        out.truncate(filled);
        out.shrink_to_fit(); // It may wait for long.
        Ok((filled > 0).then_some(out))
    }

    /// Did what was taken come to its end? Nothing at all has.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let over = match &self.coder {
            Coder::Inflate { over, .. } | Coder::Brotli { over, .. } | Coder::Zstd { over, .. } => *over,
            Coder::Deflate | Coder::Spoiled(_) => false,
        };
        over || self.taken == 0
    }
}

impl Coder {
    fn inflate(gzip: bool, framed: bool) -> Self {
        let state = if gzip { Decompress::new_gzip(15) } else { Decompress::new(framed) };
        Self::Inflate { state, gzip, over: false }
    }

    /// How many bytes were read, and written. None and none: it needs more.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Spoiled> {
        if let (Self::Deflate, Some(first)) = (&*self, input.first()) {
            *self = Self::inflate(false, first & 0x0f == 8);
        }
        match self {
            Self::Spoiled(why) => Err(*why),
            Self::Deflate => Ok((0, 0)),
            // Several may follow each other, as files do; what else comes behind is nothing.
            Self::Inflate { state, gzip: true, over } if *over && input.first() == Some(&0x1f) => {
                (*state, *over) = (Decompress::new_gzip(15), false);
                Self::inflated(state, over, input, out)
            }
            Self::Inflate { gzip, over: true, .. } => {
                *gzip &= input.is_empty(); // Nor is what comes behind that.
                Ok((input.len(), 0))
            }
            Self::Brotli { over: true, .. } => Ok((input.len(), 0)),
            Self::Inflate { state, over, .. } => Self::inflated(state, over, input, out),
            Self::Brotli { state, over } => {
                let (mut left, mut read, mut room, mut written, mut total) = (input.len(), 0, out.len(), 0, 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut read,
                    input,
                    &mut room,
                    &mut written,
                    out,
                    &mut total,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => return Err(Spoiled::Invalid),
                    BrotliResult::ResultSuccess => *over = true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok((read, written))
            }
            Self::Zstd { state, over } => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
                let left = state.decompress_stream(&mut to, &mut from).map_err(|_| Spoiled::Invalid)?;
                // Without anything to read it says what a next frame would need.
                if from.pos() > 0 || to.pos() > 0 {
                    *over = left == 0;
                }
                Ok((from.pos(), to.pos()))
            }
        }
    }

    fn inflated(
        state: &mut Decompress,
        over: &mut bool,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, usize), Spoiled> {
        let (read, written) = (state.total_in(), state.total_out());
        let status = state.decompress(input, out, FlushDecompress::None).map_err(|_| Spoiled::Invalid)?;
        *over = status == Status::StreamEnd;
        Ok(((state.total_in() - read) as usize, (state.total_out() - written) as usize))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn text() -> String {
        "data: {\"choices\":[{\"delta\":{\"content\":\"the quick brown fox jumps over the lazy dog\"}}]}\n\n".repeat(3)
    }

    /// [`text`], and eight megabytes of zeroes, as Node's zlib writes them.
    const BROTLI: &str = "GwoBYB0HuTn0mrQoinT6Ivi3Hem/JzjS6W4FWUH1W0Gnq0+FvYFDDthLIG87hWR5Dp/PrUSxcwIhM7dhmjaDhhty5jci38z2q4zZcvDY5T/VwTcoAg==";
    const BROTLI_BOMB: &str = "m///f/gnAOKxQCD3/g8=";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8], level: i32) -> Vec<u8> {
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(text.len()));
        zstd_safe::compress(&mut out, text, level).unwrap();
        out
    }

    /// In all ways that it may be written.
    fn coded(text: &[u8]) -> Vec<(Coding, Vec<u8>)> {
        let mut framed = ZlibEncoder::new(Vec::new(), Compression::fast());
        framed.write_all(text).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
        bare.write_all(text).unwrap();
        let (first, second) = text.split_at(text.len() / 2);
        vec![
            (Coding::Gzip, gzip(text)),
            (Coding::Gzip, [gzip(first), gzip(second), vec![0; 9]].concat()),
            (Coding::Deflate, framed.finish().unwrap()),
            (Coding::Deflate, bare.finish().unwrap()),
            (Coding::Brotli, BASE64_STANDARD.decode(BROTLI).unwrap()),
            (Coding::Zstd, zstd(text, 3)),
            (Coding::Zstd, [zstd(first, 1), zstd(second, 19)].concat()),
        ]
    }

    fn decoded(coding: Coding, bytes: &[u8], step: usize) -> Result<Vec<u8>, Spoiled> {
        let mut decoding = Decoding::new(coding);
        let mut out = Vec::new();
        for mut input in bytes.chunks(step) {
            while let Some(piece) = decoding.piece(&mut input)? {
                assert!(piece.len() <= PIECE);
                out.extend(piece);
            }
            assert!(input.is_empty(), "{coding:?}: something was left");
        }
        assert!(decoding.is_whole(), "{coding:?}: its end has come");
        Ok(out)
    }

    #[test]
    fn every_coding_is_read_however_it_is_cut() {
        for (coding, bytes) in coded(text().as_bytes()) {
            for step in [1, 2, 3, 7, 64, usize::MAX] {
                let read = decoded(coding, &bytes, step).map(|read| String::from_utf8(read).unwrap());
                assert_eq!(read, Ok(text()), "{coding:?} {step}");
            }
        }
        for (name, coding) in [("GZIP", Some(Coding::Gzip)), ("br", Some(Coding::Brotli)), ("compress", None)] {
            assert_eq!(Coding::named(name), coding);
        }
    }

    #[test]
    fn what_was_cut_off_is_not_whole() {
        for (coding, bytes) in coded(text().as_bytes()) {
            let mut decoding = Decoding::new(coding);
            assert!(decoding.is_whole(), "{coding:?}: nothing is nothing");
            let mut input = &bytes[..bytes.len() / 2 - 1];
            while decoding.piece(&mut input).expect("as far as it goes").is_some() {}
            assert!(!decoding.is_whole(), "{coding:?}");
        }
    }

    #[test]
    fn what_was_flushed_is_said_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut decoding = Decoding::new(Coding::Gzip);
        for event in text().split_inclusive("\n\n") {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let sent = std::mem::take(encoder.get_mut());
            let piece = decoding.piece(&mut &*sent).unwrap();
            assert_eq!(piece.as_deref(), Some(event.as_bytes()));
        }
        let event = b"data: 1\n\n";
        let mut context = zstd_safe::CCtx::create();
        let mut decoding = Decoding::new(Coding::Zstd);
        for _ in 0..3 {
            let mut sent = vec![0; 256];
            let mut to = OutBuffer::around(sent.as_mut_slice());
            let mut from = InBuffer::around(event);
            context.compress_stream(&mut to, &mut from).unwrap();
            assert_eq!(context.flush_stream(&mut to), Ok(0));
            let length = to.pos();
            assert_eq!(decoding.piece(&mut &sent[..length]).unwrap().as_deref(), Some(event.as_slice()));
        }
    }

    #[test]
    fn a_bomb_is_given_up_long_before_it_is_whole() {
        let zeroes = vec![0; 8 << 20];
        let bombs = [
            (Coding::Gzip, gzip(&zeroes)),
            (Coding::Zstd, zstd(&zeroes, 19)),
            (Coding::Brotli, BASE64_STANDARD.decode(BROTLI_BOMB).unwrap()),
        ];
        for (coding, bytes) in bombs {
            let mut decoding = Decoding::new(coding);
            let mut input = &bytes[..];
            let mut given = 0;
            let why = loop {
                match decoding.piece(&mut input) {
                    Ok(piece) => given += piece.expect("it ends with an error").len(),
                    Err(why) => break why,
                }
            };
            assert_eq!(why, Spoiled::TooLong, "{coding:?}");
            assert!(given as u64 <= FREE + RATIO * bytes.len() as u64, "{coding:?}: {given}");
            assert_eq!(decoding.piece(&mut &b"more"[..]), Err(Spoiled::TooLong));
        }
        // A window that nobody should have to hold.
        let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x01, 0x00, 0x00];
        assert_eq!(decoded(Coding::Zstd, &wide, usize::MAX), Err(Spoiled::Invalid));
    }

    #[test]
    fn what_is_something_else_is_no_answer() {
        let plain = br#"{"choices":[]}"#;
        for coding in [Coding::Gzip, Coding::Zstd, Coding::Brotli] {
            assert_eq!(decoded(coding, plain, 3), Err(Spoiled::Invalid), "{coding:?}");
        }
        let mut wrong = gzip(text().as_bytes());
        let at = wrong.len() - 6;
        wrong[at] ^= 1;
        assert_eq!(decoded(Coding::Gzip, &wrong, usize::MAX), Err(Spoiled::Invalid), "its checksum is not looked at");
    }
}
