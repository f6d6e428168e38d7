//! Certificates that the cluster keeps: imported by an operator, or had from an authority that does not know which node asks.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_policy::UpstreamTls;
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::tokio_rustls::TlsConnector;
use tidegate_tls::tokio_rustls::client::TlsStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::pebble::{self, EXTERNAL_KEY, How, Place};
use crate::harness::{Cluster, eventually};

const SOON: Duration = Duration::from_secs(30);
const YEARS: Duration = Duration::from_secs(5 * 365 * 86_400);

/// A handshake for `host` that trusts `roots` (PEM) alone.
async fn connect(to: SocketAddr, host: &str, roots: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let tls = UpstreamTls { ca_pem: Some(roots.to_vec()), ..UpstreamTls::default() };
    let config = tidegate_tls::client(&tls, &[b"http/1.1"]).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(config).connect(name, TcpStream::connect(to).await?).await
}

/// The certificate that is shown for `host`, which has to be good.
async fn shown(to: SocketAddr, host: &str, roots: &[u8]) -> Result<Vec<u8>, String> {
    let socket = connect(to, host, roots).await.map_err(|why| why.to_string())?;
    let certificates = socket.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(certificates.first().map(|der| der.to_vec()).unwrap_or_default())
}

async fn asks(socket: &mut TlsStream<TcpStream>, host: &str) -> String {
    socket.write_all(format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = socket.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

fn https(cluster: &Cluster, node: usize) -> SocketAddr {
    cluster.nodes[node].ready.as_ref().unwrap().https
}

/// As `cert ls` tells it.
async fn told(cluster: &Cluster, name: &str) -> Value {
    let all = cluster.cli(&["cert", "ls"]).await.unwrap_or_default();
    let found = all["certificates"].as_array().into_iter().flatten().find(|it| it["name"] == name).cloned();
    found.unwrap_or_default()
}

/// The one certificate that all running nodes show for all of `hosts`, once they do.
async fn everywhere(cluster: &Cluster, hosts: &[&str], roots: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    eventually("all nodes show one certificate", SOON, async || {
        let mut all = Vec::new();
        for (at, _) in cluster.nodes.iter().enumerate().filter(|(_, node)| node.is_running()) {
            for host in hosts {
                match shown(https(cluster, at), host, roots).await {
                    Ok(der) => all.push(der),
                    Err(_) => return false,
                }
            }
        }
        all.dedup();
        found = all.first().cloned().unwrap_or_default();
        all.len() == 1
    })
    .await;
    found
}

/// Chain and key, in files.
struct Made {
    chain: String,
    key: String,
}

fn made(cluster: &Cluster, file: &str, hosts: &[&str]) -> (Made, Vec<u8>) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts).unwrap();
    let write = |name: String, text: &str| cluster.write(&name, text).to_str().unwrap().to_owned();
    let chain = write(format!("{file}.pem"), &made.cert.pem());
    let key = write(format!("{file}.key"), &made.signing_key.serialize_pem());
    (Made { chain, key }, made.cert.pem().into_bytes())
}

