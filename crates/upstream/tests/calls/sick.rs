//! Breakers, checks and found endpoints on one node, over real sockets; and what a cluster would tell it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use tidegate_policy::{Breaker, Check, Endpoint, Health, Upstream};
use tidegate_upstream::breaker::Rulings;
use tidegate_upstream::breaker::ruling::{Place, Ruling, Stand};
use tidegate_upstream::{CallFailed, Upstreams};

use crate::backend::{Backend, call, get, http1, nobody, read, reply, upstream};

pub(crate) fn breaker(consecutive: u32) -> Breaker {
    Breaker {
        error_ratio: 0.5,
        window: Duration::from_secs(10),
        min_requests: 1_000,
        consecutive: Some(consecutive),
        slow: None,
        open_for: Duration::from_millis(200),
        longest_open: Duration::from_secs(60),
        ramp: Duration::from_millis(1),
        max_ejected: 0.5,
        statuses: vec![(502, 504)],
        fallback: None,
        stored: None,
    }
}

fn health(check: Check) -> Health {
    Health {
        check,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(500),
        healthy: 1,
        unhealthy: 2,
        slow_start: Duration::ZERO,
        panic_below: 0,
    }
}

/// A backend whose status can be changed.
async fn moody() -> (Backend, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let says = Arc::clone(&status);
    let answer = move |_, _| {
        let status = says.load(SeqCst);
        async move { reply(status, "") }
    };
    (http1(answer).await, status)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

pub(crate) fn served(up: Upstream) -> (Arc<Upstreams>, Arc<Upstream>) {
    let (ups, up) = (Upstreams::new(), Arc::new(up));
    ups.retain(&[Arc::clone(&up)]);
    (ups, up)
}

#[tokio::test]
async fn a_sick_backend_is_left_alone_then_probed_once_and_comes_back() {
    let (backend, status) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(3)), ..upstream(&[backend.at]) });
    status.store(503, SeqCst);
    for _ in 0..3 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 503);
    }
    for _ in 0..20 {
        let refused = call(&ups, &up, get("/")).await;
        assert!(matches!(refused, Err(CallFailed::Open { .. })), "{refused:?}");
    }
    assert_eq!(backend.requests(), 3);
    until("half open", || {
        ups.tick(false);
        ups.facts()[0].breaker == "half_open"
    })
    .await;
    status.store(200, SeqCst);
    let twice = tokio::join!(call(&ups, &up, get("/")), call(&ups, &up, get("/")));
    assert!(twice.0.is_ok() != twice.1.is_ok(), "one probe: {twice:?}");
    until("well", || {
        ups.tick(false);
        ups.facts()[0].breaker == "closed"
    })
    .await;
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
}

#[tokio::test]
async fn what_the_client_did_opens_no_breaker() {
    let (backend, status) = moody().await;
    let (ups, up) = served(Upstream { breaker: Some(breaker(2)), ..upstream(&[backend.at]) });
    for refused in [400, 404, 429, 499, 500] {
        status.store(refused, SeqCst);
        for _ in 0..3 {
            assert_eq!(read(call(&ups, &up, get("/")).await).await.0, refused);
        }
    }
    assert_eq!(ups.facts()[0].breaker, "closed");
}

#[tokio::test]
async fn one_bad_endpoint_of_two_is_ejected_and_both_bad_open_the_upstream() {
    let ((good, mood), bad) = (moody().await, nobody().await);
    let (ups, up) = served(Upstream { breaker: Some(breaker(2)), ..upstream(&[good.at, bad]) });
    for _ in 0..20 {
        let _some_fail = call(&ups, &up, get("/")).await;
    }
    let before = good.requests();
    for _ in 0..20 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    }
    assert_eq!(good.requests(), before + 20);
    mood.store(502, SeqCst);
    for _ in 0..10 {
        let _some_fail = call(&ups, &up, get("/")).await;
    }
    assert!(matches!(call(&ups, &up, get("/")).await, Err(CallFailed::Open { .. })));
}

#[tokio::test]
async fn the_cluster_opens_and_permits_and_sets_weights() {
    let (one, two) = (moody().await.0, moody().await.0);
    let (ups, up) = served(Upstream { breaker: Some(breaker(100)), ..upstream(&[one.at, two.at]) });
    ups.belong(7);
    ups.tick(true);
    let place = |backend: &Backend| Place { upstream: "test".into(), endpoint: backend.at.to_string() };
    let rule = |epoch, ruling: Ruling| ups.rule(Rulings::new(epoch, [(place(&one), Ruling { epoch, ..ruling })]));
    let after = async |calls: usize| {
        let before = (one.requests(), two.requests());
        for _ in 0..calls {
            assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
        }
        (one.requests() - before.0, two.requests() - before.1)
    };
    rule(1, Ruling { stand: Stand::Open { round: 0 }, ..Ruling::default() });
    assert_eq!(after(10).await, (0, 10));
    rule(2, Ruling { stand: Stand::HalfOpen { round: 0, node: 8 }, ..Ruling::default() });
    assert_eq!(after(10).await, (0, 10), "another node's probe");
    rule(3, Ruling { stand: Stand::HalfOpen { round: 0, node: 7 }, ..Ruling::default() });
    assert_eq!(after(10).await, (1, 9), "one probe");
    let told = ups.evidence(None);
    assert_eq!(told.iter().find(|(at, _)| *at == place(&one)).and_then(|(_, told)| told.probed), Some((3, true)));
    ups.rule(Rulings::new(4, []));
    until("the ramp is over", || {
        ups.tick(true);
        ups.facts().iter().all(|facts| facts.breaker == "closed")
    })
    .await;
    assert_eq!(after(10).await, (5, 5));
    rule(5, Ruling { weight: Some(4), ..Ruling::default() });
    assert_eq!(after(10).await, (8, 2));
    rule(6, Ruling { drained: true, ..Ruling::default() });
    assert_eq!(after(10).await, (0, 10));
    ups.rule(Rulings::new(7, []));
    assert_eq!(after(10).await, (5, 5));
}

