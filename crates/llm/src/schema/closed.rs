//! JSON Schema → the part of it that Claude's structured output takes: closed objects, and no bounds of numbers, texts and
//! lists. What it does not take is said in the description instead, as Anthropic's own SDKs do, and told as a loss.

use serde_json::{Map, Value, json};

use super::is_object;
use crate::lost::Losses;

/// `path`: what the caller calls the schema.
pub(crate) fn closed(schema: &Value, path: &str, losses: &mut Losses) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let defines = ["$defs", "definitions"].into_iter().any(|name| fields.contains_key(name));
    if let Some(reference) = fields.get("$ref").filter(|_| !defines) {
        return json!({"$ref": reference});
    }
    let (mut out, mut said) = (Map::new(), Vec::new());
    for (name, value) in fields {
        match kept(name, value, path, losses) {
            Kept::As(name, value) => drop(out.insert(name.to_owned(), value)),
            Kept::Said => {
                let reason = "the provider does not hold its answer to it; it is told in the description";
                match binds(name) {
                    true => losses.meaning(format!("{path}.{name}"), reason),
                    false => losses.hint(format!("{path}.{name}"), reason),
                }
                said.push(format!("{name}: {}", worded(value)));
            }
            Kept::Not => {}
        }
    }
    if is_object(fields) || fields.contains_key("properties") {
        close(fields, &mut out, path, losses);
    }
    if !said.is_empty() {
        let told = out.get("description").and_then(Value::as_str);
        let before = told.map(|told| format!("{told}\n\n")).unwrap_or_default();
        out.insert("description".to_owned(), format!("{before}{{{}}}", said.join(", ")).into());
    }
    Value::Object(out)
}

enum Kept<'a> {
    As(&'a str, Value),
    Said,
    Not,
}

fn kept<'a>(name: &'a str, value: &Value, path: &str, losses: &mut Losses) -> Kept<'a> {
    const FORMATS: [&str; 10] =
        ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
    match (name, value) {
        ("properties" | "$defs" | "definitions", Value::Object(named)) => {
            let named = named.iter().map(|(key, value)| {
                let path = format!("{path}.{name}.{key}");
                (key.clone(), closed(value, &path, losses))
            });
            Kept::As(name, Value::Object(named.collect()))
        }
        // One of them, and any of them, are the same to a model that writes one.
        ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
            let list = list.iter().enumerate().map(|(i, value)| closed(value, &format!("{path}.{name}[{i}]"), losses));
            Kept::As(if name == "oneOf" { "anyOf" } else { name }, list.collect())
        }
        ("items", Value::Object(_)) => Kept::As(name, closed(value, &format!("{path}.items"), losses)),
        ("type" | "title" | "description" | "required" | "const" | "default" | "$ref", _) => {
            Kept::As(name, value.clone())
        }
        ("enum", Value::Array(list)) if !list.iter().any(|one| one.is_object() || one.is_array()) => {
            Kept::As(name, value.clone())
        }
        ("format", Value::String(format)) if FORMATS.contains(&&**format) => Kept::As(name, value.clone()),
        ("pattern", Value::String(pattern)) if is_plain(pattern) => Kept::As(name, value.clone()),
        ("minItems", _) if matches!(value.as_u64(), Some(0 | 1)) => Kept::As(name, value.clone()),
        ("additionalProperties" | "$schema" | "$id" | "$comment" | "strict" | "deprecated", _) => Kept::Not,
        ("uniqueItems", Value::Bool(false)) => Kept::Not,
        // What any value is bounded by already.
        ("minLength" | "minProperties", _) if value.as_u64() == Some(0) => Kept::Not,
        _ => Kept::Said,
    }
}

/// Does an answer have to keep to it? What a value is called or looks like, it need not.
fn binds(name: &str) -> bool {
    const TELLS: [&str; 8] =
        ["format", "example", "examples", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "nullable"];
    !TELLS.contains(&name) && !name.starts_with("x-")
}

