//! A certificate authority for tests: Debian's `pebble`, with a name server that knows every host at 127.0.0.1.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tidegate_policy::UpstreamTls;
use tidegate_tls::rustls::pki_types::ServerName;
use tidegate_tls::tokio_rustls::TlsConnector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::eventually;

/// Where it will be, before it is started.
pub(crate) struct Place {
    directory: SocketAddr,
    management: SocketAddr,
    /// Who signs its own port's certificate: PEM.
    pub(crate) ca: PathBuf,
    folder: PathBuf,
}

pub(crate) struct Pebble {
    place: Place,
    _children: Vec<Child>,
}

/// What it does.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// Where it looks for http-01 and tls-alpn-01.
    pub(crate) http: u16,
    pub(crate) tls: u16,
    /// How long its certificates live.
    pub(crate) lives: Duration,
    /// It wants an external account: `kid-1`, [`EXTERNAL_KEY`].
    pub(crate) external: bool,
}

pub(crate) const EXTERNAL_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Is the package there? Where it must be and is not, the spec fails; elsewhere a person is told.
pub(crate) fn is_there() -> bool {
    let found = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|at| at.join(name).is_file())
    };
    let there = found("pebble") && found("pebble-challtestsrv");
    if !there {
        assert!(std::env::var_os("CI").is_none(), "pebble is missing: apt-get install pebble");
        println!(
            "SKIPPED: certificates from an authority: Debian's package pebble is missing (apt-get install pebble)"
        );
    }
    there
}

impl Place {
    pub(crate) fn new(folder: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = folder.join("pebble");
        std::fs::create_dir_all(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { directory: free(), management: free(), ca, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/dir", self.directory)
    }

    pub(crate) async fn start(self, how: How) -> Pebble {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (names, names_management) = (free(), free());
        let config = json!({"pebble": {
            "listenAddress": self.directory.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.ca,
            "privateKey": self.folder.join("key.pem"),
            "httpPort": how.http,
            "tlsPort": how.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": how.external,
            "externalAccountMACKeys": {"kid-1": EXTERNAL_KEY},
            "certificateValidityPeriod": how.lives.as_secs(),
        }});
        let file = self.folder.join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = |name: &str| File::create(self.folder.join(name)).unwrap();
        let mut resolver = Command::new("pebble-challtestsrv");
        resolver.args(["-dns01", &names, "-management", &names_management, "-defaultIPv4", "127.0.0.1"]);
        resolver.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        resolver.stdin(Stdio::null()).stdout(log("names.log")).stderr(log("names.err")).kill_on_drop(true);
        let mut authority = Command::new("pebble");
        authority.arg("-config").arg(&file).args(["-strict", "-dnsserver", &names]);
        // No waiting for its own sake; each order is proven anew. Every twentieth nonce is refused, as it does by itself.
        authority.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        authority.stdin(Stdio::null()).stdout(log("log")).stderr(log("err")).kill_on_drop(true);
        let children = vec![resolver.spawn().unwrap(), authority.spawn().unwrap()];
        let pebble = Pebble { place: self, _children: children };
        eventually("pebble answers", Duration::from_secs(20), async || {
            TcpStream::connect(pebble.place.directory).await.is_ok()
                && TcpStream::connect(pebble.place.management).await.is_ok()
        })
        .await;
        pebble
    }
}

impl Pebble {
    /// Its root, which signs what signs certificates: PEM.
    pub(crate) async fn root(&self) -> Vec<u8> {
        let ca = std::fs::read(&self.place.ca).unwrap();
        let config = tidegate_tls::client(&UpstreamTls { ca_pem: Some(ca), ..UpstreamTls::default() }, &[]).unwrap();
        let socket = TcpStream::connect(self.place.management).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut socket = TlsConnector::from(config).connect(name, socket).await.unwrap();
        let request = "GET /roots/0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _without_goodbye = socket.read_to_end(&mut answer).await;
        let text = String::from_utf8(answer).unwrap();
        let at = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{text}"));
        text.as_bytes()[at..].to_vec()
    }

    /// Accounts and orders that it has made. (A request may come twice: it refuses every twentieth nonce.)
    pub(crate) fn made(&self) -> (usize, usize) {
        let log = std::fs::read_to_string(self.place.folder.join("log")).unwrap_or_default();
        let count = |said: &str| log.lines().filter(|line| line.contains(said)).count();
        (count("accounts in memory"), count("Added order"))
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.place.folder.join("log")).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(60).collect();
            println!("--- pebble said at last:");
            last.into_iter().rev().for_each(|line| println!("{line}"));
        }
    }
}
