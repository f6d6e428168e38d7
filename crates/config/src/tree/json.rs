//! JSON (RFC 8259) into a tree. serde_json reads numbers and strings but tells no lines of values; hence this walk.

use std::collections::HashSet;

use super::{Key, MAX_DEPTH, MAX_NODES, Mark, Node, Unreadable, Value};

pub(super) fn read(text: &str, file: u32) -> Result<Node, Unreadable> {
    let mut reader = Reader { text, at: 0, line: 1, line_start: 0, file, nodes: 0 };
    reader.space();
    let root = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(root),
        Some(_) => Err(reader.error("something follows the document")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    line_start: usize,
    file: u32,
    nodes: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Node, Unreadable> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(self.error(&format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            return Err(self.error(&format!("more than {MAX_NODES} values")));
        }
        let mark = self.mark();
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Scalar { text: self.string()?, plain: false },
            Some(_) => self.word()?,
            None => return Err(self.error("the text ends too early")),
        };
        Ok(Node { mark, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashSet::new();
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(Value::Map(entries));
        }
        loop {
            let mark = self.mark();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in double quotes"));
            }
            let text = self.string()?;
            if !seen.insert(text.clone()) {
                return Err(Unreadable::new(mark, format!("`{text}` is already set in this object")));
            }
            self.space();
            self.expect(b':')?;
            self.space();
            entries.push((Key { mark, text }, self.value(depth + 1)?));
            if self.ends(b'}')? {
                return Ok(Value::Map(entries));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.ends(b']')? {
                return Ok(Value::List(items));
            }
        }
    }

    /// After an item: the closing bracket, or a comma and the next item.
    fn ends(&mut self, close: u8) -> Result<bool, Unreadable> {
        self.space();
        if self.take(close) {
            return Ok(true);
        }
        self.expect(b',')?;
        self.space();
        Ok(false)
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        while let Some(&byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let quoted = self.text.get(self.at..=end).ok_or_else(|| self.error("this text has no end"))?;
        let text =
            serde_json::from_str(quoted).map_err(|_| self.error("a text with a bad escape or a bare line end"))?;
        self.at = end + 1;
        Ok(text)
    }

    fn word(&mut self) -> Result<Value, Unreadable> {
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))).unwrap_or(rest.len());
        let word = &rest[..end];
        let value = match serde_json::from_str::<serde_json::Value>(word) {
            Ok(serde_json::Value::Null) => Value::Null,
            Ok(serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
                Value::Scalar { text: word.to_owned(), plain: true }
            }
            _ => return Err(self.error("expected a value")),
        };
        self.at += end;
        Ok(value)
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.at += 1;
            if byte == b'\n' {
                self.line = self.line.saturating_add(1);
                self.line_start = self.at;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.take(byte) { Ok(()) } else { Err(self.error(&format!("expected `{}`", char::from(byte)))) }
    }

    fn mark(&self) -> Mark {
        let column = u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX);
        Mark { file: self.file, line: self.line, column }
    }

    fn error(&self, reason: &str) -> Unreadable {
        Unreadable::new(self.mark(), format!("not valid JSON: {reason}"))
    }
}
