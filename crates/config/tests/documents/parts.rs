//! What is wrong with limits, upstreams, consumers and the rest.

use crate::{compiled, says};

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
            "line 6: limits[3].per[0]: unknown word `kay`, expected `tenant`, `team`, `consumer`, `key`, `end_user`, `route`, `product`, `method`, `host`, `model`, `ip`, `cluster`, `header:NAME`, `claim:NAME` (did you mean `key`?)",
            "line 6: limits[3].per[1]: `a b` is not a header name",
            "line 7: limits[4]: `window` is missing (write `window: 1m`, or `rate`, `concurrency`, `calendar`, `budget`)",
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
            "line 4: upstreams[1].endpoints[3]: an endpoint has exactly one of `url`, `dns`, `srv`, `file` (write `url: http://10.0.0.5:8000`)",
            "line 5: upstreams[2].endpoints: all weights are 0: no endpoint takes requests (give one a weight of 1)",
            "line 5: upstreams[2].tls: no endpoint is spoken to over TLS (write `https://` in the endpoints' urls)",
            "line 6: upstreams[3].endpoints[1]: this endpoint is in the list already (use `weight` to give it a larger share)",
            "line 6: upstreams[3].timeouts.connect: a timeout is 1ms to 7d long (leave it out for the default)",
            "line 7: upstreams[4].retries.budget: `200%` is not a share (write `20%`)",
            "line 7: upstreams[4].retries.on[0]: expected `connect`, `reset`, `timeout` or a status from 400 to 599, found the text `5xx`",
            "line 7: upstreams[4].retries.max: at most 10 (more only multiplies an outage)",
        ],
    );
}

#[test]
fn kinds_of_limits_are_checked() {
    says(
        "version: 1
limits:
  - {name: a, window: 1m, rate: 5/s, max: 1}
  - {name: b, rate: 0/s, max: 5}
  - {name: c, rate: fast}
  - {name: d, concurrency: 5, burst: 2, zone: UTC}
  - {name: e, calendar: day, zone: Europe/Atlantis}
  - {name: f, budget: {per: month}}
  - {name: g, budget: {money: 25.50, per: total, carry_over: 10%, alerts: [0]}}
  - {name: h, concurrency: 5, on_unavailable: share, cost: {from: response_bytes}}
  - {name: i, rate: 5/s, cost: {weight: 2, from: request_bytes}}
  - {name: j, rate: 1/31d, burst: 2, cost: {weight: 0}}
",
        &[
            "line 3: limits[0].rate: `window` is there already: a limit is of one kind (make it two limits: a route may name both, and a call must pass both)",
            "line 4: limits[1].max: `max` goes with `window` or `calendar` (`burst` says how much is admitted)",
            "line 4: limits[1].rate: 0 admits nothing (for a route that refuses everything use `respond: {status: 403}`)",
            "line 5: limits[2].rate: `fast` is not a rate (write `10/s`, `600/m`, `5/100ms`)",
            "line 6: limits[3].burst: `burst` goes with `rate`",
            "line 6: limits[3].zone: `zone` goes with `calendar`",
            "line 7: limits[4]: `max` is missing (write `max: 600`)",
            "line 7: limits[4].zone: there is no time zone `Europe/Atlantis` (write a name of the IANA database, as `Europe/Berlin`)",
            "line 8: limits[5].budget: a budget is one of `count`, `tokens`, `money` (write `money: 25.50`)",
            "line 9: limits[6].budget.carry_over: there is no next period",
            "line 9: limits[6].budget.alerts: at most 16 numbers from 1 to 100",
            "line 10: limits[7].on_unavailable: `share` needs a `window` (partition reserves exist for `window` limits; write `deny` or `allow`)",
            "line 10: limits[7].cost: a place is taken before the cost is known (write `cost: {weight: 2}`, or leave it out)",
            "line 11: limits[8].cost: a cost is either a `weight` or taken `from` something (write `weight: 5`, or `from: response_bytes` with an `estimate`)",
            "line 12: limits[9].cost.weight: 0 admits nothing (for a route that refuses everything use `respond: {status: 403}`)",
            "line 12: limits[9].burst: it takes longer than 31d to fill (use a `budget`, or a smaller burst)",
        ],
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
listeners: {trusted_proxies: [10.0.0.0/33, 0.0.0.0/0], proxy_protocol: ['::/0', lb], ticket_rotation: 59s, http3: {port: 0, max_age: 366d}}
telemetry: {access_log: {keep: 3, format: xml}}
",
        &[
            "line 2: plans[0].limits[0]: no limit is named `x`",
            "line 4: consumers[0].plan: no plan is named `gld` (did you mean `gold`?)",
            "line 6: consumers[2].name: tenant `default` has a consumer `a` already: consumers[0] (line 4) (names are unique in a tenant; rename one)",
            "line 7: listeners.trusted_proxies[0]: `10.0.0.0/33` is not an address or a network (write `10.0.0.0/8` or `192.0.2.7`)",
            "line 7: listeners.trusted_proxies[1]: this trusts everybody: any client could claim any address (name the networks of your load balancers)",
            "line 7: listeners.proxy_protocol[0]: this trusts everybody: any client could claim any address (name the networks of your load balancers)",
            "line 7: listeners.proxy_protocol[1]: `lb` is not an address or a network (write `10.0.0.0/8` or `192.0.2.7`)",
            "line 7: listeners.ticket_rotation: keys of session tickets are renewed after 1m to 7d (leave it out for 6h)",
            "line 7: listeners.http3.port: no client can reach port 0 (leave it out for the listener's own port)",
            "line 7: listeners.http3.max_age: clients may remember for up to 365d (leave it out for 1d)",
            "line 8: telemetry.access_log.format: unknown word `xml`, expected `json`",
        ],
    );
}

