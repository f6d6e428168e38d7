//! One certificate for all contenders, and clients that speak one suite and one group, so that all do the same arithmetic.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned,
};

use super::{HOST, Wire};

/// For h2load; the generator is given the same below.
pub(in crate::speed) const H2LOAD: [&str; 2] = ["--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519"];

/// In words, for the report.
pub(in crate::speed) const IN_WORDS: &str = "TLS 1.3, X25519, AES-128-GCM, a certificate of EC P-256";

pub(in crate::speed) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// What contenders show: files in the folder.
#[derive(Debug)]
pub(in crate::speed) struct Trust {
    pub(in crate::speed) certificate: PathBuf,
    pub(in crate::speed) key: PathBuf,
    /// Both, as HAProxy wants them.
    pub(in crate::speed) both: PathBuf,
    provider: Arc<CryptoProvider>,
}

/// What a client remembers from one handshake to the next.
#[derive(Debug, Clone)]
pub(in crate::speed) struct Session {
    config: Arc<ClientConfig>,
    resumes: bool,
    /// The last handshake has brought one.
    has_ticket: Arc<AtomicBool>,
}

impl Trust {
    pub(in crate::speed) fn fresh(folder: &Path) -> Result<Self> {
        // rcgen's own choice is an ECDSA key on P-256.
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        Ok(Self {
            both: file("gate-both.pem", format!("{certificate}{key}"))?,
            certificate: file("gate.pem", certificate)?,
            key: file("gate.key", key)?,
            provider: Arc::new(provider),
        })
    }

    /// Each client has a session of its own.
    pub(in crate::speed) fn session(&self, wire: Wire) -> Session {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("a suite of TLS 1.3 is there");
        let believer = Arc::new(Believer(Arc::clone(&self.provider)));
        let mut config = builder.dangerous().with_custom_certificate_verifier(believer).with_no_client_auth();
        config.alpn_protocols = vec![if wire == Wire::H2Tls { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let resumes = wire == Wire::TlsResumed;
        config.resumption = if resumes { Resumption::in_memory_sessions(4) } else { Resumption::disabled() };
        Session { config: Arc::new(config), resumes, has_ticket: Arc::default() }
    }
}

impl Session {
    /// The handshake is done when this returns.
    pub(in crate::speed) fn over(&self, mut socket: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from(HOST).expect("a host name");
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(tls, socket))
    }

    /// An orderly end. Fails where the handshake was not what it was to be.
    pub(in crate::speed) fn close(&self, mut stream: Stream) -> io::Result<()> {
        let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        if (self.resumes && self.has_ticket.load(Relaxed)) != resumed {
            return Err(io::Error::other(if resumed { "a session was resumed" } else { "no session was resumed" }));
        }
        self.has_ticket.store(stream.conn.tls13_tickets_received() > 0, Relaxed);
        stream.conn.send_close_notify();
        stream.flush()
    }
}

/// Checks no certificate: a client's arithmetic is not what is measured, and the gateway is ours, on this machine.
#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
