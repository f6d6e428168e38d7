//! Documents and what is said about them.

use tidegate_config::{
    Document, Format, Inputs, Need, SourceFile, check, compile, needs, parse, parse_files, warnings,
};
use tidegate_model::{Nanos, Permits, Revision};
use tidegate_policy::{Action, Dimension, Endpoint, HeaderEdit, HostPattern, OnUnavailable, PathPattern, Snapshot};

const FULL: &str = include_str!("golden/full.yaml");

fn inputs(document: &Document) -> Inputs {
    Inputs::gather(document, |need| {
        Ok(match need {
            Need::Env(_) => b"s3cret".to_vec(),
            Need::File(name) if name.ends_with(".key") => b"-----BEGIN PRIVATE KEY-----\nAA==\n".to_vec(),
            Need::File(_) => b"-----BEGIN CERTIFICATE-----\nAA==\n".to_vec(),
        })
    })
}

fn compiled(text: &str) -> Snapshot {
    let (document, locations) = parse(text.as_bytes(), Format::Auto).expect("reads");
    compile(&document, &locations, &inputs(&document), Revision(7)).expect("compiles")
}

/// Each problem as it is shown to people, in order.
#[track_caller]
fn says(text: &str, problems: &[&str]) {
    let said = match check(&[SourceFile { name: "", bytes: text.as_bytes() }], inputs, Revision(1)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(said, problems, "{text}");
}

/// A document with one upstream and one route whose further fields are `route`.
#[track_caller]
fn route_says(route: &str, problems: &[&str]) {
    let text = format!(
        "version: 1\nsecrets: [{{name: s, from: env:S}}]\nupstreams: [{{name: u, endpoints: [{{url: 'http://h:1'}}]}}]\nroutes:\n- name: r\n  {}\n",
        route.replace('\n', "\n  ")
    );
    says(&text, problems);
}

#[test]
fn a_full_document_becomes_a_snapshot() {
    let snapshot = compiled(FULL);
    assert_eq!(snapshot.revision, Revision(7));
    let limit = &snapshot.limits[2];
    assert_eq!((limit.max, limit.window, limit.revision), (Permits(50), Nanos::from_secs(10), Revision(7)));
    assert_eq!(limit.per, [Dimension::Ip, Dimension::Header(http::HeaderName::from_static("x-device"))]);
    assert_eq!(limit.on_unavailable, OnUnavailable::Deny);
    assert!(snapshot.limits[3].per.is_empty());
    let acme = snapshot.consumer("default", "acme").expect("listed");
    assert_eq!(acme.limits, [0]);
    assert!(snapshot.consumer("other", "acme").is_none());
    let upstream = &snapshot.upstreams[0];
    assert_eq!(
        upstream.endpoints,
        [
            Endpoint::Url { https: false, host: "10.0.0.5".into(), port: 8000, weight: 2 },
            Endpoint::Dns { https: false, name: "users.internal".into(), port: 8000, weight: 1 },
        ]
    );
    assert!(snapshot.upstreams[1].tls.ca_pem.is_some());
    let routes = snapshot.router.routes();
    assert_eq!(routes[0].hosts, [HostPattern::Exact("api.example.com".into())]);
    assert_eq!(routes[0].path, PathPattern::Template("/v1/users/{id}".into()));
    let Action::Forward { to, .. } = &routes[0].action else { panic!("forwards") };
    assert_eq!((to.len(), to[0].weight, &*to[1].upstream.id), (2, 95, "users-next"));
    let HeaderEdit::Set(_, value) = &routes[0].request_headers.0[1] else { panic!("removals come first") };
    assert_eq!(value, "Bearer s3cret");
    assert!(value.is_sensitive());
    assert_eq!(routes[1].max_body, 1 << 30);
    assert_eq!(snapshot.trusted_proxies.len(), 2);
    assert_eq!(snapshot.telemetry.access_log.as_ref().and_then(|log| log.rotate_bytes), Some(100 << 20));
}

#[test]
fn the_needs_of_a_document_are_listed_once_each() {
    let (document, _) = parse(FULL.as_bytes(), Format::Yaml).expect("reads");
    let files = ["tls/api.key", "tls/api.pem", "tls/internal.pem"].map(|name| Need::File(name.into()));
    assert_eq!(needs(&document), [vec![Need::Env("PARTNER_TOKEN".into())], files.to_vec()].concat());
}

#[test]
fn nothing_prints_a_secret() {
    let (document, _) = parse(FULL.as_bytes(), Format::Yaml).expect("reads");
    let inputs = inputs(&document);
    assert!(!format!("{inputs:?}{:?}", compiled(FULL)).contains("s3cret"));
}

#[test]
fn json_is_as_good_as_yaml() {
    let (yaml, _) = parse(FULL.as_bytes(), Format::Yaml).expect("reads");
    let text = serde_json::to_string_pretty(&yaml).expect("writes");
    let (json, _) = parse(text.as_bytes(), Format::Auto).expect("reads");
    assert_eq!(json, yaml);
    let again = tidegate_config::write(&yaml).expect("writes");
    assert_eq!(parse(again.as_bytes(), Format::Yaml).expect("reads").0, yaml);
    says(
        "{\n\"version\": 1,\n\t\"routes\": [\n\t{\"name\": 5, \"x\": \"\\ud83d\\ude00\"}]}",
        &[
            "line 4: routes[0].x: unknown field (known here: name, tenant, match, priority, to, redirect, respond, rewrite, auth, limits, cors, request_headers, response_headers, timeouts, max_body, upgrade, cache)",
            "line 4: routes[0]: a route does one of `to`, `redirect`, `respond` (write `to: [{upstream: NAME}]`)",
        ],
    );
    says("{\"version\": 1", &["line 1: not valid JSON: expected `,`"]);
    says("{version: 1}", &[]);
}

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
            "line 11: routes[0].match.path: a path starts with `/` (write `/v1`)",
            "line 12: routes[0].to[0].upstream: no upstream is named `user` (did you mean `users`?)",
            "line 13: routes[0].limits[1]: no limit is named `cc` (did you mean `c`?)",
            "line 15: routes[1].match.hots: unknown field (did you mean `hosts`?)",
            "line 16: routes[1].to[0].weight: expected a whole number from 0 to 4294967295, found the text `heavy`",
            "line 16: routes[1].to[1].upstrem: unknown field (did you mean `upstream`?)",
            "line 16: routes[1].to[1]: `upstream` is missing",
            "line 17: routes[2]: `name` is missing",
            "line 19: extra: unknown field (known here: version, secrets, consumers, plans, limits, upstreams, routes, certificates, listeners, telemetry)",
        ],
    );
}

