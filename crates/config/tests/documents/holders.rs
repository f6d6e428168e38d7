//! Who brings limits to a call: tenants, teams, plans, products, and maxima of their own.

use tidegate_config::{Format, SourceFile, check, parse, warnings};
use tidegate_model::{Permits, Revision};
use tidegate_policy::{Attached, Dimension, OnMissing, Prefix, Snapshot};

use crate::{compiled, inputs, says};

const SHOP: &str = "version: 1
limits:
  - {name: daily, window: 24h, max: 100, per: [consumer]}
  - {name: team, window: 1m, max: 50, per: [team]}
  - {name: all, window: 1s, max: 900, per: [tenant]}
  - {name: burst, window: 1s, max: 9, per: [product, end_user], on_missing: refuse}
  - {name: near, window: 1s, max: 9, per: [ip/24/56], on_missing: skip}
tenants:
  - {name: default, limits: [all], plan: free, anonymous_plan: public}
teams:
  - {name: web, limits: [team, {limit: daily, max: 300}]}
plans:
  - {name: free, limits: [{limit: daily, max: 10}]}
  - {name: gold, limits: [daily]}
  - {name: public, limits: [near]}
products:
  - name: pay
    routes: [pay]
    limits: [burst]
    plans: [{plan: gold, limits: [team]}]
    weights: {daily: 2, team: 3}
consumers:
  - {name: ann, plan: gold, team: web, limits: [{limit: daily, max: 5000}]}
  - {name: bob, team: web}
routes:
  - {name: pay, match: {path: /pay}, auth: [key], limits: [all], weights: {daily: 5}, respond: {status: 200}}
  - {name: open, match: {path: /open}, respond: {status: 200}, end_user: X-User}
";

fn shown(snapshot: &Snapshot, list: &[Attached]) -> Vec<String> {
    let one = |held: &Attached| format!("{} {}", snapshot.limits[held.limit].name, snapshot.limits[held.limit].max);
    list.iter().map(one).collect()
}

#[test]
fn every_level_brings_its_limits_and_the_own_maximum_is_a_limit_of_its_own() {
    let snapshot = compiled(SHOP);
    let show = |list: &[Attached]| shown(&snapshot, list);
    let ann = &snapshot.consumer("default", "ann").expect("listed").limits;
    assert_eq!(show(&ann.own), ["daily 5000"]);
    assert_eq!(show(&ann.plan), ["daily 100"]);
    assert_eq!(show(&ann.team), ["team 50", "daily 300"]);
    let bob = &snapshot.consumer("default", "bob").expect("listed").limits;
    assert_eq!(show(&bob.plan), ["daily 10"], "its tenant's plan");
    assert!(ann.own[0].base == bob.plan[0].base && ann.own[0].limit != bob.plan[0].limit);
    let ids = [ann.own[0].limit, ann.plan[0].limit, bob.plan[0].limit].map(|at| snapshot.limits[at].id);
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let routes = snapshot.router.routes();
    let (pay, open) = (&routes[0].limits, &routes[1].limits);
    assert_eq!(show(&pay.always), ["all 900", "burst 9"], "a limit that two bring counts once");
    assert_eq!((pay.product.as_deref(), pay.anonymous.len()), (Some("pay"), 0));
    let gold = snapshot.plans.position("gold");
    assert_eq!(show(pay.of_plan(gold).expect("offered")), ["team 50"]);
    assert!(pay.of_plan(snapshot.plans.position("free")).is_none() && pay.of_plan(None).is_none());
    let daily = ann.plan[0].base;
    assert_eq!((pay.weight(daily), pay.weight(1), pay.weight(2)), (Permits(5), Permits(3), Permits(1)));
    assert_eq!(show(&open.anonymous), ["near 9"]);
    assert_eq!(open.end_user.as_ref().map(http::HeaderName::as_str), Some("x-user"));
    assert_eq!(snapshot.limits[4].per, [Dimension::Ip(Prefix { v4: 24, v6: 56 })]);
    assert_eq!((snapshot.limits[3].on_missing, snapshot.limits[4].on_missing), (OnMissing::Refuse, OnMissing::Skip));
}

