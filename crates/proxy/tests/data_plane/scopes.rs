//! Whom a limit counts, and what a call costs: what callers send makes nobody escape.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use tidegate_limiter::{Leases, Unreachable};
use tidegate_model::{LimitId, Nanos, Permits, Revision};
use tidegate_policy::{
    Action, Attached, AuthScheme, Consumer, ConsumerLimits, Dimension, HostPattern, Kind, Limit, Mode, OnMissing,
    OnUnavailable, Plan, Route, RouteLimits,
};
use tidegate_quota::protocol::{Answer, Batch, Item, Key, Reply, Verdict};

use crate::harness::{KEY, Setup, World, route};

/// A leader that has so many permits for each key.
#[derive(Default)]
struct Fair {
    most: u64,
    granted: Mutex<HashMap<Key, u64>>,
}

impl Leases for Fair {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        let mut all = self.granted.lock().unwrap();
        let mut answer = |item: &Item| {
            let granted = all.entry(item.key).or_default();
            let free = self.most - *granted;
            let more = free.min(item.want.0.max(item.waiting.0));
            // All or nothing, so that what is left is told apart from what is lent.
            let more = if more < item.waiting.0 { 0 } else { more };
            *granted += more;
            let verdict = Verdict::Lease {
                granted: Permits(more),
                free: Permits(free - more),
                ttl: Nanos::from_secs(40),
                retry: if more < item.waiting.0 { Nanos::from_secs(30) } else { Nanos::ZERO },
                reserve: Permits::ZERO,
            };
            Answer { key: item.key, epoch: item.epoch, verdict }
        };
        let items = batch.items.iter().map(&mut answer).collect();
        let reply = Reply { node: batch.node, incarnation: batch.incarnation, seq: batch.seq, items };
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn limit(id: u64, per: &[Dimension], on_missing: OnMissing) -> Limit {
    Limit {
        id: LimitId(id),
        revision: Revision(1),
        name: format!("l{id}"),
        max: Permits(10),
        kind: Kind::Sliding { window: Nanos::from_secs(60) },
        cost: tidegate_policy::Cost::ONE,
        per: per.to_vec(),
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing,
        terms: tidegate_policy::Terms::default(),
    }
}

fn fixed(limits: RouteLimits) -> Route {
    let mut fixed = route("/", &crate::harness::upstream("127.0.0.1:1".parse().unwrap()));
    fixed.action = Action::Respond { status: StatusCode::OK, headers: vec![], body: bytes::Bytes::new() };
    fixed.limits = limits.into();
    fixed
}

/// A world in which each key of a limit has two permits.
async fn start(setup: Setup, limits: Vec<Limit>) -> World {
    start_with(setup, limits, 2).await
}

async fn start_with(mut setup: Setup, limits: Vec<Limit>, most: u64) -> World {
    setup.snapshot.limits = limits.into_iter().map(Arc::new).collect();
    let world = setup.start().await;
    tokio::spawn(world.gate.limiter.clone().run(Arc::new(Fair { most, ..Fair::default() })));
    world
}

/// One limit on one route that anybody may call.
async fn one(per: &[Dimension], on_missing: OnMissing) -> World {
    start(Setup::routes(vec![fixed([0].into())]), vec![limit(1, per, on_missing)]).await
}

async fn statuses(world: &World, headers: &[&str]) -> Vec<u16> {
    let mut all = Vec::new();
    for headers in headers {
        all.push(world.ask("GET", "/", headers).await.status);
    }
    all
}

const A: &str = "x-end-user: a\r\n";
const B: &str = "x-end-user: b\r\n";

#[tokio::test]
async fn each_end_user_has_a_count_and_who_names_none_does_as_the_limit_says() {
    let world = one(&[Dimension::EndUser], OnMissing::Share).await;
    assert_eq!(statuses(&world, &[A, A, A, B, B, B]).await, [200, 200, 429, 200, 200, 429]);
    assert_eq!(statuses(&world, &["", "", "x-end-user:  \r\n"]).await, [200, 200, 429]);
    let world = one(&[Dimension::EndUser], OnMissing::Skip).await;
    assert_eq!(statuses(&world, &[A, A, A, "", "", "", ""]).await, [200, 200, 429, 200, 200, 200, 200]);
    let world = one(&[Dimension::EndUser], OnMissing::Refuse).await;
    assert_eq!(statuses(&world, &[A, ""]).await, [200, 400]);
    assert_eq!(world.get("/").await.code(), "subject_missing");
}

#[tokio::test]
async fn an_end_user_who_is_named_twice_or_at_length_is_refused_whatever_is_missing_may_do() {
    let world = one(&[Dimension::EndUser], OnMissing::Skip).await;
    for headers in [format!("{A}{B}"), format!("{A}{A}"), format!("x-end-user: {}\r\n", "a".repeat(257))] {
        let reply = world.ask("GET", "/", &headers).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "subject_invalid"), "{headers}");
    }
    assert_eq!(world.ask("GET", "/", &format!("x-end-user: {}\r\n", "a".repeat(256))).await.status, 200);
}

