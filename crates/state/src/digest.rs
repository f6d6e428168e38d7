//! A hash of the whole state that every build of this release, on every machine, computes alike: over the state's encoding
//! (bincode, standard, varint: the one snapshots have), not over `std::hash`, whose layout is nobody's promise.

use bincode::config::standard;
use serde::Serialize;

pub(crate) fn of(value: &impl Serialize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    bincode::serde::encode_into_std_write(value, &mut hasher, standard())
        .expect("our types hold nothing that cannot be written, and a hasher takes all bytes");
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Kind {
        _Unused,
        Named { small: u8, large: u64, wide: u128, negative: i32 },
    }

    /// Every kind of thing a state is made of. Should this value ever change, nodes of two builds call each other
    /// diverged: then the format's version changes with it.
    #[test]
    fn the_digest_of_known_things_is_known() {
        let kind = Kind::Named { small: 250, large: u64::MAX, wide: 1 << 100, negative: -7 };
        let map = BTreeMap::from([("a".to_owned(), Some([1_u8; 4])), ("b".to_owned(), None)]);
        let things = (kind, map, vec![true, false], "text", ());
        let known = "a0e2bee0f331990c23036f3afb0a183c9072ad7a8083c7230f58f5b0c32da40e";
        assert_eq!(blake3::Hash::from(of(&things)).to_hex().as_str(), known);
        assert_ne!(of(&things), of(&things.1));
    }

    #[test]
    fn neighbours_do_not_run_into_one_another() {
        assert_ne!(of(&("ab", "c")), of(&("a", "bc")));
        assert_ne!(of(&(vec![1_u8], vec![2_u8, 3])), of(&(vec![1_u8, 2], vec![3_u8])));
    }
}
