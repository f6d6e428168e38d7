//! Concurrency limits: a call has its place to its end, whatever it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_limiter::{Leases, Unreachable};
use tidegate_model::{LimitId, Nanos, Permits, Revision};
use tidegate_policy::{Cost, Kind, Limit, Mode, OnMissing, OnUnavailable};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Key, Reply};
use tokio::io::AsyncWriteExt;

use crate::backend;
use crate::harness::{Setup, World, route, soon, until, upstream};

/// A quota group of one.
struct Leader(Mutex<Ledger>);

impl Leases for Leader {
    fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
        let entry = Entry { dt: Nanos::from_millis(1), command: Command::Batches(vec![batch]) };
        let outcome = self.0.lock().unwrap().apply(&entry);
        Box::pin(std::future::ready(Ok(outcome.replies.into_iter().next().unwrap())))
    }

    fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// One place, for a socket or any other call.
async fn world() -> World {
    let limit = Limit {
        id: LimitId(1),
        revision: Revision(1),
        name: "one-at-a-time".into(),
        max: Permits(1),
        kind: Kind::Concurrency,
        cost: Cost::ONE,
        per: vec![],
        mode: Mode::Enforce,
        on_unavailable: OnUnavailable::Deny,
        count_hits: true,
        on_missing: OnMissing::Share,
        terms: tidegate_policy::Terms::default(),
    };
    let (backend, _) = backend::start().await;
    let mut one = route("/", &upstream(backend));
    one.upgrade = true;
    one.limits = [0].into();
    let mut ledger = Ledger::default();
    let command = Command::SetPolicies { revision: Revision(1), policies: vec![limit.policy()] };
    ledger.apply(&Entry { dt: Nanos::ZERO, command });
    let mut setup = Setup::routes(vec![one]).bounds(|b| b.tunnel_timeout = Duration::from_secs(30));
    setup.snapshot.limits = vec![Arc::new(limit)];
    let world = setup.start().await;
    tokio::spawn(world.gate.limiter.clone().run(Arc::new(Leader(Mutex::new(ledger)))));
    world
}

#[tokio::test]
async fn a_websocket_has_its_place_until_it_closes() {
    let world = world().await;
    assert_eq!(world.ask("GET", "/", "").await.status, 200);
    assert_eq!(world.ask("GET", "/", "").await.status, 200, "the first call has ended");
    let mut socket = world.connect().await;
    let switch = b"GET /ws HTTP/1.1\r\nhost: gate.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    socket.write_all(switch).await.unwrap();
    let head = until(&mut socket, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    tokio::time::sleep(Duration::from_millis(600)).await; // Reported several times.
    let refused = world.ask("GET", "/", "").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    drop(socket);
    soon("the tunnel has ended", || world.gate.in_flight.now() == 0).await;
    assert_eq!(world.ask("GET", "/", "").await.status, 200);
}
