//! JSON as others write it, numbers as they are written ([`super::exact`]), and with halves of surrogate pairs. JavaScript and Python write a text that was cut inside an emoji as `"\\ud83d"`, which no
//! UTF-8 can hold; each such half is read as U+FFFD, as every encoder to UTF-8 writes it. Nothing else is forgiven.

use serde_json::Value;

use super::doc::Doc;
use super::exact;

pub(crate) fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    read(bytes).or_else(|why| match mended(bytes) {
        Some(mended) => read(&mended),
        None => Err(why),
    })
}

fn read(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut value = serde_json::from_slice(bytes)?;
    let odd = exact::vet(&mut value) && std::str::from_utf8(bytes).is_ok_and(exact::has_odd);
    Ok(if odd { Doc::read(bytes).and_then(|doc| exact::value(doc.root())).unwrap_or(value) } else { value })
}

/// `None`: there is nothing to mend.
pub(crate) fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    // A backslash stands in texts alone, and begins an escape.
    while let Some(found) = memchr::memchr(b'\\', bytes.get(at..)?) {
        at += found;
        let length = match (unit(bytes, at), unit(bytes, at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                out.get_or_insert_with(|| bytes.to_vec())[at + 2..at + 6].copy_from_slice(b"fffd");
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        at += length;
    }
    out
}

/// Of an escape `\u0041` that begins here.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn halves_of_a_pair_are_replaced_and_pairs_stay() {
        for (text, want) in [
            (r#"["\ud83d"]"#, "\u{fffd}"),
            (r#"["a\uDE00b"]"#, "a\u{fffd}b"),
            (r#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}😀"),
            (r#"["\ud83d\n\\ud83d"]"#, "\u{fffd}\n\\ud83d"),
            (r#"["\ud83d\ude00\u00e9"]"#, "😀é"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), json!([want]), "{text}");
        }
        assert_eq!(mended(br#"{"a":"\\ud83d \ud83d\ude00 \" "}"#), None);
    }

    #[test]
    fn what_is_wrong_otherwise_stays_wrong_and_no_end_is_passed_over() {
        for text in [r#"["\ud83d""#, r#"["\ud8"#, r#"["\ud83d\"#, r#"["\ud83d\u"#, r"\", r#"["\x\ud83d"]"#, "[NaN]"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
