//! Trailers with pseudo fields (RFC 9113 § 8.1): found in the block itself, as far as HPACK (RFC 7541) can be read without its
//! tables.

use crate::wire::frames::{Head, PADDED, PRIORITISED};

/// A block of trailers, read as far as no table is needed: h2 drops the pseudo fields that must not be there (§ 8.1).
#[derive(Debug)]
pub(super) struct Trailers {
    block: Vec<u8>,
    padded: bool,
    prioritised: bool,
}

/// Longer ones are not looked at.
const TRAILERS: usize = 2 << 10;
/// Of the static table (RFC 7541, appendix A): `:authority` to `:status`.
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;

impl Trailers {
    pub(super) fn new(head: Head) -> Self {
        Self { block: Vec::new(), padded: head.has(PADDED), prioritised: head.has(PRIORITISED) }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let room = TRAILERS.saturating_sub(self.block.len());
        self.block.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn has_pseudo_field(&self) -> bool {
        let mut rest = &self.block[..];
        let mut padding = 0;
        if self.padded {
            let Some((length, after)) = rest.split_first() else { return false };
            (padding, rest) = (usize::from(*length), after);
        }
        if self.prioritised {
            rest = rest.get(5..).unwrap_or_default();
        }
        rest = &rest[..rest.len().saturating_sub(padding)];
        while !rest.is_empty() {
            match field(&mut rest) {
                Some(true) => return true,
                Some(false) => {}
                None => return false, // h2 will not read it either.
            }
        }
        false
    }
}

/// One representation (RFC 7541 § 6). `true`: its name is a pseudo field's, as far as can be told.
fn field(rest: &mut &[u8]) -> Option<bool> {
    let first = *rest.first()?;
    if first & 0x80 != 0 {
        return Some(PSEUDO.contains(&integer(rest, 7)?));
    }
    if first & 0xe0 == 0x20 {
        integer(rest, 5)?;
        return Some(false);
    }
    let name = integer(rest, if first & 0x40 != 0 { 6 } else { 4 })?;
    let pseudo = if name == 0 { text(rest)? } else { PSEUDO.contains(&name) };
    text(rest)?;
    Some(pseudo)
}

/// A string literal (§ 5.2). `true`: it begins with a colon, which in Huffman's code is `1011100`.
fn text(rest: &mut &[u8]) -> Option<bool> {
    let coded = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text.first().is_some_and(|first| if coded { first >> 1 == 0x5c } else { *first == b':' }))
}

/// § 5.1. `None`: it does not end, or is larger than anything here.
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let (first, after) = rest.split_first()?;
    *rest = after;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let (next, after) = rest.split_first()?;
        *rest = after;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
