//! Byte ranges of a complete stored response (RFC 9110 § 14).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue};

use super::conditional;

/// A request for more pieces than this gets the whole (§ 14.2 warns of those who ask for many).
const PIECES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    One(Range<usize>),
    Several(Vec<Range<usize>>),
    /// None of it exists: 416.
    Nothing,
}

/// What of a body of `length` bytes the request wants. A range that cannot be read is none.
#[must_use]
pub fn wanted(request: &HeaderMap, stored: &HeaderMap, length: usize) -> Wanted {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Wanted::Whole };
    if !conditional::range_may_be_used(request, stored) {
        return Wanted::Whole;
    }
    let Some(mut pieces) = parse(line.as_bytes(), length) else { return Wanted::Whole };
    match pieces.len() {
        0 => Wanted::Nothing,
        1 => Wanted::One(pieces.remove(0)),
        _ if overlap(&pieces) => Wanted::Whole,
        _ => Wanted::Several(pieces),
    }
}

fn overlap(pieces: &[Range<usize>]) -> bool {
    let mut sorted = pieces.to_vec();
    sorted.sort_unstable_by_key(|piece| piece.start);
    sorted.windows(2).any(|pair| matches!(pair, [a, b] if a.end > b.start))
}

/// Those that exist. `None`: not a range of bytes, or too many.
fn parse(line: &[u8], length: usize) -> Option<Vec<Range<usize>>> {
    let (unit, set) = line.split_at(line.iter().position(|&b| b == b'=')?);
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut pieces = Vec::new();
    let mut seen = 0;
    for spec in set[1..].split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()) {
        seen += 1;
        if seen > PIECES {
            return None;
        }
        let dash = spec.iter().position(|&b| b == b'-')?;
        let piece = match (number(&spec[..dash])?, number(&spec[dash + 1..])?) {
            (None, None) => return None,
            (None, Some(last)) => length.saturating_sub(last)..length,
            (Some(first), None) => first..length,
            (Some(first), Some(last)) if last < first => return None,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
        };
        if piece.start < piece.end {
            pieces.push(piece);
        }
    }
    (seen > 0).then_some(pieces)
}

/// Outer `None`: no number. Inner `None`: nothing there.
fn number(digits: &[u8]) -> Option<Option<usize>> {
    if digits.is_empty() {
        return Some(None);
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Some(digits.iter().fold(0_usize, |n, d| n.saturating_mul(10).saturating_add(usize::from(d - b'0')))))
}

/// One piece: its headers go into those of the stored response.
pub fn one(headers: &mut HeaderMap, body: &Bytes, piece: &Range<usize>) -> Bytes {
    headers.insert(CONTENT_RANGE, content_range(piece, body.len()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(piece.len()));
    body.slice(piece.clone())
}

/// Several pieces as `multipart/byteranges`. `salt` tells the boundary of one response from another's.
pub fn several(headers: &mut HeaderMap, body: &Bytes, pieces: &[Range<usize>], salt: u64) -> Bytes {
    let boundary = format!("tidegate-{salt:016x}");
    let kind = headers.get(CONTENT_TYPE).cloned();
    let mut out = BytesMut::with_capacity(pieces.iter().map(|piece| piece.len() + 160).sum());
    for piece in pieces {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(boundary.as_bytes());
        if let Some(kind) = &kind {
            out.extend_from_slice(b"\r\ncontent-type: ");
            out.extend_from_slice(kind.as_bytes());
        }
        out.extend_from_slice(b"\r\ncontent-range: ");
        out.extend_from_slice(content_range(piece, body.len()).as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&body[piece.clone()]);
    }
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/byteranges; boundary={boundary}");
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(kind).expect("a boundary is plain text"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(out.len()));
    out.freeze()
}

/// The headers of a 416.
pub fn nothing(headers: &mut HeaderMap, length: usize) {
    let unsatisfied = HeaderValue::try_from(format!("bytes */{length}")).expect("digits");
    headers.insert(CONTENT_RANGE, unsatisfied);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    headers.remove(CONTENT_TYPE);
}

fn content_range(piece: &Range<usize>, length: usize) -> HeaderValue {
    let text = format!("bytes {}-{}/{length}", piece.start, piece.end.saturating_sub(1));
    HeaderValue::try_from(text).expect("digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        use Wanted::{Nothing, One, Several, Whole};
        let check = |text: &str, length| {
            let mut request = HeaderMap::new();
            request.insert(RANGE, HeaderValue::try_from(text).expect("a value"));
            wanted(&request, &HeaderMap::new(), length)
        };
        for (text, expected) in [
            ("bytes=0-1", One(0..2)),
            ("Bytes=1-", One(1..10)),
            ("bytes=-3", One(7..10)),
            ("bytes=-30", One(0..10)),
            ("bytes=5-99999999999999999999999", One(5..10)),
            ("bytes=10-", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=20-30,40-", Nothing),
            ("bytes=0-1, 4-5", Several(vec![0..2, 4..6])),
            ("bytes=4-5,0-1,99-", Several(vec![4..6, 0..2])),
            ("bytes=0-4,2-6", Whole),
            ("bytes=2-1", Whole),
            ("bytes=a-b", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("lines=0-1", Whole),
            ("bytes", Whole),
        ] {
            assert_eq!(check(text, 10), expected, "{text}");
        }
        assert_eq!(check(&format!("bytes={}", "0-0,".repeat(17)), 10), Whole);
        assert_eq!(check("bytes=0-", 0), Nothing);
    }

    #[test]
    fn several_pieces_come_in_parts() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let body = several(&mut headers, &Bytes::from_static(b"0123456789"), &[0..2, 4..6], 7);
        let expected = "\r\n--tidegate-0000000000000007\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01\
            \r\n--tidegate-0000000000000007\r\ncontent-type: text/plain\r\ncontent-range: bytes 4-5/10\r\n\r\n45\
            \r\n--tidegate-0000000000000007--\r\n";
        assert_eq!(body, expected);
        assert_eq!(headers[CONTENT_TYPE], "multipart/byteranges; boundary=tidegate-0000000000000007");
        assert_eq!(headers[CONTENT_LENGTH], expected.len().to_string());
    }
}
