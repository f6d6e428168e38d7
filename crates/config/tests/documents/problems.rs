//! Problems across a whole document: all of them, with their lines, and what is not built yet.

use crate::says;

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    says(
        "version: 1
limits:
  - {name: a, window: 60, max: 5}
  - {name: b, windw: 1m, max: -1}
  - {name: c, window: 1m, max: 0, mode: enforced}
upstreams:
  - name: users
    endpoints: [{url: http://h}]
routes:
  - name: one
    match: {path: v1}
    to: [{upstream: user}]
    limits: [a, cc]
  - name: two
    match: {path: /two, hots: [x]}
    to: [{upstream: users, weight: heavy}, {upstrem: users}]
  - match: {path: /three}
    to: [{upstream: users}]
extra: 1
",
        &[
            "line 3: limits[0].window: `60` has no unit (write `60s` for seconds or `60ms`)",
            "line 4: limits[1].windw: unknown field (did you mean `window`?)",
            "line 4: limits[1].max: expected a whole number, not negative, found integer `-1`",
            "line 5: limits[2].mode: unknown word `enforced`, expected `enforce`, `observe` (did you mean `enforce`?)",
            "line 5: limits[2].max: 0 admits nothing (for a route that refuses everything use `respond: {status: 403}`)",
            "line 11: routes[0].match.path: a path starts with `/` (write `/v1`)",
            "line 12: routes[0].to[0].upstream: no upstream is named `user` (did you mean `users`?)",
            "line 13: routes[0].limits[1]: no limit is named `cc` (did you mean `c`?)",
            "line 15: routes[1].match.hots: unknown field (did you mean `hosts`?)",
            "line 16: routes[1].to[0].weight: expected a whole number from 0 to 4294967295, found the text `heavy`",
            "line 16: routes[1].to[1].upstrem: unknown field (did you mean `upstream`?)",
            "line 16: routes[1].to[1]: `upstream` is missing",
            "line 17: routes[2]: `name` is missing",
            "line 19: extra: unknown field (known here: version, secrets, consumers, issuers, tenants, teams, plans, products, limits, upstreams, providers, models, catalogue, routes, certificates, listeners, telemetry, cache, alerts)",
        ],
    );
}

#[test]
fn what_is_not_built_yet_is_said() {
    let not_yet = |line: u32, path: &str| {
        format!("line {line}: {path}: not supported by this build yet (leave it out; nothing would happen)")
    };
    let text = "version: 1
upstreams:
  - name: u
    endpoints: [{url: http://h}]
routes:
  - {name: r, to: [{upstream: u}]}
telemetry: {otlp: {endpoint: x}}
";
    let expected = [not_yet(7, "telemetry.otlp")];
    says(text, &expected.each_ref().map(String::as_str));
}
