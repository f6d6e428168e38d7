//! TLS listeners: the certificate for the name, h2 and HTTP/1.1 by ALPN.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_policy::{Certificate, ClientCertificates, Endpoint, TlsIdentity, TlsPolicy, UpstreamTls};
use tidegate_tls::rustls::pki_types::pem::PemObject as _;
use tidegate_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tidegate_tls::rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tidegate_tls::{Certificates, client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend;
use crate::harness::{Reply, Setup, World, route, soon, until, upstream, upstream_with};

fn certificate(name: &str, hosts: &[&str]) -> Certificate {
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts.clone()).unwrap();
    Certificate {
        name: name.into(),
        hosts,
        stored: None,
        chain_pem: made.cert.pem().into_bytes(),
        key_pem: made.signing_key.serialize_pem().into_bytes(),
        policy: TlsPolicy::Modern,
        ocsp: None,
        clients: None,
    }
}

async fn world(certificates: &[Certificate]) -> (World, Arc<Certificates>) {
    tidegate_tls::install();
    let shown = Certificates::new();
    shown.replace(certificates).unwrap();
    let (backend, _) = backend::start().await;
    let mut setup = Setup::routes(vec![route("/", &upstream(backend))]);
    setup.tls = Some(shown.clone());
    (setup.start().await, shown)
}

fn trusting(certificates: &[&Certificate], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let ca = certificates.iter().flat_map(|c| c.chain_pem.clone()).collect();
    client(&UpstreamTls { ca_pem: Some(ca), server_name: None, identity: None }, alpn).unwrap()
}

async fn connect(world: &World, config: Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config).connect(name, world.connect().await).await
}

#[tokio::test]
async fn h2_and_http1_are_agreed_by_alpn() {
    let api = certificate("api", &["api.test"]);
    let (world, _) = world(std::slice::from_ref(&api)).await;
    let socket = connect(&world, trusting(&[&api], &[b"h2", b"http/1.1"]), "api.test").await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://api.test/x").body(Empty::<bytes::Bytes>::new()).unwrap();
    let body = send.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let proto = told["headers"].as_array().unwrap().iter().find(|h| h[0] == "x-forwarded-proto").unwrap();
    assert_eq!(proto[1], "https");

    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut socket = connect(&world, trusting(&[&api], alpn), "api.test").await.unwrap();
        socket.write_all(b"GET /y HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        assert_eq!(Reply::parse(&text).target(), "/y");
    }
}

#[tokio::test]
async fn a_tls_connection_rests_serves_again_and_says_goodbye() {
    let api = certificate("api", &["api.test"]);
    let (world, _) = world(std::slice::from_ref(&api)).await;
    let mut socket = connect(&world, trusting(&[&api], &[b"http/1.1"]), "api.test").await.unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET / HTTP/1.1\r\nhost: api.test\r\n\r\n").await.unwrap();
        assert!(until(&mut socket, "}").await.starts_with("HTTP/1.1 200 "));
        soon("it rests", || world.gate.resting.now() == 1).await;
    }
    world.drain.begin();
    // Without close_notify this is an error.
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
    soon("it is over", || world.gate.connections.now() == 0).await;
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_an_unknown_one_an_alert() {
    let (api, wild) = (certificate("api", &["api.test"]), certificate("wild", &["*.wild.test"]));
    let (world, shown) = world(&[]).await;
    let trust = trusting(&[&api, &wild], &[]);
    assert!(connect(&world, trust.clone(), "api.test").await.is_err());
    let both = vec![api, wild];
    shown.replace(&both).unwrap();
    assert!(connect(&world, trust.clone(), "api.test").await.is_ok(), "shown from the next handshake on");
    assert!(connect(&world, trust.clone(), "a.wild.test").await.is_ok());
    for unknown in ["b.a.wild.test", "wild.test", "other.test"] {
        let why = connect(&world, trust.clone(), unknown).await.unwrap_err().to_string();
        assert!(why.contains("alert"), "{unknown}: {why}");
    }
    let mut broken = certificate("broken", &["x.test"]);
    broken.key_pem = certificate("other", &["x.test"]).key_pem;
    let problems = shown.replace(&[broken]).unwrap_err();
    assert!(problems[0].to_string().contains("certificate \"broken\": key: the key does not belong"), "{problems:?}");
    assert!(connect(&world, trust, "api.test").await.is_ok(), "a broken set changes nothing");
}

