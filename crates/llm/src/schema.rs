//! JSON Schema, as far as dialects differ about it (llm-wire line 12).

mod closed;

use serde_json::{Map, Value, json};

pub(crate) use self::closed::closed;

/// Whether OpenAI would take it as strict: every object closed, every key required.
pub fn is_strict(schema: &Value) -> bool {
    let Value::Object(fields) = schema else { return !schema.is_array() };
    if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
        let required = fields.get("required").and_then(Value::as_array);
        let all = properties.keys().all(|key| required.is_some_and(|list| list.iter().any(|name| name == key)));
        if !all || fields.get("additionalProperties") != Some(&Value::Bool(false)) {
            return false;
        }
    } else if is_object(fields) {
        return false;
    }
    children(fields).all(is_strict)
}

/// Does it say that what it describes is an object?
pub(crate) fn is_of_object(schema: &Value) -> bool {
    let Value::Object(fields) = schema else { return false };
    let typed = fields.get("type").map_or_else(|| !fields.contains_key("anyOf"), |kind| kind == "object");
    typed && !fields.contains_key("oneOf")
}

fn is_object(fields: &Map<String, Value>) -> bool {
    match fields.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => false,
    }
}

fn children(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let named = ["properties", "$defs", "definitions"];
    let listed = ["anyOf", "oneOf", "allOf", "prefixItems"];
    let named = named.into_iter().filter_map(|name| fields.get(name)?.as_object()).flat_map(Map::values);
    let listed = listed.into_iter().filter_map(|name| fields.get(name)?.as_array()).flatten();
    named.chain(listed).chain(fields.get("items"))
}

/// Gemini's own schema → JSON Schema: types in lower case, `nullable` as a second type.
pub fn from_gemini(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let nullable = fields.get("nullable").and_then(Value::as_bool).unwrap_or(false);
    let mut out = Map::new();
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            ("nullable" | "propertyOrdering" | "property_ordering", _) => continue,
            ("type", Value::String(kind)) => kind_of(&kind, nullable),
            ("properties", Value::Object(properties)) => {
                Value::Object(properties.into_iter().map(|(key, value)| (key, from_gemini(value))).collect())
            }
            ("items", value) => from_gemini(value),
            // Whole numbers of 64 bits are texts in Google's JSON.
            (
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties",
                Value::String(text),
            ) => text.parse::<u64>().map_or(Value::String(text), Value::from),
            ("anyOf" | "any_of", Value::Array(list)) => Value::Array(list.into_iter().map(from_gemini).collect()),
            (_, value) => value,
        };
        let name = if name == "any_of" { "anyOf".to_owned() } else { name };
        out.insert(name, value);
    }
    Value::Object(out)
}

fn kind_of(kind: &str, nullable: bool) -> Value {
    let kind = kind.to_ascii_lowercase();
    if nullable { json!([kind, "null"]) } else { kind.into() }
}

/// JSON Schema → the part of it that older Gemini models know, and the words that were left out. References are put in
/// place; what refers to itself ends as any object.
pub fn to_gemini(schema: &Value) -> (Value, Vec<&'static str>) {
    let mut narrow = Narrow { root: schema, dropped: Vec::new(), budget: 4_096 };
    let value = narrow.schema(schema, 0);
    narrow.dropped.sort_unstable();
    narrow.dropped.dedup();
    (value, narrow.dropped)
}

struct Narrow<'a> {
    root: &'a Value,
    dropped: Vec<&'static str>,
    /// References multiply: the number of schemas written is bounded.
    budget: usize,
}

const KEPT: [&str; 18] = [
    "type",
    "format",
    "title",
    "description",
    "enum",
    "items",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "pattern",
    "example",
];

