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
    let bucket = |burst: u64| limit(&format!("rate: 1000/s, burst: {burst}"));
    says(&bucket(100), &bucket(50), &["~ limits a: burst 100 → 50 (keeps the count)"]);
    says(
        &bucket(50),
        &bucket(5),
        &["~ limits a: burst 50 → 5 (starts a new, empty limit; an old one drains)"], // Less than 25 ms of its rate.
    );
    says(
        &limit("calendar: day, max: 5"),
        &limit("calendar: day, zone: UTC, max: 5"),
        &["~ limits a: zone (default) → UTC (keeps the count)"],
    );
    says(
        &limit("window: 1m, max: 5, per: [\"claim:Sub\"]"),
        &limit("window: 1m, max: 5, per: [\"claim:sub\"]"),
        &["~ limits a: per [\"claim:Sub\"] → [\"claim:sub\"] (starts a new, empty limit; an old one drains)"],
    );
    says(&old, "limits: []", &["- limits a (what it counted drains)"]);
    says("limits: []", &old, &["+ limits a (starts a new, empty limit; an old one drains)"]);
}

#[test]
fn who_has_which_limits_says_what_happens_to_counts() {
    let shop = |consumer: &str, plan: &str, rest: &str| {
        format!(
            "limits: [{{name: d, window: 1m, max: 5, per: [consumer, team, product, end_user]}}]
consumers: [{{name: ann, {consumer}}}]
plans: [{{name: gold, limits: [{plan}]}}, {{name: free, limits: [{{limit: d, max: 1}}]}}, {{name: base, limits: [d]}}]
{rest}"
        )
    };
    let old = shop("plan: gold, limits: [{limit: d, max: 7}]", "d", "");
    says(
        &old,
        &shop("plan: gold, limits: [{limit: d, max: 9}]", "d", ""),
        &[
            "~ consumers default/ann: limits [{\"limit\":\"d\",\"max\":7}] → [{\"limit\":\"d\",\"max\":9}] (keeps the count)",
        ],
    );
    says(
        &old,
        &shop("plan: base", "d", ""),
        &[
            "~ consumers default/ann: limits [{\"limit\":\"d\",\"max\":7}] → (default) (what it counted drains)",
            "~ consumers default/ann: plan gold → base (keeps the count)",
        ],
    );
    says(
        &shop("plan: gold", "d", ""),
        &shop("plan: free", "{limit: d, max: 8}", ""),
        &[
            "~ consumers default/ann: plan gold → free (starts a new, empty limit; an old one drains)",
            "~ plans gold: limits [\"d\"] → [{\"limit\":\"d\",\"max\":8}] (starts a new, empty limit; an old one drains)",
        ],
    );
    says(
        &shop("team: a", "d", "products: [{name: p, routes: [r], weights: {d: 2}}]"),
        &shop("team: b, end_user: x-user", "d", "products: [{name: p, routes: [], weights: {d: 3}}]"),
        &[
            "~ consumers default/ann: end_user (default) → x-user (counts on another counter from then on)",
            "~ consumers default/ann: team a → b (counts on another counter from then on)",
            "~ products p: routes [\"r\"] → [] (counts on another counter from then on)",
            "~ products p: weights.d 2 → 3 (keeps the count)",
        ],
    );
    let teams = |max: &str| format!("teams: [{{name: web, tenant: t, limits: [{max}]}}]\ntenants: [{{name: t}}]");
    says(
        "",
        &teams("{limit: d, max: 3}"),
        &["+ tenants t", "+ teams t/web (starts a new, empty limit; an old one drains)"],
    );
    says(
        &teams("{limit: d, max: 3}"),
        &teams(""),
        &["~ teams t/web: limits [{\"limit\":\"d\",\"max\":3}] → (default) (what it counted drains)"],
    );
}

#[test]
fn a_scope_written_in_another_way_is_the_same() {
    let limit = |per: &str| format!("limits: [{{name: a, window: 1m, max: 5, per: [{per}]}}]");
    says(&limit("ip/32/64"), &limit("ip"), &[]);
    says(
        &limit("ip"),
        &limit("ip/24"),
        &["~ limits a: per [\"ip\"] → [\"ip/24\"] (starts a new, empty limit; an old one drains)"],
    );
    says(
        &limit("ip"),
        "limits: [{name: a, window: 1m, max: 5, per: [ip], on_missing: skip}]",
        &["~ limits a: on_missing share → skip (keeps the count)"],
    );
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