#[tokio::test]
async fn an_imported_certificate_is_served_by_every_node_and_replaced_without_a_drop() {
    let cluster = Cluster::start(3).await;
    cluster.apply("version: 1\nroutes: [{name: all, match: {path: /x}, respond: {status: 200, body: hello}}]\n").await;
    let (one, root) = made(&cluster, "one", &["api.test", "*.wild.test"]);
    assert!(shown(https(&cluster, 0), "api.test", &root).await.is_err(), "nobody has a certificate for it");
    let import = |made: &Made| ["cert", "import", "api", "--cert", &made.chain, "--key", &made.key].map(str::to_owned);
    let run = async |words: [String; 7]| cluster.cli(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let done = run(import(&one)).await.unwrap();
    assert_eq!(done["complete"], true, "{done}");
    for node in 0..3 {
        for host in ["api.test", "a.wild.test"] {
            shown(https(&cluster, node), host, &root).await.unwrap_or_else(|why| panic!("node {node}, {host}: {why}"));
        }
        assert!(shown(https(&cluster, node), "a.b.wild.test", &root).await.is_err(), "a star is one label");
    }
    let listed = told(&cluster, "api").await;
    assert_eq!((listed["source"].as_str(), listed["state"].as_str()), (Some("imported"), Some("served")), "{listed}");
    assert_eq!(listed["used_by"][0], "sni");

    // Another takes its place: who is connected stays, who comes is shown the new one.
    let mut open = connect(https(&cluster, 2), "api.test", &root).await.unwrap();
    assert!(asks(&mut open, "api.test").await.contains("hello"));
    let (two, newer) = made(&cluster, "two", &["api.test"]);
    run(import(&two)).await.unwrap();
    for node in 0..3 {
        shown(https(&cluster, node), "api.test", &newer).await.unwrap();
        assert!(shown(https(&cluster, node), "api.test", &root).await.is_err(), "node {node} shows the old one");
    }
    assert!(asks(&mut open, "api.test").await.contains("hello"), "its connection was dropped");

    // What does not fit is refused with a reason, and changes nothing.
    let (other, _) = made(&cluster, "other", &["api.test"]);
    let crossed = Made { chain: other.chain, key: two.key.clone() };
    let refused = run(import(&crossed)).await.unwrap_err();
    assert!(refused.contains("the key does not belong to the chain's first certificate"), "{refused}");
    shown(https(&cluster, 1), "api.test", &newer).await.unwrap();

    // A document may say more of it: other hosts alone, TLS 1.3 alone.
    let named = "version: 1\ncertificates: [{name: shop, hosts: [api.test], stored: api, policy: strict}]\n";
    let nobody = cluster.write("nobody.yaml", &named.replace("stored: api", "stored: nobody"));
    let refused = cluster.cli(&["apply", nobody.to_str().unwrap()]).await.unwrap_err();
    assert!(refused.contains("keeps no certificate `nobody`") && refused.contains("cert import"), "{refused}");
    cluster.apply(named).await;
    everywhere(&cluster, &["api.test"], &newer).await;
    let refused = cluster.cli(&["cert", "rm", "api"]).await.unwrap_err();
    assert!(refused.contains("certificates.shop"), "{refused}");
    assert_eq!(told(&cluster, "api").await["used_by"][0], "certificates.shop");
    cluster.apply("version: 1\n").await;
    cluster.cli(&["cert", "rm", "api"]).await.unwrap();
    for node in 0..3 {
        assert!(shown(https(&cluster, node), "api.test", &newer).await.is_err(), "node {node} shows what is gone");
    }

    // The key was in nobody's log, and on no disk but sealed.
    let key = std::fs::read_to_string(&two.key).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for node in &cluster.nodes {
        assert!(!node.log().contains(secret), "{} has logged a key", node.name);
        assert!(!holds(&node.data, secret.as_bytes()), "{} keeps a key in the clear", node.name);
    }
}

/// Does any file below hold these bytes?
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| match path.is_dir() {
        true => holds(&path, bytes),
        false => std::fs::read(&path).is_ok_and(|file| file.windows(bytes.len()).any(|window| window == bytes)),
    })
}

fn document(place: &Place, hosts: &str, more: &str) -> String {
    let (directory, ca) = (place.url(), place.ca.display());
    format!(
        "version: 1\nacme:\n  directory: {directory}\n  ca: {ca}\n  terms_agreed: true\n  contacts: [ops@example.com]\n  \
         certificates: [{{name: site, hosts: {hosts}}}]\n{more}"
    )
}

/// A node that does not lead, so does not order.
async fn another(cluster: &Cluster) -> usize {
    (cluster.leader("control").await + 1) % cluster.nodes.len()
}

#[tokio::test]
async fn a_node_that_did_not_order_answers_http_01_and_all_nodes_serve_what_was_issued() {
    if !pebble::is_there() {
        return;
    }
    let cluster = Cluster::start(3).await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let text = document(&place, "[b.example.com, a.example.com]", "  challenges: [http-01]\n");
    let other = another(&cluster).await;
    let http = cluster.nodes[other].ready.as_ref().unwrap().http.port();
    let authority = place.start(How { http, tls: 1, lives: YEARS, external: false }).await;
    cluster.apply(&text).await;
    let root = authority.root().await;
    everywhere(&cluster, &["a.example.com", "b.example.com"], &root).await;
    let listed = told(&cluster, "site").await;
    assert_eq!((listed["source"].as_str(), listed["state"].as_str()), (Some("acme"), Some("served")), "{listed}");
    assert!(listed["next_at"].is_string() && listed["ordering"] == false && listed["error"].is_null(), "{listed}");
    assert_eq!(authority.made(), (1, 1), "one account, one order");
    let refused = cluster.cli(&["cert", "rm", "site"]).await.unwrap_err();
    assert!(refused.contains("acme.certificates.site"), "{refused}");
    // Asked for again by hand: another one, on all nodes.
    let before = everywhere(&cluster, &["a.example.com"], &root).await;
    cluster.cli(&["cert", "renew", "site"]).await.unwrap();
    eventually("it is renewed", SOON, async || everywhere(&cluster, &["a.example.com"], &root).await != before).await;
    assert_eq!(authority.made(), (1, 2), "the account is the cluster's");
    // A certificate for other hosts is asked for when the document says so.
    cluster.apply(&text.replace("[b.example.com, a.example.com]", "[c.example.com]")).await;
    everywhere(&cluster, &["c.example.com"], &root).await;
}

