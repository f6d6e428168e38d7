//! What is wrong with a route.

use crate::{route_says, says};

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
        &["line 5: routes[0]: a route does one of `to`, `redirect`, `respond`, `llm` (write `to: [{upstream: NAME}]`)"],
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
