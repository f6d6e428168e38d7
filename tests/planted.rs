//! Secrets that are easily recognised, one of each kind, in a node that is driven along good and bad paths: none of them is found
//! in anything that is said, kept in the clear or sent to those who watch.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use rcgen::{CertificateParams, KeyPair};
use tokio::process::Command;

use crate::harness::{Asked, Backend, Client, Node, Provider, Says, Switchboard, TIDEGATE, eventually, signal};

const ENV: &str = "planted-env-41c7d2a9e0";
const FILE: &str = "planted-file-93b0aa15fd";
const SEALED: &str = "planted-sealed-7c22e8d04b";
const PROVIDER: &str = "planted-provider-58af3e91c6";
const HMAC: &str = "planted-hmac-0d94b7c1e85a2f63-0d94b7c1e85a2f63";
const REDIS: &str = "planted-redis-b61f20c7d9";
const WEBHOOK: &str = "planted-webhook-2e7ad58c14";
const STORE: &str = "planted-store-f0c3916be7";
const OTLP: &str = "planted-otlp-6d1b82ae43";
const CLUSTER: &str = "planted-cluster-a85e07d3c2f94b16-a85e07d3c2f94b16";
const ADMIN: &str = "tga_plantedadmin0c57e2b9d4f18a63c57e2b9d4f18a63";
const BEARER: &str = "planted-bearer-1fa94c6d02";
const QUERY: &str = "planted-query-c80e5d73a1";
const TOML: &str = "planted-toml-37d2f9b05e";
const ALL: [&str; 14] =
    [ENV, FILE, SEALED, PROVIDER, HMAC, REDIS, WEBHOOK, STORE, OTLP, CLUSTER, ADMIN, BEARER, QUERY, TOML];

const CHAT: &str = r#"{"model":"fast","messages":[{"role":"user","content":"q"}]}"#;
/// What a provider and a store may say of the credential that they were shown.
const ECHO: &str =
    r#"{"error":{"message":"the key planted-provider-58af3e91c6 is wrong","type":"invalid_request_error"}}"#;
const STORE_ECHO: &str = "<Error><Code>SignatureDoesNotMatch</Code><Message>planted-store-f0c3916be7</Message></Error>";

/// It lists what it has, and takes nothing.
fn store(asked: &Asked) -> Says {
    if asked.line.starts_with("GET") { Says::json("<ListBucketResult/>") } else { Says::error(403, STORE_ECHO) }
}

struct World {
    node: Node,
    /// What backups are sealed for.
    backup_key: String,
    backend: Backend,
    provider: Provider,
    store: Provider,
    collector: Provider,
    folder: std::path::PathBuf,
    /// Everything that was said, and by whom.
    said: Vec<(String, Vec<u8>)>,
}

