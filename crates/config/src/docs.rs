//! `docs/config.md`, rendered from the schema: what is documented is what is read.

use std::fmt::Write;

use serde_json::Value;
use tidegate_policy::defaults;

/// The example of the page; a test compiles it.
pub(crate) const EXAMPLE: &str = include_str!("docs/example.yaml");
const INTRODUCTION: &str = include_str!("docs/introduction.md");

/// Families in the order people write them, with the type of their items.
const FAMILIES: [(&str, &str); 21] = [
    ("routes", "RouteRule"),
    ("upstreams", "UpstreamRule"),
    ("providers", "ProviderRule"),
    ("models", "ModelRule"),
    ("catalogue", "CatalogueRow"),
    ("limits", "LimitRule"),
    ("plans", "Plan"),
    ("consumers", "ConsumerEntry"),
    ("issuers", "IssuerRule"),
    ("tenants", "TenantRule"),
    ("teams", "TeamRule"),
    ("products", "ProductRule"),
    ("secrets", "Secret"),
    ("certificates", "CertificateFiles"),
    ("acme", "AcmeRules"),
    ("listeners", "Listeners"),
    ("compression", "CompressionRule"),
    ("telemetry", "TelemetryRules"),
    ("cache", "CacheDefaults"),
    ("alerts", "AlertRules"),
    ("backups", "BackupRules"),
];

/// The whole page.
#[must_use]
pub fn docs() -> String {
    let schema = crate::schema();
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Example\n\n```yaml\n");
    page.push_str(EXAMPLE);
    page.push_str("```\n\n## Defaults and bounds\n\n| What | Value | Field |\n|---|---|---|\n");
    for defaults::Row { what, value, field } in defaults::table() {
        let field = if field.is_empty() { "fixed".to_owned() } else { format!("`{field}`") };
        line(&mut page, format_args!("| {what} | {value} | {field} |"));
    }
    page.push_str("\n## The document\n\n");
    let example = example();
    table(&mut page, &schema, &[&example]);
    let mut book = Book { schema: &schema, written: Vec::new() };
    for (family, kind) in FAMILIES {
        book.section(&mut page, family, kind, 2, &inside(&[&example], family));
    }
    page
}

fn example() -> Value {
    let read =
        crate::parse(EXAMPLE.as_bytes(), crate::Format::Yaml).map(|(document, _)| serde_json::to_value(document));
    read.ok().and_then(Result::ok).unwrap_or_default()
}

/// What the samples have in `field`; of lists the items.
fn inside<'v>(samples: &[&'v Value], field: &str) -> Vec<&'v Value> {
    let values = samples.iter().filter_map(|sample| sample.get(field));
    values.flat_map(|value| value.as_array().map_or_else(|| vec![value], |items| items.iter().collect())).collect()
}

/// Short enough for a cell.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.trim_end().to_owned(),
        other => other.to_string().replace("\",\"", "\", \"").replace("\":", "\": "),
    };
    if text.len() > 60 { "see above".to_owned() } else { format!("`{}`", text.replace('|', "\\|")) }
}

/// The page's sections; each type is written once.
struct Book<'s> {
    schema: &'s Value,
    written: Vec<String>,
}

impl Book<'_> {
    /// A type's table, then the types its fields have.
    fn section(&mut self, page: &mut String, title: &str, kind: &str, level: usize, samples: &[&Value]) {
        if self.written.iter().any(|known| known == kind) {
            return;
        }
        self.written.push(kind.to_owned());
        let schema = self.schema;
        let definition = &schema["$defs"][kind];
        line(page, format_args!("\n{} {title}\n", "#".repeat(level)));
        if let Some(text) = definition["description"].as_str() {
            line(page, format_args!("{}\n", prose(text)));
        }
        table(page, definition, samples);
        for (field, value) in definition["properties"].as_object().into_iter().flatten() {
            let inner = reference(value).filter(|inner| schema["$defs"][inner]["properties"].is_object());
            if let Some(inner) = inner {
                self.section(page, &format!("{title} › {field}"), inner, 3, &inside(samples, field));
            }
        }
    }
}

fn table(page: &mut String, definition: &Value, samples: &[&Value]) {
    let Some(fields) = definition["properties"].as_object() else { return };
    let required = definition["required"].as_array();
    page.push_str("| Field | Type | Default | Example | Meaning |\n|---|---|---|---|---|\n");
    for (field, value) in fields {
        let needed = required.is_some_and(|names| names.iter().any(|name| name == field));
        let (meaning, stated) = meaning(value);
        let default = match (&value["default"], stated) {
            _ if needed => "**required**".to_owned(),
            (_, Some(stated)) => stated,
            (Value::Null, None) if value["type"] == "boolean" => "`false`".to_owned(),
            (Value::Null | Value::Object(_), None) => "none".to_owned(),
            (Value::Array(items), None) if items.is_empty() => "none".to_owned(),
            (Value::String(text), None) if text.is_empty() => "none".to_owned(),
            (Value::String(text), None) => format!("`{text}`"),
            (other, None) => format!("`{other}`"),
        };
        let example = samples.iter().find_map(|sample| sample.get(field)).map(shown).unwrap_or_default();
        let row = format!("| `{field}` | {} | {default} | {example} | {meaning} |", kind(value));
        line(page, format_args!("{row}"));
    }
}