#[tokio::test]
async fn checks_take_a_sick_endpoint_out_and_bring_it_back() {
    let ((sick, mood), well) = (moody().await, moody().await.0);
    let check = Check::Http { path: "/health".into(), host: None, statuses: vec![(200, 299)] };
    let (ups, up) = served(Upstream { health: Some(health(check)), ..upstream(&[sick.at, well.at]) });
    let is_sick = || ups.facts().iter().any(|facts| facts.unhealthy);
    mood.store(500, SeqCst);
    until("found sick", is_sick).await;
    for _ in 0..10 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    }
    mood.store(200, SeqCst);
    until("found well", || !is_sick()).await;
    let (tcp, grpc) = (health(Check::Tcp), health(Check::Grpc { service: String::new() }));
    for (rules, sick) in [(tcp, false), (grpc, true)] {
        let up = Upstream { health: Some(rules), ..upstream(&[well.at, nobody().await]) };
        let (ups, _) = served(up);
        until("a port nobody listens on is sick", || ups.facts()[1].unhealthy).await;
        until("HTTP/1.1 is no gRPC", || ups.facts()[0].unhealthy == sick).await;
    }
}

#[tokio::test]
async fn a_file_is_followed_and_a_bad_one_changes_nothing() {
    let (one, two) = (moody().await.0, moody().await.0);
    let folder = std::env::temp_dir().join(format!("tidegate-file-spec-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("users.json");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let line = |backend: &Backend| format!("{{\"url\": \"http://{}\"}}", backend.at);
    write(&format!("[{}]", line(&one)));
    let mut up = upstream(&[]);
    up.endpoints = vec![Endpoint::File { path: file.to_str().unwrap().into() }];
    let (ups, up) = served(up);
    assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    assert_eq!((one.requests(), one.connections()), (1, 1));

    write(&format!("[{}, {}]", line(&one), line(&two)));
    until("two endpoints", || ups.facts().len() == 2).await;
    for _ in 0..4 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    }
    assert_eq!(
        (one.requests(), two.requests(), one.connections()),
        (3, 2, 1),
        "the one that stays keeps its connection"
    );

    write("[{\"url\": \"10.0.0.5\"}]");
    until("an alarm", || ups.alarms()[0].1 == 1).await;
    assert_eq!(ups.facts().len(), 2);
    write(&format!("[{}]", line(&two)));
    until("one endpoint, no alarm", || ups.facts().len() == 1 && ups.alarms()[0].1 == 0).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Answers SRV questions with two targets of priority 1 and one of priority 2, and A questions with loopback.
async fn dns(ports: [u16; 3]) -> (std::net::SocketAddr, tokio::task::AbortHandle) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let serves = tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = &buffer[..length];
            let name_end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 1;
            let kind = query[name_end + 1];
            let records: Vec<Vec<u8>> = match kind {
                33 => [(1_u16, 3_u16), (1, 1), (2, 1)]
                    .iter()
                    .zip(ports)
                    .map(|((priority, weight), port)| {
                        let mut data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
                        data.extend_from_slice(b"\x04host\x08internal\x00");
                        data
                    })
                    .collect(),
                1 => vec![Ipv4Addr::LOCALHOST.octets().to_vec()],
                _ => Vec::new(),
            };
            let mut out = query[..2].to_vec();
            out.extend_from_slice(&[0x85, 0x80, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
            out.extend_from_slice(&query[12..name_end + 4]);
            for data in records {
                out.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1]);
                out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
                out.extend_from_slice(&data);
            }
            let _gone = socket.send_to(&out, from).await;
        }
    });
    (at, serves.abort_handle())
}

#[tokio::test]
async fn srv_records_give_ports_and_weights_of_the_best_priority() {
    let backends = [moody().await.0, moody().await.0, moody().await.0];
    let (server, dns) = dns([0, 1, 2].map(|i: usize| backends[i].at.port())).await;
    let ups = Upstreams::with_dns(server);
    let mut up = upstream(&[]);
    up.endpoints = vec![Endpoint::Srv { https: false, name: "_http._tcp.users.internal".into() }];
    let up = Arc::new(up);
    ups.retain(&[Arc::clone(&up)]);
    for _ in 0..8 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    }
    assert_eq!([0, 1, 2].map(|i: usize| backends[i].requests()), [6, 2, 0]);

    // Records live for a second; when nobody tells new ones, the last good ones hold, and an alarm says so.
    dns.abort();
    until("an alarm", || ups.alarms()[0].1 == 1).await;
    for _ in 0..8 {
        assert_eq!(read(call(&ups, &up, get("/")).await).await.0, 200);
    }
    assert_eq!([0, 1, 2].map(|i: usize| backends[i].requests()), [12, 4, 0]);
}
