//! Who a limit counts: names in, 128 keyed bits out.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tidegate_model::{LimitId, Subject};

/// Hashes subjects with the cluster's secret: the same on every node, unguessable outside, so that nobody can craft a
/// header value that lands on somebody else's counter.
#[derive(Clone)]
pub struct SubjectHasher {
    keyed: SipHasher13,
}

impl std::fmt::Debug for SubjectHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubjectHasher(secret)")
    }
}

impl SubjectHasher {
    #[must_use]
    pub fn new(secret: &[u8; 16]) -> Self {
        Self { keyed: SipHasher13::new_with_key(secret) }
    }

    /// `values` are the values of the limit's scope in its order. Each is hashed with its length, so that
    /// ("ab", "c") and ("a", "bc") differ.
    #[inline]
    #[must_use]
    pub fn subject<'a>(&self, limit: LimitId, values: impl IntoIterator<Item = &'a [u8]>) -> Subject {
        let mut hashing = self.begin(limit);
        values.into_iter().for_each(|value| hashing.value(value));
        hashing.finish()
    }

    /// As [`SubjectHasher::subject`], value by value.
    #[inline]
    #[must_use]
    pub fn begin(&self, limit: LimitId) -> Hashing {
        let mut hasher = self.keyed;
        hasher.write_u64(limit.0);
        Hashing(hasher)
    }
}

/// A subject of which some values are known.
pub struct Hashing(SipHasher13);

impl Hashing {
    #[inline]
    pub fn value(&mut self, value: &[u8]) {
        self.0.write_u64(value.len() as u64);
        self.0.write(value);
    }

    /// The lines of one header as the list they are (RFC 9110 § 5.3): `a` and `b` count as `a, b`.
    pub fn list<'a, I: Iterator<Item = &'a [u8]>>(&mut self, lines: impl Fn() -> I) {
        let (mut length, mut count) = (0, 0);
        for line in lines() {
            (length, count) = (length + line.len(), count + 1_usize);
        }
        self.0.write_u64((length + SEPARATOR.len() * count.saturating_sub(1)) as u64);
        for (nth, line) in lines().enumerate() {
            if nth > 0 {
                self.0.write(SEPARATOR);
            }
            self.0.write(line);
        }
    }

    #[inline]
    #[must_use]
    pub fn finish(self) -> Subject {
        Subject(self.0.finish128().as_u128())
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing(secret)")
    }
}

const SEPARATOR: &[u8] = b", ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_values_meet_on_one_counter_and_others_do_not() {
        let hasher = SubjectHasher::new(&[7; 16]);
        let of = |values: &[&[u8]]| hasher.subject(LimitId(1), values.iter().copied());
        assert_eq!(of(&[b"acme", b"a"]), of(&[b"acme", b"a"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"", b"a"]), of(&[b"a", b""]));
        assert_ne!(of(&[]), of(&[b""]));
        assert_ne!(hasher.subject(LimitId(2), [b"a".as_slice()]), hasher.subject(LimitId(1), [b"a".as_slice()]));
        assert_ne!(SubjectHasher::new(&[8; 16]).subject(LimitId(1), []), hasher.subject(LimitId(1), []));
    }

    #[test]
    fn the_lines_of_a_header_count_as_the_list_they_are() {
        let hasher = SubjectHasher::new(&[7; 16]);
        let lines = |lines: &[&[u8]]| {
            let mut hashing = hasher.begin(LimitId(1));
            hashing.value(b"acme");
            hashing.list(|| lines.iter().copied());
            hashing.value(b"z");
            hashing.finish()
        };
        let one = |value: &[u8]| hasher.subject(LimitId(1), [b"acme", value, b"z"]);
        assert_eq!(lines(&[b"a long value, of which there is one"]), one(b"a long value, of which there is one"));
        assert_eq!(lines(&[b"a", b"b", b"c"]), one(b"a, b, c"));
        assert_eq!(lines(&[b"", b""]), one(b", "));
        assert_eq!(lines(&[]), one(b""));
    }
}