#[test]
fn an_own_maximum_keeps_its_id_while_it_changes_and_follows_its_limit() {
    let id = |text: &str| {
        let snapshot = compiled(text);
        let at = snapshot.consumer("default", "ann").expect("listed").limits.own[0].limit;
        snapshot.limits[at].id
    };
    assert_eq!(id(SHOP), id(&SHOP.replace("max: 5000", "max: 7")));
    assert_eq!(id(SHOP), id(&SHOP.replace("max: 100,", "max: 200,")));
    assert_ne!(id(SHOP), id(&SHOP.replace("window: 24h", "window: 12h")), "the limit is another one");
}

#[test]
fn only_what_the_holder_says_alone_is_known_beforehand() {
    let snapshot = compiled(SHOP);
    let ann = &snapshot.consumer("default", "ann").expect("listed").limits;
    let fixed = |list: &[Attached]| list.iter().map(|held| held.subject().is_some()).collect::<Vec<_>>();
    assert_eq!(fixed(&ann.team), [true, true]);
    let route = &snapshot.router.routes()[0].limits;
    assert_eq!(fixed(&route.always), [true, false], "the end user is the call's");
    assert_eq!(fixed(&snapshot.plans[1].limits), [false], "a plan has many consumers");
}

#[test]
fn parts_of_a_scope_are_checked() {
    let per = |part: &str| format!("version: 1\nlimits: [{{name: a, window: 1m, max: 1, per: ['{part}']}}]\n");
    for good in
        ["ip/1", "ip/32", "ip/33", "ip/128", "ip/24/48", "ip/32/32", "team", "end_user", "method", "host", "product"]
    {
        says(&per(good), &[]);
    }
    for bad in ["ip/0", "ip/129", "ip/33/64", "ip/24/129", "ip/", "ip/24/", "ip/+4", "ip/024", "ip/24/48/64", "ip/x"] {
        let expected = "expected `ip/24` (1 to 32: of IPv4), `ip/56` (33 to 128: of IPv6), or both: `ip/24/56`";
        says(&per(bad), &[&format!("line 2: limits[0].per[0]: {expected}, found the text `{bad}`")]);
    }
    let twice = "version: 1\nlimits: [{name: a, window: 1m, max: 1, per: [ip/24, ip/24/64, ip/56]}]\n";
    says(twice, &["line 2: limits[0].per[1]: `ip/24` is named twice here"]);
}

#[test]
fn holders_are_checked() {
    says(
        "version: 1
limits:
  - {name: fleet, window: 1m, max: 5}
  - {name: day, window: 24h, max: 5, per: [consumer]}
tenants:
  - {name: default, plan: gld, limits: [{limit: fleet, max: 3}]}
  - {name: default}
teams:
  - {name: web, limits: [{limit: fleet, max: 3}]}
  - {name: web}
plans:
  - {name: gold, limits: [day, {limit: day, max: 9}, {limit: fleet, max: 1}]}
products:
  - {name: a, routes: [r, nowhere], plans: [{plan: gold}, {plan: gold}]}
  - {name: b, routes: [r], weights: {dya: 2}, limits: [day]}
  - {name: c, tenant: other, routes: [s]}
consumers:
  - {name: ann, team: wbe, limits: [{limit: fleet, max: 3}, {limit: day, max: 0}]}
  - {name: bob, end_user: authorization}
routes:
  - {name: r, match: {path: /r}, respond: {status: 200}}
  - {name: s, match: {path: /s}, respond: {status: 200}}
",
        &[
            "line 6: tenants[0].limits[0].max: `fleet` counts others together with these: they would no longer be part of it (give it to a limit `per: [tenant]`)",
            "line 6: tenants[0].plan: no plan is named `gld` (did you mean `gold`?)",
            "line 7: tenants[1].name: another tenant is named `default` already: tenants[0] (line 6) (names are unique; rename one)",
            "line 9: teams[0].limits[0].max: `fleet` counts others together with these: they would no longer be part of it (give it to a limit `per: [team]`)",
            "line 10: teams[1].name: tenant `default` has a team `web` already: teams[0] (line 9) (names are unique in a tenant; rename one)",
            "line 12: plans[0].limits[1].limit: `day` is named twice here",
            "line 12: plans[0].limits[2].max: `fleet` counts others together with these: they would no longer be part of it (give it to a limit `per: [consumer]`)",
            "line 14: products[0].routes[1]: no route is named `nowhere`",
            "line 14: products[0].plans[1].plan: `gold` is named twice here",
            "line 15: products[1].routes[0]: the route `r` is in the product `a` already (offer one product on several plans)",
            "line 15: products[1].weights.dya: no limit is named `dya` (did you mean `day`?)",
            "line 18: consumers[0].limits[0].max: `fleet` counts others together with these: they would no longer be part of it (give it to a limit `per: [consumer]`)",
            "line 18: consumers[0].limits[1].max: a maximum is 1 to 1000000000000000 (leave it out for the limit's own)",
            "line 18: consumers[0].team: the tenant `default` has no team `wbe` (list it under `teams`, or name one that is there)",
            "line 19: consumers[1].end_user: `authorization` carries a credential (name a header such as `x-end-user`)",
            "line 22: routes[1].tenant: it is in the product `c` of the tenant `other` (a product's routes are of its tenant)",
        ],
    );
}