#[test]
fn texts_that_are_no_documents() {
    says("", &["line 1: the document is empty; it begins with `version: 1`"]);
    says("# nothing", &["line 1: the document is empty; it begins with `version: 1`"]);
    says("- 1", &["line 1: a document is a map: `version: 1`, `routes:`, …"]);
    says("routes: []", &["line 1: `version` is missing; write `version: 1`"]);
    says("version: 2", &["line 1: version: version 2 is not known to this build (write `version: 1`)"]);
    says("version: 1\nroutes: 5", &["line 2: routes: expected a list: each item begins with `- name:`"]);
    says("version: 1\nversion: 1", &["line 2: `version` is already set on line 1"]);
    says("version: 1\n---\nversion: 1", &["line 3: one document per file: a second one starts here"]);
    says("version: !x 1", &["line 1: tags have no meaning here"]);
    says("? [a]\n: 1", &["line 1: a key is a plain text"]);
    let problems = parse(b"version: 1\n# \xff", Format::Auto).expect_err("not UTF-8");
    assert_eq!(problems[0].to_string(), "line 2: the text is not UTF-8");
    assert!(parse(&vec![b'#'; 17 << 20], Format::Auto).is_err());
}

#[test]
fn anchors_and_merges_work_within_bounds() {
    says(
        "version: 1
upstreams:
  - &base {name: a, endpoints: [{url: 'http://a'}], balance: random}
  - {<<: *base, name: b}
",
        &[],
    );
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    let problems = parse(bomb.as_bytes(), Format::Yaml).expect_err("a bomb");
    assert!(problems[0].reason.contains("aliases expanded"), "{}", problems[0]);
    let deep = format!("version: {}", "[".repeat(5000));
    assert!(parse(deep.as_bytes(), Format::Auto).is_err());
    let deep = format!("{{\"version\": {}", "[".repeat(100_000));
    assert!(parse(deep.as_bytes(), Format::Json).is_err());
    assert!(parse(b"a: &a [*a]", Format::Yaml).is_err());
}

