//! TLS listeners: the certificate for the name, h2 and HTTP/1.1 by ALPN.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_policy::{Certificate, TlsPolicy, UpstreamTls};
use tidegate_tls::rustls::{ClientConfig, pki_types::ServerName};
use tidegate_tls::{Certificates, client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend;
use crate::harness::{Reply, Setup, World, route, upstream};

fn certificate(name: &str, hosts: &[&str]) -> Certificate {
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts.clone()).unwrap();
    Certificate {
        name: name.into(),
        hosts,
        chain_pem: made.cert.pem().into_bytes(),
        key_pem: made.signing_key.serialize_pem().into_bytes(),
        policy: TlsPolicy::Modern,
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
    client(&UpstreamTls { ca_pem: Some(ca), server_name: None }, alpn).unwrap()
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
