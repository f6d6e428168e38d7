//! TLS over several nodes: sessions that any node takes up, certificates that change under load, what their CA says of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use tidegate_policy::UpstreamTls;
use tidegate_tls::rustls::ClientConfig;
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::tokio_rustls::TlsConnector;
use tidegate_tls::tokio_rustls::client::TlsStream;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::{Backend, Cluster, Node, eventually};

const SOON: Duration = Duration::from_secs(10);

/// A CA, and the files that a document names.
struct Certs {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Certs {
    /// The first certificate of `api.test` has serial number 1.
    fn new(cluster: &Cluster) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "spec CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let ca = cluster.write("ca.pem", &pem);
        cluster.write("ca.key", &key.serialize_pem());
        let issuer = Issuer::new(params, key);
        let (chain, secret) = signed(&issuer, 1);
        let (cert, key) = (cluster.write("api.pem", &chain), cluster.write("api.key", &secret));
        Self { issuer, pem, ca, cert, key }
    }

    fn document(&self, backend: &Backend, more: &str) -> String {
        let (to, cert, key) = (backend.address, self.cert.display(), self.key.display());
        format!(
            "version: 1\nupstreams: [{{name: b, endpoints: [{{url: 'http://{to}'}}]}}]\n\
             routes: [{{name: all, match: {{path: /*}}, to: [{{upstream: b}}]}}]\n\
             certificates: [{{name: api, hosts: [api.test], file: '{cert}', key: '{key}'{more}}}]\n"
        )
    }

    fn client(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let ca_pem = Some(self.pem.clone().into_bytes());
        tidegate_tls::client(&UpstreamTls { ca_pem, server_name: None, identity: None }, alpn).unwrap()
    }
}

/// A certificate of `api.test` and its key, in PEM.
fn signed(issuer: &Issuer<'static, KeyPair>, serial: u8) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["api.test".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![serial]));
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

async fn connect(node: &Node, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(node.ready.as_ref().unwrap().https).await?;
    TlsConnector::from(config.clone()).connect(ServerName::try_from("api.test").unwrap(), socket).await
}

/// What OpenSSL's client says of a handshake and the answer to one request.
async fn s_client(node: &Node, certs: &Certs, words: &[&str]) -> String {
    let at = node.ready.as_ref().unwrap().https.to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &at, "-servername", "api.test", "-ign_eof", "-verify_return_error", "-CAfile"])
        .arg(&certs.ca)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is there");
    let mut ask = client.stdin.take().unwrap();
    ask.write_all(b"GET /x HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let done = tokio::time::timeout(SOON, client.wait_with_output()).await.expect("it ends").unwrap();
    drop(ask);
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
    said
}