#[test]
fn a_folder_is_one_document() {
    let files = [
        SourceFile { name: "a.yaml", bytes: b"version: 1\nupstreams:\n- {name: u, endpoints: [{url: 'http://h'}]}\n" },
        SourceFile { name: "b.yaml", bytes: b"version: 1\nroutes:\n- {name: r, to: [{upstream: u}]}\n" },
        SourceFile { name: "c.json", bytes: b"{\"routes\": []}" },
    ];
    assert_eq!(parse_files(&files).expect("reads").0.routes.len(), 1);
    let twice = [
        files[0],
        SourceFile { name: "d.yaml", bytes: b"upstreams:\n\n- {name: u, endpoints: [{url: 'http://x'}]}\n" },
    ];
    let problems = check(&twice, inputs, Revision(1)).expect_err("twice");
    assert_eq!(
        problems[0].to_string(),
        "d.yaml:3: upstreams[1].name: another upstream is named `u` already: upstreams[0] (a.yaml:3) (names are unique; rename one)"
    );
    let telemetry = SourceFile { name: "t", bytes: b"version: 1\ntelemetry: {}" };
    let problems = parse_files(&[telemetry, SourceFile { name: "v", bytes: b"telemetry: {}" }]).expect_err("twice");
    assert_eq!(problems[0].to_string(), "v:1: `telemetry` is already set in another file");
    let version = SourceFile { name: "v", bytes: b"version: 2" };
    assert!(parse_files(&[files[0], version]).is_err());
}

