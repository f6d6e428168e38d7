//! What a response says again of its call, as OpenAI's does: its settings, tools and labels, as they were written.

use serde_json::{Map, Value, json};

use crate::json::{Object, read_json};
use crate::spans;

/// In the order in which OpenAI writes them; `null` where they were not given, but for [`usual`].
const FIELDS: [&str; 18] = [
    "background",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "metadata",
];

/// Of who called: not of an answer that others are given again.
const PERSONAL: [&str; 4] = ["metadata", "prompt_cache_key", "safety_identifier", "user"];

/// Of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Echo(Map<String, Value>);

impl Echo {
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let mut said = Map::new();
        for member in spans::members(body).unwrap_or_default() {
            if FIELDS.contains(&&*member.name)
                && let Ok(value) = read_json(member.value.as_bytes())
            {
                said.insert(member.name.into_owned(), value);
            }
        }
        // Nothing is stored here, and nothing goes on behind anybody's back, whatever was asked.
        said.remove("store");
        said.remove("background");
        Self(said)
    }

    /// All of [`FIELDS`], whatever was said.
    pub(super) fn put(echo: Option<&Self>, object: &mut Object) {
        for name in FIELDS {
            let said = echo.and_then(|echo| echo.0.get(name)).filter(|value| !value.is_null());
            object.put(name, said.map_or_else(|| usual(name), |said| filled(name, said)));
        }
    }
}

/// What holds where nothing is said.
fn usual(name: &str) -> Value {
    match name {
        "background" | "store" => Value::Bool(false),
        "parallel_tool_calls" => Value::Bool(true),
        "reasoning" => json!({"effort": null, "summary": null}),
        "text" => json!({"format": {"type": "text"}}),
        "tool_choice" => "auto".into(),
        "tools" => json!([]),
        "truncation" => "disabled".into(),
        "metadata" => json!({}),
        _ => Value::Null,
    }
}

/// Where only a part was said, with the rest.
fn filled(name: &str, said: &Value) -> Value {
    match (usual(name), said) {
        (Value::Object(mut all), Value::Object(said)) if name != "metadata" => {
            all.extend(said.iter().map(|(name, value)| (name.clone(), value.clone())));
            Value::Object(all)
        }
        (_, said) => said.clone(),
    }
}

/// A response that others got, for who asks the same: it bears the labels of `call`. `None`: it does already.
#[must_use]
pub fn relabelled(response: &[u8], call: &[u8]) -> Option<Vec<u8>> {
    let ours = spans::members(call).ok()?;
    let mut out: Option<(Vec<u8>, usize)> = None;
    for member in spans::members(response).ok()? {
        if !PERSONAL.contains(&&*member.name) {
            continue;
        }
        let said = ours.iter().find(|own| own.name == member.name).map(|own| own.value.to_owned());
        let said = said.filter(|said| said != "null").unwrap_or_else(|| usual(&member.name).to_string());
        if said == member.value {
            continue;
        }
        let span = member.span(response);
        let (out, from) = out.get_or_insert_with(|| (Vec::with_capacity(response.len()), 0));
        out.extend_from_slice(&response[*from..span.start]);
        out.extend_from_slice(said.as_bytes());
        *from = span.end;
    }
    let (mut out, from) = out?;
    out.extend_from_slice(&response[from..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_said_again_and_nothing_else_is() {
        let call = br#"{"model":"m","input":"secret","store":true,"temperature":0.70,"reasoning":{"effort":"low"},"tools":[{"type":"function","name":"f","parameters":{"maximum":1e3}}],"metadata":{"a":"b"},"user":null}"#;
        let mut object = Object::new();
        Echo::put(Some(&Echo::of(call)), &mut object);
        let text = String::from_utf8(object.bytes()).unwrap();
        for said in [
            r#""temperature":0.70"#,
            r#""reasoning":{"effort":"low","summary":null}"#,
            r#""tools":[{"type":"function","name":"f","parameters":{"maximum":1e3}}]"#,
            r#""metadata":{"a":"b"}"#,
            r#""store":false"#,
            r#""user":null"#,
            r#""truncation":"disabled""#,
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("secret"));
    }

    #[test]
    fn labels_are_those_of_who_asks() {
        let response = br#"{"id":"r","metadata":{"who":"a"},"output":[],"user":"a","prompt_cache_key":null}"#;
        let call = br#"{"input":"x","metadata":{"who":"b"},"prompt_cache_key":"k"}"#;
        let told = relabelled(response, call).map(|told| String::from_utf8(told).unwrap());
        let want = r#"{"id":"r","metadata":{"who":"b"},"output":[],"user":null,"prompt_cache_key":"k"}"#;
        assert_eq!(told.as_deref(), Some(want));
        assert_eq!(relabelled(want.as_bytes(), call), None);
    }
}
