//! Makes the nodes of a [`super::Doc`], in one pass and without a stack of calls: an open container keeps in `next` which one it
//! stands in.

use super::super::scan::{Bad, number_end, string_end, unblank};
use super::{DEEPEST, Kind, Node, Span, decoded};

/// No container is open.
const OUTSIDE: u32 = u32::MAX;

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: Vec<Node>,
    /// The innermost container that is not closed yet.
    open: u32,
    /// And that is a list.
    in_list: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// `None`: too long for what nodes hold.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        Some(Self { text, at: 0, nodes: Vec::with_capacity(48), open: OUTSIDE, in_list: false, depth: 0 })
    }

    pub(super) fn read(mut self) -> Result<Vec<Node>, Bad> {
        let mut name = (Span::default(), false);
        loop {
            let has_more = self.value(name)? || self.goes_on()?;
            if !has_more {
                return if self.peek().is_none() { Ok(self.nodes) } else { Err(Bad) };
            }
            name = self.name_of_next()?;
        }
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is no blank; it is not taken.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        let (at, byte) = unblank(self.bytes(), self.at);
        self.at = at;
        byte
    }

    /// `true`: a container was opened that has something in it.
    #[inline]
    fn value(&mut self, (name, odd): (Span, bool)) -> Result<bool, Bad> {
        let first = self.peek().ok_or(Bad)?;
        let (mut kind, mut text) = (Kind::Null, Span::default());
        match first {
            b'"' => {
                let escaped;
                (text, escaped) = self.string()?;
                kind = if escaped { Kind::Escaped } else { Kind::Text };
            }
            b'{' | b'[' => return self.container(first, name, odd),
            b't' => (kind, _) = (Kind::True, self.word(b"true")?),
            b'f' => (kind, _) = (Kind::False, self.word(b"false")?),
            b'n' => self.word(b"null")?,
            _ => {
                let from = self.at;
                self.at = number_end(self.bytes(), from)?;
                (kind, text) = (Kind::Number, span(from, self.at));
            }
        }
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { name, text, next, kind, odd });
        Ok(false)
    }

    #[inline]
    fn container(&mut self, first: u8, name: Span, odd: bool) -> Result<bool, Bad> {
        if self.depth == DEEPEST {
            return Err(Bad);
        }
        self.at += 1;
        let kind = if first == b'{' { Kind::Object } else { Kind::List };
        let at = self.nodes.len() as u32;
        // `[` and `]`, `{` and `}` are two apart.
        if self.peek() == Some(first + 2) {
            self.at += 1;
            self.nodes.push(Node { name, text: Span::default(), next: at + 1, kind, odd });
            return Ok(false);
        }
        self.nodes.push(Node { name, text: Span::default(), next: self.open, kind, odd });
        (self.open, self.in_list, self.depth) = (at, kind == Kind::List, self.depth + 1);
        Ok(true)
    }

    /// Behind a value: closes what ends here. `false`: nothing is open any more.
    #[inline]
    fn goes_on(&mut self) -> Result<bool, Bad> {
        loop {
            if self.depth == 0 {
                return Ok(false);
            }
            let byte = self.peek().ok_or(Bad)?;
            self.at += 1;
            if byte == b',' {
                return Ok(true);
            }
            if byte != if self.in_list { b']' } else { b'}' } {
                return Err(Bad);
            }
            self.close();
        }
    }

    #[inline]
    fn close(&mut self) {
        let next = self.nodes.len() as u32;
        let Some(closed) = self.nodes.get_mut(self.open as usize) else { return };
        self.open = std::mem::replace(&mut closed.next, next);
        self.depth -= 1;
        self.in_list = self.nodes.get(self.open as usize).is_some_and(|outer| outer.kind == Kind::List);
    }

    /// Of a member with its colon; what stands in a list has none.
    #[inline]
    fn name_of_next(&mut self) -> Result<(Span, bool), Bad> {
        if self.in_list {
            return Ok((Span::default(), false));
        }
        if self.peek() != Some(b'"') {
            return Err(Bad);
        }
        let name = self.string()?;
        if self.peek() != Some(b':') {
            return Err(Bad);
        }
        self.at += 1;
        Ok(name)
    }

    /// From its quote. Halves of surrogate pairs are not read here: [`crate::json::read_json`] mends them.
    #[inline]
    fn string(&mut self) -> Result<(Span, bool), Bad> {
        let from = self.at + 1;
        let (end, escaped) = string_end(self.bytes(), from)?;
        self.at = end + 1;
        if escaped && is_half(&self.text[from..end]) {
            return Err(Bad);
        }
        Ok((span(from, end), escaped))
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Bad> {
        if !self.bytes()[self.at..].starts_with(word) {
            return Err(Bad);
        }
        self.at += word.len();
        Ok(())
    }
}

/// It cannot be decoded.
#[cold]
fn is_half(raw: &str) -> bool {
    raw.contains("\\u") && decoded(raw).is_none()
}

/// No text is longer than its places: that was asked first.
#[inline]
fn span(from: usize, to: usize) -> Span {
    Span { at: from as u32, len: (to - from) as u32 }
}