#[tokio::test]
async fn a_strict_certificate_wants_tls_1_3() {
    let mut strict = certificate("strict", &["strict.test"]);
    strict.policy = TlsPolicy::Strict;
    let (world, _) = world(std::slice::from_ref(&strict)).await;
    let trust = trusting(&[&strict], &[]);
    assert!(connect(&world, trust, "strict.test").await.is_ok());
    let provider = Arc::new(tidegate_tls::rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = tidegate_tls::rustls::RootCertStore::empty();
    for der in <tidegate_tls::rustls::pki_types::CertificateDer<'_> as tidegate_tls::rustls::pki_types::pem::PemObject>::pem_slice_iter(&strict.chain_pem) {
        roots.add(der.unwrap()).unwrap();
    }
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&tidegate_tls::rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(connect(&world, Arc::new(old), "strict.test").await.is_err());
}

#[tokio::test]
async fn a_host_of_stricter_terms_is_not_served_on_another_hosts_connection() {
    let lax = certificate("lax", &["lax.test", "lax2.test"]);
    let strict = Certificate { policy: TlsPolicy::Strict, ..certificate("strict", &["strict.test"]) };
    let both = [lax, strict];
    let (world, _) = world(&both).await;
    let [lax, strict] = &both;
    for (name, host, status) in [
        ("lax.test", "lax2.test", 200),
        ("lax.test", "LAX.test", 200),
        ("lax.test", "unknown.test", 200),
        ("strict.test", "lax.test", 200),
        ("strict.test", "strict.test", 200),
        ("lax.test", "strict.test", 421),
    ] {
        let mut socket = connect(&world, trusting(&[lax, strict], &[b"http/1.1"]), name).await.unwrap();
        let ask = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        assert_eq!(Reply::parse(&text).status, status, "{name} {host}");
    }
}

#[tokio::test]
async fn a_name_without_a_certificate_is_not_recognized() {
    let api = certificate("api", &["api.test"]);
    let (world, _) = world(std::slice::from_ref(&api)).await;
    let failed = connect(&world, trusting(&[&api], &[]), "other.test").await.unwrap_err();
    assert!(
        failed.to_string().contains("UnrecognizedName") || failed.to_string().contains("UnrecognisedName"),
        "{failed}"
    );
}

