//! Texts and folders: what is read as a document at all.

use tidegate_config::{Format, SourceFile, check, parse, parse_files};
use tidegate_model::Revision;

use crate::{FULL, compiled, inputs, says};

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
            "line 4: routes[0].x: unknown field (known here: name, tenant, match, priority, to, redirect, respond, llm, rewrite, auth, claims, limits, weights, end_user, cors, request_headers, response_headers, timeouts, max_body, min_body_rate, upgrade, early_hints, grpc_web, decompress, compression, class, cache)",
            "line 4: routes[0]: a route does one of `to`, `redirect`, `respond`, `llm` (write `to: [{upstream: NAME}]`)",
        ],
    );
    says("{\"version\": 1", &["line 1: not valid JSON: expected `,`"]);
    says("{version: 1}", &[]);
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

/// What newcomers paste first.
#[test]
fn the_documents_in_the_readme_compile() {
    let readme = include_str!("../../../../README.md");
    let blocks: Vec<&str> =
        readme.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("closed")).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        compiled(block);
    }
}
