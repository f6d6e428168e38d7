//! Arguments that Gemini streams in pieces: `{"jsonPath": "$.a.b[0]", "stringValue": "…", "willContinue": true}`.
//! The object is put together here; the calls that callers see arrive whole.

use serde_json::{Map, Value};

use crate::json::{self, text_of};
use crate::signature::Signature;

#[derive(Debug)]
pub(super) struct Partial {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) signature: Option<Signature>,
    arguments: Value,
    /// Bytes and places: what was put in so far, for the bound.
    size: usize,
}

/// Paths deeper than any schema.
const DEEPEST: usize = 64;
/// Lists longer than any model writes; each place costs.
const LONGEST: usize = 65_536;

impl Partial {
    pub(super) fn new(id: String, name: String, signature: Option<Signature>) -> Self {
        Self { id, name, signature, arguments: Value::Object(Map::new()), size: 0 }
    }

    /// `false`: a path that nobody can follow, or more than `max` bytes.
    pub(super) fn add(&mut self, pieces: &Value, max: usize) -> bool {
        let pieces = pieces.as_array().map_or(&[][..], Vec::as_slice);
        pieces.iter().all(|piece| self.piece(piece, max))
    }

    pub(super) fn arguments(&self) -> String {
        json::text(&self.arguments)
    }

    fn piece(&mut self, piece: &Value, max: usize) -> bool {
        let Some(path) = piece["jsonPath"].as_str().and_then(steps) else { return false };
        let text = piece["stringValue"].as_str();
        self.size += text.map_or(0, str::len) + path.iter().map(Step::cost).sum::<usize>();
        if self.size > max {
            return false;
        }
        let Some(place) = path.iter().try_fold(&mut self.arguments, follow) else { return false };
        match (text, place) {
            // Text grows; an empty piece ends it.
            (Some(more), Value::String(text)) => text.push_str(more),
            (Some(text), place) => *place = text.into(),
            (None, place) => {
                let value = [&piece["numberValue"], &piece["boolValue"]].into_iter().find(|value| !value.is_null());
                *place = value.cloned().unwrap_or_default();
            }
        }
        true
    }
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Step<'_> {
    fn cost(&self) -> usize {
        match self {
            Self::Key(key) => key.len() + 16,
            // All places before it come into being with it.
            Self::Index(index) => index.saturating_add(1).saturating_mul(16),
        }
    }
}

/// `$.a.b[0]["c"]`.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() && steps.len() < DEEPEST {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (key, left) = after.split_at(end);
            steps.push(Step::Key(text_of_key(key)?));
            rest = left;
        } else {
            let (inner, left) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = inner.strip_prefix(['"', '\'']).and_then(|inner| inner.strip_suffix(['"', '\'']));
            steps.push(match quoted {
                Some(key) => Step::Key(key),
                None => Step::Index(inner.parse().ok().filter(|index| *index < LONGEST)?),
            });
            rest = left;
        }
    }
    rest.is_empty().then_some(steps)
}

fn text_of_key(key: &str) -> Option<&str> {
    (!key.is_empty()).then_some(key)
}

fn follow<'a>(value: &'a mut Value, step: &Step<'_>) -> Option<&'a mut Value> {
    match step {
        Step::Key(key) => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            Some(value.as_object_mut()?.entry(*key).or_insert(Value::Null))
        }
        Step::Index(index) => {
            if value.is_null() {
                *value = Value::Array(Vec::new());
            }
            let list = value.as_array_mut()?;
            while list.len() <= *index {
                list.push(Value::Null);
            }
            list.get_mut(*index)
        }
    }
}

/// Whether a call says that more of it comes.
pub(super) fn goes_on(call: &Value) -> bool {
    call["willContinue"] == true
}

/// Whether it is a piece of the call before, not a new one.
pub(super) fn is_piece(call: &Value) -> bool {
    text_of(&call["name"]).is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn built(pieces: &[Value]) -> Option<String> {
        let mut partial = Partial::new(String::new(), String::new(), None);
        pieces.iter().all(|piece| partial.add(&json!([piece]), 1_000_000)).then(|| partial.arguments())
    }

    #[test]
    fn line_7_arguments_in_pieces_become_one_object() {
        let pieces = [
            json!({"jsonPath": "$.a.b[0].n", "stringValue": "16 ", "willContinue": true}),
            json!({"jsonPath": "$.a.b[0].n", "stringValue": "oz"}),
            json!({"jsonPath": "$.a.b[1]", "numberValue": 0.5}),
            json!({"jsonPath": "$.c", "boolValue": false}),
            json!({"jsonPath": "$.d", "nullValue": "NULL_VALUE"}),
            json!({"jsonPath": "$['e f']", "stringValue": ""}),
        ];
        let want = r#"{"a":{"b":[{"n":"16 oz"},0.5]},"c":false,"d":null,"e f":""}"#;
        assert_eq!(built(&pieces).unwrap(), want);
    }

    #[test]
    fn paths_that_make_no_sense_or_too_much_of_it_are_refused() {
        for path in ["a", "$a", "$.", "$[x]", "$[0", "$[-1]", "$[65536]"] {
            assert_eq!(built(&[json!({"jsonPath": path, "stringValue": "x"})]), None, "{path}");
        }
        let clash = [json!({"jsonPath": "$.a", "stringValue": "x"}), json!({"jsonPath": "$.a.b", "stringValue": "x"})];
        assert_eq!(built(&clash), None);
        let wide: Vec<Value> =
            (0..40).map(|i| json!({"jsonPath": format!("$.k{i}[60000]"), "numberValue": 1})).collect();
        assert_eq!(built(&wide), None);
    }
}