#[tokio::test]
async fn the_consumer_says_in_which_header_and_two_consumers_end_users_are_not_the_same() {
    let mut keyed = fixed([0].into());
    keyed.auth = vec![AuthScheme::Key];
    keyed.limits.end_user = Some(http::HeaderName::from_static("x-route-user"));
    let mut setup = Setup::routes(vec![keyed]);
    let mut acme = acme();
    acme.limits.end_user = Some(http::HeaderName::from_static("x-acme-user"));
    let other = Consumer { name: "nobody".into(), ..self::acme() };
    setup.snapshot.consumers = vec![Arc::new(acme), Arc::new(other)].into();
    let world = start(setup, vec![limit(1, &[Dimension::EndUser], OnMissing::Refuse)]).await;
    let ask = async |key: &str, header: &str| {
        world.ask("GET", "/", &format!("x-api-key: {key}\r\n{header}: u\r\n")).await.status
    };
    assert_eq!(ask(KEY, "x-route-user").await, 400, "its consumer says another");
    assert_eq!(
        [ask(KEY, "x-acme-user").await, ask(KEY, "x-acme-user").await, ask(KEY, "x-acme-user").await],
        [200, 200, 429]
    );
    assert_eq!(ask("tg_orphan", "x-route-user").await, 200, "another consumer's end user of this name");
}

#[tokio::test]
async fn a_header_counts_by_all_its_lines() {
    let device = Dimension::Header(http::HeaderName::from_static("x-device"));
    let world = one(&[device], OnMissing::Share).await;
    let (one, two) = ("x-device: a, b\r\n", "x-device: a\r\nx-device: b\r\n");
    assert_eq!(statuses(&world, &[one, two, two, "x-device: a\r\n", ""]).await, [200, 200, 429, 200, 200]);
    let long = format!("x-device: {}\r\n", "a".repeat(4_097));
    assert_eq!(statuses(&world, &[&long]).await, [400]);
}

#[tokio::test]
async fn nobody_gets_a_count_of_his_own_by_a_made_up_method_or_another_spelling_of_the_host() {
    let world = one(&[Dimension::Method], OnMissing::Share).await;
    let mut seen = Vec::new();
    for method in ["FOO", "BAR", "BAZ", "GET", "HEAD", "GET"] {
        seen.push(
            world.raw(format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await[9..12].to_owned(),
        );
    }
    assert_eq!(seen, ["200", "200", "429", "200", "200", "429"]);
    let mut hosted = fixed([0].into());
    hosted.hosts = vec![HostPattern::Suffix(".shop.test".into())].into();
    let world = start(Setup::routes(vec![hosted]), vec![limit(1, &[Dimension::Host], OnMissing::Share)]).await;
    let hosts =
        ["host: a.shop.test\r\n", "Host: A.Shop.Test:80\r\n", "host: a.shop.test.\r\n", "host: b.shop.test\r\n"];
    assert_eq!(statuses(&world, &hosts).await, [200, 200, 429, 200]);
}

#[tokio::test]
async fn a_limit_per_team_or_key_does_not_let_strangers_through() {
    for part in [Dimension::Team, Dimension::Key, Dimension::Consumer, Dimension::Product] {
        let world = one(std::slice::from_ref(&part), OnMissing::Share).await;
        assert_eq!(statuses(&world, &["", A, B]).await, [200, 200, 429], "{part:?}");
        let world = one(std::slice::from_ref(&part), OnMissing::Refuse).await;
        assert_eq!(statuses(&world, &[""]).await, [400], "{part:?}");
    }
}

#[tokio::test]
async fn an_observed_limit_refuses_nothing_not_even_what_is_missing() {
    let observed = |id, per: &[Dimension]| Limit { mode: Mode::Observe, ..limit(id, per, OnMissing::Refuse) };
    let limits = vec![observed(1, &[Dimension::EndUser]), observed(2, &[])];
    let world = start(Setup::routes(vec![fixed([0, 1].into())]), limits).await;
    assert_eq!(statuses(&world, &["", "", "", A, A, A]).await, [200; 6]);
    assert_eq!(world.get("/").await.header("ratelimit"), None);
}

#[tokio::test]
async fn a_call_takes_its_weight_of_each_limit_and_the_headers_say_so() {
    let mut weighty = fixed([0, 1, 2].into());
    weighty.limits.weights = vec![(1, Permits(4)), (2, Permits(0))];
    let limits =
        vec![limit(1, &[], OnMissing::Share), limit(2, &[], OnMissing::Share), limit(3, &[], OnMissing::Share)];
    let world = start_with(Setup::routes(vec![weighty]), limits, 10).await;
    let first = world.get("/").await;
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"l1\";q=10;w=60, \"l2\";q=10;w=60"),
        "what costs nothing is no limit"
    );
    let mut served = 1;
    let refused = loop {
        let reply = world.get("/").await;
        if reply.status != 200 {
            break reply;
        }
        served += 1;
    };
    assert_eq!((served, refused.status), (2, 429), "10 admits two of 4");
    let left =
        refused.header("ratelimit").and_then(|text| text.split("\"l2\";r=").nth(1)?.split(';').next()?.parse().ok());
    assert!(left.is_some_and(|left: u64| left < 4), "{}", refused.head);
    let none_taken = refused.header("ratelimit").is_some_and(|text| text.contains("\"l1\";r=8"));
    assert!(none_taken, "all or none: {}", refused.head);
}

