//! Operators who are known by their certificates at the admin port: real TLS, real authorities, no token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use serde_json::Value;
use tidegate_policy::{TlsIdentity, UpstreamTls};
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::tokio_rustls::TlsConnector;
use tidegate_tls::tokio_rustls::client::TlsStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::{Node, Switchboard, TIDEGATE, eventually};

/// Somebody who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Chain and key, in files.
    fn sign(
        &self,
        folder: &Path,
        name: &str,
        serial: u8,
        more: impl FnOnce(&mut CertificateParams),
    ) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(vec![serial]));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        more(&mut params);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        let file = |kind: &str, text: &str| {
            let path = folder.join(format!("{name}-{serial}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        (file("pem", &chain), file("key", &key.serialize_pem()))
    }

    /// A list of those that are good no more.
    fn revoke(&self, serials: &[u8]) -> String {
        let revoked = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// One node whose admin port takes certificates.
struct Port {
    node: Node,
    folder: PathBuf,
    ca: PathBuf,
}

impl Port {
    async fn open(folder: &Path, operators: &Authority, extra: &[&str]) -> Self {
        let server = Authority::new("server CA");
        let path = |name: &str| folder.join(name);
        std::fs::write(path("server-ca.pem"), &server.pem).unwrap();
        std::fs::write(path("operators.pem"), &operators.pem).unwrap();
        let (chain, key) = server.sign(folder, "node", 1, |_| {});
        let mut words = vec!["--admin-cert", chain.to_str().unwrap(), "--admin-key", key.to_str().unwrap()];
        let ca = path("operators.pem");
        words.extend(["--admin-client-ca", ca.to_str().unwrap()]);
        words.extend(extra);
        let mut node = Node::new(folder, "n1", &Switchboard::default(), &words).await;
        node.spawn(None);
        node.wait_until_ready().await;
        Self { node, folder: folder.to_owned(), ca: path("server-ca.pem") }
    }

    /// Exit code, and what was said.
    async fn ask(&self, who: Option<&(PathBuf, PathBuf)>, token: Option<&str>, words: &[&str]) -> (Option<i32>, Value) {
        let mut command = Command::new(TIDEGATE);
        command.args(words).args(["-o", "json"]).current_dir(&self.folder).env("TIDEGATE_ADMIN_CA", &self.ca);
        command.env("TIDEGATE_ADMIN", format!("https://{}", self.node.ready.as_ref().unwrap().admin));
        if let Some((chain, key)) = who {
            command.env("TIDEGATE_CLIENT_CERT", chain).env("TIDEGATE_CLIENT_KEY", key);
        }
        if let Some(token) = token {
            command.env("TIDEGATE_TOKEN", token);
        }
        let output = command.output().await.unwrap();
        let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{words:?}: {why}: {output:?}"));
        (output.status.code(), told)
    }

    fn first_token(&self) -> String {
        std::fs::read_to_string(self.node.data.join("admin.token")).unwrap().trim().to_owned()
    }
}

const LOOK: &[&str] = &["cluster", "status"];

#[tokio::test]
async fn a_certificate_may_what_its_names_may_and_its_name_stands_in_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("operators"), Authority::new("somebody else"));
    let crl = folder.path().join("revoked.pem");
    std::fs::write(&crl, ours.revoke(&[77])).unwrap();
    let extra =
        ["--admin-client-role", "ann=operator,ou:platform=admin,*=reader", "--admin-client-crl", crl.to_str().unwrap()];
    let port = Port::open(folder.path(), &ours, &extra).await;
    let in_platform = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::OrganizationalUnitName, "platform");
    };
    let ann = ours.sign(folder.path(), "ann", 2, |_| {});
    let bob = ours.sign(folder.path(), "bob", 3, |_| {});
    let carl = ours.sign(folder.path(), "carl", 4, in_platform);
    let old = ours.sign(folder.path(), "ann", 5, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    });
    let gone = ours.sign(folder.path(), "ann", 77, |_| {});
    let stranger = other.sign(folder.path(), "ann", 6, in_platform);

    let document = folder.path().join("document.yaml");
    std::fs::write(&document, "version: 1\nupstreams: []\nroutes: []\n").unwrap();
    let publish = ["apply", document.to_str().unwrap()];
    let make_token = ["token", "create", "ci", "--role", "reader"];
    assert_eq!(port.ask(Some(&ann), None, &publish).await.0, Some(0));
    assert_eq!(port.ask(Some(&bob), None, LOOK).await.0, Some(0));
    assert_eq!(port.ask(Some(&carl), None, &make_token).await.0, Some(0));
    for (who, words, has) in [(&bob, &publish[..], "reader"), (&ann, &make_token[..], "operator")] {
        let (exit, told) = port.ask(Some(who), None, words).await;
        let said = told["error"]["message"].as_str().unwrap_or_default();
        assert!(exit == Some(1) && said.ends_with(&format!("the caller has {has}")), "{told}");
    }
    // Whose certificate is nobody's: no connection. Who shows none: a token, as ever.
    for who in [&old, &gone, &stranger] {
        let (exit, told) = port.ask(Some(who), None, LOOK).await;
        assert_eq!(exit, Some(3), "{told}");
    }
    let (exit, told) = port.ask(None, None, LOOK).await;
    assert!(exit == Some(1) && told["error"]["code"] == "unauthorized", "{told}");
    let first = port.first_token();
    assert_eq!(port.ask(None, Some(&first), LOOK).await.0, Some(0));
    // A token beside a certificate: whoever the token says.
    assert_eq!(port.ask(Some(&bob), Some(&first), &publish).await.0, Some(0));

    let (_, told) = port.ask(Some(&bob), None, &["audit", "ls", "--action", "document"]).await;
    let by: Vec<_> = told["records"].as_array().unwrap().iter().map(|record| record["actor"].clone()).collect();
    assert_eq!(
        (&by[0]["kind"], &by[0]["name"], &by[0]["role"]),
        (&"certificate".into(), &"ann".into(), &"operator".into())
    );
    assert_eq!((&by[1]["kind"], &by[1]["name"]), (&"token".into(), &"bootstrap".into()));
    let (_, told) = port.ask(Some(&bob), None, &["audit", "ls", "--actor", "carl"]).await;
    assert_eq!(told["records"][0]["action"], "token.create", "{told}");
    let line = port.node.log().lines().find(|line| line.contains("/v1/tokens")).unwrap_or_default().to_owned();
    assert!(
        line.contains("who=\"carl\"") && line.contains("address=\"127.0.0.1\""),
        "the log says who as well: {line}"
    );
    assert_eq!(port.ask(Some(&bob), None, &["audit", "verify"]).await.0, Some(0));

    // The files are read anew: one certificate more is revoked, then another authority takes over.
    std::fs::write(&crl, ours.revoke(&[77, 2])).unwrap();
    eventually("ann's is revoked", Duration::from_secs(30), async || {
        port.ask(Some(&ann), None, LOOK).await.0 == Some(3)
    })
    .await;
    assert_eq!(port.ask(Some(&bob), None, LOOK).await.0, Some(0));
    std::fs::write(&crl, other.revoke(&[77])).unwrap();
    std::fs::write(folder.path().join("operators.pem"), &other.pem).unwrap();
    eventually("the other authority's is good", Duration::from_secs(30), async || {
        port.ask(Some(&stranger), None, LOOK).await.0 == Some(0)
    })
    .await;
    assert_eq!(port.ask(Some(&bob), None, LOOK).await.0, Some(3));
}