/// Every object is closed; one that lives from names that nobody listed is told.
fn close(fields: &Map<String, Value>, out: &mut Map<String, Value>, path: &str, losses: &mut Losses) {
    let named = fields.contains_key("properties");
    let composed = ["anyOf", "oneOf", "allOf"].into_iter().any(|name| fields.contains_key(name));
    let open = match fields.get("additionalProperties") {
        None => !named && !composed,
        Some(Value::Bool(open)) => *open,
        Some(_) => true,
    };
    if open {
        losses.meaning(format!("{path}.additionalProperties"), "the provider writes only properties that are listed");
    }
    if !fields.contains_key("type") && !composed {
        out.insert("type".to_owned(), "object".into());
    }
    out.insert("additionalProperties".to_owned(), false.into());
}

/// No look around, no reference back, no edge of a word.
fn is_plain(pattern: &str) -> bool {
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.next().is_none_or(|c| c.is_ascii_digit() || "bBkpP".contains(c)) => return false,
            '(' if rest.peek() == Some(&'?') => {
                rest.next();
                if rest.next() != Some(':') {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

fn worded(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    fn told(schema: &Value) -> (Value, Vec<String>) {
        let mut losses = Losses::new(Dialect::OpenAiChat);
        let closed = closed(schema, "schema", &mut losses);
        (closed, losses.list().iter().map(|lost| lost.path.clone()).collect())
    }

    #[test]
    fn line_12_every_object_is_closed_and_bounds_are_said_in_words() {
        let schema = json!({"$schema": "x", "type": "object", "required": ["age"], "properties": {
            "age": {"type": "integer", "minimum": 1, "maximum": 9, "description": "In years."},
            "tags": {"type": "array", "minItems": 2, "items": {"type": "object", "properties": {"t": {"type": "string", "maxLength": 3}}}},
            "one": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/o"}},
            "either": {"oneOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]{2}$", "format": "uuid"}]},
            "far": {"type": "string", "pattern": "(?<=a)b", "format": "iri"}},
            "$defs": {"o": {"type": ["object", "null"], "properties": {}, "anyOf": []}}});
        let want = json!({"type": "object", "required": ["age"], "additionalProperties": false, "properties": {
            "age": {"type": "integer", "description": "In years.\n\n{minimum: 1, maximum: 9}"},
            "tags": {"type": "array", "description": "{minItems: 2}", "items": {"type": "object", "additionalProperties": false,
                "properties": {"t": {"type": "string", "description": "{maxLength: 3}"}}}},
            "one": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/o"}},
            "either": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]{2}$", "format": "uuid"}]},
            "far": {"type": "string", "description": "{pattern: (?<=a)b, format: iri}"}},
            "$defs": {"o": {"type": ["object", "null"], "properties": {}, "anyOf": [], "additionalProperties": false}}});
        let (closed, lost) = told(&schema);
        assert_eq!(closed, want);
        let mut lost: Vec<&str> = lost.iter().map(|path| path.strip_prefix("schema.properties.").unwrap()).collect();
        lost.sort_unstable();
        let want = [
            "age.maximum",
            "age.minimum",
            "far.format",
            "far.pattern",
            "tags.items.properties.t.maxLength",
            "tags.minItems",
        ];
        assert_eq!(lost, want);
        assert_eq!(told(&closed), (closed.clone(), vec![]), "what is closed stays as it is");
    }

    #[test]
    fn line_12_what_binds_nothing_is_said_and_refuses_no_call() {
        let schema = json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "number", "format": "double",
            "examples": [1.5], "x-order": 2}}});
        let mut losses = Losses::new(Dialect::Gemini);
        let closed = closed(&schema, "schema", &mut losses);
        let want = json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "number",
            "description": "{format: double, examples: [1.5], x-order: 2}"}}});
        assert_eq!(closed, want);
        assert_eq!((losses.list().len(), losses.reject()), (3, Ok(())));
    }

    #[test]
    fn line_12_an_object_that_lives_from_other_names_is_told() {
        for (schema, open) in [
            (json!({"type": "object"}), true),
            (json!({"type": "object", "additionalProperties": {"type": "string"}}), true),
            (json!({"type": "object", "properties": {"a": {}}, "additionalProperties": true}), true),
            (json!({"type": "object", "properties": {"a": {}}}), false),
            (json!({"properties": {"a": {}}}), false),
        ] {
            let (closed, lost) = told(&schema);
            assert_eq!(
                (&closed["type"], &closed["additionalProperties"]),
                (&json!("object"), &json!(false)),
                "{schema}"
            );
            assert_eq!(!lost.is_empty(), open, "{schema}");
        }
    }
}
