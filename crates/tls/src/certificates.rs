//! What a TLS listener shows: the certificate for a name, replaced as one whole when a document changes.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use tidegate_policy::{Certificate, ClientCertificates, TlsPolicy};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use crate::challenge::{self, Challenges, Digest};
use crate::ocsp::{self, Staple};
use crate::pem::{self, Error};
use crate::tickets::Tickets;
use crate::{for_servers, provider};

#[cfg(feature = "quic")]
mod quic;

/// All certificates of a node. Cheap to share; [`Certificates::replace`] takes effect with the next handshake.
#[derive(Debug)]
pub struct Certificates {
    shown: Arc<Shown>,
    modern: Arc<ServerConfig>,
    strict: Arc<ServerConfig>,
    challenges: Challenges,
    tickets: Arc<Tickets>,
    handshakes: Handshakes,
    #[cfg(feature = "quic")]
    quic: OnceLock<Arc<ServerConfig>>,
}

/// Handshakes that were finished: in full, and taken up again by a ticket.
#[derive(Debug, Default)]
pub struct Handshakes {
    tls12: [AtomicU64; 2],
    tls13: [AtomicU64; 2],
}

#[derive(Debug)]
struct Shown(ArcSwap<Names>);

/// Lower-case names to keys. A wildcard is held as what follows its star: `.example.com`.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<String, Choice>,
    below: HashMap<String, Choice>,
    /// `*` alone: for clients that send no name or an unknown one. Without it they get an alert.
    any: Option<Choice>,
}

#[derive(Debug, Clone)]
struct Choice {
    key: Key,
    policy: TlsPolicy,
    clients: Option<Arc<Asking>>,
}

/// With what its CA says of it while that holds, and without.
#[derive(Debug, Clone)]
struct Key {
    plain: Arc<CertifiedKey>,
    stapled: Option<(Arc<CertifiedKey>, Arc<Staple>)>,
}

