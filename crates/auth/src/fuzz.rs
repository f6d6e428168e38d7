//! What the fuzzer calls (docs/fuzzing.md), and tests with what it kept. Any bytes: nothing panics, promises hold.

use http::Request;

use crate::token::{KeySet, MAX_TOKEN_BYTES, Unproven, looks_like_one, strip_token_query};
use crate::{presented, strip_query};

/// A token, a set of keys (its first byte is `{`), and a query that may carry a key.
pub fn token(bytes: &[u8]) {
    if bytes.first() == Some(&b'{') {
        if let Ok(keys) = KeySet::of_set(bytes) {
            assert!(!keys.is_empty(), "a set without keys is none");
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if Unproven::read(text).is_ok() {
        assert!(text.len() <= MAX_TOKEN_BYTES && looks_like_one(bytes), "it is one, and does not look like it");
    }
    // What is left has nothing more to take out.
    if let Some(left) = strip_query(text) {
        assert_eq!(strip_query(&left), None, "a key is left in {left:?}");
    }
    let _ = strip_token_query(text, &[]);
    if let Ok(request) = Request::builder().uri(format!("/?{text}")).header("authorization", bytes).body(()) {
        let _ = presented(&request.into_parts().0);
    }
}
