//! A body compressed as it comes: what was given can be had at once, at any time ([`Encoding::flush`]).
//!
//! Levels are those at which text is compressed as fast as a network takes it, and windows are small: an answer holds as much memory as
//! its coder needs for as long as it takes. So the coders that are in use at once have a bound, together; who finds no place is told,
//! and sends his answer as it is.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use crate::Coding;

/// Bytes that all coders may hold at once, about.
const ROOM: usize = 256 << 20;

const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: i32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// As powers of two: 256 KiB.
const WINDOW: u32 = 18;
const LEAST_WINDOW: u32 = 10;
/// Bytes that zstd and brotli gather before they hand them on.
const BUFFER: usize = 16 << 10;

/// It cannot go on: what came of it so far is no whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer could not be compressed")
    }
}

impl std::error::Error for Failed {}

/// One body on its way.
pub struct Encoding {
    coder: Coder,
    _place: Place,
}

enum Coder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(CCtx<'static>),
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.coder {
            Coder::Gzip(_) => "gzip",
            Coder::Brotli(_) => "br",
            Coder::Zstd(_) => "zstd",
        };
        f.debug_struct("Encoding").field("coding", &name).finish_non_exhaustive()
    }
}

impl Encoding {
    /// `size`: of the whole body, where it is known. `None`: there is no place, or nobody writes that coding any more.
    #[must_use]
    pub fn new(coding: Coding, size: Option<u64>) -> Option<Self> {
        let place = Place::taken(bytes(coding, size))?;
        let coder = match coding {
            Coding::Deflate => return None,
            Coding::Gzip => Coder::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL)))),
            Coding::Brotli => Coder::Brotli(Box::new(brotli(size))),
            Coding::Zstd => Coder::Zstd(zstd(size)?),
        };
        Some(Self { coder, _place: place })
    }

    /// # Errors
    /// It cannot go on.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        match &mut self.coder {
            Coder::Gzip(encoder) => {
                encoder.write_all(input).map_err(|_| Failed)?;
                out.append(encoder.get_mut());
            }
            Coder::Brotli(encoder) => {
                encoder.write_all(input).map_err(|_| Failed)?;
                out.append(encoder.get_mut());
            }
            Coder::Zstd(state) => {
                let mut from = InBuffer::around(input);
                while from.pos() < input.len() {
                    stepped(out, |to| state.compress_stream(to, &mut from))?;
                }
            }
        }
        Ok(())
    }

    /// Whatever was written can be read once this has come.
    ///
    /// # Errors
    /// It cannot go on.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        match &mut self.coder {
            Coder::Gzip(encoder) => {
                encoder.flush().map_err(|_| Failed)?;
                out.append(encoder.get_mut());
            }
            Coder::Brotli(encoder) => {
                encoder.flush().map_err(|_| Failed)?;
                out.append(encoder.get_mut());
            }
            Coder::Zstd(state) => while stepped(out, |to| state.flush_stream(to))? > 0 {},
        }
        Ok(())
    }

    /// Its end.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), Failed> {
        match self.coder {
            Coder::Gzip(encoder) => out.append(&mut encoder.finish().map_err(|_| Failed)?),
            Coder::Brotli(encoder) => out.append(&mut encoder.into_inner()),
            Coder::Zstd(mut state) => while stepped(&mut *out, |to| state.end_stream(to))? > 0 {},
        }
        Ok(())
    }
}

fn brotli(size: Option<u64>) -> CompressorWriter<Vec<u8>> {
    let parameters = BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        lgwin: window(size).cast_signed(),
        size_hint: size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0),
        ..BrotliEncoderParams::default()
    };
    CompressorWriter::with_params(Vec::new(), BUFFER, &parameters)
}

fn zstd(size: Option<u64>) -> Option<CCtx<'static>> {
    let mut state = CCtx::try_create()?;
    state.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).ok()?;
    state.set_parameter(CParameter::WindowLog(window(size))).ok()?;
    state.set_parameter(CParameter::ChecksumFlag(false)).ok()?;
    Some(state)
}