/// A CA, and what it signs.
struct Signer {
    pem: Vec<u8>,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Signer {
    fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> (TlsIdentity, Vec<u8>) {
        self.sign_with(name, |_| {})
    }

    fn sign_with(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> (TlsIdentity, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let identity = TlsIdentity { chain_pem: signed.pem().into_bytes(), key_pem: key.serialize_pem().into_bytes() };
        (identity, signed.der().to_vec())
    }
}

fn showing(server: &Certificate, identity: Option<TlsIdentity>) -> Arc<ClientConfig> {
    let ca_pem = Some(server.chain_pem.clone());
    client(&UpstreamTls { ca_pem, server_name: None, identity }, &[b"http/1.1"]).unwrap()
}

/// TLS 1.3 clients learn that they are refused when they read.
async fn ask(world: &World, config: Arc<ClientConfig>, name: &str, more: &str) -> std::io::Result<Reply> {
    let mut socket = connect(world, config, name).await?;
    let ask = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n{more}\r\n");
    socket.write_all(ask.as_bytes()).await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    Ok(Reply::parse(&text))
}

#[tokio::test]
async fn clients_show_certificates_of_their_own_where_they_are_asked_and_the_upstream_learns_which() {
    tidegate_tls::install();
    let (staff, others) = (Signer::new("staff"), Signer::new("others"));
    let clients = |optional| Some(ClientCertificates { ca_pem: staff.pem.clone(), optional });
    let must = Certificate { clients: clients(false), ..certificate("must", &["must.test"]) };
    let may = Certificate { clients: clients(true), ..certificate("may", &["may.test"]) };
    let open = certificate("open", &["open.test"]);
    let all = [must, may, open];
    let (world, shown) = world(&all).await;
    let [must, may, open] = all;
    let (ours, der) = staff.sign("ann");
    let (foreign, _) = others.sign("eve");
    let header = format!(":{}:", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der));

    let lie = "client-cert: :AAAA:\r\nclient_cert: :AAAA:\r\nclient-cert-chain: :AAAA:\r\n";
    let reply = ask(&world, showing(&must, Some(ours.clone())), "must.test", lie).await.unwrap();
    assert_eq!(reply.sent("client-cert"), std::slice::from_ref(&header));
    assert!(reply.sent("client-cert-chain").is_empty() && reply.sent("client_cert").is_empty());
    ask(&world, showing(&must, None), "must.test", "").await.expect_err("no certificate");
    ask(&world, showing(&must, Some(foreign.clone())), "must.test", "").await.expect_err("another CA's");

    let reply = ask(&world, showing(&may, Some(ours.clone())), "may.test", "").await.unwrap();
    assert_eq!(reply.sent("client-cert"), [header]);
    let reply = ask(&world, showing(&may, None), "may.test", lie).await.unwrap();
    assert!(reply.sent("client-cert").is_empty() && reply.sent("client_cert").is_empty());
    ask(&world, showing(&may, Some(foreign)), "may.test", "").await.expect_err("a wrong one is not as good as none");

    for (name, server, host, status) in [
        ("open.test", &open, "must.test", 421),
        ("may.test", &may, "must.test", 421),
        ("open.test", &open, "may.test", 421),
        ("must.test", &must, "open.test", 200),
    ] {
        let mut socket = connect(&world, showing(server, Some(ours.clone())), name).await.unwrap();
        let ask = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        assert_eq!(Reply::parse(&text).status, status, "{name} {host}");
    }

    let mut broken = must;
    broken.clients = Some(ClientCertificates { ca_pem: b"none".to_vec(), optional: false });
    let problems = shown.replace(&[broken]).unwrap_err();
    assert!(problems[0].to_string().contains("certificate \"must\": clients: no CERTIFICATE"), "{problems:?}");
}

#[tokio::test]
async fn an_upstream_that_asks_who_calls_is_shown_a_certificate() {
    tidegate_tls::install();
    let gates = Signer::new("gates");
    let clients = Some(ClientCertificates { ca_pem: gates.pem.clone(), optional: false });
    let inner = Certificate { clients, ..certificate("inner", &["inner.test"]) };
    let (behind, _) = world(std::slice::from_ref(&inner)).await;
    for (identity, status) in
        [(Some(gates.sign("gate").0), 200), (None, 502), (Some(Signer::new("eve").sign("gate").0), 502)]
    {
        let to = upstream_with(behind.address, |upstream| {
            let host = "127.0.0.1".to_owned();
            upstream.endpoints = vec![Endpoint::Url { https: true, host, port: behind.address.port(), weight: 1 }];
            let server_name = Some("inner.test".to_owned());
            upstream.tls = UpstreamTls { ca_pem: Some(inner.chain_pem.clone()), server_name, identity };
        });
        let front = Setup::routes(vec![route("/", &to)]).start().await;
        let reply = front.ask("GET", "/", "host: inner.test\r\n").await;
        assert_eq!(reply.status, status, "{}", reply.body);
    }
}

/// RFC 8737: a certificate for the challenge where one is open, an alert where none is, and clients notice nothing.
#[tokio::test]
async fn an_authority_that_looks_for_a_challenge_is_shown_its_certificate() {
    let plain = certificate("plain", &["plain.test"]);
    let (world, shown) = world(std::slice::from_ref(&plain)).await;
    let ask = async |name: &str, alpn: &[&[u8]]| {
        let mut config = tidegate_tls::rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let socket = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let name = tidegate_tls::rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        socket.map(|socket| {
            let session = socket.get_ref().1;
            let der = session.peer_certificates().unwrap()[0].to_vec();
            (session.alpn_protocol().map(<[u8]>::to_vec), der)
        })
    };
    let acme: &[&[u8]] = &[b"acme-tls/1"];
    assert!(ask("plain.test", acme).await.is_err(), "no challenge is open");
    shown.answer_challenges([("plain.test".to_owned(), [7; 32])]).unwrap();
    let (protocol, der) = ask("PLAIN.test", acme).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"acme-tls/1"[..]));
    // id-pe-acmeIdentifier (1.3.6.1.5.5.7.1.31), critical, an OCTET STRING of the digest in an OCTET STRING.
    let extension = [&[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32][..], &[7; 32]].concat();
    assert!(der.windows(extension.len()).any(|window| window == extension));
    assert!(ask("other.test", acme).await.is_err(), "a challenge of another host");
    let (protocol, ours) = ask("plain.test", &[b"acme-tls/1", b"h2"]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"h2"[..]), "a client that offers more is a client");
    assert_ne!(ours, der);
    shown.answer_challenges([]).unwrap();
    assert!(ask("plain.test", acme).await.is_err());
}