impl Narrow<'_> {
    fn schema(&mut self, schema: &Value, depth: usize) -> Value {
        self.budget = self.budget.saturating_sub(1);
        let Some(fields) = schema.as_object() else { return json!({}) };
        if depth > 32 || self.budget == 0 {
            self.dropped.push("$ref");
            return json!({"type": "object"});
        }
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|path| self.root.pointer(path));
            return match found {
                Some(found) => self.schema(found, depth + 1),
                None => json!({}),
            };
        }
        let mut out = Map::new();
        for (name, value) in fields {
            self.field(name, value, depth, &mut out);
        }
        Value::Object(out)
    }

    fn field(&mut self, name: &str, value: &Value, depth: usize, out: &mut Map<String, Value>) {
        match name {
            "type" => narrow_type(value, out),
            "const" => {
                out.insert("enum".into(), json!([value]));
            }
            "anyOf" | "oneOf" => self.either(value, depth, out),
            "allOf" => {
                for part in value.as_array().into_iter().flatten() {
                    if let Value::Object(fields) = self.schema(part, depth + 1) {
                        out.extend(fields);
                    }
                }
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let narrow = properties.map(|(key, value)| (key.clone(), self.schema(value, depth + 1))).collect();
                out.insert(name.into(), Value::Object(narrow));
            }
            "items" => {
                let items = self.schema(value, depth + 1);
                out.insert(name.into(), items);
            }
            kept if KEPT.contains(&kept) => {
                out.insert(name.into(), value.clone());
            }
            // They say nothing that a model could miss.
            "$schema" | "$defs" | "definitions" | "$id" | "additionalProperties" | "default" | "strict" => {}
            "exclusiveMinimum" => self.dropped.push("exclusiveMinimum"),
            "exclusiveMaximum" => self.dropped.push("exclusiveMaximum"),
            "multipleOf" => self.dropped.push("multipleOf"),
            "not" => self.dropped.push("not"),
            _ => self.dropped.push("other"),
        }
    }

    /// A choice between something and null is that something, nullable.
    fn either(&mut self, value: &Value, depth: usize, out: &mut Map<String, Value>) {
        let list: Vec<&Value> = value.as_array().into_iter().flatten().collect();
        let real: Vec<&Value> = list.iter().copied().filter(|part| part["type"] != "null").collect();
        if real.len() < list.len() {
            out.insert("nullable".into(), true.into());
        }
        if let [one] = real.as_slice() {
            if let Value::Object(fields) = self.schema(one, depth + 1) {
                out.extend(fields);
            }
            return;
        }
        let narrow = real.into_iter().map(|part| self.schema(part, depth + 1)).collect();
        out.insert("anyOf".into(), Value::Array(narrow));
    }
}

fn narrow_type(value: &Value, out: &mut Map<String, Value>) {
    let Some(kinds) = value.as_array() else {
        out.insert("type".into(), value.clone());
        return;
    };
    if kinds.iter().any(|kind| kind == "null") {
        out.insert("nullable".into(), true.into());
    }
    let real: Vec<&Value> = kinds.iter().filter(|kind| *kind != "null").collect();
    match real.as_slice() {
        [] => {}
        [one] => {
            out.insert("type".into(), (*one).clone());
        }
        many => {
            let either = many.iter().map(|kind| json!({"type": kind})).collect();
            out.insert("anyOf".into(), Value::Array(either));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_12_strict_means_closed_and_all_required_at_every_depth() {
        let strict = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object",
            "properties": {"b": {"type": "string"}}, "required": ["b"], "additionalProperties": false}}},
            "required": ["a"], "additionalProperties": false});
        assert!(is_strict(&strict));
        let mut open = strict.clone();
        open["properties"]["a"]["items"]["additionalProperties"] = json!(true);
        assert!(!is_strict(&open));
        let mut optional = strict;
        optional["required"] = json!([]);
        assert!(!is_strict(&optional));
        assert!(!is_strict(&json!({"type": "object"})));
    }

    #[test]
    fn line_12_references_are_put_in_place_for_older_gemini() {
        let schema = json!({"$defs": {"City": {"type": "object", "properties": {"n": {"const": "x"}}}},
            "type": "object", "additionalProperties": false, "properties": {
                "city": {"$ref": "#/$defs/City"},
                "age": {"type": ["integer", "null"]},
                "kind": {"oneOf": [{"type": "string"}, {"type": "null"}]},
                "size": {"type": "integer", "multipleOf": 2}}});
        let (narrow, dropped) = to_gemini(&schema);
        let want = json!({"type": "object", "properties": {
            "city": {"type": "object", "properties": {"n": {"enum": ["x"]}}},
            "age": {"nullable": true, "type": "integer"},
            "kind": {"nullable": true, "type": "string"},
            "size": {"type": "integer"}}});
        assert_eq!((narrow, dropped), (want, vec!["multipleOf"]));
    }

    #[test]
    fn line_12_a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$defs": {"N": {"type": "object", "properties": {"l": {"$ref": "#/$defs/N"},
            "r": {"$ref": "#/$defs/N"}}}}, "$ref": "#/$defs/N"});
        let (_, dropped) = to_gemini(&schema);
        assert_eq!(dropped, ["$ref"]);
    }

    #[test]
    fn line_12_geminis_own_schema_becomes_json_schema() {
        let own = json!({"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": true}}});
        let want = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}});
        assert_eq!(from_gemini(own), want);
    }
}
