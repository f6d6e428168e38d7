//! Server-sent events as the WHATWG reads them: lines end with CR, LF or CRLF, a byte-order mark at the start is skipped,
//! a line that starts with a colon is a comment, several `data:` lines are one piece with line feeds between.
//!
//! One thing differs: an event without its blank line at the end of the stream is still told. Providers forget it.

use memchr::{memchr, memchr2};

use super::{Broken, Frame, FrameKind};

#[derive(Debug)]
pub struct Decoder {
    max: usize,
    /// The line that has not ended yet.
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    name: String,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    first_line: bool,
    /// Bytes since the last event ended.
    open: usize,
}

pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";

impl Decoder {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: String::new(),
            after_cr: false,
            first_line: true,
            open: 0,
        }
    }

    pub fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(Frame<'_>)) -> Result<(), Broken> {
        // How much is left behind the last event that ended.
        let mut behind = (self.open == 0).then_some(bytes.len());
        let read = self.read(bytes, &mut behind, take);
        self.open = behind.unwrap_or(self.open + bytes.len());
        read
    }

    /// Bytes at the end of what was pushed that belong to an event which has not ended.
    pub fn open(&self) -> usize {
        self.open
    }

    fn read(
        &mut self,
        mut bytes: &[u8],
        behind: &mut Option<usize>,
        take: &mut dyn FnMut(Frame<'_>),
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                let ended = *behind == Some(bytes.len());
                bytes = &bytes[1..];
                *behind = if ended { Some(bytes.len()) } else { *behind };
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + part.len() > self.max {
                return Err(Broken::TooLarge);
            }
            let Some(ending) = rest.first() else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            self.after_cr = *ending == b'\r';
            bytes = &rest[1..];
            // By far the most events: one line of data, all of it here, and its blank line right behind it.
            if let (Some(data), true, b"\n") = (self.only_data(part), bytes.starts_with(b"\n"), &rest[..1]) {
                take(Frame { kind: FrameKind::Data, name: &self.name, data });
                self.name.clear();
                bytes = &bytes[1..];
                *behind = Some(bytes.len());
                continue;
            }
            if self.line.is_empty() {
                self.end_line(part, take);
            } else {
                self.line.extend_from_slice(part);
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, take);
                self.line = line;
                self.line.clear();
            }
            // A blank line ends an event; a comment belongs to none.
            if !self.has_data && self.name.is_empty() {
                *behind = Some(bytes.len());
            }
        }
        Ok(())
    }

    /// Of a line that is an event's first of data.
    fn only_data<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let data =
            line.strip_prefix(b"data:").filter(|_| self.line.is_empty() && !self.has_data && !self.first_line)?;
        Some(data.strip_prefix(b" ").unwrap_or(data)).filter(|data| !data.is_empty())
    }

    pub fn finish(&mut self, take: &mut dyn FnMut(Frame<'_>)) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, take);
        }
        self.dispatch(take);
    }

    fn end_line(&mut self, line: &[u8], take: &mut dyn FnMut(Frame<'_>)) {
        let line = match std::mem::take(&mut self.first_line) {
            true => line.strip_prefix(BOM).unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            return self.dispatch(take);
        }
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, take: &mut dyn FnMut(Frame<'_>)) {
        if self.has_data && !self.data.is_empty() {
            take(Frame { kind: FrameKind::Data, name: &self.name, data: &self.data });
        }
        self.has_data = false;
        self.data.clear();
        self.name.clear();
    }
}

/// One event, as encoders write it. `data` holds no line ends: compact JSON never does.
pub fn write(name: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut decoder = Decoder::new(1_000);
        let mut seen = Vec::new();
        let mut take = |frame: Frame<'_>| {
            seen.push((frame.name.to_owned(), String::from_utf8_lossy(frame.data).into_owned()));
        };
        for piece in pieces {
            decoder.push(piece, &mut take).unwrap();
        }
        decoder.finish(&mut take);
        seen
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn line_3_comments_empty_data_and_every_line_end_are_read() {
        let stream: &[u8] = b"\xEF\xBB\xBF: hello\r\n\r\nevent: a\rdata: 1\r\rdata:2\ndata: 3\n\ndata:\n\ndata\n\nid: 9\nretry: 1\ndata:  4\n\n";
        let want = vec![event("a", "1"), event("", "2\n3"), event("", " 4")];
        assert_eq!(events(&[stream]), want);
        for cut in 0..stream.len() {
            assert_eq!(events(&[&stream[..cut], &stream[cut..]]), want, "cut at {cut}");
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&single), want);
    }

    #[test]
    fn the_last_event_needs_no_blank_line() {
        assert_eq!(events(&[b"data: x"]), vec![event("", "x")]);
        assert_eq!(events(&[b"data: x\n"]), vec![event("", "x")]);
    }

    #[test]
    fn what_is_open_is_an_event_that_has_not_ended() {
        let mut decoder = Decoder::new(1_000);
        for (piece, open) in [
            ("data: 1", 7),
            ("\n", 8),
            ("\r", 0),
            ("\n", 0),
            (": ping\n", 0),
            (": pi", 4),
            ("ng\r\n", 0),
            ("event: a\n", 9),
            (": ping\n", 16),
            ("data: 1\n\ndata", 4),
            (": 2\n\n", 0),
            ("id: 9\n", 0),
            ("data: 3\r\rx", 1),
        ] {
            decoder.push(piece.as_bytes(), &mut |_| ()).unwrap();
            assert_eq!(decoder.open(), open, "{piece:?}");
        }
    }

    #[test]
    fn a_line_or_an_event_that_never_ends_is_refused() {
        let mut decoder = Decoder::new(10);
        assert_eq!(decoder.push(b"data: 1234567", &mut |_| ()), Err(Broken::TooLarge));
        let mut decoder = Decoder::new(10);
        assert_eq!(decoder.push(b"data:1234\ndata:5678\n", &mut |_| ()), Err(Broken::TooLarge));
    }
}
