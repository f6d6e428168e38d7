//! Which of the cluster's sealed secrets a document names, and what they are for.

use serde_json::Value;

use crate::compile::references;
use crate::document::Document;
use crate::inputs::{Need, need};

/// Each sealed secret that `document` names, and where: `secrets.NAME`, and by name what has its value in it (`routes.users`).
#[must_use]
pub fn sealed(document: &Document) -> Vec<(String, Vec<String>)> {
    let named = document.secrets.iter().filter_map(|secret| match need(secret) {
        Some(Need::Sealed(sealed)) => Some((sealed, &secret.name)),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return Vec::new();
    }
    let parts = parts(document);
    let users = |name: &String| {
        let uses = parts.iter().filter(|(_, value)| refers(value, name)).map(|(part, _)| part.clone());
        std::iter::once(format!("secrets.{name}")).chain(uses).collect()
    };
    named.into_iter().map(|(sealed, name)| (sealed, users(name))).collect()
}

/// Everything that has a name, and the other families as a whole.
fn parts(document: &Document) -> Vec<(String, Value)> {
    let Ok(Value::Object(families)) = serde_json::to_value(document) else { return Vec::new() };
    let named = |family: &str, item: &Value| item["name"].as_str().map(|name| format!("{family}.{name}"));
    let part = |(family, value): (String, Value)| match value {
        Value::Array(items) => {
            items.into_iter().map(|item| (named(&family, &item).unwrap_or_else(|| family.clone()), item)).collect()
        }
        whole => vec![(family, whole)],
    };
    let mut parts: Vec<_> = families.into_iter().flat_map(part).collect();
    parts.sort_by(|(a, _), (b, _)| a.cmp(b));
    parts
}

fn refers(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => references(text).contains(&name),
        Value::Array(items) => items.iter().any(|item| refers(item, name)),
        Value::Object(fields) => fields.values().any(|field| refers(field, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_a_sealed_secret_is_told() {
        let text = "version: 1\nsecrets: [{name: a, from: sealed}, {name: b, from: 'sealed:other'}, {name: c, from: 'env:C'}]\n\
                    routes:\n- {name: r, request_headers: {set: {x: 'Bearer ${secrets.a}', y: '${secrets.c}'}}}\n\
                    cache: {redis: {url: 'redis://:${secrets.a}@h/'}}\n";
        let (document, _) = crate::parse(text.as_bytes(), crate::Format::Yaml).expect("it fits the format");
        let told = |name: &str, users: &[&str]| (name.to_owned(), users.iter().map(|&it| it.to_owned()).collect());
        assert_eq!(sealed(&document), [told("a", &["secrets.a", "cache", "routes.r"]), told("other", &["secrets.b"])]);
    }
}
