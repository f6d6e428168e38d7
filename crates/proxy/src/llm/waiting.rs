//! Bytes for the caller that nobody took yet. What waits goes out in one piece, as nginx does it: a chunk and a share of a write
//! for each event cost more than the copy.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// More does not wait for more.
const ENOUGH: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pieces: SmallVec<[Bytes; 2]>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn is_enough(&self) -> bool {
        self.bytes >= ENOUGH
    }

    /// All of it; a single piece is not copied.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.bytes);
        if self.pieces.len() < 2 {
            return self.pieces.pop();
        }
        let mut all = BytesMut::with_capacity(bytes);
        self.pieces.drain(..).for_each(|piece| all.extend_from_slice(&piece));
        Some(all.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_as_one_in_their_order_and_a_single_one_as_it_is() {
        let mut waiting = Waiting::default();
        let single = Bytes::from_static(b"one");
        waiting.push(single.clone());
        waiting.push(Bytes::new());
        assert_eq!(waiting.take().map(|piece| piece.as_ptr()), Some(single.as_ptr()));
        for piece in ["a", "bc", "d"] {
            waiting.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!((waiting.is_enough(), waiting.take()), (false, Some(Bytes::from_static(b"abcd"))));
        waiting.push(Bytes::from(vec![0; ENOUGH]));
        assert!(waiting.is_enough() && waiting.take().is_some() && waiting.is_empty() && !waiting.is_enough());
        assert_eq!(waiting.take(), None);
    }
}