/// One step of zstd's into what is free behind `out`. What it says is left to say.
fn stepped(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, [u8]>) -> Result<usize, zstd_safe::ErrorCode>,
) -> Result<usize, Failed> {
    let before = out.len();
    out.resize(before + BUFFER, 0);
    let mut to = OutBuffer::around(&mut out[before..]);
    let left = step(&mut to);
    let written = to.pos();
    out.truncate(before + written);
    left.map_err(|_| Failed)
}

/// As wide as the body is long, within bounds.
fn window(size: Option<u64>) -> u32 {
    let wide = size.map_or(WINDOW, |size| u64::BITS - size.leading_zeros());
    wide.clamp(LEAST_WINDOW, WINDOW)
}

/// What its coder holds, about: measured, and rounded up.
fn bytes(coding: Coding, size: Option<u64>) -> usize {
    let window = 1_usize << window(size);
    match coding {
        Coding::Gzip | Coding::Deflate => 384 << 10,
        Coding::Brotli => (512 << 10) + 6 * window,
        Coding::Zstd => (128 << 10) + 6 * window,
    }
}

/// Of the room for coders.
struct Place(usize);

static HELD: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn taken(bytes: usize) -> Option<Self> {
        let place = Self(bytes);
        let before = HELD.fetch_add(bytes, Relaxed);
        (before + bytes <= ROOM).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Decoding;

    const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    fn decoded(decoding: &mut Decoding, mut input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(piece) = decoding.piece(&mut input).expect("what we wrote can be read") {
            out.extend(piece);
        }
        out
    }

    fn text(length: usize) -> Vec<u8> {
        b"{\"id\": 7, \"name\": \"the quick brown fox\"}, ".iter().copied().cycle().take(length).collect()
    }

    proptest! {
        #[test]
        fn what_is_compressed_reads_as_it_was_however_it_is_cut(
            body in prop_oneof![proptest::collection::vec(any::<u8>(), 0..5_000), (0..200_000_usize).prop_map(text)],
            cuts in proptest::collection::vec((1..40_000_usize, any::<bool>()), 1..12),
            (known, which) in (any::<bool>(), 0..3_usize),
        ) {
            let coding = CODINGS[which];
            let size = known.then_some(body.len() as u64);
            let mut encoding = Encoding::new(coding, size).expect("there is room");
            let (mut sent, mut left) = (Vec::new(), &body[..]);
            for (length, flushed) in cuts.iter().cycle() {
                let (piece, rest) = left.split_at((*length).min(left.len()));
                encoding.write(piece, &mut sent).unwrap();
                if *flushed {
                    encoding.flush(&mut sent).unwrap();
                }
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
            encoding.finish(&mut sent).unwrap();
            let mut decoding = Decoding::new(coding);
            prop_assert_eq!(decoded(&mut decoding, &sent), body);
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_at_once() {
        for coding in CODINGS {
            let (mut encoding, mut decoding) = (Encoding::new(coding, None).unwrap(), Decoding::new(coding));
            for number in 0..50 {
                let event = format!("data: {number}\n\n");
                let mut sent = Vec::new();
                encoding.write(event.as_bytes(), &mut sent).unwrap();
                encoding.flush(&mut sent).unwrap();
                assert_eq!(decoded(&mut decoding, &sent), event.as_bytes(), "{coding:?}");
            }
        }
    }

    #[test]
    fn text_shrinks() {
        for (coding, size) in CODINGS.iter().flat_map(|coding| [(*coding, Some(100_000)), (*coding, None)]) {
            let (mut encoding, mut sent) = (Encoding::new(coding, size).unwrap(), Vec::new());
            encoding.write(&text(100_000), &mut sent).unwrap();
            encoding.finish(&mut sent).unwrap();
            assert!(sent.len() < 3_000, "{coding:?}: {}", sent.len());
        }
    }

    #[test]
    fn windows_are_as_wide_as_the_body_is_long() {
        for (size, want) in [(Some(0), 10), (Some(1_500), 11), (Some(200_000), 18), (Some(1 << 40), 18), (None, 18)] {
            assert_eq!(window(size), want, "{size:?}");
        }
    }
}