impl World {
    async fn begin(folder: &Path) -> Self {
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name).display().to_string()
        };
        let (cluster, admin) = (file("cluster.secret", CLUSTER), file("first.token", ADMIN));
        file("file.secret", FILE);
        let mut node = Node::new(folder, "n1", &Switchboard::default(), &[]).await;
        let peers = node.wire.address.to_string();
        let words = ["--initial-peers", &peers, "--cluster-secret-file", &cluster, "--first-admin-token-file", &admin];
        node.extra = words.into_iter().chain(["--log", "trace"]).map(str::to_owned).collect();
        let redis = format!("redis://:{REDIS}@127.0.0.1:1/0");
        let variables = [
            ("PLANTED_ENV", ENV),
            ("PLANTED_PROVIDER", PROVIDER),
            ("PLANTED_HMAC", HMAC),
            ("PLANTED_HOOK", WEBHOOK),
            ("PLANTED_STORE", STORE),
            ("PLANTED_OTLP", OTLP),
            ("TIDEGATE_REDIS_URL", &redis),
        ];
        node.environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        node.spawn(None);
        node.wait_until_ready().await;
        let key_file = folder.join("backup.key").display().to_string();
        let made = Command::new(TIDEGATE).args(["cluster", "backup-key", "--out", &key_file]).output().await.unwrap();
        let told = String::from_utf8(made.stdout).unwrap() + &std::fs::read_to_string(key_file).unwrap();
        let public = told.split(|c: char| !c.is_alphanumeric() && c != '-').find(|word| word.starts_with("tgbp1-"));
        Self {
            node,
            backup_key: public.expect("the public key").to_owned(),
            backend: Backend::start().await,
            provider: Provider::start(|_| Says::error(401, ECHO)).await,
            store: Provider::start(store).await,
            collector: Provider::start(|_| Says::json("{}")).await,
            folder: folder.to_owned(),
            said: Vec::new(),
        }
    }

    fn document(&self) -> String {
        let (backend, provider, store) = (self.backend.address, self.provider.url(), self.store.url());
        let (collector, folder, key) = (self.collector.url(), self.folder.display(), &self.backup_key);
        format!(
            "\
version: 1
secrets:
  - {{name: env, from: \"env:PLANTED_ENV\"}}
  - {{name: file, from: \"file:{folder}/file.secret\"}}
  - {{name: sealed, from: sealed}}
  - {{name: provider, from: \"env:PLANTED_PROVIDER\"}}
  - {{name: hmac, from: \"env:PLANTED_HMAC\"}}
  - {{name: hook, from: \"env:PLANTED_HOOK\"}}
  - {{name: store, from: \"env:PLANTED_STORE\"}}
  - {{name: otlp, from: \"env:PLANTED_OTLP\"}}
consumers: [{{name: acme}}]
limits: [{{name: few, budget: {{count: 2, per: month}}}}]
issuers: [{{name: batch, issuer: batch, audiences: [orders], secret: \"${{secrets.hmac}}\"}}]
upstreams:
  - {{name: good, endpoints: [{{url: \"http://{backend}\"}}]}}
  - {{name: down, endpoints: [{{url: \"http://127.0.0.1:1\"}}]}}
providers: [{{name: one, kind: openai, url: \"{provider}/v1\", key: \"${{secrets.provider}}\"}}]
models: [{{name: fast, deployments: [{{provider: one, model: real}}]}}]
routes:
  - name: good
    match: {{path: /good/*}}
    to: [{{upstream: good}}]
    request_headers: {{set: {{x-env: \"${{secrets.env}}\", x-file: \"${{secrets.file}}\", x-sealed: \"${{secrets.sealed}}\"}}}}
    cache: {{}}
  - name: down
    match: {{path: /down/*}}
    to: [{{upstream: down}}]
    request_headers: {{set: {{x-env: \"${{secrets.env}}\"}}}}
  - {{name: spent, match: {{path: /spent/*}}, to: [{{upstream: good}}], limits: [few]}}
  - {{name: keyed, match: {{path: /keyed/*}}, to: [{{upstream: good}}], auth: [key, jwt]}}
  - {{name: llm, match: {{path: /v1/*}}, llm: {{models: [fast]}}}}
telemetry:
  access_log: {{format: json, file: {folder}/access.log}}
  otlp: {{endpoint: \"{collector}\", protocol: http, headers: {{x-api-key: \"${{secrets.otlp}}\"}}, sample: 100%}}
alerts:
  webhooks:
    - {{name: well, url: \"{collector}/hook\", secret: \"${{secrets.hook}}\"}}
    - {{name: refuses, url: \"{store}/hook\", secret: \"${{secrets.hook}}\"}}
backups:
  every: 1m
  keep: 2
  key: {key}
  to: s3://bucket/gate
  s3: {{endpoint: \"{store}\", region: eu-central-1, access_key_id: gate, secret_access_key: \"${{secrets.store}}\"}}
"
        )
    }

    fn hear(&mut self, who: &str, said: impl Into<Vec<u8>>) {
        self.said.push((who.to_owned(), said.into()));
    }

    /// The command line: whatever it says is kept.
    async fn cli(&mut self, words: &[&str]) -> bool {
        let mut command = Command::new(TIDEGATE);
        command.args(words).current_dir(&self.folder).stdin(Stdio::null());
        command.env("TIDEGATE_ADMIN", self.node.admin("")).env("TIDEGATE_TOKEN", ADMIN);
        command.envs(self.node.environment.iter().cloned());
        let output = command.output().await.unwrap();
        self.hear(&format!("stdout of {words:?}"), output.stdout);
        self.hear(&format!("stderr of {words:?}"), output.stderr);
        output.status.success()
    }

    async fn get(&mut self, path: &str, headers: &[(&str, &str)]) {
        let answer = Client::new().get(&self.node.url(path), headers).await.unwrap();
        let told = format!("{:?}", answer.headers);
        self.hear(&format!("answer to {path}"), [told.as_bytes(), &answer.body].concat());
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.folder.join(name), text).unwrap();
        self.folder.join(name).display().to_string()
    }

    /// Who said one of these, and which.
    fn found(&self, planted: &[String]) -> Vec<String> {
        let holds = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
        let told = self.said.iter().flat_map(|(who, text)| {
            let parts = planted.iter().filter(move |part| holds(text, part));
            parts.map(move |part| {
                let at = text.windows(part.len()).position(|window| window == part.as_bytes()).unwrap_or_default();
                let around = &text[at.saturating_sub(160)..(at + part.len() + 20).min(text.len())];
                format!("{who}: …{}…", String::from_utf8_lossy(around))
            })
        });
        told.collect()
    }
}

/// Each as it is, and as credentials travel.
fn looked_for(more: &[String]) -> Vec<String> {
    let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let plain = ALL.iter().map(|text| (*text).to_owned()).chain(more.iter().cloned());
    plain.flat_map(|text| [coded(&text), text]).collect()
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.file_name().is_some_and(|name| name != "admin.token") {
            // The first token is kept there for whoever runs the node, as it was given.
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
}

#[tokio::test]
async fn no_planted_secret_is_found_in_what_is_said_kept_or_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin(folder.path()).await;
    let sealed = world.write("sealed.secret", SEALED);
    assert!(world.cli(&["secret", "put", "sealed", "--from-file", &sealed]).await);
    let text = world.document();
    let good = world.write("good.yaml", &text);
    assert!(
        world.cli(&["apply", &good, "--wait"]).await,
        "{:?}",
        String::from_utf8_lossy(&world.said.last().unwrap().1)
    );
    let (key, tls) = (consumer_key(&world).await, certificate(&mut world).await);
    good_and_bad_requests(&mut world, &key).await;
    what_operators_look_at(&mut world, &good).await;
    what_operators_get_wrong(&mut world, &text).await;

    let own = format!("Bearer {ADMIN}");
    for path in [
        "/metrics",
        "/v1/document",
        "/v1/history",
        "/v1/secrets",
        "/v1/audit",
        "/v1/tokens",
        "/v1/keys",
        "/openapi.json",
    ] {
        let answer = Client::new().get(&world.node.admin(path), &[("authorization", &own)]).await.unwrap();
        world.hear(path, answer.body.to_vec());
    }
    what_was_sent(&mut world).await;
    a_crash(&mut world).await;
    let log = world.node.log();
    assert!(log.contains("TRACE"), "the log tells everything");
    world.hear("the node's log", log);
    let access = std::fs::read(folder.path().join("access.log")).unwrap();
    assert!(!access.is_empty());
    world.hear("the access log", access);
    let mut kept = Vec::new();
    files(&world.node.data.clone(), &mut kept);
    assert!(kept.len() > 2);
    kept.into_iter().for_each(|(path, bytes)| world.hear(&path, bytes));
    // They were in use, and whoever says one is found.
    let shown = world.provider.last().header("authorization").to_owned();
    assert_eq!(shown, format!("Bearer {PROVIDER}"));
    assert!(world.collector.asked().iter().any(|ask| ask.header("x-api-key") == OTLP));
    let looked_for = looked_for(&[key, tls]);
    let said = std::mem::replace(&mut world.said, vec![("somebody".into(), format!("x{shown}x").into_bytes())]);
    assert_eq!(world.found(&looked_for).len(), 1);
    world.said = said;
    let found = world.found(&looked_for);
    assert!(found.is_empty(), "{} of {} things hold a secret:\n{}", found.len(), world.said.len(), found.join("\n"));
}

/// To those who watch and keep: traces, alerts, backups.
async fn what_was_sent(world: &mut World) {
    for (who, to, line) in [
        ("traces", &world.collector, "trace"),
        ("alerts", &world.collector, "/hook"),
        ("refused alerts", &world.store, "/hook"),
        ("backups", &world.store, "PUT /bucket/gate"),
    ] {
        eventually(&format!("{who} are told"), Duration::from_secs(60), async || {
            to.asked().iter().any(|ask| ask.line.contains(line))
        })
        .await;
    }
    for (who, to) in [("collector", world.collector.clone()), ("store", world.store.clone())] {
        for ask in to.asked() {
            world.hear(&format!("to the {who}: {}", ask.line), ask.body.to_vec());
        }
    }
    let told = world.collector.asked();
    assert!(told.iter().any(|ask| ask.line.contains("/hook") && !ask.body.is_empty()));
}

/// Another start of the node, where core dumps are wanted, ends by a signal that leaves one.
async fn a_crash(world: &mut World) {
    world.node.drain().await;
    let place = world.folder.join("crash");
    std::fs::create_dir(&place).unwrap();
    let words = ["serve", "--http", "127.0.0.1:0", "--https", "off", "--admin", "127.0.0.1:0", "--log", "trace"];
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\"", TIDEGATE]).args(words);
    command.arg("--data").arg(&world.node.data).arg("--ready-file").arg(place.join("ready"));
    command.args(["--peer", &world.node.ports.peer.to_string()]).current_dir(&place).kill_on_drop(true);
    command.envs(world.node.environment.iter().cloned()).env("RUST_BACKTRACE", "full");
    let output = world.folder.join("crash.log");
    let file = std::fs::File::create(&output).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = command.spawn().unwrap();
    eventually("it is ready", Duration::from_secs(40), async || place.join("ready").exists()).await;
    let pid = child.id().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    signal(pid, "ABRT");
    let status = child.wait().await.unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    let output = std::fs::read(output).unwrap();
    assert!(!output.is_empty());
    world.hear("what a crash says", output);
    let left: Vec<_> = std::fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["ready"], "a crash leaves nothing");
}

/// What is shown once is not kept among what was said.
async fn consumer_key(world: &World) -> String {
    let words = ["key", "create", "acme", "-o", "json"];
    let mut command = Command::new(TIDEGATE);
    command.args(words).env("TIDEGATE_ADMIN", world.node.admin("")).env("TIDEGATE_TOKEN", ADMIN);
    let told: serde_json::Value = serde_json::from_slice(&command.output().await.unwrap().stdout).unwrap();
    told["secret"].as_str().unwrap().to_owned()
}

/// Imported; a line of its key.
async fn certificate(world: &mut World) -> String {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["api.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pem = key.serialize_pem();
    let (chain, file) = (world.write("api.pem", &made.pem()), world.write("api.key", &pem));
    assert!(world.cli(&["cert", "import", "api", "--cert", &chain, "--key", &file]).await);
    // Of another, and none at all.
    let other = world.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
    assert!(!world.cli(&["cert", "import", "bad", "--cert", &chain, "--key", &other]).await);
    assert!(!world.cli(&["cert", "import", "bad", "--cert", &file, "--key", &file]).await);
    let broken = world.write("broken.key", &pem.replace("-----END", "----END"));
    assert!(!world.cli(&["cert", "import", "bad", "--cert", &chain, "--key", &broken]).await);
    pem.lines().nth(1).unwrap().to_owned()
}

async fn good_and_bad_requests(world: &mut World, key: &str) {
    let (right, wrong) = (format!("Bearer {key}"), format!("Bearer {BEARER}"));
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let forged = format!("Bearer {token}.{token}.{BEARER}");
    for path in [
        "/good/x",
        "/good/x",
        "/down/x",
        "/nowhere",
        "/spent/1",
        "/spent/2",
        "/spent/3",
        &format!("/good/x?api_key={QUERY}&key={QUERY}&access_token={QUERY}"),
    ] {
        // What the backend sends back is what it was sent: nobody's secret but the caller's own.
        let answer = Client::new().get(&world.node.url(path), &[("authorization", &wrong)]).await.unwrap();
        assert_ne!(answer.status, 500);
    }
    for authorization in [&right, &wrong, &forged] {
        world.get("/keyed/x", &[("authorization", authorization)]).await;
    }
    let body = bytes::Bytes::from_static(CHAT.as_bytes());
    let (client, url) = (Client::new(), world.node.url("/v1/chat/completions"));
    let headers = [("content-type", "application/json")];
    let answer = client.send(http::Method::POST, &url, &headers, body).await.unwrap();
    world.hear("the answer of a model", answer.body.to_vec());
    for (token, path) in [(BEARER, "/v1/cluster"), (ADMIN, "/v1/nothing"), (ADMIN, "/v1/history/99")] {
        let answer = Client::new().get(&world.node.admin(path), &[("authorization", &format!("Bearer {token}"))]).await;
        world.hear(path, answer.unwrap().body.to_vec());
    }
}

async fn what_operators_look_at(world: &mut World, good: &str) {
    let backup = world.folder.join("all.backup").display().to_string();
    let other_key = world.folder.join("other.key").display().to_string();
    for words in [
        &["get"][..],
        &["get", "-o", "json"],
        &["history"],
        &["diff", good],
        &["check", good],
        &["secret", "ls"],
        &["cert", "ls"],
        &["token", "ls"],
        &["key", "ls"],
        &["usage"],
        &["upstream", "ls"],
        &["model", "ls"],
        &["cluster", "status"],
        &["cluster", "doctor"],
        &["audit", "ls", "--all", "-o", "json"],
        &["--help"],
        &["serve", "--help"],
        &["cluster", "backup-key", "--out", &other_key],
    ] {
        world.cli(words).await;
    }
    let key = world.backup_key.clone();
    assert!(world.cli(&["cluster", "backup", "--key", &key, "--out", &backup]).await);
    world.hear("a backup", std::fs::read(&backup).unwrap());
}

async fn what_operators_get_wrong(world: &mut World, text: &str) {
    for (name, wrong) in [
        ("unknown.yaml", text.replace("consumers:", "consumrs:")),
        ("missing.yaml", text.replace("env:PLANTED_HOOK", "env:PLANTED_NOWHERE")),
        ("folded.yaml", text.replace("x-env", "\"bad header\"")),
        ("torn.yaml", text.replace("alerts:\n", "alerts: {{{\n")),
        ("short.yaml", text.replace("env:PLANTED_HMAC", "env:PLANTED_ENV")),
        ("url.yaml", text.replace("http://127.0.0.1:1\"", "${secrets.env}\"")),
    ] {
        let path = world.write(name, &wrong);
        world.cli(&["check", &path]).await;
        assert!(!world.cli(&["apply", &path]).await, "{name} is not good");
        assert!(!world.cli(&["apply", &path, "-o", "json"]).await);
    }
    let file = world.write("sealed.secret", SEALED);
    assert!(!world.cli(&["secret", "put", "sealed", "--from-file", &file]).await, "it is there");
    for (name, wrong) in [
        ("node.toml", format!("token = \"{TOML}\nredis_url = \"redis://:{REDIS}@h:1\"\n")),
        ("typed.toml", format!("redis_url = [\"redis://:{REDIS}@h:1\"]\n")),
        ("field.toml", format!("tokn = \"{TOML}\"\n")),
    ] {
        let path = world.write(name, &wrong);
        assert!(!world.cli(&["serve", "--config", &path, "--data", "nothing"]).await, "{name}");
    }
    let wrong_url = format!("redis://:{REDIS}@127.0.0.1:notaport");
    assert!(!world.cli(&["serve", "--redis-url", &wrong_url, "--data", "nothing", "--workers", "0"]).await);
}
