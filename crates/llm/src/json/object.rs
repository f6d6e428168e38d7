//! Writing JSON objects: what is absent is not written.

use serde_json::{Map, Value};

/// An object under construction; what is absent is not written.
#[derive(Debug, Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.put(name, value);
        self
    }

    pub(crate) fn maybe(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        self.put_some(name, value);
        self
    }

    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(crate) fn put_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Fields of the same dialect; what is already there stands.
    pub(crate) fn extend(&mut self, fields: &Map<String, Value>) {
        for (name, value) in fields {
            if !self.0.contains_key(name) {
                self.0.insert(name.clone(), value.clone());
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Numbers that are not zero.
    pub(crate) fn put_positive(&mut self, numbers: &[(&str, u64)]) {
        for (name, number) in numbers.iter().filter(|(_, number)| *number > 0) {
            self.put(name, *number);
        }
    }

    pub(crate) fn unless_empty(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(Value::Object(self.0))
    }

    pub(crate) fn done(self) -> Value {
        Value::Object(self.0)
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.done().to_string().into_bytes()
    }
}
