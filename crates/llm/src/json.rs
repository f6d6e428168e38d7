//! Reading JSON objects field by field, so that what nobody read can be named.
//!
//! Requests are read strictly (a wrong type is the caller's mistake and gets a path); answers are read leniently by
//! indexing `serde_json::Value`, which answers `Null` for whatever is not there.

mod arguments;
mod doc;
mod exact;
mod mended;
mod object;
pub(crate) mod scan;

use std::fmt;

use serde_json::{Map, Number, Value};

pub(crate) use self::arguments::object_of;
pub(crate) use self::doc::{At, Doc, Look};
pub(crate) use self::mended::parse as read_json;
pub(crate) use self::object::{Object, Tree};

/// A request that its own dialect does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub path: String,
    pub reason: String,
}

impl Malformed {
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// The same mistake seen from one level further out.
    pub(crate) fn under(mut self, outer: &str) -> Self {
        self.path = match (self.path.is_empty(), self.path.starts_with('[')) {
            (true, _) => outer.to_owned(),
            (_, true) => format!("{outer}{}", self.path),
            _ => format!("{outer}.{}", self.path),
        };
        self
    }

    pub(crate) fn at(self, list: &str, index: usize) -> Self {
        self.under(&format!("{list}[{index}]"))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.path, self.reason) }
    }
}

impl std::error::Error for Malformed {}

pub(crate) type Read<T> = Result<T, Malformed>;

/// An object being read. `null` counts as absent, as it does for every provider.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// The body of a request. Nesting is bounded by serde_json (128 levels), size by whoever read the body.
    pub(crate) fn parse(body: &[u8]) -> Read<Self> {
        let value = read_json(body).map_err(|e| Malformed::new("", format!("not valid JSON: {e}")))?;
        Self::of(value)
    }

    pub(crate) fn of(value: Value) -> Read<Self> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(wrong("", "an object", &other)),
        }
    }

    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Google's APIs read camelCase and snake_case alike.
    pub(crate) fn snake_too(mut self) -> Self {
        let snakes: Vec<String> = self.0.keys().filter(|key| key.contains('_')).cloned().collect();
        for snake in snakes {
            let camel = camel(&snake);
            if let Some(value) = self.0.remove(&snake) {
                self.0.entry(camel).or_insert(value);
            }
        }
        self
    }

    pub(crate) fn text(&mut self, name: &str) -> Read<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", &other)),
        }
    }

    pub(crate) fn need_text(&mut self, name: &str) -> Read<String> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn count(&mut self, name: &str) -> Read<Option<u64>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => whole(&value).map(Some).ok_or_else(|| wrong(name, "a whole number, not negative", &value)),
        }
    }

    pub(crate) fn number(&mut self, name: &str) -> Read<Option<Number>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(other) => {
                let held = exact::held(&other).and_then(|text| text.parse().ok());
                held.map(Some).ok_or_else(|| wrong(name, "a number", &other))
            }
        }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Read<Option<bool>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    pub(crate) fn list(&mut self, name: &str) -> Read<Option<Vec<Value>>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong(name, "a list", &other)),
        }
    }

    pub(crate) fn need_list(&mut self, name: &str) -> Read<Vec<Value>> {
        self.list(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn object(&mut self, name: &str) -> Read<Option<Self>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) if exact::held(&value).is_some() => Err(wrong(name, "an object", &value)),
            Some(Value::Object(map)) => Ok(Some(Self(map))),
            Some(other) => Err(wrong(name, "an object", &other)),
        }
    }

    pub(crate) fn need_object(&mut self, name: &str) -> Read<Self> {
        self.object(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn texts(&mut self, name: &str) -> Read<Vec<String>> {
        let list = self.list(name)?.unwrap_or_default();
        list.into_iter()
            .enumerate()
            .map(|(i, item)| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong("", "a string", &other).at(name, i)),
            })
            .collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn put_back(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// What nobody asked for.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.0.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// All of it, nulls and all: data that is not ours to read.
    pub(crate) fn whole(self) -> Map<String, Value> {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn missing(name: &str) -> Malformed {
    Malformed::new(name, "is required")
}

pub(crate) fn wrong(name: &str, want: &str, got: &Value) -> Malformed {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        held if exact::held(held).is_some() => "a number",
        Value::Object(_) => "an object",
    };
    Malformed::new(name, format!("must be {want}, not {got}"))
}

/// `12` and `12.0` alike: JavaScript does not tell them apart.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    Look::whole(value)
}

/// A count in an answer; what is missing or strange counts as zero.
pub(crate) fn tally<'v>(value: impl Look<'v>) -> u64 {
    value.whole().unwrap_or(0)
}

pub(crate) fn text_of(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

pub(crate) fn string_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// `text` as a JSON string, at the end of `out`.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing a string into memory does not fail");
}

/// Numbers as they came in.
pub(crate) fn write_value(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &exact::Exact(value)).expect("writing a value into memory does not fail");
}

/// JSON in a text: arguments of a call.
pub(crate) fn text(value: &Value) -> String {
    serde_json::to_string(&exact::Exact(value)).expect("writing a value into memory does not fail")
}

fn camel(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    for (i, word) in snake.split('_').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if i > 0 => camel.extend(first.to_uppercase().chain(letters)),
            Some(first) => camel.extend(std::iter::once(first).chain(letters)),
            None => {}
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn snake_case_names_are_read_as_camel_case() {
        let mut fields = Fields::of(json!({"system_instruction": 1, "topK": 2})).unwrap().snake_too();
        assert_eq!(fields.value("systemInstruction"), Some(json!(1)));
        assert_eq!(fields.value("topK"), Some(json!(2)));
    }

    #[test]
    fn a_mistake_deep_inside_is_told_with_its_path() {
        let inner = Malformed::new("text", "is required").at("content", 2).at("messages", 0);
        assert_eq!(inner.to_string(), "messages[0].content[2].text: is required");
    }
}
