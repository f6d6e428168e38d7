//! Version 2: what stands behind the first byte of version 1, compressed (RFC 8878, with its length in the frame's header).

use super::{Error, VERSION};

pub(super) const PACKED: u8 = 2;
/// Less is not worth it.
pub(super) const LEAST: usize = 4 << 10;
/// Bytes that one may become, so that a lying length gets no memory. What grows more is written as it is.
const RATIO: usize = 64;
/// Zstandard's fastest but the negative ones: documents and states shrink to a tenth with it.
const EFFORT: i32 = 1;

/// The same in version 2, where that is shorter.
pub(super) fn pack(plain: Vec<u8>) -> Vec<u8> {
    if plain.len() < LEAST || plain[0] != VERSION {
        return plain;
    }
    let body = &plain[1..];
    let mut packed = vec![0; 1 + zstd_safe::compress_bound(body.len())];
    packed[0] = PACKED;
    match zstd_safe::compress(&mut packed[1..], body, EFFORT) {
        Ok(length) if length < body.len() && body.len() <= RATIO * length => {
            packed.truncate(1 + length);
            packed.shrink_to_fit(); // It stays in memory as long as the log has it.
            packed
        }
        _ => plain,
    }
}

/// What was compressed, which is no longer than `most`.
pub(super) fn unpack(frame: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    let malformed = |what: &str| Error::Malformed(format!("compressed: {what}"));
    let said = zstd_safe::get_frame_content_size(frame).map_err(|_| malformed("no frame of zstd"))?;
    let length = said.and_then(|length| usize::try_from(length).ok()).ok_or_else(|| malformed("without its length"))?;
    if length > most.min(RATIO.saturating_mul(frame.len())) {
        return Err(malformed(&format!("{} bytes say they are {length}", frame.len())));
    }
    let mut plain = vec![0; length];
    let written = zstd_safe::decompress(plain.as_mut_slice(), frame)
        .map_err(|code| malformed(zstd_safe::get_error_name(code)))?;
    if written == length { Ok(plain) } else { Err(malformed("shorter than it says")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{
        MAX_FRAME, NEWEST, decode, decode_bulk, decode_packed, decode_snapshot, encode, pack, read_like,
    };

    /// As documents are: much that is the same, some that is not.
    fn text(lines: usize) -> Vec<String> {
        (0..lines).map(|line| format!("- {{name: route-{line}, path: /{}, upstream: users}}", line * 7919)).collect()
    }

    #[test]
    fn what_is_long_is_read_as_it_was_written_and_what_is_short_stays_as_it_is() {
        for lines in [0, 1, 60, 5_000] {
            let (lines, plain) = (text(lines), encode(&text(lines)));
            let packed = pack(plain.clone());
            assert_eq!(decode_packed::<Vec<String>>(&packed), Ok(lines.clone()));
            assert_eq!(decode_snapshot::<Vec<String>>(&packed), Ok(lines));
            if plain.len() < LEAST {
                assert_eq!(packed, plain);
            } else {
                assert!(packed[0] == NEWEST && packed.len() * 3 < plain.len(), "{} of {}", packed.len(), plain.len());
                assert_eq!(pack(packed.clone()), packed, "once");
                assert!(packed.capacity() < plain.len(), "no more memory than it needs");
            }
        }
        // What shrinks beyond all measure would not be read, and what does not shrink gains nothing.
        let mut noise = vec![0; 8_192];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for plain in [encode(&vec![0_u8; 1 << 20]), encode(&noise)] {
            assert_eq!(pack(plain.clone()), plain);
        }
    }

    #[test]
    fn bytes_that_lie_are_malformed_and_get_no_memory() {
        let packed = pack(encode(&text(2_000)));
        let malformed = |bytes: &[u8]| match decode_packed::<Vec<String>>(bytes) {
            Err(Error::Malformed(what)) => what,
            other => panic!("{other:?}"),
        };
        for at in [1, 2, 5, packed.len() / 2, packed.len() - 1] {
            malformed(&packed[..at]);
        }
        malformed(&[&packed[..], &[0]].concat());
        malformed(&[&packed[..], &packed[1..]].concat());
        // A frame of a few bytes that says it is of a gigabyte; one that does not say its length.
        let mut large = packed[..13].to_vec();
        large[5] = 0xa0; // Its length stands in four bytes.
        large[6..10].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        assert!(malformed(&large).contains("say they are 1073741824"), "{}", malformed(&large));
        assert!(
            malformed(&[PACKED, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x00, 0x00]).contains("without its length")
        );
        // What is longer than a frame may be is none, however it is written.
        let long: Vec<u8> = (0..MAX_FRAME as u32 / 4 + 1_000).flat_map(u32::to_le_bytes).collect();
        let packed = pack(encode(&long));
        assert_eq!(packed[0], PACKED);
        assert!(decode_packed::<Vec<u8>>(&packed).is_err());
        assert_eq!(decode_snapshot::<Vec<u8>>(&packed), Ok(long));
    }

    #[test]
    fn a_release_before_says_which_version_it_does_not_read() {
        let (plain, packed) = (encode(&text(2_000)), pack(encode(&text(2_000))));
        read_like(3);
        let (read, refused) = (decode_packed::<Vec<String>>(&plain), decode_packed::<Vec<String>>(&packed));
        read_like(u32::MAX);
        assert_eq!((read, refused), (Ok(text(2_000)), Err(Error::Version(2))));
    }

    #[test]
    fn nothing_is_unpacked_where_nothing_is_packed() {
        let packed = pack(encode(&text(2_000)));
        let refused = Error::Version(2);
        assert_eq!(decode::<Vec<String>>(&packed), Err(refused.clone()));
        assert_eq!(decode_bulk::<Vec<String>>(&packed), Err(refused.clone()));
        assert_eq!(refused.to_string(), "format version 2, compressed: here only version 1 is written");
    }
}