#[test]
fn places_of_backups_are_checked_and_no_key_is_repeated() {
    let key = format!("tgbp1-{}-{}", "0a".repeat(32), "01".repeat(4));
    let with = |rest: &str| format!("version: 1\nbackups: {{key: {key}, {rest}}}\n");
    says(&with("to: /var/backups, every: 1m, keep: 1"), &[]);
    says(
        &with("to: s3://b, s3: {endpoint: 'https://h', access_key_id: a, secret_access_key: open}"),
        &["line 2: backups.s3.secret_access_key: a key does not stand in the document (write `${secrets.NAME}`)"],
    );
    says(
        &with("to: x, every: 1s, keep: 0"),
        &[
            "line 2: backups.every: between two backups are 1m to 31d (leave it out for 1h)",
            "line 2: backups.keep: 1 to 10000 backups are kept (leave it out for 24)",
        ],
    );
    says(
        &with("to: 's3://b'"),
        &["line 2: backups: `s3` is missing (write `s3: {endpoint: https://…, access_key_id: …, …}`)"],
    );
    says(
        "version: 1\nbackups: {key: tgb1-secret, to: x}\n",
        &[
            "line 2: backups.key: this is the backup key itself, which no node shall see (write its public half, which begins with `tgbp1-`, and make a new key)",
        ],
    );
}

#[test]
fn webhooks_are_checked() {
    says(
        "version: 1
alerts:
  webhooks:
    - {name: a, url: 'ftp://h/x'}
    - {name: a, url: 'https://u:p@h/x', secret: plain}
    - {name: c, url: 'https://', secret: '${secrets.none}'}
    - {name: '', url: 'http://h/x#y'}
    - {name: e, url: h, pass: x}
",
        &[
            "line 4: alerts.webhooks[0].url: it is neither http nor https (write `https://host/path`, or `http://`)",
            "line 5: alerts.webhooks[1].name: another webhook has this name",
            "line 5: alerts.webhooks[1].secret: a key does not belong into the document (write `${secrets.NAME}`)",
            "line 5: alerts.webhooks[1].url: a user and password in a URL are not sent (write `https://host/path`, or `http://`)",
            "line 6: alerts.webhooks[2].secret: no secret is named `none`",
            "line 6: alerts.webhooks[2].url: it is no URL (write `https://host/path`, or `http://`)",
            "line 7: alerts.webhooks[3].name: 1 to 128 characters",
            "line 7: alerts.webhooks[3].url: a fragment is not sent (write `https://host/path`, or `http://`)",
            "line 8: alerts.webhooks[4].pass: unknown field (known here: name, url, secret)",
            "line 8: alerts.webhooks[4].url: it is no URL (write `https://host/path`, or `http://`)",
        ],
    );
}

