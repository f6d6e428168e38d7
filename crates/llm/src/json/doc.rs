//! JSON that is only looked at: a list of nodes over the bytes it was read from, in one allocation. Names and texts stay where
//! they are; who asks for a text with escapes gets it decoded. Of members that are given twice the last counts, as it does
//! for serde_json.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::exact;
use super::scan::{Bad, Raw, Scan};

/// As serde_json has it.
const DEEPEST: usize = 127;

#[derive(Debug)]
pub(crate) struct Doc<'a> {
    nodes: Vec<Node<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    name: Raw<'a>,
    kind: Kind,
    /// Texts without their quotes.
    text: &'a str,
    /// Where the next node begins that is not within this one.
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    True,
    False,
    Number,
    Text,
    Escaped,
    List,
    Object,
}

const NAMELESS: Raw<'static> = Raw { text: "", escaped: false };

impl<'a> Doc<'a> {
    /// `None`: not JSON, or nested too deep.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut doc = Doc { nodes: Vec::with_capacity(48) };
        let mut scan = Scan::new(text);
        doc.value(&mut scan, NAMELESS, 0).ok()?;
        scan.end().ok()?;
        Some(doc)
    }

    pub(crate) fn root(&self) -> At<'_> {
        At { doc: self, node: Some(0) }
    }

    fn value(&mut self, scan: &mut Scan<'a>, name: Raw<'a>, depth: usize) -> Result<(), Bad> {
        let first = scan.peek().ok_or(Bad)?;
        let at = self.nodes.len();
        self.nodes.push(Node { name, kind: Kind::Null, text: "", next: 0 });
        let (mut kind, mut text) = (Kind::Null, "");
        match first {
            b'"' => {
                let raw = whole(scan.string()?)?;
                (kind, text) = (if raw.escaped { Kind::Escaped } else { Kind::Text }, raw.text);
            }
            b'{' | b'[' if depth == DEEPEST => return Err(Bad),
            b'{' => {
                kind = Kind::Object;
                self.object(scan, depth + 1)?;
            }
            b'[' => {
                kind = Kind::List;
                self.list(scan, depth + 1)?;
            }
            b't' => (kind, _) = (Kind::True, scan.word("true")?),
            b'f' => (kind, _) = (Kind::False, scan.word("false")?),
            b'n' => scan.word("null")?,
            _ => (kind, text) = (Kind::Number, scan.number()?),
        }
        let next = u32::try_from(self.nodes.len()).map_err(|_| Bad)?;
        let node = &mut self.nodes[at];
        (node.kind, node.text, node.next) = (kind, text, next);
        Ok(())
    }

    fn object(&mut self, scan: &mut Scan<'a>, depth: usize) -> Result<(), Bad> {
        scan.take(b'{')?;
        if scan.eat(b'}') {
            return Ok(());
        }
        loop {
            scan.peek();
            let name = whole(scan.string()?)?;
            scan.take(b':')?;
            self.value(scan, name, depth)?;
            if !scan.eat(b',') {
                return scan.take(b'}');
            }
        }
    }

    fn list(&mut self, scan: &mut Scan<'a>, depth: usize) -> Result<(), Bad> {
        scan.take(b'[')?;
        if scan.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(scan, NAMELESS, depth)?;
            if !scan.eat(b',') {
                return scan.take(b']');
            }
        }
    }
}

/// A value, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'d> {
    doc: &'d Doc<'d>,
    node: Option<u32>,
}

impl<'d> At<'d> {
    fn node(self) -> Option<&'d Node<'d>> {
        self.doc.nodes.get(self.node? as usize)
    }

    /// `None`: its name is written with escapes.
    pub(crate) fn members(self) -> impl Iterator<Item = (Option<&'d str>, Self)> {
        let at = move |(at, node): (u32, &'d Node<'d>)| {
            (Some(node.name.text).filter(|_| !node.name.escaped), Self { node: Some(at), ..self })
        };
        self.within(Kind::Object).map(at)
    }

