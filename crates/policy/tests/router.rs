//! Which route takes a request: tables of routes and requests.

use std::sync::Arc;

use http::{HeaderName, Method, Request, StatusCode};
use tidegate_policy::{
    Action, Cors, HeaderMatch, HostPattern, PathPattern, QueryMatch, Rare, Route, Router, ValueMatch,
};

struct Draft(Route);

fn route(name: &str, path: &str) -> Draft {
    let path = match path.strip_suffix("/*") {
        Some(prefix) => PathPattern::Prefix(prefix.into()),
        None => PathPattern::Template(path.into()),
    };
    Draft(Route {
        id: name.into(),
        tenant: "default".into(),
        hosts: Rare::default(),
        path,
        methods: vec![],
        headers: Rare::default(),
        query: Rare::default(),
        priority: 0,
        action: Action::Respond { status: StatusCode::OK, headers: vec![], body: bytes::Bytes::new() },
        auth: vec![],
        claims: Rare::default(),
        claim_headers: std::sync::Arc::default(),
        limits: Rare::default(),
        cors: None,
        request_headers: Rare::default(),
        response_headers: Rare::default(),
        timeouts: Rare::default(),
        max_body: 0,
        min_body_rate: 0,
        upgrade: false,
        early_hints: false,
        grpc_web: false,
        decompress: false,
        compression: None,
        class: None,
        cache: None,
    })
}

impl Draft {
    fn host(mut self, host: &str) -> Self {
        self.0.hosts.push(match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None => HostPattern::Exact(host.into()),
        });
        self
    }
    fn method(mut self, method: Method) -> Self {
        self.0.methods.push(method);
        self
    }
    fn header(mut self, name: &'static str, value: ValueMatch) -> Self {
        self.0.headers.push(HeaderMatch { name: HeaderName::from_static(name), value });
        self
    }
    fn query(mut self, name: &str, value: ValueMatch) -> Self {
        self.0.query.push(QueryMatch { name: name.into(), value });
        self
    }
    fn priority(mut self, priority: i32) -> Self {
        self.0.priority = priority;
        self
    }
    fn cors(mut self) -> Self {
        self.0.cors = Some(Box::new(Cors {
            origins: vec!["*".into()],
            methods: vec![],
            headers: vec![],
            expose: vec![],
            credentials: false,
            max_age: None,
        }));
        self
    }
}

fn router(drafts: impl IntoIterator<Item = Draft>) -> Router {
    Router::new(drafts.into_iter().map(|draft| Arc::new(draft.0)).collect())
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

/// `"GET host/path?query name=value"`.
fn parts(request: &str) -> (String, http::request::Parts) {
    let mut words = request.split(' ');
    let (method, target) = (words.next().expect("method"), words.next().expect("target"));
    let (host, path) = target.split_at(target.find('/').unwrap_or(target.len()));
    let mut builder = Request::builder().method(method).uri(if path.is_empty() { "*" } else { path });
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        builder = builder.header(name, value);
    }
    (host.to_owned(), builder.body(()).expect("valid request").into_parts().0)
}

/// Each line: request, route found (`-`: none), captures as `name=value`.
#[track_caller]
fn check(router: &Router, table: &[(&str, &str)]) {
    for (request, expected) in table {
        let (host, parts) = parts(request);
        let found = router.find(&host, &parts).map_or("-".to_owned(), |matched| {
            let path = matched.path.as_deref().unwrap_or_else(|| parts.uri.path());
            let captures = matched.captures.iter(path).map(|(name, value)| format!(" {name}={value}"));
            format!("{}{}", matched.route.id, captures.collect::<String>())
        });
        assert_eq!(found, *expected, "{request}");
    }
}

#[test]
fn an_exact_host_comes_before_the_longest_suffix_before_any() {
    let router = router([
        route("any", "/*"),
        route("short", "/*").host("*.example.com"),
        route("long", "/*").host("*.eu.example.com"),
        route("exact", "/*").host("api.eu.example.com"),
    ]);
    check(
        &router,
        &[
            ("GET api.eu.example.com/", "exact"),
            ("GET api.eu.example.com./", "exact"),
            ("GET b.eu.example.com/", "long"),
            ("GET a.b.eu.example.com/", "long"),
            ("GET eu.example.com/", "short"),
            ("GET example.com/", "any"),
            ("GET .example.com/", "any"),
            ("GET badexample.com/", "any"),
            ("GET other.org/", "any"),
        ],
    );
}

#[test]
fn a_better_host_without_a_fitting_path_gives_way() {
    let router = router([route("exact", "/a").host("h"), route("any", "/b")]);
    check(&router, &[("GET h/a", "exact"), ("GET h/b", "any"), ("GET x/a", "-")]);
}

#[test]
fn literal_before_capture_before_rest_before_prefix() {
    let router = router([
        route("all", "/*"),
        route("prefix", "/a/*"),
        route("rest", "/a/{*rest}"),
        route("id", "/a/{id}"),
        route("json", "/a/{id}.json"),
        route("me", "/a/me"),
        route("deep", "/a/b/c/*"),
        route("root", "/"),
    ]);
    check(
        &router,
        &[
            ("GET h/", "root"),
            ("GET h/a", "prefix"),
            ("GET h/a/", "prefix"),
            ("GET h/a/me", "me"),
            ("GET h/a/7", "id id=7"),
            ("GET h/a/7.json", "json id=7"),
            ("GET h/a/.json", "id id=.json"),
            ("GET h/a/7/8", "rest rest=7/8"),
            ("GET h/a/me/", "rest rest=me/"),
            ("GET h/a/b/c", "deep"),
            ("GET h/a/b/c/d", "deep"),
            ("GET h/a/b/cd", "rest rest=b/cd"),
            ("GET h/ab", "all"),
            ("OPTIONS h", "all"),
        ],
    );
}

