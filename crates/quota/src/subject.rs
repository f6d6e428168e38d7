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
        let mut hasher = self.keyed;
        hasher.write_u64(limit.0);
        for value in values {
            hasher.write_u64(value.len() as u64);
            hasher.write(value);
        }
        Subject(hasher.finish128().as_u128())
    }

    /// The key that subjects share once a node holds as many as it may; `part` spreads them over a few.
    #[must_use]
    pub fn overflow(&self, limit: LimitId, part: u8) -> Subject {
        let mut hasher = self.keyed;
        hasher.write_u64(limit.0);
        hasher.write_u64(u64::MAX); // no value has this length
        hasher.write_u8(part);
        Subject(hasher.finish128().as_u128())
    }
}

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
}