    pub(crate) fn flag(self) -> Option<bool> {
        match self.node()?.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// As it is written.
    pub(crate) fn number(self) -> Option<&'d str> {
        self.node().filter(|node| node.kind == Kind::Number).map(|node| node.text)
    }

    /// All of it. `number`: of one as it is written; `None`: it cannot be held.
    pub(super) fn tree(self, number: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        let node = self.node()?;
        Some(match node.kind {
            Kind::Null => Value::Null,
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Number => number(node.text)?,
            Kind::Text => Value::String(node.text.to_owned()),
            Kind::Escaped => Value::String(decoded(node.text)?),
            Kind::List => Value::Array(self.items().map(|item| item.tree(number)).collect::<Option<_>>()?),
            Kind::Object => {
                let mut members = Map::new();
                for (at, member) in self.within(Kind::Object) {
                    let name = match member.name.escaped {
                        true => Cow::Owned(decoded(member.name.text)?),
                        false => Cow::Borrowed(member.name.text),
                    };
                    let value = Self { node: Some(at), ..self }.tree(number)?;
                    members.insert(exact::name(&name).to_owned(), value);
                }
                Value::Object(members)
            }
        })
    }

    fn within(self, kind: Kind) -> impl Iterator<Item = (u32, &'d Node<'d>)> {
        let doc = self.doc;
        let end = self.node().filter(|node| node.kind == kind).map_or(0, |node| node.next);
        let mut at = self.node.map_or(0, |at| at + 1);
        std::iter::from_fn(move || {
            let node = doc.nodes.get(at as usize).filter(|_| at < end)?;
            let found = (at, node);
            at = node.next;
            Some(found)
        })
    }
}

/// JSON that can be looked at, in whatever form. What is not there is null.
pub(crate) trait Look<'v>: Copy {
    fn at(self, name: &str) -> Self;
    fn items(self) -> impl Iterator<Item = Self>;
    fn is_object(self) -> bool;
    fn is_null(self) -> bool;
    fn is_true(self) -> bool;
    fn text(self) -> Option<Cow<'v, str>>;
    fn u64(self) -> Option<u64>;
    fn f64(self) -> Option<f64>;

    fn is_list(self) -> bool;

    fn first(self) -> Option<Self> {
        self.items().next()
    }

    /// Is it this text?
    fn says(self, text: &str) -> bool {
        self.text().is_some_and(|said| said == text)
    }

    /// `12` and `12.0` alike: JavaScript does not tell them apart.
    fn whole(self) -> Option<u64> {
        self.u64().or_else(|| {
            let float = self.f64()?;
            (float.fract() == 0.0 && (0.0..9.0e15).contains(&float)).then_some(float as u64)
        })
    }
}

impl<'d> Look<'d> for At<'d> {
    fn at(self, name: &str) -> Self {
        let is_it = |raw: Raw<'_>| match raw.escaped {
            false => raw.text == name,
            true => decoded(raw.text).is_some_and(|decoded| decoded == name),
        };
        let found = self.within(Kind::Object).filter(|(_, node)| is_it(node.name)).last();
        Self { node: found.map(|(at, _)| at), ..self }
    }

    fn items(self) -> impl Iterator<Item = Self> {
        self.within(Kind::List).map(move |(at, _)| Self { node: Some(at), ..self })
    }

    fn is_object(self) -> bool {
        self.node().is_some_and(|node| node.kind == Kind::Object)
    }

    fn is_list(self) -> bool {
        self.node().is_some_and(|node| node.kind == Kind::List)
    }

    fn is_null(self) -> bool {
        self.node().is_none_or(|node| node.kind == Kind::Null)
    }

    fn is_true(self) -> bool {
        self.node().is_some_and(|node| node.kind == Kind::True)
    }

    fn text(self) -> Option<Cow<'d, str>> {
        let node = self.node()?;
        match node.kind {
            Kind::Text => Some(Cow::Borrowed(node.text)),
            Kind::Escaped => decoded(node.text).map(Cow::Owned),
            _ => None,
        }
    }

    fn u64(self) -> Option<u64> {
        self.node().filter(|node| node.kind == Kind::Number)?.text.parse().ok()
    }

    fn f64(self) -> Option<f64> {
        let number: f64 = self.node().filter(|node| node.kind == Kind::Number)?.text.parse().ok()?;
        number.is_finite().then_some(number)
    }
}

