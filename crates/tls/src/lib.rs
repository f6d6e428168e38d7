//! Certificates and TLS settings; the only crate that sets rustls up.
//!
//! [`client`] is how an upstream is called, [`Certificates`] is what a TLS listener shows. Owns no socket, reads no
//! file, knows no route. Called by `proxy` (listeners), `upstream` (connections) and `tidegate` ([`install`]).

mod certificates;
mod client;
mod pem;
mod single;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use certificates::Certificates;
pub use client::client;
pub use pem::Error;
/// For the crates that hold a TLS connection without setting one up.
pub use rustls;
pub use single::single;
pub use tokio_rustls;

/// Makes aws-lc-rs the process's crypto. First thing in `main`; harmless when called again.
pub fn install() {
    let _already = CryptoProvider::install_default(rustls::crypto::aws_lc_rs::default_provider());
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}