/// A field's text, and the default stated at its end.
fn meaning(value: &Value) -> (String, Option<String>) {
    let mut text = prose(value["description"].as_str().unwrap_or_default());
    for choice in choices(value) {
        let said = prose(choice["description"].as_str().unwrap_or_default());
        if let (Some(word), false) = (choice["const"].as_str(), said.is_empty()) {
            let _ = write!(text, " `{word}`: {}", lower(&said));
        }
    }
    let cell = text.replace('|', "\\|");
    let cell = format!(" {cell}");
    match cell.split_once(" Default: ") {
        Some((meaning, rest)) => {
            let meaning = meaning.trim_start();
            let (default, after) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
            (format!("{meaning} {after}").trim_end().to_owned(), Some(default.trim_end_matches('.').to_owned()))
        }
        None => (cell.trim_start().to_owned(), None),
    }
}

fn kind(value: &Value) -> String {
    let words: Vec<String> =
        choices(value).iter().filter_map(|c| c["const"].as_str()).map(|word| format!("`{word}`")).collect();
    if !words.is_empty() {
        return words.join(" \\| ");
    }
    if let Some(name) = reference(value) {
        let list = value["type"] == "array";
        let map = value["additionalProperties"].is_object();
        return match (name, list, map) {
            ("ValueTest", _, _) => "map of text or rule".to_owned(),
            ("LimitRef", _, _) => "list of names or maps".to_owned(),
            (_, true, _) => "list of maps".to_owned(),
            _ => "map".to_owned(),
        };
    }
    if let Some(format @ ("span" | "size" | "share")) = value["format"].as_str() {
        return format.to_owned();
    }
    match value["type"].as_array().map_or_else(|| value["type"].as_str(), |types| types.first().and_then(Value::as_str))
    {
        Some("array") => format!("list of {}", plural(&kind(&value["items"]))),
        Some("object") if value["additionalProperties"]["type"] == "integer" => "map of numbers".to_owned(),
        Some("object") if value["additionalProperties"]["type"] == "array" => "map of lists".to_owned(),
        Some("object") => "map of texts".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("boolean") => "`true` \\| `false`".to_owned(),
        _ if choice_of_map(value) => "word or map".to_owned(),
        _ if value["anyOf"].is_array() => "word or number".to_owned(),
        _ => "text".to_owned(),
    }
}

fn choice_of_map(value: &Value) -> bool {
    value["anyOf"].as_array().is_some_and(|any| any.iter().any(|one| one["type"] == "object"))
}

fn plural(kind: &str) -> String {
    match kind {
        "text" => "texts".to_owned(),
        "map" => "maps".to_owned(),
        "word or number" => "words or numbers".to_owned(),
        "word or map" => "words or maps".to_owned(),
        other => other.to_owned(),
    }
}

fn choices(value: &Value) -> &[Value] {
    let own = value["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    if own.is_empty() { value["items"]["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default() } else { own }
}

/// The type that a field, the items of a list or the values of a map refer to.
fn reference(value: &Value) -> Option<&str> {
    let places = [Some(value), value.get("items"), value.get("additionalProperties")];
    let optional = value["anyOf"].as_array().into_iter().flatten();
    let found = places.into_iter().flatten().chain(optional).find(|place| place["$ref"].is_string())?;
    found["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// A sentence after a colon; abbreviations keep their capitals.
fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(sentence.chars().skip(1)).collect()
        }
        _ => sentence.to_owned(),
    }
}

fn prose(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{text}"); // Writing to a String does not fail.
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inputs, SourceFile, check};

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");

    #[test]
    fn the_page_is_up_to_date() {
        let page = docs();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, &page).expect("docs/ is writable");
        }
        let written = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(written == page, "docs/config.md is old: UPDATE_DOCS=1 cargo nextest run -p tidegate-config");
    }

    #[test]
    fn the_example_compiles() {
        let file = SourceFile { name: "", bytes: EXAMPLE.as_bytes() };
        let checked = check(&[file], |_| Inputs::assumed(), tidegate_model::Revision(1));
        assert_eq!(checked.map(|_| ()), Ok(()));
    }

    #[test]
    fn every_field_has_a_meaning_and_an_example() {
        let page = docs();
        let tables = page.split_once("## The document").expect("a section").1;
        let bare: Vec<&str> = tables.lines().filter(|line| line.starts_with("| `") && line.contains("|  |")).collect();
        assert_eq!(bare, [""; 0]);
    }
}