#[tokio::test]
async fn where_certificates_are_required_nobody_gets_in_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("operators");
    let extra = ["--admin-client-required", "--admin-client-role", "ann=admin"];
    let port = Port::open(folder.path(), &ours, &extra).await;
    let (ann, bob) = (ours.sign(folder.path(), "ann", 2, |_| {}), ours.sign(folder.path(), "bob", 3, |_| {}));
    let first = port.first_token();
    let (exit, told) = port.ask(None, Some(&first), LOOK).await;
    assert_eq!(exit, Some(3), "{told}");
    assert_eq!(port.ask(Some(&ann), None, LOOK).await.0, Some(0));
    // A certificate that no rule names is let in and may nothing, until it shows a token.
    let (exit, told) = port.ask(Some(&bob), None, LOOK).await;
    assert!(exit == Some(1) && told["error"]["message"].as_str().unwrap().ends_with("the caller has none"), "{told}");
    assert_eq!(port.ask(Some(&bob), Some(&first), LOOK).await.0, Some(0));
}

#[tokio::test]
async fn a_connection_whose_certificate_was_revoked_ends_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("operators");
    let crl = folder.path().join("revoked.pem");
    std::fs::write(&crl, ours.revoke(&[77])).unwrap();
    let extra = ["--admin-client-role", "*=reader", "--admin-client-crl", crl.to_str().unwrap()];
    let port = Port::open(folder.path(), &ours, &extra).await;
    let (ann, bob) = (ours.sign(folder.path(), "ann", 2, |_| {}), ours.sign(folder.path(), "bob", 3, |_| {}));
    // Both look again and again over one connection, which is never given up by who asks.
    let (mut of_ann, mut of_bob) = (Held::open(&port, Some(&ann)).await, Held::open(&port, Some(&bob)).await);
    let mut nobodys = Held::open(&port, None).await;
    assert_eq!((of_ann.ask().await, of_bob.ask().await, nobodys.ask().await), (Some(404), Some(404), Some(401)));

    std::fs::write(&crl, ours.revoke(&[77, 2])).unwrap();
    eventually("ann's connection ends", Duration::from_secs(30), async || of_ann.ask().await.is_none()).await;
    assert_eq!(nobodys.ask().await, Some(401), "who showed no certificate keeps the connection");
    eventually("bob's certificate is looked at again", Duration::from_secs(30), async || of_bob.ask().await.is_none())
        .await;
    assert_eq!(Held::open(&port, Some(&bob)).await.ask().await, Some(404));
}

/// One connection to the admin port.
struct Held(TlsStream<TcpStream>);

impl Held {
    async fn open(port: &Port, who: Option<&(PathBuf, PathBuf)>) -> Self {
        let read = |path: &Path| std::fs::read(path).unwrap();
        let identity = who.map(|(chain, key)| TlsIdentity { chain_pem: read(chain), key_pem: read(key) });
        let tls = UpstreamTls { ca_pem: Some(read(&port.ca)), identity, ..UpstreamTls::default() };
        let config = tidegate_tls::client(&tls, &[b"http/1.1"]).unwrap();
        let socket = TcpStream::connect(port.node.ready.as_ref().unwrap().admin).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Self(TlsConnector::from(config).connect(name, socket).await.unwrap())
    }

    /// The status; `None`: the connection has ended.
    async fn ask(&mut self) -> Option<u16> {
        self.0.write_all(b"GET /v1/history/999 HTTP/1.1\r\nhost: admin\r\n\r\n").await.ok()?;
        let mut told = Vec::new();
        while !told.ends_with(b"}}") {
            if self.0.read_buf(&mut told).await.ok()? == 0 {
                return None;
            }
        }
        String::from_utf8_lossy(&told).split(' ').nth(1)?.parse().ok()
    }
}
