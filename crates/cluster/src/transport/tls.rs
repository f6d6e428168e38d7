//! The TLS configurations of the peer port. Our own CA and nothing else; TLS 1.3 only.

use std::sync::{Arc, RwLock};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::identity::{self, Identity, fingerprint};
use super::{GATHER_ALPN, JOIN_ALPN, PEER_ALPN, transport};
use crate::certificate::Validity;
use crate::error::Error;
use crate::gathering::Secret;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(ca: &[u8]) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec()))?;
    Ok(Arc::new(roots))
}

/// Asked for by those who know nothing of the cluster but its secret.
pub(crate) const GATHERING: &str = "gathering.tidegate";

/// What the peer port offers: members show a certificate, joiners cannot; the listener checks which is which. Who knows the
/// cluster's secret is shown a certificate that the secret makes.
pub(crate) fn server(ca: &[u8], shown: &Arc<Shown>, secret: Option<&Secret>) -> Result<quinn::ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::Internal(error.to_string()))?;
    let gathering = secret.map(gathering_chain).transpose()?;
    let mut alpn = vec![PEER_ALPN.to_vec(), JOIN_ALPN.to_vec()];
    alpn.extend(secret.map(|_| GATHER_ALPN.to_vec()));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Chains { member: Some(Arc::clone(shown)), gathering }));
    serve(config, alpn)
}

/// What the peer port offers while the node is nobody's yet.
pub(crate) fn gathering_server(secret: &Secret) -> Result<quinn::ServerConfig, Error> {
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Chains { member: None, gathering: Some(gathering_chain(secret)?) }));
    serve(config, vec![GATHER_ALPN.to_vec()])
}

fn serve(mut config: rustls::ServerConfig, alpn: Vec<Vec<u8>>) -> Result<quinn::ServerConfig, Error> {
    config.alpn_protocols = alpn;
    let crypto = QuicServerConfig::try_from(config).map_err(|error| Error::Internal(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    Ok(config)
}

fn gathering_chain(secret: &Secret) -> Result<Arc<CertifiedKey>, Error> {
    let (chain, key) = identity::of_secret(secret, GATHERING)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
}

/// By the name that is asked for.
#[derive(Debug)]
struct Chains {
    member: Option<Arc<Shown>>,
    gathering: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Chains {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(GATHERING) {
            return self.gathering.clone();
        }
        self.member.as_ref().map(|member| member.now().0)
    }
}

/// The certificate that this node shows, both ways. Another one is shown in new handshakes; connections that are open stay.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<(Arc<CertifiedKey>, Option<Validity>)>);

impl Shown {
    pub(crate) fn new(identity: &Identity) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(RwLock::new(certified(identity)?))))
    }

    pub(crate) fn replace(&self, identity: &Identity) -> Result<(), rustls::Error> {
        let certified = certified(identity)?;
        *self.0.write().expect("no panic while locked") = certified;
        Ok(())
    }

    /// From when until when it is good.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.now().1
    }

    fn now(&self) -> (Arc<CertifiedKey>, Option<Validity>) {
        self.0.read().expect("no panic while locked").clone()
    }
}

fn certified(identity: &Identity) -> Result<(Arc<CertifiedKey>, Option<Validity>), rustls::Error> {
    let key = CertifiedKey::from_der(identity.chain(), identity.private_key(), &provider())?;
    Ok((Arc::new(key), Validity::of(&identity.certificate)))
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now().0)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How a member calls another one.
pub(crate) fn client(ca: &[u8], shown: Arc<Shown>) -> Result<quinn::ClientConfig, Error> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(ca)?)
        .with_client_cert_resolver(shown);
    finish(config, PEER_ALPN)
}

/// How a joiner calls: it knows nothing but the fingerprint of the CA, from its token.
pub(crate) fn joiner(ca: [u8; 32], alpn: &[u8]) -> Result<quinn::ClientConfig, Error> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { ca, provider: provider() }))
        .with_no_client_auth();
    finish(config, alpn)
}

/// How one calls who knows nothing but the cluster's secret.
pub(crate) fn gatherer(secret: &Secret, alpn: &[u8]) -> Result<quinn::ClientConfig, Error> {
    let ca = identity::ca_of_secret(secret)?;
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(ca.der())?)
        .with_no_client_auth();
    finish(config, alpn)
}

fn finish(mut config: rustls::ClientConfig, alpn: &[u8]) -> Result<quinn::ClientConfig, Error> {
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(config).map_err(|error| Error::Internal(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    Ok(config)
}

/// Trusts exactly one CA: the one with this fingerprint, found in the chain the server shows.
#[derive(Debug)]
struct Pinned {
    ca: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|certificate| fingerprint(certificate) == self.ca);
        let ca = ca.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca)?, self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