#[test]
fn what_is_not_built_yet_is_said() {
    let not_yet = |line: u32, path: &str| {
        format!("line {line}: {path}: not supported by this build yet (leave it out; nothing would happen)")
    };
    let text = "version: 1
limits:
  - {name: daily, max: 5, calendar: day, zone: Europe/Berlin}
upstreams:
  - name: u
    endpoints: [{url: http://h}]
    health: {path: /health, interval: 5s}
    breaker: {error_ratio: 0.5}
routes:
  - {name: r, to: [{upstream: u}], cache: {ttl: from_origin}}
telemetry: {otlp: {endpoint: x}}
";
    let expected = [
        not_yet(3, "limits[0].calendar"),
        not_yet(3, "limits[0].zone"),
        not_yet(7, "upstreams[0].health"),
        not_yet(8, "upstreams[0].breaker"),
        not_yet(10, "routes[0].cache"),
        not_yet(11, "telemetry.otlp"),
    ];
    says(text, &expected.each_ref().map(String::as_str));
}

#[test]
fn paths_hosts_and_methods_are_checked() {
    let to = "to: [{upstream: u}]";
    route_says(
        &format!("{to}\nmatch: {{path: '/a/{{id'}}"),
        &[
            "line 7: routes[0].match.path: unbalanced braces; write `{{` or `}}` for a brace itself (write `/users/{id}`)",
        ],
    );
    route_says(
        &format!("{to}\nmatch: {{path: /a*}}"),
        &[
            "line 7: routes[0].match.path: `*` stands at the end only, as a whole segment (`/v1/*` is everything below `/v1`, `{name}` one segment, `%2A` the character itself)",
        ],
    );
    route_says(
        &format!("{to}\nmatch: {{hosts: ['*', 'h:80', 'HTTP://x', 'a..b']}}"),
        &[
            "line 7: routes[0].match.hosts[0]: `*` is not a host pattern (leave `hosts` out to take every host)",
            "line 7: routes[0].match.hosts[1]: `h:80` is not a host name (write the host without port)",
            "line 7: routes[0].match.hosts[2]: `HTTP://x` is not a host name (write the host alone, without scheme)",
            "line 7: routes[0].match.hosts[3]: `a..b` is not a host name (write `api.example.com` or `*.example.com`)",
        ],
    );
    route_says(
        &format!("{to}\nmatch: {{methods: [get, 'A B']}}"),
        &[
            "line 7: routes[0].match.methods[0]: `get` is not a method (write `GET`)",
            "line 7: routes[0].match.methods[1]: `A B` is not a method",
        ],
    );
    route_says(
        &format!(
            "{to}\nmatch: {{headers: {{x: {{regex: '('}}, y: {{regex: 'a{{1000}}{{1000}}'}}, z: {{}}, 'a b': q}}}}"
        ),
        &[
            "line 7: routes[0].match.headers[\"a b\"]: `a b` is not a header name",
            "line 7: routes[0].match.headers.x.regex: not a regular expression: unclosed group",
            "line 7: routes[0].match.headers.y.regex: the regular expression needs more than 262144 bytes (large counts such as `{1000}` are costly)",
            "line 7: routes[0].match.headers.z: exactly one of `exact`, `prefix`, `regex`, `present`",
        ],
    );
}

#[test]
fn actions_are_checked() {
    route_says(
        "auth: [key]",
        &["line 5: routes[0]: a route does one of `to`, `redirect`, `respond` (write `to: [{upstream: NAME}]`)"],
    );
    route_says(
        "to: [{upstream: u, weight: 0}]",
        &["line 6: routes[0].to: all weights are 0: no upstream takes requests (give one a weight of 1)"],
    );
    route_says(
        "to: [{upstream: u}]\nmatch: {path: /v1/x}\nrewrite: {strip_prefix: /v2}",
        &[
            "line 8: routes[0].rewrite.strip_prefix: no path this route takes starts with it (it has to be the front of the route's `path`)",
        ],
    );
    route_says(
        "to: [{upstream: u}]\nmatch: {path: '/v1/{user}'}\nrewrite: {path: '/x/{usr}'}",
        &["line 8: routes[0].rewrite.path: the route's path captures no `usr` (did you mean `user`?)"],
    );
    route_says(
        "redirect: {status: 200}",
        &[
            "line 6: routes[0].redirect.status: 200 is no redirect (301, 302, 303, 307 or 308)",
            "line 6: routes[0].redirect: this sends clients where they are (name a `scheme`, `host`, `port` or `path`)",
        ],
    );
    let looped = "line 7: routes[0].redirect: the new address is taken by this route again: a loop (redirect to another path or host)";
    route_says("match: {path: /old/*}\nredirect: {path: /old/new}", &[looped]);
    route_says("match: {hosts: [a.b], path: /x}\nredirect: {host: a.b}", &[looped]);
    route_says("match: {hosts: [a.b]}\nredirect: {host: b.c}", &[]);
    route_says("match: {path: /old/*}\nredirect: {path: /new}", &[]);
    route_says("match: {path: /form, methods: [POST]}\nredirect: {status: 303, path: /form}", &[]);
    route_says("match: {path: /form, methods: [POST]}\nredirect: {status: 307, path: /form}", &[looped]);
    says(
        "version: 1
routes:
  - {name: old, match: {path: /old/*}, redirect: {path: /old/new}}
  - {name: new, match: {path: /old/new}, respond: {status: 200}}
",
        &[],
    );
    route_says("match: {path: /*}\nredirect: {scheme: https}", &[]);
    route_says("respond: {status: 99}", &["line 6: routes[0].respond.status: 200 to 599"]);
    route_says("respond: {status: 200}\nupgrade: true", &["line 7: routes[0].upgrade: means nothing without `to`"]);
}

#[test]
fn headers_and_cors_are_checked() {
    let to = "to: [{upstream: u}]";
    route_says(
        &format!("{to}\nrequest_headers: {{set: {{connection: close, host: x}}, remove: [upgrade, 'a b']}}"),
        &[
            "line 7: routes[0].request_headers.remove[0]: `upgrade` belongs to one connection; it is made and stripped by the gate (use `upgrade: true`)",
            "line 7: routes[0].request_headers.remove[1]: `a b` is not a header name",
            "line 7: routes[0].request_headers.set.connection: `connection` belongs to one connection; it is made and stripped by the gate (leave it out)",
            "line 7: routes[0].request_headers.set.host: `host` is not changed as a header (use `rewrite: {host: …}`)",
        ],
    );
    route_says(
        &format!("{to}\nrequest_headers: {{set: {{a: '${{secrets.t}}', b: '${{x}}', c: '$${{x}}', d: \"x\\ny\"}}}}"),
        &[
            "line 7: routes[0].request_headers.set.a: no secret is named `t` (did you mean `s`?)",
            "line 7: routes[0].request_headers.set.b: `${x}` means nothing (write `${secrets.NAME}` for a secret, `$${` for `${` itself)",
            "line 7: routes[0].request_headers.set.d: a header value has no line ends or other control characters",
        ],
    );
    route_says(
        &format!("{to}\nresponse_headers: {{set: {{a: '${{secrets.s}}'}}}}"),
        &[
            "line 7: routes[0].response_headers.set.a: a secret would be sent to clients (secrets go into `request_headers` only)",
        ],
    );
    route_says(
        &format!("{to}\ncors: {{origins: ['*'], credentials: true}}"),
        &[
            "line 7: routes[0].cors.credentials: any page could act with the user's cookies (name the origins that may send cookies; browsers refuse `*` with credentials)",
        ],
    );
    route_says(
        &format!("{to}\ncors: {{origins: ['https://a.b/', app]}}"),
        &[
            "line 7: routes[0].cors.origins[0]: `https://a.b/` is not an origin (write `https://app.example.com`, without path or slash at the end)",
            "line 7: routes[0].cors.origins[1]: `app` is not an origin (write `https://app.example.com`, without path or slash at the end)",
        ],
    );
    route_says(&format!("{to}\ncors: {{origins: ['https://*.a.b', 'http://localhost:3000']}}"), &[]);
}

#[test]
fn a_route_that_gets_nothing_is_told() {
    let text = "version: 1
routes:
  - {name: a, match: {path: '/u/{id}'}, respond: {status: 200}}
  - {name: b, match: {path: '/u/{name}'}, respond: {status: 200}}
  - {name: c, match: {path: '/u/{id}', methods: [GET]}, respond: {status: 200}}
  - {name: d, match: {path: '/u/{id}', methods: [GET], hosts: [x.y]}, priority: -1, respond: {status: 200}}
  - {name: e, match: {path: '/p/*'}, priority: 1, respond: {status: 200}}
  - {name: f, match: {path: '/p/*', methods: [PUT]}, respond: {status: 200}}
";
    says(
        text,
        &[
            "line 4: routes[1].match: no request comes here: `a` takes all of them, routes[0] (line 3) (remove one, add a condition, or give this one a higher `priority`)",
            "line 8: routes[5].match: no request comes here: `e` takes all of them, routes[4] (line 7) (remove one, add a condition, or give this one a higher `priority`)",
        ],
    );
}

#[test]
fn limits_are_checked() {
    says(
        "version: 1
limits:
  - {name: a, window: 1m, max: 0}
  - {name: a, window: 1ms, max: 1}
  - {name: c, window: 1m, max: 1, per: [key, cluster]}
  - {name: d, window: 1m, max: 1, per: [kay, 'header:a b']}
  - {name: e, max: 1}
  - {name: 'f g', window: 1m, max: 1, per: [ip, ip]}
",
        &[
            "line 3: limits[0].max: 0 admits nothing (for a route that refuses everything use `respond: {status: 403}`)",
            "line 4: limits[1].name: another limit is named `a` already: limits[0] (line 3) (names are unique; rename one)",
            "line 4: limits[1].window: a window is 100ms to 31d long",
            "line 5: limits[2].per[1]: `cluster` stands alone (leave `cluster` out: it means one count for all)",
            "line 6: limits[3].per[0]: unknown word `kay`, expected `tenant`, `consumer`, `key`, `route`, `ip`, `cluster`, `header:NAME` (did you mean `key`?)",
            "line 7: limits[4]: `window` is missing (write `window: 1m`)",
            "line 8: limits[5].name: `f g` cannot be a name (1 to 128 letters, digits and `-_.@:+/`)",
            "line 8: limits[5].per[1]: `ip` is named twice here",
        ],
    );
}

#[test]
fn upstreams_are_checked() {
    says(
        "version: 1
upstreams:
  - {name: a, endpoints: []}
  - {name: b, endpoints: [{url: 'ftp://h'}, {url: 'http://u:p@h'}, {url: 'http://h/x'}, {dns: h, url: 'http://h'}]}
  - {name: c, endpoints: [{url: 'http://h', weight: 0}], tls: {server_name: h}}
  - {name: d, endpoints: [{url: 'http://h'}, {url: 'http://H:80'}], timeouts: {connect: 0s}}
  - {name: e, endpoints: [{url: 'http://[::1]:80'}], retries: {max: 99, budget: 200%, on: [5xx]}}
",
        &[
            "line 3: upstreams[0].endpoints: an upstream has at least one endpoint (write `- url: http://10.0.0.5:8000`)",
            "line 4: upstreams[1].endpoints[0].url: `ftp://h` is not the address of an endpoint (write `http://10.0.0.5:8000` or `https://api.internal`)",
            "line 4: upstreams[1].endpoints[1].url: `http://u:p@h` is not the address of an endpoint (credentials do not belong here; set `authorization` in `request_headers` from a secret)",
            "line 4: upstreams[1].endpoints[2].url: `http://h/x` is not the address of an endpoint (an endpoint has no path; use `rewrite: {add_prefix: …}` on the route)",
            "line 4: upstreams[1].endpoints[3]: an endpoint has either `url` or `dns` (write `url: http://10.0.0.5:8000`)",
            "line 5: upstreams[2].endpoints: all weights are 0: no endpoint takes requests (give one a weight of 1)",
            "line 5: upstreams[2].tls: no endpoint is spoken to over TLS (write `https://` in the endpoints' urls)",
            "line 6: upstreams[3].endpoints[1]: this endpoint is in the list already (use `weight` to give it a larger share)",
            "line 6: upstreams[3].timeouts.connect: a timeout is 1ms to 7d long (leave it out for the default)",
            "line 7: upstreams[4].retries.budget: `200%` is not a share (write `20%`)",
            "line 7: upstreams[4].retries.on[0]: expected `connect`, `reset`, `timeout` or a status from 400 to 599, found the text `5xx`",
        ],
    );
}

#[test]
fn missing_files_and_variables_are_told() {
    let text = "version: 1
secrets: [{name: s, from: env:NOPE}, {name: t, from: vault:x}]
certificates: [{name: c, hosts: [a.b], file: c.pem, key: c.key}]
";
    let nothing = |document: &Document| Inputs::gather(document, |_| Err("no such thing".into()));
    let problems =
        check(&[SourceFile { name: "", bytes: text.as_bytes() }], nothing, Revision(1)).expect_err("missing");
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 2: secrets[0].from: the environment variable NOPE cannot be read: no such thing (every node needs it)",
            "line 2: secrets[1].from: `vault:x` is no source (write `env:NAME` or `file:PATH`)",
            "line 3: certificates[0].file: the file c.pem cannot be read: no such thing (every node needs it)",
            "line 3: certificates[0].key: the file c.key cannot be read: no such thing (every node needs it)",
        ]
    );
}

#[test]
fn consumers_and_proxies_are_checked() {
    says(
        "version: 1
plans: [{name: gold, limits: [x]}]
consumers:
  - {name: a, plan: gld}
  - {name: a, tenant: other}
  - {name: a}
listeners: {trusted_proxies: [10.0.0.0/33, 0.0.0.0/0]}
telemetry: {access_log: {keep: 3, format: xml}}
",
        &[
            "line 2: plans[0].limits[0]: no limit is named `x`",
            "line 4: consumers[0].plan: no plan is named `gld` (did you mean `gold`?)",
            "line 6: consumers[2].name: tenant `default` has a consumer `a` already: consumers[0] (line 4) (names are unique in a tenant; rename one)",
            "line 7: listeners.trusted_proxies[0]: `10.0.0.0/33` is not an address or a network (write `10.0.0.0/8` or `192.0.2.7`)",
            "line 7: listeners.trusted_proxies[1]: this trusts everybody: any client could claim any address (name the networks of your load balancers)",
            "line 8: telemetry.access_log.format: unknown word `xml`, expected `json`",
        ],
    );
}

#[test]
fn unused_things_are_warned_about() {
    let text = "version: 1
limits:
  - {name: a, window: 1m, max: 1, per: [key]}
  - {name: b, window: 1m, max: 1}
routes:
  - {name: r, respond: {status: 200}, limits: [a]}
";
    let (document, locations) = parse(text.as_bytes(), Format::Yaml).expect("reads");
    let said: Vec<String> = warnings(&document, &locations).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 4: warning: limits[1]: nothing uses this (remove it, or name it where it is meant to hold)",
            "line 6: warning: routes[0].limits[0]: `a` counts per key or consumer, but this route asks for no key (add `auth: [key]`)",
        ]
    );
}

/// What newcomers paste first.
#[test]
fn the_documents_in_the_readme_compile() {
    let readme = include_str!("../../../README.md");
    let blocks: Vec<&str> =
        readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("closed")).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        compiled(block);
    }
}
