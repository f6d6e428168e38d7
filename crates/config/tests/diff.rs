//! What a change changes, in words.

use tidegate_config::{Document, Format, diff, parse};

fn read(text: &str) -> Document {
    parse(format!("version: 1\n{text}").as_bytes(), Format::Yaml).expect("reads").0
}

#[track_caller]
fn says(old: &str, new: &str, changes: &[&str]) {
    let said: Vec<String> = diff(&read(old), &read(new)).iter().map(ToString::to_string).collect();
    assert_eq!(said, changes);
}

#[test]
fn limits_say_what_happens_to_their_counts() {
    let limit = |rest: &str| format!("limits: [{{name: a, {rest}}}]");
    let old = limit("window: 1m, max: 5, per: [key]");
    says(&old, &old, &[]);
    says(
        &old,
        &limit("window: 60s, max: 9, per: [key], on_unavailable: share"),
        &["~ limits a: max 5 → 9 (keeps the count)", "~ limits a: on_unavailable deny → share (keeps the count)"],
    );
    says(
        &old,
        &limit("window: 2m, max: 5, per: [key]"),
        &["~ limits a: window 1m → 2m (starts a new, empty limit; an old one drains)"],
    );
    says(
        &old,
        &limit("window: 1m, max: 5, per: [ip]"),
        &["~ limits a: per [\"key\"] → [\"ip\"] (starts a new, empty limit; an old one drains)"],
    );
    says(&old, "limits: []", &["- limits a (what it counted drains)"]);
    says("limits: []", &old, &["+ limits a (starts a new, empty limit; an old one drains)"]);
}

#[test]
fn objects_are_compared_by_name_and_field() {
    let old = "upstreams:
  - {name: a, endpoints: [{url: 'http://a'}], timeouts: {connect: 1s}}
  - {name: b, endpoints: [{url: 'http://b'}]}
";
    let new = "upstreams:
  - {name: c, endpoints: [{url: 'http://c'}]}
  - {name: a, endpoints: [{url: 'http://a'}], timeouts: {connect: 2s, total: 9s}}
telemetry: {access_log: {}}
";
    says(
        old,
        new,
        &[
            "- upstreams b",
            "+ upstreams c",
            "~ upstreams a: timeouts.connect 1s → 2s",
            "~ upstreams a: timeouts.total (default) → 9s",
            "+ telemetry",
        ],
    );
}

#[test]
fn the_order_of_routes_matters() {
    let route = |name: &str| format!("  - {{name: {name}, respond: {{status: 200}}}}\n");
    let old = format!("routes:\n{}{}", route("a"), route("b"));
    says(&old, &format!("routes:\n{}{}", route("b"), route("a")), &["~ routes b: order"]);
    says(&old, &format!("routes:\n{}{}{}", route("a"), route("x"), route("b")), &["+ routes x"]);
}

#[test]
fn credentials_are_never_shown() {
    let route = |value: &str| {
        read(&format!(
            "secrets: [{{name: s, from: env:S}}]\nroutes:\n  - name: a\n    match: {{headers: {{x-api-key: {{exact: {value}}}, cookie: {value}}}}}\n    request_headers: {{set: {{Authorization: 'Bearer {value}', x-auth-token: '${{secrets.s}}'}}}}\n"
        ))
    };
    let changes = diff(&route("hunter2"), &route("hunter3"));
    assert_eq!(changes.len(), 3);
    let added = diff(&Document::default(), &route("hunter2"));
    let text = serde_json::to_string(&(changes, added)).expect("writes");
    assert!(!text.contains("hunter"), "{text}");
    assert!(text.contains("${secrets.s}"), "a reference is no secret");
}
