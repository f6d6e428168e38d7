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