#[tokio::test]
async fn a_node_that_did_not_order_answers_tls_alpn_01_and_a_certificate_is_renewed_before_it_ends() {
    if !pebble::is_there() {
        return;
    }
    let cluster = Cluster::start(3).await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let routes = "routes: [{name: all, match: {path: /x}, respond: {status: 200, body: hello}}]\n";
    let text = document(&place, "[a.example.com]", &format!("  challenges: [tls-alpn-01]\n{routes}"));
    let tls = https(&cluster, another(&cluster).await).port();
    let authority = place.start(How { http: 1, tls, lives: Duration::from_secs(30), external: false }).await;
    cluster.apply(&text).await;
    let root = authority.root().await;
    let first = everywhere(&cluster, &["a.example.com"], &root).await;
    let mut open = connect(https(&cluster, 1), "a.example.com", &root).await.unwrap();
    assert!(asks(&mut open, "a.example.com").await.contains("hello"));
    // Two thirds of 30 s; at no moment is a handshake without a good certificate.
    let mut second = first.clone();
    eventually("it is renewed", Duration::from_secs(28), async || {
        for node in 0..3 {
            second =
                shown(https(&cluster, node), "a.example.com", &root).await.expect("a good certificate at any time");
        }
        second != first
    })
    .await;
    everywhere(&cluster, &["a.example.com"], &root).await;
    assert!(asks(&mut open, "a.example.com").await.contains("hello"), "a connection outlives its certificate");
    assert_eq!(authority.made(), (1, 2), "once at first, once to renew");
}

#[tokio::test]
async fn a_leader_that_dies_in_the_middle_of_an_order_leaves_it_to_the_next() {
    if !pebble::is_there() {
        return;
    }
    let mut cluster = Cluster::start(3).await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let text = document(&place, "[a.example.com]", "  challenges: [http-01]\n");
    // The authority comes to a door of ours, which opens when the leader is dead.
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = door.local_addr().unwrap().port();
    let authority = place.start(How { http, tls: 1, lives: YEARS, external: false }).await;
    let (leader, survivor) = (cluster.leader("control").await, another(&cluster).await);
    cluster.apply(&text).await;
    let (mut looks, _) = tokio::time::timeout(SOON, door.accept()).await.expect("the authority looks").unwrap();
    cluster.nodes[leader].kill().await;
    let inside = cluster.nodes[survivor].ready.as_ref().unwrap().http;
    tokio::spawn(async move {
        let mut answers = TcpStream::connect(inside).await.unwrap();
        let _ends = tokio::io::copy_bidirectional(&mut looks, &mut answers).await;
        while let Ok((mut looks, _)) = door.accept().await {
            let mut answers = TcpStream::connect(inside).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut looks, &mut answers).await });
        }
    });
    everywhere(&cluster, &["a.example.com"], &authority.root().await).await;
    assert_eq!(authority.made(), (1, 1), "one account, one order");
    // The dead one comes back and shows it too.
    cluster.nodes[leader].spawn(None);
    cluster.nodes[leader].wait_until_ready().await;
    everywhere(&cluster, &["a.example.com"], &authority.root().await).await;
}

#[tokio::test]
async fn an_authority_that_is_away_or_says_no_is_told_of_and_asked_again() {
    if !pebble::is_there() {
        return;
    }
    let cluster = Cluster::start_with(1, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let plain = document(&place, "[a.example.com]", "  challenges: [http-01]\n");
    cluster.apply(&plain).await;
    eventually("it says that nobody answers", SOON, async || {
        let told = told(&cluster, "site").await;
        told["state"] == "pending"
            && told["next_at"].is_string()
            && told["error"].as_str().is_some_and(|why| why.contains("the directory cannot be reached"))
    })
    .await;
    let anybody = std::fs::read(&place.ca).unwrap();
    let refused = shown(https(&cluster, 0), "a.example.com", &anybody).await.unwrap_err();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    // It is there now, and wants an account that vouches for ours.
    let http = cluster.nodes[0].ready.as_ref().unwrap().http.port();
    let authority = place.start(How { http, tls: 1, lives: YEARS, external: true }).await;
    eventually("it says what the authority wants", SOON, async || {
        let told = told(&cluster, "site").await;
        told["error"].as_str().is_some_and(|why| why.contains("acme.external_account"))
    })
    .await;
    let secret = cluster.write("external", EXTERNAL_KEY);
    let external = format!(
        "{plain}  external_account: {{kid: kid-1, hmac: '${{secrets.external}}'}}\nsecrets: [{{name: external, from: 'file:{}'}}]\n",
        secret.display()
    );
    cluster.apply(&external).await;
    cluster.cli(&["cert", "renew", "site"]).await.unwrap();
    everywhere(&cluster, &["a.example.com"], &authority.root().await).await;
    let told = told(&cluster, "site").await;
    assert!(told["error"].is_null() && told["failures"] == 0, "{told}");
    let metrics = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(
        metrics.contains("tidegate_certificate_not_after_seconds{certificate=\"site\",source=\"acme\"}"),
        "{metrics}"
    );
}
