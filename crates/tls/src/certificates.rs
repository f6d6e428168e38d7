//! What a TLS listener shows: the certificate for a name, replaced as one whole when a document changes.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tidegate_policy::{Certificate, ClientCertificates, TlsPolicy};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::pem::{self, Error};
use crate::provider;

/// All certificates of a node. Cheap to share; [`Certificates::replace`] takes effect with the next handshake.
#[derive(Debug)]
pub struct Certificates {
    shown: Arc<Shown>,
    modern: Arc<ServerConfig>,
    strict: Arc<ServerConfig>,
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
    key: Arc<CertifiedKey>,
    policy: TlsPolicy,
    clients: Option<Arc<Asking>>,
}

/// Clients are asked for certificates of their own.
#[derive(Debug)]
struct Asking {
    rule: ClientCertificates,
    verifier: Arc<dyn ClientCertVerifier>,
    config: OnceLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// No certificate yet: every handshake ends in an alert until [`Certificates::replace`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        let shown = Arc::new(Shown(ArcSwap::from_pointee(Names::default())));
        let modern = config(&shown, versions(TlsPolicy::Modern), None);
        let strict = config(&shown, versions(TlsPolicy::Strict), None);
        Arc::new(Self { shown, modern, strict })
    }

    /// Reads and checks certificates without showing them: what `check` wants.
    ///
    /// # Errors
    /// Every certificate that cannot be used, not only the first.
    pub fn check(certificates: &[Certificate]) -> Result<(), Vec<Error>> {
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

    /// One server-side handshake. The policy is chosen by the name that the client asks for. Bring your own deadline.
    ///
    /// # Errors
    /// The peer does not speak TLS, asks for a name without a certificate (it gets an alert), or went away.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> std::io::Result<TlsStream<S>> {
        let mut started = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
        let choice = self.shown.0.load().find(started.client_hello().server_name()).cloned();
        let config = match &choice {
            Some(Choice { clients: Some(asking), policy, .. }) => {
                asking.config.get_or_init(|| config(&self.shown, versions(*policy), Some(asking.verifier.clone())))
            }
            Some(Choice { policy: TlsPolicy::Strict, .. }) => &self.strict,
            Some(Choice { policy: TlsPolicy::Modern, .. }) => &self.modern,
            None => {
                started.io.write_all(&UNRECOGNIZED_NAME).await?;
                started.io.shutdown().await?;
                return Err(std::io::Error::new(ErrorKind::InvalidInput, "no certificate for the name asked for"));
            }
        };
        started.into_stream(config.clone()).await
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

fn config(
    shown: &Arc<Shown>,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("aws-lc-rs supports TLS 1.2 and 1.3");
    let config = match clients {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(shown.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless resumption: no memory per client. A node that cannot draw random numbers resumes nothing.
    if let Ok(ticketer) = Ticketer::new() {
        config.ticketer = ticketer;
    }
    Arc::new(config)
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).map(|choice| choice.key.clone())
    }
}

impl Names {
    fn read(certificates: &[Certificate]) -> Result<Self, Vec<Error>> {
        let (mut names, mut problems) = (Self::default(), Vec::new());
        for certificate in certificates {
            match read(certificate).and_then(|key| Ok((key, asking(certificate)?))) {
                Ok((key, clients)) => {
                    names.add(certificate, &Choice { key: Arc::new(key), policy: certificate.policy, clients });
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

fn read(certificate: &Certificate) -> Result<CertifiedKey, Error> {
    let of = format!("certificate \"{}\"", certificate.name);
    let chain = pem::certificates(&of, "chain", &certificate.chain_pem)?;
    let key = pem::key(&of, &certificate.key_pem)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|why| pem::unfit(of, why))
}

fn asking(certificate: &Certificate) -> Result<Option<Arc<Asking>>, Error> {
    let Some(rule) = &certificate.clients else { return Ok(None) };
    let of = format!("certificate \"{}\"", certificate.name);
    let roots = pem::roots(&of, "clients", &rule.ca_pem)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if rule.optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|why| Error { of, place: "clients".into(), why: why.to_string() })?;
    Ok(Some(Arc::new(Asking { rule: rule.clone(), verifier, config: OnceLock::new() })))
}