#[tokio::test]
async fn a_call_that_costs_more_than_the_limit_ever_admits_is_told_that_waiting_does_not_help() {
    let mut weighty = fixed([0].into());
    weighty.limits.weights = vec![(0, Permits(11))];
    let world = start(Setup::routes(vec![weighty]), vec![limit(1, &[], OnMissing::Share)]).await;
    let reply = world.get("/").await;
    assert_eq!((reply.status, reply.code().as_str(), reply.header("retry-after")), (429, "too_costly", None));
}

#[tokio::test]
async fn the_most_specific_of_two_that_bring_a_limit_counts_and_stands_first() {
    let mut keyed = fixed([0, 2].into());
    keyed.auth = vec![AuthScheme::Key];
    let mut setup = Setup::routes(vec![keyed]);
    let mut acme = acme();
    acme.limits.own = vec![Attached::new(1, 0, true)];
    setup.snapshot.consumers = vec![Arc::new(acme)].into();
    let own = Limit { max: Permits(500), ..limit(9, &[Dimension::Consumer], OnMissing::Share) };
    let per = [Dimension::Consumer];
    let world = start(setup, vec![limit(1, &per, OnMissing::Share), own, limit(3, &[], OnMissing::Share)]).await;
    let reply = world.ask("GET", "/", &format!("x-api-key: {KEY}\r\n")).await;
    assert_eq!(reply.header("ratelimit-policy"), Some("\"l9\";q=500;w=60, \"l3\";q=10;w=60"));
}

#[tokio::test]
async fn a_product_is_for_callers_on_its_plans_and_a_key_of_a_plan_that_is_gone_opens_nothing() {
    let mut keyed = fixed(RouteLimits::default());
    keyed.auth = vec![AuthScheme::Key];
    keyed.limits.by_plan = vec![(1, vec![Attached::from(0)])];
    let mut setup = Setup::routes(vec![keyed]);
    let plan = |name: &str, limits| Plan { name: name.into(), limits, models: None, residency: None, class: None };
    setup.snapshot.plans = vec![plan("free", vec![]), plan("gold", vec![Attached::from(1)])].into();
    let world =
        start(setup, vec![limit(1, &[], OnMissing::Share), limit(2, &[Dimension::Key], OnMissing::Share)]).await;
    let ask = async || world.ask("GET", "/", &format!("x-api-key: {KEY}\r\n")).await;
    let refused = ask().await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "not_subscribed"));
    let on = |plan: &str| {
        let entry = tidegate_auth::KeyEntry {
            id: tidegate_model::KeyId(1),
            tenant: "default".into(),
            consumer: "acme".into(),
            plan: Some(plan.into()),
            not_after: None,
        };
        world.gate.keys.insert(tidegate_auth::hash(KEY.as_bytes()), entry.into());
    };
    on("free");
    assert_eq!(ask().await.code(), "not_subscribed");
    on("gold");
    let served = ask().await;
    assert_eq!((served.status, served.header("ratelimit-policy")), (200, Some("\"l2\";q=10;w=60, \"l1\";q=10;w=60")));
    on("gone");
    assert_eq!(ask().await.code(), "key_without_plan");
}

fn acme() -> Consumer {
    Consumer {
        models: None,
        residency: None,
        class: None,
        name: "acme".into(),
        tenant: "default".into(),
        team: None,
        plan: None,
        limits: ConsumerLimits::default(),
    }
}
