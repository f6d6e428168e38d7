//! A good document: the snapshot it becomes, what it needs for it, what it is warned about.

use tidegate_config::{Document, Format, Inputs, Need, SourceFile, check, needs, parse, warnings};
use tidegate_model::{Nanos, Permits, Revision};
use tidegate_policy::{Action, Dimension, Endpoint, HeaderEdit, HostPattern, OnUnavailable, PathPattern};

use crate::{FULL, compiled, inputs};

#[test]
fn a_full_document_becomes_a_snapshot() {
    let snapshot = compiled(FULL);
    assert_eq!(snapshot.revision, Revision(7));
    let limit = &snapshot.limits[2];
    assert_eq!((limit.max, limit.span(), limit.revision), (Permits(50), Nanos::from_secs(10), Revision(7)));
    assert_eq!(
        limit.per,
        [
            Dimension::Ip(tidegate_policy::Prefix::default()),
            Dimension::Header(http::HeaderName::from_static("x-device"))
        ]
    );
    assert_eq!(limit.on_unavailable, OnUnavailable::Deny);
    assert!(snapshot.limits[3].per.is_empty());
    let acme = snapshot.consumer("default", "acme").expect("listed");
    assert_eq!(acme.limits.plan.iter().map(|held| held.limit).collect::<Vec<_>>(), [0]);
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
    assert_eq!(*routes[0].hosts, [HostPattern::Exact("api.example.com".into())]);
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
            "line 2: secrets[1].from: `vault:x` is no source (write `sealed`, `env:NAME` or `file:PATH`)",
            "line 3: certificates[0].file: the file c.pem cannot be read: no such thing (every node needs it)",
            "line 3: certificates[0].key: the file c.key cannot be read: no such thing (every node needs it)",
        ]
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
            "line 6: warning: routes[0].limits[0]: `a` counts per key, but this route asks for no key (add `auth: [key]`)",
        ]
    );
}
