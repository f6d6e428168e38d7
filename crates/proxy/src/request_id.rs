//! Request ids: unique over the cluster, unguessable enough to quote in a ticket, cheap to make.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use http::HeaderValue;

/// 32 hex digits of ours, or what a trusted peer sent. Always printable, no quotes: safe in JSON and in a header.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

/// Longest id taken over from a peer.
const LONGEST: usize = 128;

thread_local! {
    /// 64 random bits of this thread's life, and a counter.
    static NEXT: Cell<(u64, u64)> = Cell::new((RandomState::new().hash_one(0_u8), RandomState::new().hash_one(1_u8)));
}

impl RequestId {
    pub(crate) fn new() -> Self {
        let (high, low) = NEXT.get();
        // An odd stride walks all 2^64 values before one repeats, and neighbours do not look alike.
        NEXT.set((high, low.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        let mut text = [0_u8; 32];
        for (half, into) in halves(high).into_iter().chain(halves(low)).zip(text.as_chunks_mut().0) {
            *into = digits(half);
        }
        Self(HeaderValue::from_bytes(&text).expect("hex digits are a header value"))
    }

    /// An id from a trusted peer, if it is fit to be logged and passed on.
    pub(crate) fn taken(value: &HeaderValue) -> Option<Self> {
        let fit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'=' | b'+' | b'/');
        let text = value.as_bytes();
        (!text.is_empty() && text.len() <= LONGEST && text.iter().all(fit)).then(|| Self(value.clone()))
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// For the last who wants it: a second owner of the text costs two allocations.
    pub(crate) fn leave(&mut self) -> HeaderValue {
        std::mem::replace(&mut self.0, HeaderValue::from_static(""))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().expect("checked or made of ASCII")
    }
}

fn halves(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

/// All eight at a time, each in a byte of its own.
const fn digits(number: u32) -> [u8; 8] {
    const EACH: u64 = u64::MAX / 255;
    let mut spread = number as u64;
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte that is ten or more: those are letters.
    let letters = (spread + EACH * 6) >> 4 & EACH;
    (spread + EACH * b'0' as u64 + letters * (b'a' - b'0' - 10) as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hex_digits_and_differ() {
        let (a, b) = (RequestId::new(), RequestId::new());
        assert_eq!(a.as_str().len(), 32);
        assert!(a.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(a.as_str(), b.as_str());
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX, 0x9e37_79b9_7f4a_7c15, 0xfedc_ba98_7654_3210] {
            let text = halves(number).map(digits).concat();
            assert_eq!(std::str::from_utf8(&text), Ok(&*format!("{number:016x}")));
        }
    }

    #[test]
    fn an_id_that_could_break_a_log_line_is_not_taken() {
        for bad in ["", "a b", "a\"b", "{}", &"x".repeat(129)] {
            assert!(RequestId::taken(&HeaderValue::from_str(bad).expect("legal header")).is_none(), "{bad:?}");
        }
        assert!(RequestId::taken(&HeaderValue::from_static("0af7-65:/+=._")).is_some());
    }
}
