//! Names, against a DNS server of our own on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_policy::Endpoint;
use tidegate_upstream::{CallFailed, Upstreams};
use tokio::net::UdpSocket;

use crate::backend::{Backend, call, get, http1, nobody, read, reply, upstream};

/// What the server says: addresses with a TTL of one second, or SERVFAIL.
type Zone = Arc<Mutex<Option<Vec<Ipv4Addr>>>>;

/// Answers every A question with the zone; everything else with nothing. RFC 1035 § 4.1, just enough of it.
async fn dns(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&response(&buffer[..length], &zone), from).await;
        }
    });
    at
}

fn response(query: &[u8], zone: &Zone) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 1;
    let question = &query[12..name_end + 4];
    let is_a = query[name_end..name_end + 2] == [0, 1];
    let known = zone.lock().unwrap().clone();
    let code = if known.is_some() { 0 } else { 2 };
    let addresses = known.filter(|_| is_a).unwrap_or_default();
    let mut out = Vec::new();
    out.extend_from_slice(&query[..2]);
    out.extend_from_slice(&[0x85, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    out.extend_from_slice(question);
    for address in addresses {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        out.extend_from_slice(&address.octets());
    }
    out
}

async fn backend_at(ip: Ipv4Addr, port: u16) -> Option<Backend> {
    // As `http1`, at an address of its own: 127.0.0.0/8 is all loopback.
    let listener = tokio::net::TcpListener::bind((ip, port)).await.ok()?;
    let at = listener.local_addr().unwrap();
    let seen = Arc::new(crate::backend::Seen::default());
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |_| {
                    counted.requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    async move { Ok::<_, std::convert::Infallible>(reply(200, ip.to_string())) }
                });
                let io = hyper_util::rt::TokioIo::new(socket);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    Some(Backend { at, seen })
}

#[tokio::test]
async fn every_address_of_a_name_is_an_endpoint_and_changes_are_followed() {
    let [one, two] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let first = backend_at(one, 0).await.unwrap();
    let port = first.at.port();
    let Some(_second) = backend_at(two, port).await else { return };
    let zone: Zone = Arc::new(Mutex::new(Some(vec![one])));
    let ups = Upstreams::with_dns(dns(Arc::clone(&zone)).await);
    let mut up = upstream(&[]);
    up.endpoints = vec![Endpoint::Dns { https: false, name: "users.internal".into(), port, weight: 1 }];
    let up = Arc::new(up);
    ups.retain(&[Arc::clone(&up)]);
    assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, one.to_string()));

    *zone.lock().unwrap() = Some(vec![one, two]);
    until(|| ups.facts().len() == 2).await;
    let answers = [read(call(&ups, &up, get("/")).await).await.1, read(call(&ups, &up, get("/")).await).await.1];
    assert_ne!(answers[0], answers[1]);

    *zone.lock().unwrap() = Some(vec![two]);
    until(|| ups.facts().len() == 1).await;
    assert_eq!(read(call(&ups, &up, get("/")).await).await.1, two.to_string());

    // The last good answer is kept while DNS fails: for longer than its time to live.
    *zone.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(read(call(&ups, &up, get("/")).await).await.1, two.to_string());
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the change is seen in time");
}

#[tokio::test]
async fn a_name_that_never_resolved_is_no_endpoint() {
    let ups = Upstreams::with_dns(dns(Arc::new(Mutex::new(None))).await);
    let mut up = upstream(&[]);
    up.timeouts.connect = Duration::from_millis(200);
    up.endpoints = vec![Endpoint::Dns { https: false, name: "users.internal".into(), port: 1, weight: 1 }];
    let failed = call(&ups, &Arc::new(up), get("/")).await.unwrap_err();
    assert!(matches!(failed, CallFailed::NoEndpoint), "{failed:?}");
}

#[tokio::test]
async fn a_url_may_hold_a_name() {
    let backend = http1(|_, _| async { reply(200, "ok") }).await;
    let zone: Zone = Arc::new(Mutex::new(Some(vec![Ipv4Addr::LOCALHOST])));
    let ups = Upstreams::with_dns(dns(zone).await);
    for host in ["backend.internal", "localhost"] {
        let mut up = upstream(&[]);
        up.id = host.into();
        up.endpoints = vec![Endpoint::Url { https: false, host: host.into(), port: backend.at.port(), weight: 1 }];
        assert_eq!(read(call(&ups, &Arc::new(up), get("/")).await).await.0, 200);
    }
    let mut up = upstream(&[nobody().await]);
    up.id = "nobody".into();
    assert!(matches!(call(&ups, &Arc::new(up), get("/")).await, Err(CallFailed::Connect(_))));
}
