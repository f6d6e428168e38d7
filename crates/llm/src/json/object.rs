//! Writing JSON objects: what is absent is not written, and nothing is hashed that only has to be written down.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{write_text, write_value};

/// An object under construction; what is absent is not written.
#[derive(Debug, Default)]
pub(crate) struct Object(Vec<(Cow<'static, str>, Tree)>);

/// What stands in it.
#[derive(Debug)]
pub(crate) enum Tree {
    Value(Value),
    Object(Object),
    List(Vec<Tree>),
}

impl<T: Into<Value>> From<T> for Tree {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl From<Object> for Tree {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl Object {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(8))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Tree>) -> Self {
        self.put(name, value);
        self
    }

    pub(crate) fn maybe(mut self, name: &'static str, value: Option<impl Into<Tree>>) -> Self {
        self.put_some(name, value);
        self
    }

    pub(crate) fn put(&mut self, name: &'static str, value: impl Into<Tree>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((Cow::Borrowed(name), value)),
        }
    }

    pub(crate) fn put_some(&mut self, name: &'static str, value: Option<impl Into<Tree>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Fields of the same dialect; what is already there stands.
    pub(crate) fn extend(&mut self, fields: &Map<String, Value>) {
        let own = self.0.len();
        for (name, value) in fields {
            if !self.0[..own].iter().any(|(known, _)| known == name) {
                self.0.push((Cow::Owned(name.clone()), Tree::Value(value.clone())));
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Numbers that are not zero.
    pub(crate) fn put_positive(&mut self, numbers: &[(&'static str, u64)]) {
        for (name, number) in numbers.iter().filter(|(_, number)| *number > 0) {
            self.put(name, *number);
        }
    }

    pub(crate) fn unless_empty(self) -> Option<Value> {
        (!self.0.is_empty()).then(|| self.done())
    }

    pub(crate) fn done(self) -> Value {
        Value::Object(self.0.into_iter().map(|(name, tree)| (name.into_owned(), tree.done())).collect())
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (nth, (name, tree)) in self.0.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            write_text(name, out);
            out.push(b':');
            tree.write(out);
        }
        out.push(b'}');
    }
}

impl Tree {
    fn done(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Object(object) => object.done(),
            Self::List(list) => list.into_iter().map(Self::done).collect(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(Value::String(text)) => write_text(text, out),
            Self::Value(value) => write_value(value, out),
            Self::Object(object) => object.write(out),
            Self::List(list) => {
                out.push(b'[');
                for (nth, tree) in list.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    tree.write(out);
                }
                out.push(b']');
            }
        }
    }
}