#[test]
fn when_a_predicate_fails_the_next_best_route_is_tried() {
    let router = router([
        route("me", "/a/me").method(Method::GET),
        route("id", "/a/{id}").method(Method::PUT),
        route("name", "/a/{name}").header("x-beta", exact("1")),
        route("rest", "/a/{*rest}").query("q", ValueMatch::Present),
        route("prefix", "/a/*").method(Method::DELETE),
        route("all", "/*").method(Method::POST),
    ]);
    check(
        &router,
        &[
            ("GET h/a/me", "me"),
            ("HEAD h/a/me", "me"),
            ("PUT h/a/me", "id id=me"),
            ("PATCH h/a/me x-beta=1", "name name=me"),
            ("PATCH h/a/me?q", "rest rest=me"),
            ("DELETE h/a/me", "prefix"),
            ("POST h/a/me", "all"),
            ("PATCH h/a/me", "-"),
        ],
    );
}

#[test]
fn backtracking_forgets_the_captures_of_dead_ends() {
    let router = router([route("one", "/a/{x}/c/{y}/e"), route("two", "/{p}/b/{q}/d/{r}")]);
    check(&router, &[("GET h/a/b/c/d/f", "two p=a q=c r=f"), ("GET h/a/b/c/d/e", "one x=b y=d")]);
}

#[test]
fn priority_then_predicates_then_document_order() {
    let router = router([
        route("plain", "/a"),
        route("twin", "/a"),
        route("header", "/a").header("x", ValueMatch::Present),
        route("both", "/a").header("x", ValueMatch::Present).query("q", exact("1")),
        route("first", "/a").priority(5).header("y", ValueMatch::Prefix("go".into())),
    ]);
    check(
        &router,
        &[
            ("GET h/a", "plain"),
            ("GET h/a x=1", "header"),
            ("GET h/a?q=1 x=1", "both"),
            ("GET h/a?q=1 x=1 y=gone", "first"),
            ("GET h/a?q=1 x=1 y=ago", "both"),
        ],
    );
}

#[test]
fn paths_are_matched_in_one_spelling() {
    let router = router([
        route("admin", "/admin/*"),
        route("file", "/f/{name}"),
        route("cafe", "/caf%c3%a9"),
        route("slash", "/s/"),
        route("braces", "/{{x}}"),
    ]);
    check(
        &router,
        &[
            ("GET h/public/../admin/x", "admin"),
            ("GET h/%61dmin/x", "admin"),
            ("GET h/x/%2e%2e/admin", "admin"),
            ("GET h//admin//x", "admin"),
            ("GET h/f/a%2fb", "file name=a%2Fb"),
            ("GET h/admin%2Fx", "-"),
            ("GET h/caf%C3%A9", "cafe"),
            ("GET h/s/", "slash"),
            ("GET h/s//", "slash"),
            ("GET h/s", "-"),
            ("GET h/%7Bx%7D", "braces"),
            ("GET h/{x}", "braces"),
        ],
    );
}

#[test]
fn the_respelled_path_is_handed_on() {
    let router = router([route("all", "/*")]);
    let path = |request| {
        let (host, parts) = parts(request);
        router.find(&host, &parts).expect("matches everything").path
    };
    assert_eq!(path("GET h/a/../b"), Some("/b".into()));
    assert_eq!(path("GET h/a//b"), Some("/a/b".into()));
    assert_eq!(path("GET h/a/b/"), None);
}

#[test]
fn queries_are_decoded_and_the_first_value_counts() {
    let router = router([
        route("one", "/a").query("na me", exact("x y")),
        route("re", "/a").query("v", ValueMatch::Regex(regex::Regex::new("^[0-9]+$").expect("valid"))),
    ]);
    check(
        &router,
        &[
            ("GET h/a?na+me=x%20y", "one"),
            ("GET h/a?b&na%20me=x+y&c", "one"),
            ("GET h/a?na+me=z&na+me=x+y", "-"),
            ("GET h/a?v=42", "re"),
            ("GET h/a?v=4x", "-"),
        ],
    );
}

#[test]
fn a_preflight_reaches_the_route_it_asks_about() {
    let router = router([route("cors", "/a").method(Method::PUT).cors(), route("plain", "/b").method(Method::PUT)]);
    check(
        &router,
        &[
            ("OPTIONS h/a origin=https://x access-control-request-method=PUT", "cors"),
            ("OPTIONS h/a origin=https://x access-control-request-method=GET", "-"),
            ("OPTIONS h/a", "-"),
            ("OPTIONS h/b origin=https://x access-control-request-method=PUT", "-"),
        ],
    );
}

#[test]
fn a_wrong_method_is_told_apart_from_a_wrong_path() {
    let router = router([
        route("get", "/a").method(Method::GET),
        route("put", "/{x}").method(Method::PUT),
        route("beta", "/a").method(Method::PATCH).header("x-beta", ValueMatch::Present),
    ]);
    let allowed = |request| {
        let (host, parts) = parts(request);
        router.allowed_methods(&host, &parts).iter().map(Method::to_string).collect::<Vec<_>>().join(",")
    };
    assert_eq!(allowed("POST h/a"), "GET,HEAD,PUT");
    assert_eq!(allowed("POST h/a x-beta=1"), "GET,HEAD,PATCH,PUT");
    assert_eq!(allowed("POST h/b/c"), "");
}

#[test]
fn ten_thousand_routes_are_found_each() {
    let router = router((0..10_000).map(|i| route(&format!("r{i}"), &format!("/svc{i}/{{id}}/x"))));
    for i in (0..10_000).step_by(97) {
        check(&router, &[(&format!("GET h/svc{i}/7/x"), &format!("r{i} id=7"))]);
    }
}
