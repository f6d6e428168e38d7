//! No bytes panic; what is written reads the same; big documents are quick; the schema agrees with the reader.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;
use tidegate_config::{Inputs, SourceFile, check, fuzz_document, schema};
use tidegate_model::Revision;

const FULL: &str = include_str!("golden/full.yaml");

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("~".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("1e999".to_owned()),
        Just("'*'".to_owned()),
        Just("1m".to_owned()),
        Just("99999999999999999999d".to_owned()),
        Just("[key, key]".to_owned()),
        Just("/{a}/{*b}".to_owned()),
        Just("'${secrets.'".to_owned()),
        Just("&x [*x]".to_owned()),
        Just("{<<: [1]}".to_owned()),
        "[ -~]{0,12}",
        "\\PC{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_document(&bytes);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
        fuzz_document(text.as_bytes());
        fuzz_document(format!("version: 1\nroutes:\n- name: a\n  match: {text}").as_bytes());
    }

    /// One value of a good document replaced, or one byte.
    #[test]
    fn a_damaged_document_is_read_without_a_panic(at in any::<prop::sample::Index>(), value in values(), byte in any::<u8>()) {
        let places: Vec<usize> = FULL.match_indices(": ").map(|(at, _)| at + 2).collect();
        let start = places[at.index(places.len())];
        let end = FULL[start..].find([',', '}', ']', '\n']).map_or(FULL.len(), |n| start + n);
        fuzz_document(format!("{}{value}{}", &FULL[..start], &FULL[end..]).as_bytes());
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at.index(FULL.len())] = byte;
        fuzz_document(&bytes);
        fuzz_document(&bytes[..at.index(FULL.len())]);
    }
}

fn many_routes(count: usize) -> String {
    let mut text = "version: 1\nupstreams: [{name: u, endpoints: [{url: 'http://h'}]}]\nlimits: [{name: l, window: 1s, max: 5}]\nroutes:\n".to_owned();
    for i in 0..count {
        let _ = writeln!(
            text,
            "  - name: r{i}\n    match: {{hosts: [h{}.example.com], path: '/svc{i}/{{id}}', methods: [GET]}}\n    to: [{{upstream: u}}]\n    limits: [l]",
            i % 50
        );
    }
    text
}

#[test]
fn ten_thousand_routes_are_no_work() {
    let text = many_routes(10_000);
    let started = Instant::now();
    let checked = check(&[SourceFile { name: "", bytes: text.as_bytes() }], |_| Inputs::assumed(), Revision(1));
    assert_eq!(checked.expect("compiles").1.router.routes().len(), 10_000);
    // Unoptimised, beside other tests; only a square would miss it.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    println!("{:?}", started.elapsed());
}

#[test]
fn ten_thousand_broken_routes_are_no_work_either() {
    let text = many_routes(10_000).replace("upstream: u", "upstrem: u").replace("[l]", "[m]");
    let started = Instant::now();
    let problems = check(&[SourceFile { name: "", bytes: text.as_bytes() }], |_| Inputs::assumed(), Revision(1));
    assert!(problems.expect_err("broken").len() >= 100);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// The part of JSON Schema that our schema uses.
fn fits(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        fits(&root["$defs"][name.trim_start_matches("#/$defs/")], root, value)?;
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[word].as_array()
            && !choices.iter().any(|choice| fits(choice, root, value).is_ok())
        {
            return Err(format!("{value} fits none of {choices:?}"));
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => vec![],
        one => vec![one.clone()],
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.is_empty() && !types.iter().any(|t| t == is || (t == "number" && is == "integer")) {
        return Err(format!("{value} is not {types:?}"));
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Err(format!("{value} is not in {}", schema["enum"]));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !regex::Regex::new(pattern).expect("valid").is_match(text)
    {
        return Err(format!("{text} does not match {pattern}"));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        return Err(format!("{number} < {least}"));
    }
    if let (Some(most), Some(number)) = (schema["maximum"].as_f64(), value.as_f64())
        && number > most
    {
        return Err(format!("{number} > {most}"));
    }
    if let Some(items) = value.as_array() {
        items.iter().try_for_each(|item| fits(&schema["items"], root, item))?;
    }
    let Some(map) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        map.get(name).ok_or(format!("{name} is missing"))?;
    }
    for (name, value) in map {
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(inner), _) => fits(inner, root, value).map_err(|e| format!("{name}: {e}"))?,
            (None, Value::Bool(false)) => return Err(format!("{name} is unknown")),
            (None, Value::Object(_)) => fits(&schema["additionalProperties"], root, value)?,
            _ => {}
        }
    }
    Ok(())
}

fn as_json(text: &str) -> Value {
    let (document, _) = tidegate_config::parse(text.as_bytes(), tidegate_config::Format::Yaml).expect("reads");
    serde_json::to_value(document).expect("writes")
}

#[test]
fn the_schema_accepts_what_compiles_and_refuses_what_does_not() {
    let schema = schema();
    let full = as_json(FULL);
    assert_eq!(fits(&schema, &schema, &full), Ok(()));
    for (pointer, value) in [
        ("/limits/0/window", "60".into()),
        ("/limits/0/max", 0.into()),
        ("/limits/0/mode", "no".into()),
        ("/limits/0/per", serde_json::json!(["kay"])),
        ("/limits/0", serde_json::json!({"name": "x", "max": 1, "windows": "1m"})),
        ("/upstreams/0/retries/on", serde_json::json!(["5xx"])),
        ("/upstreams/0/retries/budget", "200".into()),
        ("/routes/0/to/0", serde_json::json!({"upstrem": "x"})),
        ("/routes/1/max_body", "1.5MiB".into()),
        ("/secrets/0/from", "vault:x".into()),
        ("/version", 2.into()),
    ] {
        let mut broken = full.clone();
        *broken.pointer_mut(pointer).expect(pointer) = value;
        assert!(fits(&schema, &schema, &broken).is_err(), "{pointer}");
        let text = broken.to_string();
        let checked = check(&[SourceFile { name: "", bytes: text.as_bytes() }], |_| Inputs::assumed(), Revision(1));
        assert!(checked.is_err(), "{pointer}");
    }
}
