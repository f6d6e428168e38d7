//! What is known about a request when it is over.

use tidegate_policy::{AccessLog, AuthScheme, Telemetry};
use tokio::io::AsyncWriteExt;

use crate::backend;
use crate::harness::{KEY, Setup, World, route, soon, until, upstream};

struct Told {
    world: World,
    folder: tempfile::TempDir,
}

impl Told {
    async fn new() -> Self {
        let (backend, _) = backend::start().await;
        let to = upstream(backend);
        let mut guarded = route("/guarded", &to);
        guarded.auth = vec![AuthScheme::Key];
        let world = Setup::routes(vec![route("/", &to), guarded]).start().await;
        let folder = tempfile::tempdir().unwrap();
        let log = AccessLog {
            file: Some(folder.path().join("access.log")),
            rotate_bytes: None,
            keep: 1,
            headers: vec![http::HeaderName::from_static("x-kept")],
        };
        world.gate.telemetry.apply(&Telemetry { access_log: Some(log), ..Telemetry::default() }).unwrap();
        Self { world, folder }
    }

    /// The one line about `path`, once it is written.
    async fn about(&self, path: &str) -> serde_json::Value {
        let mut found = None;
        soon(path, || {
            self.world.gate.telemetry.flush();
            let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
            let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let mut about = lines.filter(|line| line["path"].as_str().is_some_and(|p| p.starts_with(path)));
            found = about.next();
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_request_is_told_with_its_route_caller_upstream_and_bytes() {
    let told = Told::new().await;
    let reply = told.world.ask("POST", "/guarded?key=tg_test", "content-length: 0\r\nx-kept: 1\r\n").await;
    let line = told.about("/guarded").await;
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(line["route"], "route /guarded");
    assert_eq!(line["consumer"], "acme");
    assert_eq!(line["key_id"], 1);
    assert_eq!(line["attempts"], 1);
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["bytes_out"], reply.body.len());
    assert_eq!(line["request_id"].as_str(), reply.header("x-request-id"));
    assert!(line["cut"].is_null() && line["refusal"].is_null(), "{line}");
    assert!(!line.to_string().contains(KEY), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_a_cut_are_told_with_their_reason() {
    let told = Told::new().await;
    told.world.get("/guarded/no").await;
    let line = told.about("/guarded/no").await;
    assert_eq!((&line["status"], &line["refusal"]), (&401.into(), &"key_missing".into()), "{line}");
    for path in ["/never", "/trickle"] {
        let mut socket = told.world.connect().await;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: gate.test\r\n\r\n").as_bytes()).await.unwrap();
        if path == "/trickle" {
            until(&mut socket, "\r\n\r\n").await;
        } else {
            soon("it is in flight", || told.world.gate.in_flight.now() == 1).await;
        }
        drop(socket);
        let line = told.about(path).await;
        assert_eq!(line["cut"], "client", "{line}");
    }
}
