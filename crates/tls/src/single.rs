//! A port with one certificate for every name, and maybe certificates of those who call: the admin port.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::for_servers;
use crate::pem::{self, Error};

/// Whose certificates are taken from those who call.
#[derive(Debug, Clone, Copy)]
pub struct Callers<'a> {
    /// PEM: who signs them.
    pub ca_pem: &'a [u8],
    /// PEM: those that are good no more, one list for each authority that signs.
    pub revoked_pem: Option<&'a [u8]>,
    /// Nobody without one gets in.
    pub required: bool,
}

/// Accepts TLS 1.2 and 1.3 with this chain and key (PEM), whatever name the client asks for. HTTP/2 and HTTP/1.1 by ALPN.
///
/// # Errors
/// What is wrong with which part, `of` being what people call the pair.
pub fn single(of: &str, chain_pem: &[u8], key_pem: &[u8], callers: Option<Callers<'_>>) -> Result<TlsAcceptor, Error> {
    let chain = pem::certificates(of, "chain", chain_pem)?;
    let key = pem::key(of, key_pem)?;
    let wrong = |why: rustls::Error| Error { of: of.to_owned(), place: "key".into(), why: why.to_string() };
    let config =
        ServerConfig::builder_with_provider(for_servers()).with_safe_default_protocol_versions().map_err(wrong)?;
    let config = match &callers {
        None => config.with_no_client_auth(),
        Some(callers) => config.with_client_cert_verifier(verifier(of, callers)?),
    };
    let mut config = config.with_single_cert(chain, key).map_err(wrong)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if callers.is_some() {
        // A session that is taken up again brings the certificate it began with, and nobody looks at it again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn verifier(of: &str, callers: &Callers<'_>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let roots = Arc::new(pem::roots(of, "client CA", callers.ca_pem)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, for_servers());
    if let Some(text) = callers.revoked_pem {
        let wrong = |why: &str| Error { of: of.into(), place: "client CRL".into(), why: why.into() };
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text).collect();
        let lists = lists.map_err(|_| wrong("no readable X509 CRL sections in this PEM"))?;
        if lists.is_empty() {
            return Err(wrong("no X509 CRL section in this PEM"));
        }
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if !callers.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|why| Error { of: of.into(), place: "client CA".into(), why: why.to_string() })
}
