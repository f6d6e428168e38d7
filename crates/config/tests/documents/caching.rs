//! What may be kept of responses.

use std::time::Duration;

use tidegate_policy::{Cookies, Partition, QueryKey, Ttl};

use crate::*;

#[test]
fn rules_of_caching_are_checked() {
    says(
        "version: 1
upstreams: [{name: u, endpoints: [{url: 'http://h'}]}]
routes:
  - {name: a, match: {path: /a}, to: [{upstream: u}], cache: {ttl: 400d, max_object: 2GiB, vary_limit: 0, negative: {200: 1s, 404: 5s}}}
  - {name: b, match: {path: /b}, to: [{upstream: u}], cache: {tags: ['a b', ''], post: {max_body: 2MiB}, key: {ignore_query: [x], only_query: [y]}}}
  - {name: c, match: {path: /c}, to: [{upstream: u}], cache: {cookies: keep, post: {max: 1}}}
",
        &[
            "line 4: routes[0].cache.max_object: 1B to 1GiB",
            "line 4: routes[0].cache.vary_limit: 1 to 1000",
            "line 4: routes[0].cache.ttl: at most 366d",
            "line 4: routes[0].cache.negative.200: not the status of an error that can be kept (write `404`, `410`, `503`, …)",
            "line 5: routes[1].cache.post.max_body: 1B to 1MiB: it is held while it is looked up",
            "line 5: routes[1].cache.tags[0]: not a tag (1 to 256 bytes without spaces and commas, as in `Surrogate-Key`)",
            "line 5: routes[1].cache.tags[1]: not a tag (1 to 256 bytes without spaces and commas, as in `Surrogate-Key`)",
            "line 5: routes[1].cache.key.ignore_query: `only_query` leaves nothing to ignore (keep one of the two)",
            "line 6: routes[2].cache.cookies: unknown word `keep`, expected `explicit`, `strip`, `store`",
            "line 6: routes[2].cache.post.max: unknown field (known here: max_body)",
        ],
    );
}

#[test]
fn what_is_said_of_caching_is_what_holds() {
    let snapshot = compiled(
        "version: 1
upstreams: [{name: u, endpoints: [{url: 'http://h'}]}]
routes:
  - {name: a, match: {path: /a}, to: [{upstream: u}], cache: {}}
  - name: b
    match: {path: /b}
    to: [{upstream: u}]
    cache: {ttl: 60s, negative: {404: 5s}, tags: [x], key: {ignore_query: [utm]}, partition: tenant, cookies: strip, post: {}, heed_clients: false}
",
    );
    let of = |at: usize| snapshot.router.routes()[at].cache.clone().expect("it keeps responses");
    let standard = of(0);
    assert_eq!((standard.ttl, standard.post, standard.cookies), (Ttl::FromOrigin, None, Cookies::Explicit));
    let cache = of(1);
    assert_eq!((cache.ttl, cache.post), (Ttl::Fixed(Duration::from_secs(60)), Some(64 << 10)));
    assert_eq!(cache.key.query, QueryKey::Sorted { ignore: vec!["utm".into()] });
    assert_eq!((cache.partition, cache.cookies, cache.heed_clients), (Partition::Tenant, Cookies::Strip, false));
    assert_eq!((cache.negative[0].0.as_u16(), cache.negative[0].1), (404, Duration::from_secs(5)));
}

#[test]
fn the_redis_of_a_document_holds_no_password() {
    let cache = |redis: &str| format!("version: 1\nsecrets: [{{name: r, from: env:R}}]\ncache: {{redis: {redis}}}\n");
    let shape = "write `redis://:${secrets.NAME}@host:6379/0`, `rediss://…` for TLS, `redis+sentinel://host,host/master` \
                 or `redis+cluster://host,host`";
    for (redis, problem) in [
        (
            "{url: 'redis://:pw@h'}",
            "url: a password does not belong into the document (write `${secrets.NAME}` in its place)",
        ),
        (
            "{url: 'redis://u:pw${secrets.r}@h'}",
            "url: a password does not belong into the document (write `${secrets.NAME}` in its place)",
        ),
        (
            "{url: 'unix:///run/redis.sock?pass=pw'}",
            "url: a password does not belong into the document (write `${secrets.NAME}` in its place)",
        ),
        ("{url: 'http://h'}", &format!("url: not the scheme of a Redis ({shape})")),
        ("{url: 'h:6379'}", &format!("url: not the URL of a Redis ({shape})")),
        ("{url: 'redis://'}", &format!("url: the URL names no host, or not as `host:port` ({shape})")),
        ("{url: 'redis://a,b'}", &format!("url: the URL names no host, or not as `host:port` ({shape})")),
        ("{url: 'redis://h:99999'}", &format!("url: the URL names no host, or not as `host:port` ({shape})")),
        ("{url: 'redis://h/main'}", &format!("url: the path of the URL is no number of a database ({shape})")),
        ("{url: 'redis+sentinel://a,b'}", &format!("url: a Sentinel URL ends with the master's name ({shape})")),
        ("{url: 'redis://h', ca: ca.pem}", "ca: the server is not spoken to over TLS (write `rediss://` in the URL)"),
        ("{url: 'redis://:${secrets.x}@h'}", "url: no secret is named `x`"),
        ("{ca: ca.pem}", ""),
    ] {
        let text = cache(redis);
        let said = check(&[SourceFile { name: "", bytes: text.as_bytes() }], inputs, Revision(1)).expect_err(redis);
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains(problem) && !said[0].contains("pw"), "{redis}: {said:?}");
    }
    for (redis, url) in [
        ("{url: 'redis://:${secrets.r}@h:1/2'}", "redis://:s3cret@h:1/2"),
        ("{url: 'rediss://u:${secrets.r}@[::1]:7', ca: ca.pem}", "rediss://u:s3cret@[::1]:7"),
        ("{url: 'redis+sentinel://a:1,b/main/3'}", "redis+sentinel://a:1,b/main/3"),
        ("{url: 'rediss+cluster://a,b'}", "rediss+cluster://a,b"),
    ] {
        let snapshot = compiled(&cache(redis));
        let redis = snapshot.redis.as_ref().expect(url);
        assert_eq!(redis.url, url);
        assert_eq!(redis.authority.is_some(), url.contains("::1"));
        assert!(!format!("{snapshot:?}").contains("s3cret"));
    }
    assert!(compiled("version: 1\ncache: {}\n").redis.is_none());
}

#[test]
fn secrets_are_written_into_urls_as_urls_want_them() {
    let text = "version: 1\nsecrets: [{name: r, from: env:R}, {name: all, from: env:ALL}]\ncache: {redis: {url: '";
    let redis = |url: &str, value: &str| {
        let (document, locations) = parse(format!("{text}{url}'}}}}\n").as_bytes(), Format::Auto).expect("reads");
        let inputs = Inputs::default().with(Need::Env("R".into()), value).with(Need::Env("ALL".into()), value);
        let snapshot = compile(&document, &locations, &inputs, Revision(1));
        snapshot.map(|snapshot| snapshot.redis.expect("there is one").url.clone())
    };
    assert_eq!(redis("redis://:${secrets.r}@h", "a:b/c@d%").as_deref(), Ok("redis://:a%3Ab%2Fc%40d%25@h"));
    assert_eq!(redis("${secrets.all}", "redis://:pw@h:1").as_deref(), Ok("redis://:pw@h:1"));
    let wrong = redis("${secrets.all}", "hunter2").expect_err("no URL");
    assert!(wrong.len() == 1 && !format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
}