impl<'v> Look<'v> for &'v Value {
    fn at(self, name: &str) -> Self {
        &self[name]
    }

    fn items(self) -> impl Iterator<Item = Self> {
        self.as_array().into_iter().flatten()
    }

    fn is_object(self) -> bool {
        Value::is_object(self)
    }

    fn is_list(self) -> bool {
        self.is_array()
    }

    fn is_null(self) -> bool {
        Value::is_null(self)
    }

    fn is_true(self) -> bool {
        *self == true
    }

    fn text(self) -> Option<Cow<'v, str>> {
        self.as_str().map(Cow::Borrowed)
    }

    fn u64(self) -> Option<u64> {
        self.as_u64().or_else(|| exact::held(self)?.parse().ok())
    }

    fn f64(self) -> Option<f64> {
        self.as_f64().or_else(|| exact::held(self)?.parse().ok())
    }
}

/// Halves of surrogate pairs are not read here: [`super::read_json`] mends them.
fn whole(raw: Raw<'_>) -> Result<Raw<'_>, Bad> {
    if raw.escaped && raw.text.contains("\\u") && decoded(raw.text).is_none() {
        return Err(Bad);
    }
    Ok(raw)
}

#[cold]
fn decoded(raw: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{raw}\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As serde_json reads it, wherever one looks.
    fn same(at: At<'_>, value: &Value) {
        assert_eq!(
            (at.is_null(), at.is_object(), at.is_list()),
            (value.is_null(), value.is_object(), value.is_array())
        );
        assert_eq!(at.is_true(), *value == true);
        assert_eq!((at.text().as_deref(), at.u64()), (value.as_str(), value.as_u64()));
        assert_eq!((at.f64(), Look::whole(at)), (value.as_f64(), Look::whole(value)));
        assert_eq!(at.items().count(), Look::items(value).count());
        at.items().zip(Look::items(value)).for_each(|(at, value)| same(at, value));
        for (name, value) in value.as_object().into_iter().flatten() {
            same(at.at(name), value);
        }
        assert!(at.at("not there").is_null() && at.at("not there").at("neither").first().is_none());
    }

    #[test]
    fn it_is_looked_at_as_serde_json_would() {
        for text in [
            r#"{"a":1,"b":[{"c":"d\n\u00e9"},null,true,-2.5e3,[]],"\u0061b":"x","e":{},"f":12.0,"g":18446744073709551615}"#,
            r#" {"a":1,"a":{"b":2},"h":false} "#,
            "[1,2,[3]]",
            "7",
            "\"text\"",
            "{}",
        ] {
            let doc = Doc::read(text.as_bytes()).expect(text);
            same(doc.root(), &serde_json::from_str(text).unwrap());
        }
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_not_read() {
        for text in [
            "",
            "{",
            "{\"a\":}",
            "[1,]",
            "[1 2]",
            "{\"a\" 1}",
            "nul",
            "1 1",
            "\"\\x\"",
            "\"\\ud83d\"",
            "01",
            "{,}",
            "\u{7f}",
        ] {
            assert!(Doc::read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Doc::read(b"\"\xff\"").is_none());
        for (depth, is_read) in [(127, true), (128, false), (100_000, false)] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            assert_eq!(Doc::read(text.as_bytes()).is_some(), is_read, "{depth}");
            assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), is_read, "{depth}");
        }
    }
}
