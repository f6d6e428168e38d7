//! JSON that is only looked at: a list of nodes over the bytes it was read from, in one allocation. Names and texts stay where
//! they are; who asks for a text with escapes gets it decoded. Of members that are given twice the last counts, as it does
//! for serde_json.

mod reader;

use std::borrow::Cow;

use serde_json::{Map, Value};

use self::reader::Reader;
use super::exact;

/// As serde_json has it.
const DEEPEST: usize = 127;

#[derive(Debug)]
pub(crate) struct Doc<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

/// Small: they are made for each value of each answer.
#[derive(Debug, Clone, Copy)]
struct Node {
    name: Span,
    /// Of texts and numbers; without quotes.
    text: Span,
    /// Where the next node begins that is not within this one.
    next: u32,
    kind: Kind,
    /// The name is written with escapes.
    odd: bool,
}

/// Bytes of the text.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    at: u32,
    len: u32,
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

impl<'a> Doc<'a> {
    /// `None`: not JSON, or nested too deep.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let nodes = Reader::new(text)?.read().ok()?;
        Some(Doc { text, nodes })
    }

    pub(crate) fn root(&self) -> At<'_> {
        At { doc: self, node: Some(0) }
    }

    #[inline]
    fn part(&self, span: Span) -> &str {
        &self.text[span.at as usize..span.at as usize + span.len as usize]
    }

    #[inline]
    fn is_named(&self, node: &Node, name: &str) -> bool {
        if node.odd {
            return self.is_decoded(node, name);
        }
        let at = node.name.at as usize;
        node.name.len as usize == name.len() && &self.text.as_bytes()[at..at + name.len()] == name.as_bytes()
    }

    #[cold]
    fn is_decoded(&self, node: &Node, name: &str) -> bool {
        decoded(self.part(node.name)).is_some_and(|decoded| decoded == name)
    }
}

/// A value, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'d> {
    doc: &'d Doc<'d>,
    node: Option<u32>,
}

impl<'d> At<'d> {
    #[inline]
    fn node(self) -> Option<&'d Node> {
        self.doc.nodes.get(self.node? as usize)
    }

    /// `None`: its name is written with escapes.
    pub(crate) fn members(self) -> impl Iterator<Item = (Option<&'d str>, Self)> {
        let doc = self.doc;
        let at = move |(at, node): (u32, &'d Node)| {
            ((!node.odd).then(|| doc.part(node.name)), Self { node: Some(at), ..self })
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
        self.node().filter(|node| node.kind == Kind::Number).map(|node| self.doc.part(node.text))
    }

    /// All of it. `number`: of one as it is written; `None`: it cannot be held.
    pub(super) fn tree(self, number: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        let node = self.node()?;
        let text = || self.doc.part(node.text);
        Some(match node.kind {
            Kind::Null => Value::Null,
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Number => number(text())?,
            Kind::Text => Value::String(text().to_owned()),
            Kind::Escaped => Value::String(decoded(text())?),
            Kind::List => Value::Array(self.items().map(|item| item.tree(number)).collect::<Option<_>>()?),
            Kind::Object => {
                let mut members = Map::new();
                for (at, member) in self.within(Kind::Object) {
                    let name = self.doc.part(member.name);
                    let name = if member.odd { Cow::Owned(decoded(name)?) } else { Cow::Borrowed(name) };
                    let value = Self { node: Some(at), ..self }.tree(number)?;
                    members.insert(exact::name(&name).to_owned(), value);
                }
                Value::Object(members)
            }
        })
    }

    #[inline]
    fn within(self, kind: Kind) -> impl Iterator<Item = (u32, &'d Node)> {
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

    /// Several members at once.
    #[inline]
    fn each<const N: usize>(self, names: [&str; N]) -> [Self; N] {
        let mut found = [self; N];
        for (found, name) in found.iter_mut().zip(&names) {
            *found = self.at(name);
        }
        found
    }

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
        let [found] = self.each([name]);
        found
    }

    /// In one pass. Inlined and by index, so that each name is compared as the constant that it is: iterators side by side
    /// are not unrolled.
    #[inline(always)]
    fn each<const N: usize>(self, names: [&str; N]) -> [Self; N] {
        let mut found = [Self { node: None, ..self }; N];
        for (at, node) in self.within(Kind::Object) {
            for i in 0..N {
                if self.doc.is_named(node, names[i]) {
                    found[i].node = Some(at);
                }
            }
        }
        found
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
            Kind::Text => Some(Cow::Borrowed(self.doc.part(node.text))),
            Kind::Escaped => decoded(self.doc.part(node.text)).map(Cow::Owned),
            _ => None,
        }
    }

    fn u64(self) -> Option<u64> {
        self.number()?.parse().ok()
    }

    fn f64(self) -> Option<f64> {
        let number: f64 = self.number()?.parse().ok()?;
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
            let [first, none, again] = at.each([name, "not there", name]);
            assert_eq!((first.node, none.node, again.node), (at.at(name).node, None, at.at(name).node));
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