/// Clients are asked for certificates of their own.
#[derive(Debug)]
struct Asking {
    rule: ClientCertificates,
    verifier: Arc<dyn ClientCertVerifier>,
    config: OnceLock<Arc<ServerConfig>>,
    #[cfg(feature = "quic")]
    quic: OnceLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// No certificate yet: every handshake ends in an alert until [`Certificates::replace`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        let shown = Arc::new(Shown(ArcSwap::from_pointee(Names::default())));
        let tickets = Tickets::new();
        let modern = config(&shown, &tickets, versions(TlsPolicy::Modern), &OVER_TCP, None);
        let strict = config(&shown, &tickets, versions(TlsPolicy::Strict), &OVER_TCP, None);
        Arc::new(Self {
            shown,
            modern,
            strict,
            tickets,
            handshakes: Handshakes::default(),
            challenges: Challenges::default(),
            #[cfg(feature = "quic")]
            quic: OnceLock::new(),
        })
    }

    /// Reads and checks certificates without showing them: what `check` wants.
    ///
    /// # Errors
    /// Every certificate that cannot be used, not only the first.
    pub fn check<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Result<(), Vec<Error>> {
        Names::read(certificates).map(drop)
    }

    /// Shows these from now on, or keeps what was shown.
    ///
    /// # Errors
    /// Every certificate that cannot be used; then nothing changes.
    pub fn replace(&self, certificates: &[Certificate]) -> Result<(), Vec<Error>> {
        self.shown.0.store(Arc::new(Names::read(certificates)?));
        Ok(())
    }

    /// What authorities that look for a challenge (tls-alpn-01) are shown from now on: these hosts, in lower case, and no
    /// others.
    ///
    /// # Errors
    /// No certificate can be made for one of them; then nothing changes.
    pub fn answer_challenges(&self, hosts: impl IntoIterator<Item = (String, Digest)>) -> Result<(), String> {
        self.challenges.replace(hosts)
    }

    /// The keys that sessions are taken up again by.
    #[must_use]
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    #[must_use]
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// One server-side handshake. The policy is chosen by the name that the client asks for. Bring your own deadline.
    ///
    /// # Errors
    /// The peer does not speak TLS, asks for a name without a certificate (it gets an alert), or went away.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> std::io::Result<TlsStream<S>> {
        let mut started = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
        if challenge::is_asked(&started.client_hello()) {
            self.challenges.answer(started).await?;
            return Err(std::io::Error::new(ErrorKind::NotConnected, "it asked about a challenge (acme-tls/1) alone"));
        }
        let choice = self.shown.0.load().find(started.client_hello().server_name()).cloned();
        let config = match &choice {
            Some(Choice { clients: Some(asking), policy, .. }) => asking
                .config
                .get_or_init(|| config(&self.shown, &self.tickets, versions(*policy), &OVER_TCP, Some(asking))),
            Some(Choice { policy: TlsPolicy::Strict, .. }) => &self.strict,
            Some(Choice { policy: TlsPolicy::Modern, .. }) => &self.modern,
            None => {
                started.io.write_all(&UNRECOGNIZED_NAME).await?;
                started.io.shutdown().await?;
                return Err(std::io::Error::new(ErrorKind::InvalidInput, "no certificate for the name asked for"));
            }
        };
        let stream = started.into_stream(config.clone()).await?;
        let session = stream.get_ref().1;
        if let Some(Choice { clients: Some(asking), .. }) = &choice {
            asking.verify_again(session)?;
        }
        self.handshakes.count(session);
        Ok(stream)
    }

    /// May a connection that was agreed for the name `agreed` carry requests for `host` (RFC 9110 § 15.5.20)? Not if that
    /// host's certificate asks for stricter terms, or for other certificates of clients. Hosts without a certificate ask for none.
    #[must_use]
    pub fn is_enough_for(&self, agreed: Option<&str>, host: &str) -> bool {
        let names = self.shown.0.load();
        let Some(wanted) = names.find(Some(host)) else { return true };
        let agreed = names.find(agreed);
        let clients = |choice: &Choice| choice.clients.as_ref().map(|asking| asking.rule.clone());
        (wanted.policy != TlsPolicy::Strict || agreed.is_some_and(|agreed| agreed.policy == TlsPolicy::Strict))
            && (wanted.clients.is_none() || agreed.is_some_and(|agreed| clients(agreed) == clients(wanted)))
    }
}

/// A fatal alert in the clear (RFC 6066 § 3): rustls would say `access_denied`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

fn versions(policy: TlsPolicy) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match policy {
        TlsPolicy::Modern => &BOTH,
        TlsPolicy::Strict => &BOTH[..1],
    }
}

/// By ALPN.
const OVER_TCP: [&[u8]; 2] = [b"h2", b"http/1.1"];

fn config(
    shown: &Arc<Shown>,
    tickets: &Arc<Tickets>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
    clients: Option<&Asking>,
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(for_servers())
        .with_protocol_versions(versions)
        .expect("aws-lc-rs supports TLS 1.2 and 1.3");
    let config = match clients {
        Some(asking) => config.with_client_cert_verifier(asking.verifier.clone()),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(shown.clone());
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.ignore_client_order = true;
    // Stateless resumption: no memory per client, and any node takes up what another agreed. Early data stays off: it can be
    // played again at every node.
    config.ticketer = tickets.producer(clients.map(|asking| &asking.rule));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).map(|choice| choice.key.shown())
    }
}

impl Key {
    fn shown(&self) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((key, staple)) if staple.holds(ocsp::now()) => key.clone(),
            _ => self.plain.clone(),
        }
    }
}

impl Asking {
    /// A session that is taken up again brings the client's certificate in its ticket, and rustls does not look at it again:
    /// it may be over by now.
    fn verify_again(&self, session: &CommonState) -> std::io::Result<()> {
        if session.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let verified = match session.peer_certificates().and_then(<[_]>::split_first) {
            Some((client, chain)) => self.verifier.verify_client_cert(client, chain, UnixTime::now()).map(drop),
            None if self.rule.optional => Ok(()),
            None => Err(rustls::Error::NoCertificatesPresented),
        };
        verified.map_err(|why| std::io::Error::new(ErrorKind::InvalidData, why))
    }
}