#[test]
fn a_product_for_plans_needs_callers_that_can_be_on_one() {
    let text = |tenants: &str| {
        format!(
            "version: 1\n{tenants}\nplans: [{{name: gold}}]\nproducts: [{{name: p, routes: [r], plans: [{{plan: gold}}]}}]\nroutes: [{{name: r, respond: {{status: 200}}}}]\n"
        )
    };
    says(
        &text(""),
        &[
            "line 5: routes[0].auth: nobody could call it: the product `p` is for callers on its plans (add `auth: [key]`)",
        ],
    );
    says(&text("tenants: [{name: default, anonymous_plan: gold}]"), &[]);
}

#[test]
fn a_list_names_so_many_limits_and_no_more() {
    let limits: Vec<String> = (0..9).map(|i| format!("{{name: l{i}, window: 1m, max: 1}}")).collect();
    let names: Vec<String> = (0..9).map(|i| format!("l{i}")).collect();
    let text = |count: usize| {
        let (limits, names) = (limits.join(", "), names[..count].join(", "));
        format!("version: 1\nlimits: [{limits}]\nroutes: [{{name: r, respond: {{status: 200}}, limits: [{names}]}}]\n")
    };
    says(&text(8), &[]);
    says(&text(9), &["line 3: routes[0].limits: at most 8 limits"]);
}

#[test]
fn slips_are_warned_about() {
    let text = "version: 1
limits:
  - {name: a, window: 1m, max: 3, per: [team]}
  - {name: b, window: 1m, max: 3, per: [end_user]}
  - {name: c, window: 1m, max: 3, per: [host]}
plans: [{name: spare}]
routes:
  - {name: r, respond: {status: 200}, limits: [a, b, c], weights: {a: 4}}
";
    let (document, locations) = parse(text.as_bytes(), Format::Yaml).expect("reads");
    let said: Vec<String> = warnings(&document, &locations).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 6: warning: plans[0]: no consumer and no tenant is on it (remove it, unless keys have it (`tidegate key create --plan`))",
            "line 8: warning: routes[0].weights.a: a call costs 4 of `a`, which admits 3: it is refused (lower it, or raise the limit's `max`)",
            "line 8: warning: routes[0].limits[0]: `a` counts per team, but this route asks for no key (add `auth: [key]`)",
            "line 8: warning: routes[0].limits[1]: `b` counts per end_user, whom callers may make up: this route asks for no key (add `auth: [key]`)",
            "line 8: warning: routes[0].limits[2]: `c` counts per host, which callers may make up: this route takes any (name the route's hosts: `match: {hosts: [api.example.com]}`)",
        ]
    );
}

#[test]
fn own_maxima_have_a_bound() {
    let consumers: Vec<String> =
        (0..10_001).map(|i| format!("  - {{name: c{i}, limits: [{{limit: d, max: 2}}]}}\n")).collect();
    let text = |count: usize| {
        let limit = "limits: [{name: d, window: 1m, max: 1, per: [consumer]}]";
        format!("version: 1\n{limit}\nconsumers:\n{}", consumers[..count].concat())
    };
    says(&text(10_000), &[]);
    let (file, most) = (text(10_001), "at most 10000 maxima of their own (make plans of them)");
    let said = check(&[SourceFile { name: "", bytes: file.as_bytes() }], inputs, Revision(1)).expect_err("too many");
    assert_eq!(
        said.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("line 10004: consumers[10000].limits[0].max: {most}")]
    );
}