#[test]
fn what_an_authority_is_asked_for_is_checked() {
    says(
        "version: 1
acme:
  directory: http://ca.test/dir
  terms_agreed: false
  contacts: ['mailto:ops@example.com']
  external_account: {kid: '', hmac: c2VjcmV0}
  certificates:
    - {name: a, hosts: ['*.example.com', 10.0.0.1, WWW.Example.com]}
    - {name: a, hosts: []}
",
        &[
            "line 3: acme.directory: `http://ca.test/dir` is no directory of an authority (write `https://host/path`)",
            "line 4: acme.terms_agreed: the authority's terms are not agreed to (read them, then write `terms_agreed: true`)",
            "line 5: acme.contacts[0]: `mailto:ops@example.com` is no e-mail address (write `ops@example.com`, without `mailto:`)",
            "line 6: acme.external_account.kid: 1 to 1024 characters",
            "line 6: acme.external_account.hmac: a key does not belong into the document (write `${secrets.NAME}`)",
            "line 8: acme.certificates[0].hosts[0]: authorities prove wildcards by DNS alone (dns-01), which is not done here (name the hosts one by one, or import a certificate: `tidegate cert import`)",
            "line 8: acme.certificates[0].hosts[1]: `10.0.0.1` is no host name that an authority would certify",
            "line 9: acme.certificates[1].name: another certificate is named `a` already (names are unique; rename one)",
            "line 9: acme.certificates[1].hosts: 1 to 100 hosts",
        ],
    );
    says("version: 1\nacme: {contacts: []}", &["line 2: acme: `terms_agreed` is missing"]);
    says(
        "version: 1\ncertificates: [{name: c, hosts: [a.b], file: c.pem, stored: c}, {name: d, hosts: [b.b]}]",
        &[
            "line 2: certificates[0].stored: either `stored`, or `file` and `key`",
            "line 2: certificates[1].file: the name of a file is missing",
            "line 2: certificates[1].key: the name of a file is missing",
        ],
    );
}

#[test]
fn an_authority_is_lets_encrypt_unless_it_is_named_and_hosts_are_sorted() {
    let text = "version: 1\nacme: {terms_agreed: true, certificates: [{name: a, hosts: [b.test, A.test, b.test]}]}";
    let acme = crate::compiled(text).acme.expect("it was asked for");
    assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(acme.certificates[0].hosts, ["a.test", "b.test"]);
    assert_eq!(acme.challenges.len(), 2);
}

#[test]
fn what_is_compressed_is_checked() {
    says(
        "version: 1
compression: {min_size: 2GiB, types: []}
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}, compression: {algorithms: [gzip, br, gzip], types: [text, '*/json', application/json]}}
  - {name: b, match: {path: /b}, respond: {status: 200}, compression: {algorithms: [deflate]}, decompress: true}
",
        &[
            "line 2: compression.min_size: at most 1GiB",
            "line 2: compression.types: no type at all (leave it out for the usual ones, or write `algorithms: []` to compress nothing)",
            "line 4: routes[0].compression.algorithms[2]: is named twice",
            "line 4: routes[0].compression.types[0]: `text` is not a media type (write `application/json`, `text/*` or `application/*+json`)",
            "line 4: routes[0].compression.types[1]: `*/json` is not a media type (write `application/json`, `text/*` or `application/*+json`)",
            "line 5: routes[1].compression.algorithms[0]: unknown word `deflate`, expected `zstd`, `br`, `gzip`",
            "line 5: routes[1].decompress: means nothing without `to`",
        ],
    );
}

#[test]
fn routes_that_say_nothing_of_their_own_compress_as_the_document_says() {
    let snapshot = compiled(
        "version: 1
compression: {min_size: 5KiB}
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}}
  - {name: b, match: {path: /b}, respond: {status: 200}, compression: {algorithms: []}}
  - {name: c, match: {path: /c}, respond: {status: 200}, compression: {algorithms: [gzip]}}
",
    );
    let of = |name: &str| {
        let route = snapshot.router.routes().iter().find(|route| &*route.id == name).unwrap();
        route.compression.as_ref().map(|rules| (rules.algorithms.len(), rules.min_size))
    };
    assert_eq!((of("a"), of("b"), of("c")), (Some((3, 5 << 10)), None, Some((1, 1 << 10))));
}
