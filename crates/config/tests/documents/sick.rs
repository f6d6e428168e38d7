//! Breakers, checks, found endpoints.

use tidegate_policy::{Check, Endpoint, Fallback};

use crate::*;

#[test]
fn breakers_and_checks_are_checked() {
    says(
        "version: 1
upstreams:
  - name: a
    endpoints: [{url: 'http://h'}]
    breaker: {error_ratio: 0%, window: 1ms, min_requests: 0, open_for: 2m, longest_open: 1m, statuses: [429, 5xx], fallback: nobody}
    health: {path: health, tcp: true}
  - {name: b, endpoints: [{url: 'http://h'}], breaker: {fallback: c, respond: {status: 503}}, health: {grpc: x, host: h}}
  - {name: c, endpoints: [{url: 'http://h'}], breaker: {fallback: b}}
  - {name: d, endpoints: [{srv: 'a b'}, {file: users.json}, {file: /u.json, weight: 2}, {url: 'http://h', file: /u}]}
",
        &[
            "line 5: upstreams[0].breaker.fallback: no upstream is named `nobody`",
            "line 5: upstreams[0].breaker.window: 100ms to 1h",
            "line 5: upstreams[0].breaker.longest_open: shorter than `open_for`",
            "line 5: upstreams[0].breaker.statuses[0]: 429 is the client's fault (500 to 599)",
            "line 5: upstreams[0].breaker.error_ratio: above 0%",
            "line 5: upstreams[0].breaker.min_requests: 1 to 1000000",
            "line 6: upstreams[0].health: a check has exactly one of `path`, `grpc`, `tcp` (write `path: /health`)",
            "line 6: upstreams[0].health.path: `health` is not a path (write `/health`)",
            "line 7: upstreams[1].breaker.fallback: this fallback leads back here",
            "line 7: upstreams[1].breaker: either `fallback` or `respond`",
            "line 7: upstreams[1].health: `host` and `statuses` go with `path`",
            "line 8: upstreams[2].breaker.fallback: this fallback leads back here",
            "line 9: upstreams[3].endpoints[0].srv: `a b` is not a name (write `_http._tcp.users.internal`)",
            "line 9: upstreams[3].endpoints[1].file: `users.json` is not an absolute path (write `/etc/tidegate/users.json`)",
            "line 9: upstreams[3].endpoints[2].weight: with `srv` and `file` the records and the file have the weights",
            "line 9: upstreams[3].endpoints[3]: an endpoint has exactly one of `url`, `dns`, `srv`, `file` (write `url: http://10.0.0.5:8000`)",
        ],
    );
}

#[test]
fn what_is_said_is_what_holds() {
    let snapshot = compiled(
        "version: 1
upstreams:
  - name: a
    endpoints: [{srv: _http._tcp.Users.internal, https: true}, {file: /etc/users.json}]
    breaker: {consecutive: 3, statuses: [500, 503-504], fallback: b}
    health: {path: /up, statuses: [2xx, 401], panic_below: 30%}
  - {name: b, endpoints: [{url: 'http://h'}], breaker: {respond: {status: 203, body: later}}, health: {grpc: ''}}
",
    );
    let [a, b] = snapshot.upstreams.as_slice() else { panic!("two upstreams") };
    let srv = Endpoint::Srv { https: true, name: "_http._tcp.users.internal".into() };
    assert_eq!(a.endpoints, [srv, Endpoint::File { path: "/etc/users.json".into() }]);
    let breaker = a.breaker.as_ref().unwrap();
    assert_eq!((breaker.consecutive, breaker.min_requests, breaker.error_ratio), (Some(3), 20, 0.5));
    assert_eq!(breaker.fallback, Some(Fallback::Upstream("b".into())));
    assert_eq!([429, 500, 501, 503, 504].map(|status| breaker.fails(status)), [false, true, false, true, true]);
    let health = a.health.as_ref().unwrap();
    let check = Check::Http { path: "/up".into(), host: None, statuses: vec![(200, 299), (401, 401)] };
    assert_eq!((&health.check, health.panic_below), (&check, 30));
    assert!(matches!(&b.breaker.as_ref().unwrap().fallback, Some(Fallback::Respond { status, .. }) if *status == 203));
    assert_eq!(b.health.as_ref().unwrap().check, Check::Grpc { service: String::new() });
}
