//! JSON by hand: one object, fields in order, no allocation. Knows nothing of requests.
//!
//! Names of fields that are known when this is built come from [`key!`] in one piece, comma and quotes included.
//!
//! Text may be any bytes a client sent. Control characters (C0, DEL, C1) are escaped, so that a line stays a line and
//! a terminal stays sane; what is not UTF-8 becomes U+FFFD.

use crate::redact;

/// Longer text is cut.
const LONGEST: usize = 4096;

/// `,"name":`
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(crate) use key;

pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    /// The value is written by the caller. `key`: a [`key!`].
    #[inline]
    pub(crate) fn field(&mut self, key: &'static str) -> &mut Vec<u8> {
        let comma = usize::from(std::mem::take(&mut self.empty));
        self.out.extend_from_slice(&key.as_bytes()[comma..]);
        self.out
    }

    /// As [`Object::field`], of a name that is only known now. It needs no escapes.
    fn named(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(if std::mem::take(&mut self.empty) { b"\"" } else { b",\"" });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A word of this program's own: it needs no escapes, and nobody looks for them.
    #[inline]
    pub(crate) fn literal(&mut self, key: &'static str, value: &'static str) {
        debug_assert!(is_plain(value.as_bytes()), "{value:?} needs escapes");
        let out = self.field(key);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    /// Text from inside: known to hold no secret, escaped all the same.
    #[inline]
    pub(crate) fn word(&mut self, key: &'static str, value: &str) {
        string(self.field(key), value.as_bytes());
    }

    /// Text from outside: keys of ours that it may carry are masked.
    #[inline]
    pub(crate) fn text(&mut self, key: &'static str, value: &[u8]) {
        let masked = redact::keys(value);
        string(self.field(key), &masked);
    }

    /// As [`Object::text`], of a name that is only known now. It needs no escapes.
    pub(crate) fn named_text(&mut self, name: &str, value: &[u8]) {
        let masked = redact::keys(value);
        string(self.named(name), &masked);
    }

    /// As [`Object::text`], of a text that whoever made it has bounded.
    pub(crate) fn long(&mut self, key: &'static str, value: &str) {
        let masked = redact::keys(value.as_bytes());
        let out = self.field(key);
        out.push(b'"');
        escaped(out, &masked);
        out.push(b'"');
    }

    #[inline]
    pub(crate) fn number(&mut self, key: &'static str, value: u64) {
        number(self.field(key), value);
    }

    /// Milliseconds with three digits after the point.
    pub(crate) fn millis(&mut self, key: &'static str, nanos: u64) {
        let out = self.field(key);
        let micros = nanos / 1_000;
        number(out, micros / 1_000);
        out.extend_from_slice(&after_the_point(micros % 1_000));
    }
}

/// `.007`: thousandths, below 1000.
pub(crate) fn after_the_point(thousandths: u64) -> [u8; 4] {
    let digit = |number: u64| b'0' + (number % 10) as u8;
    [b'.', digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)]
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < pairs.len() {
        pairs[at] = [b'0' + at as u8 / 10, b'0' + at as u8 % 10];
        at += 1;
    }
    pairs
};

pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        return out.push(b'0' + value as u8); // As most are.
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value > 0 {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    let (text, cut) = if text.len() > LONGEST { (&text[..LONGEST], true) } else { (text, false) };
    out.push(b'"');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        escaped(out, text);
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// Printable ASCII that needs no escapes; eight bytes at a time, for every line is full of it.
fn is_plain(text: &[u8]) -> bool {
    let word = |at: usize| text[at..].first_chunk().is_some_and(|bytes| all_plain(u64::from_le_bytes(*bytes)));
    let Some(last) = text.len().checked_sub(8) else {
        let mut few = [b' '; 8];
        few[..text.len()].copy_from_slice(text);
        return all_plain(u64::from_le_bytes(few));
    };
    // The last word overlaps the one before it.
    (0..last).step_by(8).all(word) && word(last)
}

/// No byte of `bytes` is below 0x20, above 0x7e, a quote or a backslash.
const fn all_plain(bytes: u64) -> bool {
    const EACH: u64 = u64::MAX / 255;
    /// Sets the high bit of some byte exactly if any byte is below `bound` (at most 128).
    const fn below(bytes: u64, bound: u64) -> u64 {
        bytes.wrapping_sub(EACH * bound) & !bytes
    }
    const fn equal(bytes: u64, byte: u8) -> u64 {
        below(bytes ^ (EACH * byte as u64), 1)
    }
    let ugly = bytes | below(bytes, 0x20) | equal(bytes, b'"') | equal(bytes, b'\\') | equal(bytes, 0x7f);
    ugly & (EACH << 7) == 0
}

fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for char in String::from_utf8_lossy(text).chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // The separators are legal JSON and break JavaScript and some terminals.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn any_bytes_become_one_json_string() {
        assert_eq!(written(b"plain / text"), r#""plain / text""#);
        assert_eq!(written(b"a\"b\\c\n\r\t\0\x1b[31m\x7f"), r#""a\"b\\c\n\r\t\u0000\u001b[31m\u007f""#);
        assert_eq!(written("é…\u{85}\u{2028}".as_bytes()), "\"é…\\u0085\\u2028\"");
        assert_eq!(written(b"\xff\xfe"), "\"\u{fffd}\u{fffd}\"");
        for byte in 0..=255_u8 {
            for length in 1..20 {
                for place in 0..length {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    let text = written(&bytes);
                    let read = serde_json::from_str::<String>(&text).expect(&text);
                    assert_eq!(read, String::from_utf8_lossy(&bytes));
                    assert!(!text.bytes().any(|b| b < 0x20 || b == 0x7f), "{text}");
                }
            }
        }
    }

    #[test]
    fn long_text_is_cut() {
        let text: String = serde_json::from_str(&written(&[b'a'; 10_000])).unwrap();
        assert_eq!(text.chars().count(), LONGEST + 1);
    }

    #[test]
    fn numbers_and_times() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.number(key!("a"), 0);
        object.number(key!("b"), u64::MAX);
        object.millis(key!("c"), 1_234_567);
        object.millis(key!("d"), 7_008_999);
        object.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":0,"b":18446744073709551615,"c":1.234,"d":7.008}"#);
    }
}
