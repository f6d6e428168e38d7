//! How an upstream is called over TLS: whom to trust, what to offer.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use tidegate_policy::UpstreamTls;
use tracing::warn;

use crate::pem::{self, Error};
use crate::provider;

/// A client configuration for one upstream. `alpn` in order of preference, `[b"h2", b"http/1.1"]`; empty offers none.
/// The name to verify is the caller's to choose: `tls.server_name`, else the endpoint's host.
///
/// # Errors
/// The CA bundle or our own certificate cannot be used; the error says what of it.
pub fn client(tls: &UpstreamTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Error> {
    let roots = match &tls.ca_pem {
        Some(pem) => Arc::new(pem::roots("CA of the server", "bundle", pem)?),
        None => system(),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs supports TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match &tls.identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let of = "client certificate";
            let (chain, key) = (pem::certificates(of, "cert", &identity.chain_pem)?, pem::key(of, &identity.key_pem)?);
            config.with_client_auth_cert(chain, key).map_err(|why| pem::unfit(of.into(), why))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The system's roots; Mozilla's when the machine has none (a bare container). Read once.
fn system() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| Arc::new(load())).clone()
}

fn load() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        warn!(problems = found.errors.len(), "no system root certificates: using the built-in Mozilla roots");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