/// Whatever a server shows is looked at by the test.
#[derive(Debug)]
struct Anybody;

impl tidegate_tls::rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &tidegate_tls::rustls::pki_types::CertificateDer<'_>,
        _: &[tidegate_tls::rustls::pki_types::CertificateDer<'_>],
        _: &tidegate_tls::rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: tidegate_tls::rustls::pki_types::UnixTime,
    ) -> Result<tidegate_tls::rustls::client::danger::ServerCertVerified, tidegate_tls::rustls::Error> {
        Ok(tidegate_tls::rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &tidegate_tls::rustls::pki_types::CertificateDer<'_>,
        _: &tidegate_tls::rustls::DigitallySignedStruct,
    ) -> Result<tidegate_tls::rustls::client::danger::HandshakeSignatureValid, tidegate_tls::rustls::Error> {
        Ok(tidegate_tls::rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &tidegate_tls::rustls::pki_types::CertificateDer<'_>,
        _: &tidegate_tls::rustls::DigitallySignedStruct,
    ) -> Result<tidegate_tls::rustls::client::danger::HandshakeSignatureValid, tidegate_tls::rustls::Error> {
        Ok(tidegate_tls::rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<tidegate_tls::rustls::SignatureScheme> {
        tidegate_tls::rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Finishes a handshake and one request, so that tickets have come; how the handshake went.
async fn resumed(world: &World, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<bool> {
    let mut socket = connect(world, config.clone(), name).await?;
    let ask = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    socket.write_all(ask.as_bytes()).await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    assert_eq!(Reply::parse(&text).status, 200);
    Ok(socket.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed))
}

#[tokio::test]
async fn a_session_ends_with_the_terms_it_was_agreed_under() {
    tidegate_tls::install();
    let (staff, others) = (Signer::new("staff"), Signer::new("others"));
    let api = certificate("api", &["api.test"]);
    let with = |clients| [Certificate { clients, ..api.clone() }];
    let rule = |signer: &Signer, optional| Some(ClientCertificates { ca_pem: signer.pem.clone(), optional });
    let (world, shown) = world(&with(rule(&staff, false))).await;
    let (ours, _) = staff.sign("ann");
    for version in [&tidegate_tls::rustls::version::TLS13, &tidegate_tls::rustls::version::TLS12] {
        let config = Arc::new(speaking(version, &api, &ours));
        shown.replace(&with(rule(&staff, false))).unwrap();
        assert!(!resumed(&world, &config, "api.test").await.unwrap());
        assert!(resumed(&world, &config, "api.test").await.unwrap(), "{version:?}");
        shown.replace(&with(rule(&staff, false))).unwrap();
        assert!(resumed(&world, &config, "api.test").await.unwrap(), "the same terms, read anew");
        // Another CA: who came in by the first one is asked anew, and does not come in.
        shown.replace(&with(rule(&others, false))).unwrap();
        resumed(&world, &config, "api.test").await.expect_err("another CA's");
        // A session without a certificate opens no door behind which one is asked for.
        let config = Arc::new(speaking(version, &api, &ours));
        shown.replace(&with(None)).unwrap();
        assert!(!resumed(&world, &config, "api.test").await.unwrap());
        assert!(resumed(&world, &config, "api.test").await.unwrap());
        shown.replace(&with(rule(&staff, false))).unwrap();
        assert!(!resumed(&world, &config, "api.test").await.unwrap(), "a handshake in full, with a certificate");
    }
}

#[tokio::test]
async fn a_session_does_not_outlive_the_certificate_of_its_client() {
    tidegate_tls::install();
    let staff = Signer::new("staff");
    let clients = Some(ClientCertificates { ca_pem: staff.pem.clone(), optional: false });
    let api = Certificate { clients, ..certificate("api", &["api.test"]) };
    let (world, _) = world(std::slice::from_ref(&api)).await;
    let over = SystemTime::now() + Duration::from_secs(4);
    let (short, _) = staff.sign_with("ann", |params| params.not_after = over.into());
    let config = Arc::new(speaking(&tidegate_tls::rustls::version::TLS13, &api, &short));
    assert!(!resumed(&world, &config, "api.test").await.unwrap());
    assert!(resumed(&world, &config, "api.test").await.unwrap());
    // Whole seconds count, in certificates and for those who verify them.
    tokio::time::sleep(over.duration_since(SystemTime::now()).unwrap() + Duration::from_millis(1_100)).await;
    resumed(&world, &config, "api.test").await.expect_err("the certificate is over");
}

fn speaking(version: &'static SupportedProtocolVersion, server: &Certificate, client: &TlsIdentity) -> ClientConfig {
    let ders = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).map(|der| der.unwrap()).collect::<Vec<_>>();
    let mut roots = tidegate_tls::rustls::RootCertStore::empty();
    roots.add_parsable_certificates(ders(&server.chain_pem));
    let provider = Arc::new(tidegate_tls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&client.key_pem).unwrap();
    config.with_root_certificates(roots).with_client_auth_cert(ders(&client.chain_pem), key).unwrap()
}

/// TLS takes bytes whether the socket does or not: that some go out shows only in that more are taken.
#[tokio::test]
async fn who_reads_slowly_all_the_time_is_not_dropped_and_who_reads_nothing_is() {
    let api = certificate("api", &["api.test"]);
    tidegate_tls::install();
    let shown = Certificates::new();
    shown.replace(std::slice::from_ref(&api)).unwrap();
    let (backend, seen) = backend::start().await;
    let mut setup = Setup::routes(vec![route("/", &upstream(backend))]);
    setup.tls = Some(shown);
    let world = setup.bounds(|b| b.send_timeout = Duration::from_secs(1)).start().await;
    let config = trusting(&[&api], &[b"http/1.1"]);
    let mut socket = connect(&world, config, "api.test").await.unwrap();
    socket.write_all(b"GET /flood HTTP/1.1\r\nhost: api.test\r\n\r\n").await.unwrap();
    let mut piece = vec![0; 1 << 20];
    for _ in 0..40 {
        let read = socket.read_exact(&mut piece).await;
        read.expect("it goes on as long as it is read, for three times as long as a reader may stand still");
        tokio::time::sleep(Duration::from_millis(75)).await;
    }
    soon("it is dropped once nobody reads", || seen.given_up.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
}
