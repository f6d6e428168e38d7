//! Problems across a whole document: all of them, with their lines, and what is not built yet.

use tidegate_config::{Document, Inputs, SourceFile, check};
use tidegate_model::{Feature, Revision};

use crate::{compiled, says};

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
            "line 19: extra: unknown field (known here: version, secrets, consumers, issuers, tenants, teams, plans, products, limits, upstreams, providers, models, catalogue, routes, certificates, acme, listeners, compression, telemetry, cache, alerts, backups)",
        ],
    );
}

#[test]
fn collectors_and_what_is_kept_of_calls_have_bounds() {
    let text = "version: 1
providers: [{name: p, kind: ollama}]
models: [{name: m, deployments: [{provider: p}], cache: {ttl: 1000d, max_answer: 1TiB, finish: []}}]
routes:
  - name: r
    llm: {models: [m], log_bodies: {max: 2MiB, without: [a..b], patterns: ['(']}}
telemetry: {otlp: {endpoint: 'ftp://x', headers: {authorization: Bearer abc, te: x}, interval: 1ms, queue: 1}}
";
    says(
        text,
        &[
            "line 3: models[0].cache.ttl: at most 366d",
            "line 3: models[0].cache.max_answer: 1B to 64MiB",
            "line 3: models[0].cache.finish: no answer would be kept (name one of `stop`, `tool_calls`, `length`)",
            "line 6: routes[0].llm.log_bodies.max: 1B to 128KiB",
            "line 6: routes[0].llm.log_bodies.without[0]: `a..b` is no path (write `messages.*.content`)",
            "line 6: routes[0].llm.log_bodies.patterns[0]: no regular expression: unclosed group",
            "line 7: telemetry.otlp.interval: 1s to 1h",
            "line 7: telemetry.otlp.queue: 64 to 1000000",
            "line 7: telemetry.otlp.headers.authorization: a key does not belong into the document (list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them)",
            "line 7: telemetry.otlp.headers.te: `te` belongs to one connection; it is made and stripped by the gate (leave it out)",
            "line 7: telemetry.otlp.endpoint: it is neither http nor https (write `http://127.0.0.1:4317`)",
        ],
    );
}

#[test]
fn http3_is_refused_by_a_program_that_was_built_without_it() {
    let text = "version: 1\nlisteners: {http3: {}}\n";
    let without = |_: &Document| Inputs::assumed().without(Feature::Http3);
    let files = [SourceFile { name: "", bytes: text.as_bytes() }];
    let problems = check(&files, without, Revision(1)).expect_err("it says so");
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 2: listeners.http3: this node's program was built without HTTP/3 (leave it out, or serve a build with the cargo \
          feature `h3`: `cargo build --features h3`)"
        ]
    );
    assert!(compiled(text).http3.is_some());
}

#[test]
fn a_collector_is_refused_by_a_program_that_was_built_without_one() {
    let text = "version: 1\ntelemetry: {otlp: {endpoint: 'http://127.0.0.1:4317'}}\n";
    let without = |_: &Document| Inputs::assumed().without(Feature::Otlp);
    let files = [SourceFile { name: "", bytes: text.as_bytes() }];
    let problems = check(&files, without, Revision(1)).expect_err("it says so");
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 2: telemetry.otlp: this node's program was built without OpenTelemetry (leave it out, or serve a build \
          with the cargo feature `otlp` (the default has it))"
        ]
    );
    compiled(text);
    says(
        &text.replace(":4317'", ":4317/base', protocol: grpc"),
        &[
            "line 2: telemetry.otlp.endpoint: gRPC has no path of the caller's choice (leave the path out, or write `protocol: http`)",
        ],
    );
}
