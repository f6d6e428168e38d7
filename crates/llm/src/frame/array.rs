//! A JSON array that grows: `[{…},\r\n{…}]`, each element told as soon as it is whole. A single object counts as an array
//! of one: that is how Gemini sends an error.

use super::{Broken, Frame, FrameKind};

#[derive(Debug)]
pub struct Decoder {
    max: usize,
    element: Vec<u8>,
    /// Brackets open inside the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Whether the outer bracket was seen; a lone object has none.
    outer: bool,
    /// Bytes since the last element ended.
    open: usize,
}

impl Decoder {
    pub fn new(max: usize) -> Self {
        Self { max, element: Vec::new(), depth: 0, in_string: false, escaped: false, outer: false, open: 0 }
    }

    pub fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(Frame<'_>)) -> Result<(), Broken> {
        for byte in bytes {
            self.open += 1;
            if self.depth == 0 {
                self.between(*byte)?;
                continue;
            }
            if self.element.len() >= self.max {
                return Err(Broken::TooLarge);
            }
            self.element.push(*byte);
            self.inside(*byte);
            if self.depth == 0 {
                take(Frame { kind: FrameKind::Data, name: "", data: &self.element });
                self.element.clear();
                self.open = 0;
            }
        }
        Ok(())
    }

    /// Bytes behind the last whole element: its comma, the end of the array, half of the next.
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn is_between_elements(&self) -> bool {
        self.depth == 0
    }

    fn between(&mut self, byte: u8) -> Result<(), Broken> {
        match byte {
            b'{' => {
                self.depth = 1;
                self.element.push(byte);
            }
            b'[' if !self.outer => self.outer = true,
            b',' | b']' if self.outer => {}
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return Err(Broken::NotAnArray),
        }
        Ok(())
    }

    fn inside(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if std::mem::take(&mut self.escaped) => {}
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_7_elements_of_an_array_are_told_one_by_one_however_cut() {
        let stream = br#"[{"a":"}]\"{"},
 {"b":[{"c":1}]}
]"#;
        for step in 1..stream.len() {
            let mut decoder = Decoder::new(100);
            let mut seen = Vec::new();
            for piece in stream.chunks(step) {
                decoder.push(piece, &mut |f| seen.push(String::from_utf8_lossy(f.data).into_owned())).unwrap();
            }
            assert_eq!(seen, [r#"{"a":"}]\"{"}"#, r#"{"b":[{"c":1}]}"#]);
            assert!(decoder.is_between_elements());
        }
    }

    #[test]
    fn what_is_no_array_or_has_no_end_is_refused() {
        assert_eq!(Decoder::new(9).push(b"<html>", &mut |_| ()), Err(Broken::NotAnArray));
        assert_eq!(Decoder::new(9).push(b"[{\"a\":12345678}]", &mut |_| ()), Err(Broken::TooLarge));
    }
}
