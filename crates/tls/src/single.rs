//! A port with one certificate for every name: the admin port.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::for_servers;
use crate::pem::{self, Error};

/// Accepts TLS 1.2 and 1.3 with this chain and key (PEM), whatever name the client asks for. HTTP/2 and HTTP/1.1 by ALPN.
///
/// # Errors
/// What is wrong with which part, `of` being what people call the pair.
pub fn single(of: &str, chain_pem: &[u8], key_pem: &[u8]) -> Result<TlsAcceptor, Error> {
    let chain = pem::certificates(of, "chain", chain_pem)?;
    let key = pem::key(of, key_pem)?;
    let wrong = |why: rustls::Error| Error { of: of.to_owned(), place: "key".into(), why: why.to_string() };
    let mut config = ServerConfig::builder_with_provider(for_servers())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
