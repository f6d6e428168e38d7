//! The arguments of tool calls: text in OpenAI's dialects, objects in all others.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// The arguments of a call as the object that most dialects want. Text that broke off (the answer hit its maximum)
/// keeps the members that arrived whole: nobody should act on half a value.
pub(crate) fn object_of(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match super::read_json(arguments.as_bytes()) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::Object(whole_members(arguments)),
    }
}

fn whole_members(text: &str) -> Map<String, Value> {
    let mut members = Map::new();
    let Some(mut rest) = text.trim_start().strip_prefix('{') else { return members };
    loop {
        let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let Some(Ok(name)) = names.next() else { return members };
        let Some(after) = rest[names.byte_offset()..].trim_start().strip_prefix(':') else { return members };
        let mut values = serde_json::Deserializer::from_str(after).into_iter::<IgnoredAny>();
        let Some(Ok(IgnoredAny)) = values.next() else { return members };
        let Ok(value) = super::read_json(&after.as_bytes()[..values.byte_offset()]) else { return members };
        // A number at the very end may have been longer.
        let Some(next) = after[values.byte_offset()..].trim_start().strip_prefix([',', '}']) else { return members };
        members.insert(name, value);
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn line_8_truncated_arguments_keep_the_members_that_arrived_whole() {
        assert_eq!(object_of(""), json!({}));
        assert_eq!(object_of("  "), json!({}));
        assert_eq!(object_of(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(object_of(r#"{"city":"Paris","days":["mo","t"#), json!({"city": "Paris"}));
        assert_eq!(object_of(r#"{"city":"Paris","days":12"#), json!({"city": "Paris"}));
        assert_eq!(
            super::super::text(&object_of(r#"{"id":12345678901234567890123,"x":"#)),
            r#"{"id":12345678901234567890123}"#
        );
        assert_eq!(object_of(r#"{"half":"\ud83d","b":2}"#), json!({"half": "\u{fffd}", "b": 2}));
        assert_eq!(object_of(r#"{"ci"#), json!({}));
        assert_eq!(object_of("[1]"), json!({}));
        assert_eq!(object_of("\"text\""), json!({}));
    }
}