impl Handshakes {
    fn count(&self, session: &CommonState) {
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => &self.tls13,
            _ => &self.tls12,
        };
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        version[usize::from(resumed)].fetch_add(1, Relaxed);
    }

    /// The version, whether a session was taken up again, and how often since the process began.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, bool, u64)> {
        [("TLSv1.2", &self.tls12), ("TLSv1.3", &self.tls13)].into_iter().flat_map(|(name, both)| {
            both.iter().zip([false, true]).map(move |(count, resumed)| (name, resumed, count.load(Relaxed)))
        })
    }
}

impl Names {
    fn read<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Result<Self, Vec<Error>> {
        let (mut names, mut problems) = (Self::default(), Vec::new());
        for certificate in certificates {
            match read(certificate).and_then(|key| Ok((key, asking(certificate)?))) {
                Ok((key, clients)) => {
                    names.add(certificate, &Choice { key, policy: certificate.policy, clients });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(names) } else { Err(problems) }
    }

    fn add(&mut self, certificate: &Certificate, choice: &Choice) {
        for host in &certificate.hosts {
            let host = host.to_ascii_lowercase();
            match host.strip_prefix('*') {
                Some("") => self.any = Some(choice.clone()),
                Some(below) => drop(self.below.insert(below.to_owned(), choice.clone())),
                None => drop(self.exact.insert(host, choice.clone())),
            }
        }
    }

    /// Exact, then the wildcard one label up (RFC 6125 § 6.4.3: a star is one label), then `*`.
    fn find(&self, name: Option<&str>) -> Option<&Choice> {
        let Some(name) = name else { return self.any.as_ref() };
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        let wild = || lower.find('.').filter(|&dot| dot > 0).and_then(|dot| self.below.get(&lower[dot..]));
        self.exact.get(&lower).or_else(wild).or(self.any.as_ref())
    }
}

fn read(certificate: &Certificate) -> Result<Key, Error> {
    let of = format!("certificate \"{}\"", certificate.name);
    let chain = pem::certificates(&of, "chain", &certificate.chain_pem)?;
    let key = pem::key(&of, &certificate.key_pem)?;
    let plain = CertifiedKey::from_der(chain, key, &provider()).map_err(|why| pem::unfit(of.clone(), why))?;
    let staple = match (&certificate.ocsp, plain.cert.first()) {
        (Some(der), Some(leaf)) => match ocsp::read(&of, leaf, der) {
            Ok(staple) => staple,
            // One that the cluster keeps may have been renewed before what is said of it.
            Err(why) if certificate.stored.is_some() => {
                warn!(%of, %why, "nothing is stapled");
                None
            }
            Err(why) => return Err(Error { of, place: "ocsp".into(), why }),
        },
        _ => None,
    };
    let stapled = staple.map(|staple| {
        let key = CertifiedKey { ocsp: Some(staple.der.clone()), ..plain.clone() };
        (Arc::new(key), Arc::new(staple))
    });
    Ok(Key { plain: Arc::new(plain), stapled })
}

fn asking(certificate: &Certificate) -> Result<Option<Arc<Asking>>, Error> {
    let Some(rule) = &certificate.clients else { return Ok(None) };
    let of = format!("certificate \"{}\"", certificate.name);
    let roots = pem::roots(&of, "clients", &rule.ca_pem)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if rule.optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|why| Error { of, place: "clients".into(), why: why.to_string() })?;
    Ok(Some(Arc::new(Asking {
        rule: rule.clone(),
        verifier,
        config: OnceLock::new(),
        #[cfg(feature = "quic")]
        quic: OnceLock::new(),
    })))
}
