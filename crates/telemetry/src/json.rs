//! JSON by hand: one object, fields in order, no allocation. Knows nothing of requests.
//!
//! Text may be any bytes a client sent. Control characters (C0, DEL, C1) are escaped, so that a line stays a line and
//! a terminal stays sane; what is not UTF-8 becomes U+FFFD.

use crate::redact;

/// Longer text is cut.
const LONGEST: usize = 4096;

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

    /// The value is written by the caller. `key` needs no escapes.
    pub(crate) fn field(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Text from inside: known to hold no secret, escaped all the same.
    pub(crate) fn word(&mut self, key: &str, value: &str) {
        string(self.field(key), value.as_bytes());
    }

    /// Text from outside: keys of ours that it may carry are masked.
    pub(crate) fn text(&mut self, key: &str, value: &[u8]) {
        let masked = redact::keys(value);
        string(self.field(key), &masked);
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        number(self.field(key), value);
    }

    /// Milliseconds with three digits after the point.
    pub(crate) fn millis(&mut self, key: &str, nanos: u64) {
        let out = self.field(key);
        let micros = nanos / 1_000;
        number(out, micros / 1_000);
        out.push(b'.');
        let rest = u32::try_from(micros % 1_000).expect("below 1000");
        for digit in [rest / 100, rest / 10 % 10, rest % 10] {
            out.push(b'0' + u8::try_from(digit).expect("a decimal digit"));
        }
    }
}

pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).expect("a decimal digit");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub(crate) fn string(out: &mut Vec<u8>, text: &[u8]) {
    let (text, cut) = if text.len() > LONGEST { (&text[..LONGEST], true) } else { (text, false) };
    out.push(b'"');
    if text.iter().all(|b| is_plain(*b)) {
        out.extend_from_slice(text);
    } else {
        escaped(out, text);
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
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
            let text = written(&[byte, b'x', byte]);
            assert!(serde_json::from_str::<String>(&text).is_ok(), "{byte}: {text}");
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
        object.number("a", 0);
        object.number("b", u64::MAX);
        object.millis("c", 1_234_567);
        object.millis("d", 7_008_999);
        object.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":0,"b":18446744073709551615,"c":1.234,"d":7.008}"#);
    }
}
