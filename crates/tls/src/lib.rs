//! Certificates and TLS settings; the only crate that sets rustls up.
//!
//! [`client`] is how an upstream is called, [`Certificates`] is what a TLS listener shows. Owns no socket, reads no
//! file, knows no route. Called by `proxy` (listeners), `upstream` (connections) and `tidegate` ([`install`]).

mod caller;
mod certificates;
mod challenge;
mod client;
mod examine;
mod ocsp;
mod pem;
mod single;
mod tickets;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

pub use caller::Caller;
pub use certificates::{Certificates, Handshakes};
pub use challenge::Digest;
pub use client::client;
pub use examine::{Facts, examine, facts};
pub use pem::Error;
/// For the crates that hold a TLS connection without setting one up.
pub use rustls;
pub use single::{Callers, single};
pub use tickets::{TICKET_KEY_LEN, Tickets};
pub use tokio_rustls;

/// Makes aws-lc-rs the process's crypto. First thing in `main`; harmless when called again.
pub fn install() {
    let _already = CryptoProvider::install_default(rustls::crypto::aws_lc_rs::default_provider());
}

/// For those who accept: the order of suites is ours, and the fastest of equals comes first. All of them are sound.
pub(crate) fn for_servers() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let made = || {
        let mut suites = provider().cipher_suites.clone();
        let slower = |suite: &SupportedCipherSuite| match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
            CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 2,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => 3,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 4,
            _ => 5,
        };
        suites.sort_by_key(slower); // Stable: the others stay as they were.
        Arc::new(CryptoProvider { cipher_suites: suites, ..(*provider()).clone() })
    };
    PROVIDER.get_or_init(made).clone()
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}
