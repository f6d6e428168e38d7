//! Functions as models of OpenAI are told of them: as TypeScript, known from what is billed.

use serde_json::Value;

use crate::meaning::Function;

/// Around all functions; where no system message goes before them; a function that must be called.
pub(super) const AROUND: u64 = 5;
pub(super) const WITHOUT_SYSTEM: u64 = 4;
pub(super) const NAMED: u64 = 4;
/// GPT-5 by chat completions.
pub(super) const BY_CHAT: u64 = 80;
/// Deeper schemas than this are told without their inside.
const DEEPEST: usize = 32;

pub(super) fn told(functions: &[&Function]) -> String {
    let mut out = String::from("namespace functions {\n\n");
    for function in functions {
        if let Some(description) = &function.description {
            line(&mut out, 0, &["// ", description]);
        }
        let schema = function.schema.as_ref().filter(|schema| has_members(schema));
        match schema {
            Some(schema) => {
                line(&mut out, 0, &["type ", &function.name, " = (_: {"]);
                members(&mut out, schema, 0, 0);
                line(&mut out, 0, &["}) => any;"]);
            }
            None => line(&mut out, 0, &["type ", &function.name, " = () => any;"]),
        }
        out.push('\n');
    }
    out.push_str("} // namespace functions");
    out
}

fn line(out: &mut String, indent: usize, words: &[&str]) {
    out.extend(std::iter::repeat_n(' ', indent));
    words.iter().for_each(|word| out.push_str(word));
    out.push('\n');
}

fn has_members(schema: &Value) -> bool {
    schema["properties"].as_object().is_some_and(|members| !members.is_empty())
}

fn members(out: &mut String, schema: &Value, indent: usize, depth: usize) {
    let required = |name: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name));
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(description) = member["description"].as_str().filter(|_| indent < 2) {
            line(out, indent, &["// ", description]);
        }
        let mark = if required(name) { ": " } else { "?: " };
        let kind = kind(member, indent, depth);
        line(out, indent, &[name, mark, &kind, ","]);
    }
}

fn kind(schema: &Value, indent: usize, depth: usize) -> String {
    if depth >= DEEPEST {
        return "any".to_owned();
    }
    if let Some(choices) = ["anyOf", "oneOf"].into_iter().find_map(|name| schema[name].as_array()) {
        let kinds: Vec<String> = choices.iter().map(|choice| kind(choice, indent, depth + 1)).collect();
        return kinds.join(" | ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match schema["type"].as_str() {
        Some("string") => "string".to_owned(),
        Some("number" | "integer") => "number".to_owned(),
        Some("boolean") => "boolean".to_owned(),
        Some("null") => "null".to_owned(),
        Some("array") if schema["items"].is_object() => format!("{}[]", kind(&schema["items"], indent, depth + 1)),
        Some("array") => "any[]".to_owned(),
        _ if has_members(schema) => {
            let mut out = String::from("{\n");
            members(&mut out, schema, indent + 2, depth + 1);
            out.push('}');
            out
        }
        Some("object") => "object".to_owned(),
        _ => "any".to_owned(),
    }
}