/// How many handshakes of this kind a node has finished.
async fn handshakes(cluster: &Cluster, node: usize, version: &str, resumed: bool) -> u64 {
    let token = format!("Bearer {}", cluster.token);
    let answer =
        cluster.client.get(&cluster.nodes[node].admin("/metrics"), &[("authorization", &token)]).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let wanted = format!("tidegate_tls_handshakes_total{{version=\"{version}\",resumed=\"{resumed}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
    line.unwrap_or_else(|| panic!("no {wanted} in {text}")).parse::<f64>().unwrap() as u64
}

#[tokio::test]
async fn a_session_of_one_node_is_taken_up_at_another_until_its_key_is_gone() {
    let backend = Backend::start().await;
    let cluster = Cluster::start(3).await;
    let certs = Certs::new(&cluster);
    cluster.apply(&certs.document(&backend, "")).await;
    let kept = |version: &str| cluster.write(&format!("{version}.session"), "").to_str().unwrap().to_owned();
    let sessions = ["-tls1_3", "-tls1_2"].map(|version| (version, kept(version)));
    for (version, file) in &sessions {
        // The keys of a cluster that has just been formed may still be on their way.
        eventually("nodes share keys", SOON, async || {
            s_client(&cluster.nodes[0], &certs, &[version, "-sess_out", file]).await;
            s_client(&cluster.nodes[2], &certs, &[version, "-sess_in", file]).await.contains("Reused, TLSv1.")
        })
        .await;
        let number = version.strip_prefix("-tls1_").unwrap();
        let (version_told, before) = (format!("TLSv1.{number}"), format!("Reused, TLSv1.{number}"));
        let resumed = handshakes(&cluster, 1, &version_told, true).await;
        let said = s_client(&cluster.nodes[1], &certs, &[version, "-sess_in", file]).await;
        assert!(said.contains(&before), "{said}");
        assert_eq!(handshakes(&cluster, 1, &version_told, true).await, resumed + 1);
    }

    let first = cluster.cli_at(1, &["cluster", "rotate-tickets"]).await.unwrap()["generation"].as_u64().unwrap();
    for (at, node) in cluster.nodes.iter().enumerate() {
        for (version, file) in &sessions {
            let said = s_client(node, &certs, &[version, "-sess_in", file]).await;
            assert!(said.contains("Reused, TLSv1."), "node {at} {version} after one rotation: {said}");
        }
    }
    let second = cluster.cli_at(2, &["cluster", "rotate-tickets"]).await.unwrap()["generation"].as_u64().unwrap();
    assert_eq!(second, first + 1);
    for node in &cluster.nodes {
        eventually("the key is gone", SOON, async || {
            let mut new = true;
            for (version, file) in &sessions {
                new &= s_client(node, &certs, &[version, "-sess_in", file]).await.contains("New, TLSv1.");
            }
            new
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_and_no_request_notices() {
    let backend = Backend::start().await;
    let cluster = Arc::new(Cluster::start(1).await);
    let certs = Certs::new(&cluster);
    cluster.apply(&certs.document(&backend, "")).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = [
        tokio::spawn(keep_alive(cluster.clone(), certs.client(&[b"http/1.1"]), stop.clone(), served.clone())),
        tokio::spawn(streams(cluster.clone(), certs.client(&[b"h2"]), stop.clone(), served.clone())),
        tokio::spawn(afresh(cluster.clone(), certs.client(&[b"http/1.1"]), stop.clone(), served.clone())),
    ];
    let shown = async || {
        let stream = connect(&cluster.nodes[0], &certs.client(&[])).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };

    // A document that names other files.
    let first = shown().await;
    let (chain, key) = signed(&certs.issuer, 2);
    let other = Certs {
        cert: cluster.write("other.pem", &chain),
        key: cluster.write("other.key", &key),
        ca: certs.ca.clone(),
        pem: certs.pem.clone(),
        issuer: Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap()),
    };
    cluster.apply(&other.document(&backend, "")).await;
    let second = shown().await;
    assert_ne!(first, second);

    // The same files, written anew: nobody says a word.
    for serial in 3..6 {
        let before = shown().await;
        let (chain, key) = signed(&certs.issuer, serial);
        cluster.write("other.pem", &chain);
        cluster.write("other.key", &key);
        eventually("the new certificate is shown", SOON, async || shown().await != before).await;
    }

    // A pair that does not fit: what was shown stays, and the node says why.
    let good = shown().await;
    let (chain, _) = signed(&certs.issuer, 6);
    cluster.write("other.pem", &chain);
    eventually("the node says why", SOON, async || {
        let answer = cluster.client.get(&cluster.nodes[0].admin("/readyz"), &[]).await.unwrap();
        String::from_utf8_lossy(&answer.body).contains("the key does not belong to the chain's first certificate")
    })
    .await;
    assert_eq!(shown().await, good);
    let refused =
        cluster.cli(&["apply", cluster.write("again.yaml", &other.document(&backend, "")).to_str().unwrap()]).await;
    let refused = refused.expect_err("it is refused");
    assert!(refused.contains("certificate \\\"api\\\": key: the key does not belong"), "{refused}");
    let (chain, key) = signed(&certs.issuer, 7);
    cluster.write("other.pem", &chain);
    cluster.write("other.key", &key);
    eventually("a pair that fits is shown", SOON, async || shown().await != good).await;
    eventually("the alarm ends", SOON, async || {
        let answer = cluster.client.get(&cluster.nodes[0].admin("/readyz"), &[]).await.unwrap();
        !String::from_utf8_lossy(&answer.body).contains("does not belong")
    })
    .await;

    stop.store(true, Relaxed);
    for task in load {
        task.await.expect("no request failed");
    }
    assert!(served.load(Relaxed) > 100, "{served:?}");
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "api.test").body(Empty::new()).unwrap()
}

/// One HTTP/1.1 connection, from the first to the last.
async fn keep_alive(cluster: Arc<Cluster>, config: Arc<ClientConfig>, stop: Arc<AtomicBool>, served: Arc<AtomicU64>) {
    let stream = TokioIo::new(connect(&cluster.nodes[0], &config).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    while !stop.load(Relaxed) {
        let answer = send.send_request(request("/kept")).await.expect("the connection stays");
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("a whole body");
        served.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One h2 connection with streams that last while documents come and go.
async fn streams(cluster: Arc<Cluster>, config: Arc<ClientConfig>, stop: Arc<AtomicBool>, served: Arc<AtomicU64>) {
    let stream = TokioIo::new(connect(&cluster.nodes[0], &config).await.unwrap());
    let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut send, stop, served) = (send.clone(), stop.clone(), served.clone());
        open.spawn(async move {
            while !stop.load(Relaxed) {
                let ask = request("https://api.test/stream?parts=20&pause_ms=50");
                let answer = send.send_request(ask).await.expect("the connection stays");
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.expect("a whole stream");
                served.fetch_add(1, Relaxed);
            }
        });
    }
    while let Some(done) = open.join_next().await {
        done.expect("no stream failed");
    }
}

/// A new connection each time.
async fn afresh(cluster: Arc<Cluster>, config: Arc<ClientConfig>, stop: Arc<AtomicBool>, served: Arc<AtomicU64>) {
    while !stop.load(Relaxed) {
        let stream = TokioIo::new(connect(&cluster.nodes[0], &config).await.expect("a certificate is shown"));
        let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let answer = send.send_request(request("/fresh")).await.expect("it is served");
        assert_eq!(answer.status(), 200);
        served.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_the_ca_says_of_a_certificate_is_stapled_while_it_holds() {
    let backend = Backend::start().await;
    let cluster = Cluster::start(1).await;
    let certs = Certs::new(&cluster);
    let folder = certs.ca.parent().unwrap().to_owned();
    ocsp(&folder, &["-issuer", "ca.pem", "-cert", "api.pem", "-reqout", "ask.der", "-no_nonce"]).await;
    let respond = async |status: &str| {
        let revoked = if status == "R" { "200101000000Z" } else { "" };
        cluster.write("index.txt", &format!("{status}\t491231235959Z\t{revoked}\t01\tunknown\t/CN=x\n"));
        let answers = ["-reqin", "ask.der", "-ndays", "3", "-respout", "api.ocsp"];
        ocsp(&folder, &[&RESPONDER[..], &answers].concat()).await;
        folder.join("api.ocsp")
    };
    let staple = respond("V").await;
    let more = format!(", ocsp: '{}'", staple.display());
    cluster.apply(&certs.document(&backend, &more)).await;
    let node = &cluster.nodes[0];
    let says = async |words: &[&str]| {
        let said = s_client(node, &certs, &[&["-status"], words].concat()).await;
        let status = said.lines().find(|line| line.contains("Cert Status:")).map(|line| line.trim().to_owned());
        status.unwrap_or_else(|| {
            assert!(said.contains("OCSP response: no response sent"), "{said}");
            "none".to_owned()
        })
    };
    for version in ["-tls1_3", "-tls1_2"] {
        assert_eq!(says(&[version]).await, "Cert Status: good", "{version}");
    }

    // The file changes: one that is over is no help to anybody, and neither is that it was revoked.
    let mut over = std::fs::read(&staple).unwrap();
    // When it was produced, from when it holds, until when.
    let times = over.windows(2).enumerate().filter(|(_, tag)| **tag == [0x18, 15]);
    let next_update = times.map(|(at, _)| at + 2).nth(2).expect("a time");
    over[next_update..next_update + 4].copy_from_slice(b"2020");
    std::fs::write(&staple, over).unwrap();
    eventually("nothing is stapled", SOON, async || says(&["-tls1_3"]).await == "none").await;
    assert!(node.log().contains("its OCSP response is over"), "{}", node.log());
    respond("V").await;
    eventually("it is stapled again", SOON, async || says(&["-tls1_2"]).await == "Cert Status: good").await;
    respond("R").await;
    eventually("nothing is stapled", SOON, async || says(&["-tls1_3"]).await == "none").await;
    respond("V").await;
    eventually("it is stapled again", SOON, async || says(&["-tls1_3"]).await == "Cert Status: good").await;

    // Of another certificate, or nothing at all: refused, and what was stapled stays.
    let other = cluster.write("nonsense.ocsp", "nonsense");
    for (file, why) in
        [(other, "it is no OCSP response in DER"), (respond_for_another(&cluster, &folder).await, "other certificates")]
    {
        let document = certs.document(&backend, &format!(", ocsp: '{}'", file.display()));
        let path = cluster.write("bad.yaml", &document);
        let refused = cluster.cli(&["apply", path.to_str().unwrap()]).await.expect_err("it is refused");
        assert!(refused.contains(why) && refused.contains("ocsp"), "{refused}");
        assert_eq!(says(&["-tls1_3"]).await, "Cert Status: good");
    }
}

const RESPONDER: [&str; 8] = ["-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key"];

async fn ocsp(folder: &Path, words: &[&str]) {
    let done =
        Command::new("openssl").arg("ocsp").args(words).current_dir(folder).output().await.expect("openssl is there");
    assert!(done.status.success(), "{words:?}: {done:?}");
}

/// A good response about serial number 9.
async fn respond_for_another(cluster: &Cluster, folder: &Path) -> PathBuf {
    cluster.write("index.txt", "V\t491231235959Z\t\t09\tunknown\t/CN=x\n");
    let answers = ["-issuer", "ca.pem", "-serial", "9", "-ndays", "3", "-respout", "another.ocsp"];
    ocsp(folder, &[&RESPONDER[..], &answers].concat()).await;
    folder.join("another.ocsp")
}
