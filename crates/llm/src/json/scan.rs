//! One strict pass over JSON text that builds nothing: where a value ends, and how many items a list has. What passes here is
//! what serde_json accepts, nothing more (a property in `spans` holds it to that); what does not is told by serde_json, which
//! says why.

/// Called with what stands between the quotes of each string, names as well.
pub(crate) trait Strings {
    fn string(&mut self, raw: &[u8]);

    /// With each number, as it is written.
    #[inline]
    fn number(&mut self, _text: &str) {}
}

/// Nobody looks.
impl Strings for () {
    #[inline]
    fn string(&mut self, _: &[u8]) {}
}

/// Not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bad;

/// A place in valid UTF-8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    pub(crate) at: usize,
}

/// A string as it is written, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) text: &'a str,
    pub(crate) escaped: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn slice(&self, from: usize) -> &'a str {
        &self.text[from..self.at]
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is no blank; it is not taken.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let (at, byte) = unblank(self.bytes(), self.at);
        self.at = at;
        byte
    }

    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> Result<(), Bad> {
        if self.peek() != Some(byte) {
            return Err(Bad);
        }
        self.at += 1;
        Ok(())
    }

    /// Takes the byte if it comes next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let comes = self.peek() == Some(byte);
        self.at += usize::from(comes);
        comes
    }

    /// Nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), Bad> {
        if self.peek().is_none() { Ok(()) } else { Err(Bad) }
    }

    /// A string that comes next, from its first quote.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Raw<'a>, Bad> {
        self.take(b'"')?;
        let from = self.at;
        let (end, escaped) = string_end(self.bytes(), from)?;
        self.at = end + 1;
        Ok(Raw { text: &self.text[from..end], escaped })
    }

    /// The same for who wants only its bytes.
    #[inline]
    fn raw(&mut self) -> Result<&'a [u8], Bad> {
        self.take(b'"')?;
        let from = self.at;
        let (end, _) = string_end(self.bytes(), from)?;
        self.at = end + 1;
        Ok(&self.bytes()[from..end])
    }

    pub(crate) fn number(&mut self) -> Result<&'a str, Bad> {
        let from = self.at;
        self.at = number_end(self.bytes(), from)?;
        Ok(self.slice(from))
    }

    pub(crate) fn word(&mut self, word: &str) -> Result<(), Bad> {
        if !self.bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Bad);
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over a value; how many items it has, if it is a list. However deep it is nested, no stack but one byte for each
    /// level grows.
    pub(crate) fn skip(&mut self, strings: &mut impl Strings) -> Result<usize, Bad> {
        let first = self.peek().ok_or(Bad)?;
        if !matches!(first, b'[' | b'{') {
            return self.scalar(first, strings).map(|()| 0);
        }
        self.at += 1;
        let (mut deeper, mut open, mut items): (Vec<u8>, u8, usize) = (Vec::new(), first, 0);
        let mut fresh = true;
        loop {
            let close = open + 2; // `[` and `]`, `{` and `}` are two apart.
            let mut byte = self.peek().ok_or(Bad)?;
            if byte == close {
                self.at += 1;
                let Some(outer) = deeper.pop() else { return Ok(if first == b'[' { items } else { 0 }) };
                (open, fresh) = (outer, false);
                continue;
            }
            if !fresh {
                self.take(b',')?;
                byte = self.peek().ok_or(Bad)?;
            }
            if open == b'{' {
                strings.string(self.raw()?);
                self.take(b':')?;
                byte = self.peek().ok_or(Bad)?;
            }
            items += usize::from(deeper.is_empty());
            if matches!(byte, b'[' | b'{') {
                self.at += 1;
                deeper.push(open);
                (open, fresh) = (byte, true);
            } else {
                self.scalar(byte, strings)?;
                fresh = false;
            }
        }
    }

    #[inline]
    fn scalar(&mut self, first: u8, strings: &mut impl Strings) -> Result<(), Bad> {
        match first {
            b'"' => strings.string(self.raw()?),
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => strings.number(self.number()?),
        }
        Ok(())
    }
}

/// The next byte that is no blank, and where it stands. Most often there is no blank.
#[inline]
pub(super) fn unblank(bytes: &[u8], mut at: usize) -> (usize, Option<u8>) {
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\n' | b'\t' | b'\r') => at += 1,
            byte => return (at, byte.copied()),
        }
    }
}

/// Where a string's closing quote stands, and whether it has escapes. `from`: behind the first quote.
#[inline]
pub(super) fn string_end(bytes: &[u8], from: usize) -> Result<(usize, bool), Bad> {
    let (mut at, mut escaped) = (from, false);
    loop {
        at = plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                escaped = true;
                at += match bytes.get(at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                    Some(b'u') if bytes.len() >= at + 6 && is_hex(&bytes[at + 2..at + 6]) => 6,
                    _ => return Err(Bad),
                };
            }
            _ => return Err(Bad),
        }
    }
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
#[inline]
pub(super) fn number_end(bytes: &[u8], from: usize) -> Result<usize, Bad> {
    let digits = |mut at: usize| {
        let from = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at - from
    };
    let mut at = from + usize::from(bytes.get(from) == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return Err(Bad);
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let more = digits(at + 1);
        if more == 0 {
            return Err(Bad);
        }
        at += 1 + more;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let more = digits(at + 1 + sign);
        if more == 0 {
            return Err(Bad);
        }
        at += 1 + sign + more;
    }
    Ok(at)
}

fn is_hex(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_hexdigit)
}

/// The first place that is a quote, a backslash or a control character, or the end. Eight at a time.
#[inline]
fn plain(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let special = special(u64::from_le_bytes(*chunk));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)) {
        at += 1;
    }
    at
}

/// The top bit of the first byte that is special; bytes behind it may have theirs as well.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    // With its second bit turned the quote comes right behind the control characters, and nothing else does.
    let turned = word ^ (ONES * 0x02);
    let control_or_quote = turned.wrapping_sub(ONES * 0x21) & !turned;
    let slashes = word ^ (ONES * b'\\' as u64);
    let slash = slashes.wrapping_sub(ONES) & !slashes;
    (control_or_quote | slash) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_is_found_at_every_place() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for at in 0..97 {
                let mut bytes = [b'x'; 101];
                bytes[at] = special;
                assert_eq!(plain(&bytes, 0), at, "{special:#x}");
            }
        }
        for usual in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
            assert_eq!(plain(&[usual; 23], 3), 23, "{usual:#x}");
            assert_eq!(plain(&[usual; 103], 3), 103, "{usual:#x}");
        }
    }

    #[test]
    fn lists_are_counted_and_what_comes_behind_is_left() {
        for (text, items, left) in [
            ("[]", 0, ""),
            (" [1, [2, 3], {\"a\": [4]}] x", 3, " x"),
            ("{\"a\":[1,2]}", 0, ""),
            ("\"a\\\"]\" ", 0, " "),
        ] {
            let mut scan = Scan::new(text);
            assert_eq!(scan.skip(&mut ()), Ok(items), "{text}");
            assert_eq!(&text[scan.at..], left);
        }
    }

    #[test]
    fn every_string_is_shown_names_as_well() {
        struct All(Vec<String>);
        impl Strings for All {
            fn string(&mut self, raw: &[u8]) {
                self.0.push(String::from_utf8_lossy(raw).into_owned());
            }
        }
        let mut all = All(Vec::new());
        Scan::new(r#"[{"a":"b\"","c":[["d"]]},"e"]"#).skip(&mut all).unwrap();
        assert_eq!(all.0, ["a", "b\\\"", "c", "d", "e"]);
    }
}
